"""Names, shapes and dtypes of all that goes into a graph and comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from scgn.deploy.counts import OUT_DTYPES, RAW_DTYPES, out_shape, raw_shape
from scgn.deploy.recipe import DeployError, DeployRecipe
from scgn.stream.facts import CONTROL, Facts
from scgn.stream.state import state_shapes

FRAME_FACTS = 3  # level, scale and mean: all that a frame alone tells
NEW = "new_"  # before a state tensor's name: what a call makes of it


class Named(Protocol):
    """A graph, by the names of what goes in and out."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Signature:
    """inputs, outputs: names, in the order that the graph takes and gives them."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        names = (*self.inputs, *self.outputs)
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise DeployError(f"graph: expected a name for each tensor, got one twice: {twice}")

    @property
    def temporal(self) -> bool:
        """Whether a stream's state goes in and out."""
        return "control" in self.inputs

    @property
    def facts(self) -> int:
        """Numbers that the graph tells of each frame, in the order of Facts."""
        return len(Facts._fields) if self.temporal else FRAME_FACTS

    def blank(self, name: str, recipe: DeployRecipe, device: torch.device | None = None) -> Tensor:
        """Zeros for any input that is no reference, and for any output."""
        shape, dtype = self._form(name, recipe)
        return torch.zeros(shape, dtype=dtype, device=device)

    def _form(self, name: str, recipe: DeployRecipe) -> tuple[tuple[int, ...], torch.dtype]:
        if name == "raw":
            return raw_shape(recipe), RAW_DTYPES[recipe.camera_dtype]
        if name == "denoised":
            return out_shape(recipe), OUT_DTYPES[recipe.output_dtype]
        if name == "facts":
            return (recipe.batch, self.facts), recipe.wide
        if name == "control":
            return (recipe.batch, len(CONTROL)), torch.float32
        return state_shapes(recipe.shape, recipe.batch)[name.removeprefix(NEW)], recipe.wide

    def blank_outputs(
        self, recipe: DeployRecipe, device: torch.device | None = None
    ) -> tuple[Tensor, ...]:
        """In the order of `outputs`."""
        return tuple(self.blank(name, recipe, device) for name in self.outputs)


def signature_of(graph: Named) -> Signature:
    """Of a graph."""
    return Signature(graph.inputs, graph.outputs)
