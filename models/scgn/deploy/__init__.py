"""The network as it is deployed: one real-valued graph from a camera's bytes to denoised counts."""

from scgn.deploy.graph import DeployGraph
from scgn.deploy.make import Graph, deploy
from scgn.deploy.recipe import DeployError, DeployRecipe
from scgn.deploy.stream_graph import StreamGraph

__all__ = ["DeployError", "DeployGraph", "DeployRecipe", "Graph", "StreamGraph", "deploy"]
