"""What an estimate leaves out though the frame shows it: single spots, edges, an atom that is new.

Wiener's filter weighs a frequency by all that the whole frame has of it: an atom alone, seen at
seven deviations, keeps a third of its contrast. So what the estimate leaves of the mean it was made
of is held against its noise, by the same matched filters that find changes
(`scgn.stream.means`), and where it is beyond chance it is given back, smoothed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scgn.stream.grid import TINY, Grid
from scgn.stream.linear import Separable, binomial, blocked, repeats, smoothed, spotted, transfer
from scgn.stream.means import lineless, widest

SPOTS = ((4, 2), (2, 2))  # blocks of so many px and binomial steps: a wide spot, an atom
BEGINS, WHOLE = 3.8, 5.2  # deviations: nothing of it is given back, all of it is
REACH = 2  # blocks around, over which it is
SMOOTH = (6, 2)  # binomial steps of what is given back, px; sigma 1.7 and 1 px


class Restore(nn.Module):
    """For frames of one shape."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid, shape = grid, grid.shape
        for index, (block, steps) in enumerate(SPOTS):
            down = transfer(grid.vertical, block, steps)
            passed = (down * transfer(grid.horizontal, block, steps)).square()
            self.register_buffer(f"passed{index}", passed)
        self.spots = nn.ModuleList(spotted(shape, block, steps) for block, steps in SPOTS)
        self.blocks = nn.ModuleList(blocked(shape, block) for block, _ in SPOTS)
        self.spread = nn.ModuleList(spread(shape, block) for block, _ in SPOTS)
        self.smooth = nn.ModuleList(smoothed(shape, steps) for steps in SMOOTH)

    def forward(
        self, estimates: Tensor, means: Tensor, ages: Tensor, point: Tensor, skew: Tensor
    ) -> Tensor:
        """Estimates (B,C,H,W) with what they left out, of mean 0; means: what they were made of;
        ages: effective frames behind each; point: noise spectrum of one frame, (B,1,H,W//2+1);
        skew: (B,1,1,1) skewness of a pixel's noise.
        """
        for index in range(len(SPOTS)):
            rest = lineless(means - estimates)
            passed = self.grid.mean(point * getattr(self, f"passed{index}"))
            age, (block, steps) = self.blocks[index](ages).clamp(min=1.0), SPOTS[index]
            z = self.spots[index](rest) / (passed / age).clamp(min=TINY).sqrt()
            # Few electrons make bright spots by chance: see `scgn.stream.means`.
            lift = skew / (block * (steps + 1) * age.sqrt()) * (WHOLE**2 - 1) / 6 / WHOLE
            size = torch.where(z > 0, z / (1 + lift), -z)
            share = ((size - BEGINS) / (WHOLE - BEGINS)).clamp(min=0.0, max=1.0)
            share = self.spread[index](widest(share, REACH))
            estimates = estimates + share * self.smooth[index](rest)
        return estimates - estimates.mean(dim=(-2, -1), keepdim=True)


def spread(shape: tuple[int, int], block: int) -> Separable:
    """Each block's value over its px, smoothed over blocks first."""
    down, along = (repeats(n, block) @ binomial(-(-n // block), 1) for n in shape)
    return Separable(down, along)
