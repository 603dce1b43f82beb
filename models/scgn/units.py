"""Noise units: a frame shifted by its level and divided by its own noise.

In these units the noise has a standard deviation near 1 whatever the camera's gain, so one set of
weights serves every gain and offset: doubling the gain doubles frame, level and noise alike.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

ATOM_MAP_PEAK = 255.0  # an atom map is on the paper's 8-bit scale, whatever the counts
STEP = 2  # px; neighbours of a blurred camera share their noise, pixels two apart hardly any
BLOCK = 16  # px; noise is measured per block and the median taken, so hot pixels do not count
BLOCKS_MAX = 64  # along a side; a longer side has larger blocks, as sorting them all would cost


class NoiseUnits(NamedTuple):
    """Level and scale of each frame of a batch, both (B,1,1,1), in counts."""

    level: Tensor
    scale: Tensor

    def enter(self, counts: Tensor) -> Tensor:
        """Counts -> noise units, (B,1,H,W)."""
        return (counts - self.level) / self.scale

    def leave(self, units: Tensor) -> Tensor:
        """Noise units -> counts, (B,1,H,W)."""
        return units * self.scale + self.level


def point_noise(frames: Tensor) -> Tensor:
    """Standard deviation of the pointwise noise of each frame; (B,1,H,W) -> (B,1,1,1).

    Uses the mixed second difference of pixels STEP apart, half of which has the pixel's own
    deviation for white noise: column noise, row noise and any slope of the scene cancel exactly.
    """
    step = min(STEP, frames.shape[-2] - 1, frames.shape[-1] - 1)
    below, above = frames[..., step:, :], frames[..., :-step, :]
    mixed = below[..., step:] - below[..., :-step] - above[..., step:] + above[..., :-step]
    window = (block_of(mixed.shape[-2]), block_of(mixed.shape[-1]))
    power = functional.avg_pool2d(mixed * mixed * 0.25, window, stride=window).flatten(1)
    return lower_median(power).sqrt()[:, None, None, None]


def block_of(side: int) -> int:
    """Side of a block of a difference frame's side, px."""
    return min(side, max(BLOCK, math.ceil(side / BLOCKS_MAX)))


def lower_median(values: Tensor) -> Tensor:
    """The middle value of each row, the lower of two; (B,N) -> (B,).

    As `Tensor.median` gives it, in an operation that every compiler has.
    """
    middle = (values.shape[1] - 1) // 2
    return values.topk(middle + 1, dim=1, largest=False, sorted=True).values[:, middle]


def noise_units(frames: Tensor) -> NoiseUnits:
    """Level (mean) and scale (pointwise noise) of each float frame; (B,1,H,W), H and W at least 2.

    A frame without any noise gets scale 1, so that nothing divides by zero.
    """
    level = frames.mean(dim=(-3, -2, -1), keepdim=True)
    scale = point_noise(frames)
    return NoiseUnits(level, torch.where(scale > 0, scale, torch.ones_like(scale)))
