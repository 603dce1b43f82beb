"""Running means of a stream, and where the past is refused.

The last RING frames are kept whole, in the means' coordinates and less their level, and one long
mean: plain up to its length, then m += (y - m) / length. Where the newest S frames differ from what
was before them by more than chance, the past is refused there: the long mean begins again from
those S frames, so that an atom that left leaves no ghost. The test is a matched filter for an atom
and for a wider spot, a generalised likelihood ratio over S = 1, 2, 4, 8 (Willsky and Jones, 1976).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from scgn.stream.grid import TINY, Grid
from scgn.stream.linear import blocked, repeated, smoothed, spotted, transfer
from scgn.stream.state import LONGEST, RING

NEWEST = (1, 2, 4, 8)  # frames of the tests and of the short means
# Two matched filters: means over blocks of so many px, averaged with binomial weights of so many
# steps. Their sigma is 2.1 px (an atom) and 4.2 px (a wider spot).
SPOTS = ((2, 2), (4, 2))
REACH = 2  # blocks around its place that a test refuses
STEADY = 3  # binomial steps of what says how bright a place is
FAR = 1e6  # frames: nothing is refused
REFUSED = 5.2  # deviations: chance alone finds one in a thousand frames of 256x256
Z_MAX = 12.0


class Means(NamedTuple):
    """All (B,1,H,W), counts but for age and change. short: of the newest 2, 4, 8 frames; long: the
    longest; age: effective frames behind it; change: the strongest test at each place, deviations,
    signed; ring: the frames for the next call, (B,RING,H,W).
    """

    short: tuple[Tensor, ...]
    long: Tensor
    age: Tensor
    change: Tensor
    ring: Tensor


def widest(values: Tensor, reach: int) -> Tensor:
    """Largest value within `reach` in a square; (B,C,H,W)."""
    return functional.max_pool2d(values, 2 * reach + 1, 1, reach)


def lineless(frames: Tensor) -> Tensor:
    """Frames less the means of their rows and columns: a camera's lines are no event."""
    rows, columns = frames.mean(dim=-1, keepdim=True), frames.mean(dim=-2, keepdim=True)
    return frames - rows - columns + columns.mean(dim=-1, keepdim=True)


