"""Filters along both axes as products with constant matrices: few operations, exact at edges."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Separable(nn.Module):
    """down @ frames @ along^T; (...,H,W) -> (...,h,w) for matrices (h,H) and (w,W)."""

    down: Tensor
    along: Tensor

    def __init__(self, down: Tensor, along: Tensor) -> None:
        super().__init__()
        self.register_buffer("down", down)
        self.register_buffer("along", along.mT.contiguous())

    def forward(self, frames: Tensor) -> Tensor:
        filtered: Tensor = self.down @ frames @ self.along
        return filtered


def blocks(side: int, block: int) -> Tensor:
    """Means over blocks of one axis, the last one of what is left; (ceil(side / block), side)."""
    sums = repeats(side, block).mT
    return sums / sums.sum(dim=1, keepdim=True)


def repeats(side: int, block: int) -> Tensor:
    """Each block's value at all its places of one axis; (side, ceil(side / block)) float64."""
    place = torch.arange(side) // block
    return (place[:, None] == torch.arange(int(place.max()) + 1)).double()


def windows(side: int, width: int) -> Tensor:
    """Sums over windows of `width` px of one axis, zeros beyond it; (side, side) float64."""
    place = torch.arange(side)
    return ((place[:, None] - place).abs() <= width // 2).double()


def binomial(side: int, steps: int) -> Tensor:
    """Averages with weights 1 2 1, `steps` times along one axis, ends repeated; (side, side)."""
    once = torch.zeros(side, side, dtype=torch.float64)
    for shift, weight in ((-1, 0.25), (0, 0.5), (1, 0.25)):
        place = (torch.arange(side) + shift).clamp(0, side - 1)
        once[torch.arange(side), place] += weight
    whole: Tensor = torch.linalg.matrix_power(once, steps)
    return whole


def transfer(frequency: Tensor, block: int, steps: int) -> Tensor:
    """Of a mean over blocks of px and then `binomial` over blocks, along one axis; cycles/px."""
    box = torch.sinc(frequency * block) / torch.sinc(frequency)
    return box * (torch.pi * frequency * block).cos() ** (2 * steps)


def spotted(shape: tuple[int, int], block: int, steps: int) -> Separable:
    """A matched filter for a spot: a mean over blocks of px and then `binomial` over blocks."""
    down, along = (binomial(-(-n // block), steps) @ blocks(n, block) for n in shape)
    return Separable(down, along)


def blocked(shape: tuple[int, int], block: int) -> Separable:
    """Means over blocks of px."""
    return Separable(*(blocks(side, block) for side in shape))


def repeated(shape: tuple[int, int], block: int) -> Separable:
    """Each block's value over its px."""
    return Separable(*(repeats(side, block) for side in shape))


def wide(shape: tuple[int, int], block: int) -> Separable:
    """What varies over some blocks of px and more, at every px."""
    matrices = (repeats(n, block) @ binomial(-(-n // block), 2) @ blocks(n, block) for n in shape)
    return Separable(*matrices)


def smoothed(shape: tuple[int, int], steps: int) -> Separable:
    """`binomial` along both axes."""
    return Separable(*(binomial(side, steps) for side in shape))
