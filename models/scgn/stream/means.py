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


def binomial(frames: Tensor, steps: int) -> Tensor:
    """Averages with weights 1 2 1, `steps` times along both axes, edges repeated; (B,C,H,W)."""
    for _ in range(steps):
        along = torch.cat((frames[..., :1], frames, frames[..., -1:]), dim=-1)
        frames = (along[..., :-2] + 2 * along[..., 1:-1] + along[..., 2:]) / 4
        down = torch.cat((frames[..., :1, :], frames, frames[..., -1:, :]), dim=-2)
        frames = (down[..., :-2, :] + 2 * down[..., 1:-1, :] + down[..., 2:, :]) / 4
    return frames


def transfer(frequency: Tensor, block: int, steps: int) -> Tensor:
    """Of a mean over blocks and then `binomial` over blocks, along one axis; cycles/px."""
    return (
        torch.sinc(frequency * block)
        / torch.sinc(frequency)
        * (torch.pi * frequency * block).cos() ** (2 * steps)
    )


def blocks(frames: Tensor) -> Tensor:
    """Means over 2x2 px; an odd side is mirrored by one."""
    below, right = frames.shape[-2] % 2, frames.shape[-1] % 2
    if below or right:
        frames = functional.pad(frames, (0, right, 0, below), mode="reflect")
    planes = functional.pixel_unshuffle(frames, 2)  # the four px of a block side by side
    batch, channels, rows, columns = planes.shape
    return planes.view(batch, channels // 4, 4, rows, columns).mean(dim=2)


def lowest(values: Tensor, reach: int, beyond: float) -> Tensor:
    """Least value within `reach` in a square, `beyond` outside the frame; (B,C,H,W)."""
    padded = functional.pad(values, (reach,) * 4, value=beyond)
    rows, columns = values.shape[-2:]
    along = padded[..., :columns]
    for step in range(1, 2 * reach + 1):
        along = torch.minimum(along, padded[..., step : step + columns])
    down = along[..., :rows, :]
    for step in range(1, 2 * reach + 1):
        down = torch.minimum(down, along[..., step : step + rows, :])
    return down


def widest(values: Tensor, reach: int) -> Tensor:
    """Largest value within `reach` in a square, 0 beyond the frame; (B,C,H,W)."""
    return -lowest(-values, reach, 0.0)


def doubled(places: Tensor, rows: int, columns: int) -> Tensor:
    """Each value over its 2x2 px, cut to rows x columns; (B,C,h,w) -> (B,C,rows,columns)."""
    batch, channels, height, width = places.shape
    four = places[:, :, None].expand(batch, channels, 4, height, width)
    whole = functional.pixel_shuffle(four.reshape(batch, 4 * channels, height, width), 2)
    return whole[..., :rows, :columns]


def lineless(frames: Tensor) -> Tensor:
    """Frames less the means of their rows and columns: a camera's lines are no event."""
    rows, columns = frames.mean(dim=-1, keepdim=True), frames.mean(dim=-2, keepdim=True)
    return frames - rows - columns + columns.mean(dim=-1, keepdim=True)


class RunningMeans(nn.Module):
    """Means of frames of one shape."""

    newest: Tensor

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        for index, (block, steps) in enumerate(SPOTS):
            down = transfer(grid.vertical, block, steps)
            passed = (down * transfer(grid.horizontal, block, steps)).square()
            self.register_buffer(f"passed{index}", passed)
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
        half = blocks(torch.cat((*sums, long, age), dim=1))
        limit, change = self.refused(half, point, gain, skew)
        limit, change = doubled(limit, *self.grid.shape), doubled(change, *self.grid.shape)
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
        self, half: Tensor, point: Tensor, gain: Tensor, skew: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(newest frames that may stay, FAR where all may; the strongest test, deviations, signed),
        both (B,1,h,w) over 2x2 px.

        half: sums, long mean and its age, over 2x2 px.
        """
        sums, long, age = half.split_with_sizes((len(NEWEST), 1, 1), dim=1)
        means, alone = sums / self.newest, sums[:, :1]
        # Each of the newest frames has so much of the long mean; the rest was before.
        share = 1 / age.clamp(min=1.0, max=float(LONGEST))
        rest = (long - share * (sums - alone)) / (1 - share * (self.newest - 1)).clamp(min=1e-3)
        count = age - (self.newest - 1)
        known = (count > 0.99).to(half.dtype)
        changes = lineless(known * (means - rest))
        variance = self.grid.mean(point)
        steady = binomial(long, STEADY) * (age / LONGEST).clamp(max=1.0)
        bright = (1 + gain * steady / variance.clamp(min=TINY)).clamp(min=0.25, max=16.0)
        limits, strongest = [], []
        for index, (block, steps) in enumerate(SPOTS):
            if index:
                changes, count = blocks(changes), blocks(count)
                known, bright = blocks(known), blocks(bright)
            passed = self.grid.mean(point * getattr(self, f"passed{index}")) * bright
            test = self.tests(binomial(changes, steps), count, passed, skew, block * (steps + 1))
            test = test * (known > 0.99).to(test.dtype)
            size = test.abs()
            best = size.amax(dim=1, keepdim=True)
            refused = (size >= best) & (best > REFUSED)
            least = torch.where(refused, self.newest, self.newest * 0 + FAR)
            limits.append(lowest(least.amin(dim=1, keepdim=True), REACH, FAR))
            strongest.append((test * (size >= best).to(test.dtype)).sum(dim=1, keepdim=True))
        wide = doubled(limits[1], half.shape[-2], half.shape[-1])
        return torch.minimum(limits[0], wide), strongest[0].clamp(-Z_MAX, Z_MAX)

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