class RunningMeans(nn.Module):
    """Means of frames of one shape."""

    newest: Tensor

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid, shape = grid, grid.shape
        for index, (block, steps) in enumerate(SPOTS):
            down = transfer(grid.vertical, block, steps)
            passed = (down * transfer(grid.horizontal, block, steps)).square()
            self.register_buffer(f"passed{index}", passed)
        self.spots = nn.ModuleList(spotted(shape, block, steps) for block, steps in SPOTS)
        self.blocks = nn.ModuleList(blocked(shape, block) for block, _ in SPOTS)
        self.repeats = nn.ModuleList(repeated(shape, block) for block, _ in SPOTS)
        self.steady = smoothed(shape, STEADY)
        self.register_buffer("newest", torch.tensor(NEWEST).double().view(1, -1, 1, 1))

    def forward(
        self, frame: Tensor, ring: Tensor, long: Tensor, age: Tensor, longest: Tensor,
        point: Tensor, gain: Tensor, skew: Tensor,
    ) -> Means:  # fmt: skip
        """frame: the newest, in the means' coordinates, less its level; longest: (B,1,1,1) frames;
        point: noise spectrum of one frame; gain: (B,1,1,1) variance of the point noise per count;
        skew: (B,1,1,1) skewness of a pixel's noise.
        """
        sums = self.sums(frame, ring)
        limit, change = self.refused(sums, long, age, point, gain, skew)
        long, age = self.longer(frame, long, age, longest)
        for total, newest in zip(sums, NEWEST, strict=True):
            here = (limit < newest + 0.5) & (limit > newest - 0.5) & (age > newest)
            long = torch.where(here, total / newest, long)
            age = torch.where(here, torch.full_like(age, float(newest)), age)
        pairs = zip(sums[1:], NEWEST[1:], strict=True)
        # Where fewer frames are behind the long mean, it is the mean of just those.
        short = tuple(torch.where(age > n - 0.5, total / n, long) for total, n in pairs)
        ring = torch.cat((frame, ring[:, : RING - 1]), dim=1)
        return Means(short, long, age, change, ring)

    def sums(self, frame: Tensor, ring: Tensor) -> list[Tensor]:
        """Of the newest 1, 2, 4, 8 frames."""
        total, result = frame, [frame]
        for index in range(RING):
            total = total + ring[:, index : index + 1]
            if index + 2 in NEWEST:
                result.append(total)
        return result

    def refused(
        self, sums: list[Tensor], long: Tensor, age: Tensor, point: Tensor, gain: Tensor,
        skew: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """(newest frames that may stay, FAR where all may; the strongest test of an atom's size,
        deviations, signed), both (B,1,H,W).
        """
        totals = torch.cat(sums, dim=1)
        # Each of the newest frames has so much of the long mean; the rest was before.
        share = 1 / age.clamp(min=1.0, max=float(LONGEST))
        rest = long - share * (totals - sums[0])
        rest = rest / (1 - share * (self.newest - 1)).clamp(min=1e-3)
        count = age - (self.newest - 1)
        known = (count > 0.99).to(long.dtype)
        changes = lineless(known * (totals / self.newest - rest))
        steady = self.steady(long) * (age / LONGEST).clamp(max=1.0)
        variance = self.grid.mean(point).clamp(min=TINY)
        bright = (1 + gain * steady / variance).clamp(min=0.25, max=16.0)
        beside = torch.cat((count, known, bright), dim=1)
        limits, strongest = [], []
        for index, (block, steps) in enumerate(SPOTS):
            seen = self.spots[index](changes)
            parts = self.blocks[index](beside).split_with_sizes((len(NEWEST), len(NEWEST), 1), 1)
            passed = self.grid.mean(point * getattr(self, f"passed{index}")) * parts[2]
            test = self.tests(seen, parts[0], passed, skew, block * (steps + 1))
            test = test * (parts[1] > 0.99).to(test.dtype)
            size = test.abs()
            best = size.amax(dim=1, keepdim=True)
            there = (size >= best) & (best > REFUSED)
            least = torch.where(there, self.newest, self.newest * 0 + FAR)
            limit = -widest(-least.amin(dim=1, keepdim=True), REACH)
            strong = (test * (size >= best).to(test.dtype)).sum(dim=1, keepdim=True)
            limits.append(self.repeats[index](limit))
            strongest.append(self.repeats[index](strong) if index == 0 else strong)
        return torch.minimum(*limits), strongest[0].clamp(-Z_MAX, Z_MAX)

    def tests(self, seen: Tensor, count: Tensor, passed: Tensor, skew: Tensor, side: int) -> Tensor:
        """Each filtered change in deviations of its own noise, (B,4,h,w).

        Electrons come one by one: of few, chance makes bright spots more often than a Gaussian
        says, in the newest frames and in those before them, so they count less (Cornish and
        Fisher's first term).
        """
        new, old = 1 / self.newest, 1 / count.clamp(min=1.0)
        z = seen / (passed * (new + old)).clamp(min=TINY).sqrt()
        skewness = skew / side * (new * new - old * old) / ((new + old) * (new + old).sqrt())
        towards = torch.where(z > 0, skewness, -skewness).clamp(min=0.0)
        return z / (1 + towards * (REFUSED**2 - 1) / 6 / REFUSED)

    def longer(
        self, frame: Tensor, long: Tensor, age: Tensor, longest: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The long mean with this frame in it, and the effective frames behind that."""
        share = 1 / torch.minimum(age + 1, longest)
        before = torch.where(age > 0, age, torch.ones_like(age))
        variance = (1 - share) * (1 - share) / before + share * share
        return long + share * (frame - long), 1 / variance
