"""What is no measurement is filled before anything else: a camera's flags, hot pixels, X-rays.

Flags: DECTRIS cameras write the largest value of the dtype (of i4: -1 and -2) into gaps and dead
pixels. Hits: single pixels far from what their neighbours say. Both are filled from their
neighbourhood and counted; plain saturation stays what it is.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from scgn.stream.grid import TINY
from scgn.stream.linear import Separable, repeated, repeats, windows
from scgn.units import block_of, lower_median

TOP = {"|u1": 255.0, "<u2": 65535.0, ">u2": 65535.0, "<i2": 32767.0}
FLAGGED = (*TOP, "<u4", "<i4")  # dtypes that can hold a flag
U4_FLAG = 4294967040.0  # the largest float32 below 2^32 - 1's own rounding
SHARP = 0.5  # of the top: what lies beside a flag is darker; beside a saturated pixel it is not
HIT = 8.0  # deviations of the noise
ELECTRONS = 6.0  # charges of one electron, whose noise is no Gaussian
LONELY = 4.0  # times what the neighbours differ from theirs: no lens makes a spot so narrow
WINDOWS = (7, 3)  # px, around a pixel, the narrowest that has any wins
BLOCKS = (8, 32)  # px; a gap wider than a window takes the mean of its block, or of the frame
STEP = 2


class Filled(NamedTuple):
    """frames: (B,1,H,W) counts; top: 1 where the raw frame had the dtype's largest value; bad: 1
    where a value was replaced; hits, flagged, saturated: pixels of each frame, (B,1,1,1).
    """

    frames: Tensor
    top: Tensor
    bad: Tensor
    hits: Tensor
    flagged: Tensor
    saturated: Tensor


def pixels(mask: Tensor) -> Tensor:
    """Number of pixels of each frame in a mask."""
    return mask.sum(dim=(-2, -1), keepdim=True)


def shifted(frames: Tensor, step: int) -> list[Tensor]:
    """Means of the four pairs of opposite neighbours `step` px away, edges mirrored."""
    padded = functional.pad(frames, (step,) * 4, mode="reflect")
    rows, columns = frames.shape[-2:]

    def at(down: int, right: int) -> Tensor:
        top, left = step + down * step, step + right * step
        return padded[..., top : top + rows, left : left + columns]

    return [(at(a, b) + at(-a, -b)) / 2 for a, b in ((0, 1), (1, 0), (1, 1), (1, -1))]


def middle(frames: Tensor, step: int) -> Tensor:
    """Mean of the middle two of the four pair means: one bad neighbour does not move it far."""
    first, second, third, fourth = shifted(frames, step)
    least = torch.minimum(torch.minimum(first, second), torch.minimum(third, fourth))
    most = torch.maximum(torch.maximum(first, second), torch.maximum(third, fourth))
    return (first + second + third + fourth - least - most) / 2


class Fill(nn.Module):
    """Flags and hits of frames of one shape and camera dtype."""

    def __init__(self, rows: int, columns: int, camera_dtype: str) -> None:
        super().__init__()
        self.dtype = camera_dtype
        shape = (rows, columns)
        self.near = nn.ModuleList(Separable(*(windows(n, w) for n in shape)) for w in WINDOWS)
        self.sums = nn.ModuleList(Separable(*(repeats(n, b).mT for n in shape)) for b in BLOCKS)
        self.repeats = nn.ModuleList(repeated(shape, block) for block in BLOCKS)

    def flags(self, raw: Tensor, held: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """(flags, top) of raw counts; held: `top` of the frame before, first: 1 without one."""
        if self.dtype == "<u4":
            top = (raw >= U4_FLAG).to(raw.dtype)
            return top, top
        if self.dtype == "<i4":
            ordinary = (raw < -2.5).to(raw.dtype).amax(dim=(-2, -1), keepdim=True)
            marks = ((raw < -0.5) & (raw > -2.5)).to(raw.dtype) * (1 - ordinary)
            return marks * torch.maximum(held, first), marks
        if self.dtype not in TOP:
            return torch.zeros_like(raw), torch.zeros_like(raw)
        top = (raw >= TOP[self.dtype]).to(raw.dtype)
        ring = (self.near[-1](top) > 0.5).to(raw.dtype) * (1 - top)
        beside = pixels(ring * raw) / pixels(ring).clamp(min=1.0)
        sharp = (beside < SHARP * TOP[self.dtype]).to(raw.dtype)
        return top * sharp * torch.maximum(held, first), top

    def forward(self, raw: Tensor, frames: Tensor, held: Tensor, first: Tensor) -> Filled:
        """raw: counts as the camera sent them, frames: corrected; both (B,1,H,W)."""
        flags, top = self.flags(raw, held, first)
        if self.dtype in FLAGGED:
            known = torch.where(flags > 0, torch.zeros_like(frames), frames)
            frames = torch.where(flags > 0, self.neighbourhood(known, 1 - flags), frames)
        beside, further = middle(frames, 1), middle(frames, 2)
        away = (frames - beside).abs()
        level = frames.mean(dim=(-2, -1), keepdim=True)
        variance = robust_variance(frames)
        brighter = (beside / torch.where(level > 0, level, torch.ones_like(level))).clamp(1.0, 16.0)
        brighter = torch.where(level > 0, brighter, torch.ones_like(brighter))
        charge = torch.where(level > 0, variance / level.clamp(min=TINY), torch.zeros_like(level))
        charge = torch.minimum(charge, frames.amax(dim=(-2, -1), keepdim=True).clamp(min=0.0))
        limit = HIT * (variance * brighter).sqrt() + ELECTRONS * charge
        lonely = away > LONELY * (beside - further).abs()
        hits = ((away > limit) & lonely & (variance > 0)).to(frames.dtype) * (1 - flags)
        saturated = pixels(top * (1 - flags))
        filled = torch.where(hits > 0, beside, frames)
        bad = torch.maximum(hits, flags)
        return Filled(filled, top, bad, pixels(hits), pixels(flags), saturated)

    def neighbourhood(self, known: Tensor, good: Tensor) -> Tensor:
        """Mean of the good pixels of the smallest window, block or frame that has any."""
        total, count = pixels(known), pixels(good)
        result = (total / count.clamp(min=1.0)).expand_as(known)
        for sums, repeat in zip(reversed(self.sums), reversed(self.repeats), strict=True):
            total, count = sums(known), sums(good)
            has = (count > 0.5).to(known.dtype)
            value = repeat(has * total / count.clamp(min=1.0))
            result = torch.where(repeat(has) > 0.5, value, result)
        for near in self.near:
            count = near(good)
            result = torch.where(count > 0.5, near(known) / count.clamp(min=1.0), result)
        return result


def robust_variance(frames: Tensor) -> Tensor:
    """Variance of the pixels' own noise, (B,1,1,1), that a few hits do not raise.

    Mixed second differences of pixels two apart cancel lines and slopes; the lower median of their
    block means. Where most blocks are constant (single electrons, apertures), the mean of all.
    """
    step = min(STEP, frames.shape[-2] - 1, frames.shape[-1] - 1)
    below, above = frames[..., step:, :], frames[..., :-step, :]
    mixed = below[..., step:] - below[..., :-step] - above[..., step:] + above[..., :-step]
    window = (block_of(mixed.shape[-2]), block_of(mixed.shape[-1]))
    power = functional.avg_pool2d(mixed * mixed * 0.25, window, stride=window).flatten(1)
    usual = lower_median(power)
    return torch.where(usual > 0, usual, power.mean(dim=1))[:, None, None, None]
