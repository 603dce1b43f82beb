"""What an estimate leaves out though the frame shows it: single spots, edges, an atom that is new.

Wiener's filter weighs a frequency by all that the whole frame has of it: an atom alone, seen at
seven deviations, keeps a third of its contrast. So what the estimate leaves of the mean it was made
of is held against its noise, by the same matched filters that find changes
(`scgn.stream.means`), and where it is beyond chance it is given back, smoothed.
"""

from __future__ import annotations

from torch import Tensor, nn

from scgn.stream.grid import TINY, Grid
from scgn.stream.means import binomial, blocks, doubled, lineless, transfer, widest

SPOTS = ((4, 2), (2, 2))  # blocks of so many px and binomial steps: a wide spot, an atom
BEGINS, WHOLE = 3.8, 5.2  # deviations: nothing of it is given back, all of it is
REACH = 2  # blocks around, over which it is
SMOOTH = (6, 2)  # binomial steps of what is given back, px; sigma 1.7 and 1 px


class Restore(nn.Module):
    """For frames of one shape."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        for index, (block, steps) in enumerate(SPOTS):
            down = transfer(grid.vertical, block, steps)
            passed = (down * transfer(grid.horizontal, block, steps)).square()
            self.register_buffer(f"passed{index}", passed)

    def forward(self, estimates: Tensor, means: Tensor, ages: Tensor, point: Tensor) -> Tensor:
        """Estimates (B,C,H,W) with what they left out; means: what they were made of; ages:
        effective frames behind each; point: noise spectrum of one frame, (B,1,H,W//2+1).
        """
        for index, (block, steps) in enumerate(SPOTS):
            rest = lineless(means - estimates)
            passed = self.grid.mean(point * getattr(self, f"passed{index}"))
            small, age = blocks(rest), blocks(ages)
            if block == 4:
                small, age = blocks(small), blocks(age)
            z = binomial(small, steps) / (passed / age.clamp(min=1.0)).clamp(min=TINY).sqrt()
            share = ((z.abs() - BEGINS) / (WHOLE - BEGINS)).clamp(min=0.0, max=1.0)
            share = binomial(widest(share, REACH), 1)
            if block == 4:
                share = doubled(share, (rest.shape[-2] + 1) // 2, (rest.shape[-1] + 1) // 2)
            share = doubled(share, rest.shape[-2], rest.shape[-1])
            estimates = estimates + share * binomial(rest, SMOOTH[index])
        return estimates
