"""Inputs of deployed graphs, of one frame or of a stream, by the names that a graph gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from scgn.calibration import Calibration
from scgn.deploy import Graph
from scgn.deploy.counts import as_raw
from scgn.deploy.graph import OUTPUTS
from scgn.deploy.references import NAMES, references
from scgn.deploy.signature import signature_of
from scgn.stream.state import LONGEST, STATE


def inputs_of(
    graph: Graph,
    pixels: NDArray[Any],
    calibration: Calibration | None = None,
    state: Sequence[Tensor] = (),
    longest: int = LONGEST,
    show: int = 0,
    reset: int = 0,
) -> tuple[Tensor, ...]:
    """All inputs of one call, in the graph's order; without a state, of one that knows nothing."""
    recipe, signature = graph.recipe, signature_of(graph)
    known = references(calibration, recipe.shape).to(torch.device("cpu"), recipe.wide)
    given = {name: getattr(known, name) for name in NAMES}
    given["raw"] = as_raw(pixels.astype(recipe.camera_dtype), recipe)
    words = [float(word) for word in (reset, 1, longest, show)]
    given["control"] = torch.tensor([words] * recipe.batch)
    given |= dict(zip(STATE, state, strict=bool(state)))
    return tuple(
        given[name] if name in given else signature.blank(name, recipe) for name in graph.inputs
    )


def state_of(outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The state among what a graph gave, for its next call."""
    return tuple(outputs[len(OUTPUTS) :])


@torch.no_grad()
def series_of(
    graph: Graph,
    frames: Sequence[NDArray[Any]],
    calibration: Calibration | None = None,
    **control: int,
) -> list[tuple[Tensor, Tensor]]:
    """(denoised, facts) of each frame of a stream, one call after the other."""
    found, state = [], ()
    for pixels in frames:
        outputs = graph(*inputs_of(graph, pixels, calibration, state, **control))
        found.append((outputs[0], outputs[1]))
        state = state_of(outputs)
    return found
