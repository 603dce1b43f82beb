"""From a checkpoint to its graph."""

from __future__ import annotations

import copy

from scgn.checkpoint import Checkpoint
from scgn.deploy.graph import DeployGraph
from scgn.deploy.recipe import DeployRecipe
from scgn.deploy.stream_graph import StreamGraph

Graph = DeployGraph | StreamGraph


def deploy(checkpoint: Checkpoint, recipe: DeployRecipe) -> Graph:
    """The graph of a trained network, in eval mode, on the CPU."""
    known = checkpoint.provenance
    network = copy.deepcopy(checkpoint.network).cpu()
    graph: Graph
    if network.design.residual == "stream":
        graph = StreamGraph(network, recipe)
    else:
        graph = DeployGraph(network, known.target, known.input_units == "noise", recipe)
    return graph.eval().requires_grad_(False)
