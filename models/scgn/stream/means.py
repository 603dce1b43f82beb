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
from scgn.stream.state import RING

NEWEST = (1, 2, 4, 8)  # frames of the tests and of the short means
# Two matched filters: blocks of so many px, averaged with binomial weights of so many steps. Their
# sigma is 1.5 px (an atom) and 4.2 px (a wider spot).
SPOTS = ((2, 1), (4, 2))
REACH = (2, 2)  # blocks around its place that a test refuses
REFUSED = 4.9  # deviations: chance alone finds one in some thousand frames of 256x256
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
    return torch.sinc(frequency * block) / torch.sinc(frequency) * (
        torch.pi * frequency * block
    ).cos() ** (2 * steps)


def blocks(frames: Tensor, block: int) -> Tensor:
    """Means over blocks of `block` px; the last ones end with the frame mirrored."""
    below, right = -frames.shape[-2] % block, -frames.shape[-1] % block
    if below or right:
        frames = functional.pad(frames, (0, right, 0, below), mode="reflect")
    return functional.avg_pool2d(frames, block)


def widened(mask: Tensor, reach: int) -> Tensor:
    """1 where any place within `reach` is 1, in a square; (B,C,H,W)."""
    padded = functional.pad(mask, (reach, reach, reach, reach))
    rows, columns = mask.shape[-2:]
    along = padded[..., :columns]
    for step in range(1, 2 * reach + 1):
        along = torch.maximum(along, padded[..., step : step + columns])
    down = along[..., :rows, :]
    for step in range(1, 2 * reach + 1):
        down = torch.maximum(down, along[..., step : step + rows, :])
    return down


def repeated(places: Tensor, block: int, shape: tuple[int, int]) -> Tensor:
    """Each value over its block of px, cut to a frame's shape; (B,C,h,w) -> (B,C,H,W)."""
    batch, channels, rows, columns = places.shape
    wide = places[..., :, None, :, None].expand(batch, channels, rows, block, columns, block)
    whole = wide.reshape(batch, channels, rows * block, columns * block)
    return whole[..., : shape[0], : shape[1]]


def lineless(frames: Tensor) -> Tensor:
    """Frames less the means of their rows and columns: a camera's lines are no event."""
    rows, columns = frames.mean(dim=-1, keepdim=True), frames.mean(dim=-2, keepdim=True)
    return frames - rows - columns + columns.mean(dim=-1, keepdim=True)


class RunningMeans(nn.Module):
    """Means of frames of one shape."""

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
        point: Tensor, brightness: Tensor, skew: Tensor,
    ) -> Means:  # fmt: skip
        """frame: the newest, in the means' coordinates, less its level; longest: (B,1,1,1) frames;
        point: noise spectrum of one frame; brightness: (B,1,H,W) local variance over its mean;
        skew: (B,1,1,1) skewness of a pixel's noise.
        """
        changes, before = self.changes(frame, ring, long, age)
        tests, sums = [], self.sums(frame, ring)
        changes = lineless(changes)
        for index, (block, steps) in enumerate(SPOTS):
            passed = self.grid.mean(point * getattr(self, f"passed{index}"))
            seen = binomial(blocks(changes, block), steps)
            behind, bright = blocks(before, block), blocks(brightness, block)
            tests.append(self.tests(seen, behind, passed * bright, skew, block * (steps + 1)))
        long, age = self.longer(frame, long, age, longest)
        strongest = [test.abs().amax(dim=1, keepdim=True) for test in tests]
        for index, (block, _) in enumerate(SPOTS):
            test, best = tests[index].abs(), strongest[index]
            refused = ((test >= best) & (best > REFUSED)).to(frame.dtype)
            around = repeated(widened(refused, REACH[index]), block, self.grid.shape)
            for place in reversed(range(len(NEWEST))):
                newest = NEWEST[place]
                here = (around[:, place : place + 1] > 0.5) & (age > newest)
                long = torch.where(here, sums[place] / newest, long)
                age = torch.where(here, torch.full_like(age, float(newest)), age)
        short = self.short(frame, ring, age)
        place = tests[0] * (tests[0].abs() >= strongest[0]).to(frame.dtype)
        change = repeated(place.sum(dim=1, keepdim=True).clamp(-Z_MAX, Z_MAX), SPOTS[0][0], self.grid.shape)
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

    def changes(
        self, frame: Tensor, ring: Tensor, long: Tensor, age: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean of the newest S frames less the mean before them, (B,4,H,W), and the frames of that
        mean; 0 of both where there are none.
        """
        weight = 1 / torch.minimum(age, torch.full_like(age, 16.0)).clamp(min=1.0)
        total, rest, left = frame, long, torch.ones_like(age)
        changes, counts = [], []
        share = weight
        for index in range(RING + 1):
            newest = index + 1
            if newest in NEWEST:
                before = rest / left.clamp(min=1e-3)
                count = (age - index).clamp(min=0.0)
                known = (count >= 1).to(frame.dtype)
                changes.append(known * (total / newest - before))
                counts.append(known * count)
            if index == RING:
                break
            older = ring[:, index : index + 1]
            total = total + older
            rest, left = rest - share * older, left - share
            plain = (age <= 16).to(frame.dtype)
            share = plain * share + (1 - plain) * share * (1 - weight)
        return torch.cat(changes, 1), torch.cat(counts, 1)

    def tests(
        self, seen: Tensor, before: Tensor, passed: Tensor, skew: Tensor, side: int
    ) -> Tensor:
        """Each filtered change in deviations of its own noise, (B,4,h,w); 0 where there is no past.

        Electrons come one by one: of few, chance makes bright spots more often than a Gaussian
        says, so a positive change counts less (Cornish and Fisher's first term).
        """
        share = 1 / self.newest + 1 / before.clamp(min=1.0)
        z = seen / (passed * share).clamp(min=TINY).sqrt()
        lift = skew / (self.newest.sqrt() * side) * (REFUSED**2 - 1) / 6 / REFUSED
        z = torch.where(z > 0, z / (1 + lift), z)
        return z * (before >= 1).to(z.dtype)

    def longer(
        self, frame: Tensor, long: Tensor, age: Tensor, longest: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The long mean with this frame in it, and the effective frames behind that."""
        share = 1 / torch.minimum(age + 1, longest)
        before = torch.where(age > 0, age, torch.ones_like(age))
        variance = (1 - share) * (1 - share) / before + share * share
        return long + share * (frame - long), 1 / variance

    def short(self, frame: Tensor, ring: Tensor, age: Tensor) -> tuple[Tensor, ...]:
        """Means of the newest 2, 4, 8 frames, of fewer where the past is refused."""
        total, count, result = frame, torch.ones_like(frame), []
        for index in range(RING):
            inside = (age >= index + 2 - 1e-3).to(frame.dtype)
            total = total + inside * ring[:, index : index + 1]
            count = count + inside
            if index + 2 in NEWEST:
                result.append(total / count)
        return tuple(result)
