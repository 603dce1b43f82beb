"""A stream's state in one piece of memory: one copy moves it all."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scgn.deploy import DeployRecipe
from scgn.stream.state import STATE, state_shapes

ALIGNED = 64  # elements that each part begins at a multiple of: 256 bytes and more


class Block:
    """whole: (elements,), what is in it not said; parts: views of it by the names of STATE."""

    def __init__(self, recipe: DeployRecipe, device: torch.device) -> None:
        shapes = state_shapes(recipe.shape, recipe.batch)
        starts = [0]
        for name in STATE:
            size = math.prod(shapes[name])
            starts.append(starts[-1] + -(-size // ALIGNED) * ALIGNED)
        self.whole = torch.empty(starts[-1], dtype=recipe.wide, device=device)
        self.parts: dict[str, Tensor] = {
            name: self.whole[start : start + math.prod(shapes[name])].view(shapes[name])
            for name, start in zip(STATE, starts, strict=False)
        }

    @property
    def bytes(self) -> int:
        """Memory of it."""
        return self.whole.numel() * self.whole.element_size()
