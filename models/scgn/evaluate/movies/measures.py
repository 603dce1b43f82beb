"""What is measured of a movie's denoised frames, with the truth or without it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scgn.metrics import gaussian_filter
from scgn.stream import scores
from scgn.stream.grid import Grid, phase, turned

Floats = NDArray[np.float64]
WIDTHS_PX = tuple(0.5 * 1.15**step for step in range(24))  # those of `scgn.metrics.best_gaussian`
PREDECESSORS = 8  # frames
MOVING_SHARE = 0.25  # of the local contrast
LOCAL_PX = 8.0  # sigma of the window that local contrast is taken over


def mean_square(frame: Tensor, clean: Tensor, where: Tensor | None = None) -> float:
    """Mean square error of (H,W) counts, over the pixels of a mask; NaN where it is empty."""
    error = (frame.double() - clean.double()).square()
    return float(error.mean() if where is None else error[where].mean())


def decibel(error: float, clean: Tensor) -> float:
    """PSNR of a mean square error, peak the clean frame's range; NaN where it shows nothing."""
    peak = float(clean.max() - clean.min())
    return 10 * math.log10(peak**2 / error) if peak > 0 and error > 0 else math.nan


def running_mean(frames: Tensor, count: int) -> Tensor:
    """Mean of the newest `count` frames of (T,H,W) at every frame, of fewer at the start."""
    sums = torch.cat((torch.zeros_like(frames[:1], dtype=torch.float64), frames.double().cumsum(0)))
    first = (torch.arange(len(frames)) + 1 - count).clamp(min=0)
    behind = (torch.arange(len(frames)) + 1 - first)[:, None, None]
    return ((sums[1:] - sums[first]) / behind).to(frames.dtype)


def blurred(frames: Tensor, width_px: float) -> Tensor:
    """Gaussian blur of (T,H,W) or (H,W)."""
    return gaussian_filter(frames.reshape(-1, 1, *frames.shape[-2:]), width_px).view(frames.shape)


def best_blurred(noisy: Tensor, clean: Tensor, start: int) -> tuple[Tensor, int]:
    """The Gaussian blur of (H,W) that suits the truth best, and its place among WIDTHS_PX.

    Looked for downhill from a place among them: the error has one minimum.
    """
    tried: dict[int, tuple[float, Tensor]] = {}

    def error(place: int) -> float:
        if not 0 <= place < len(WIDTHS_PX):
            return math.inf
        if place not in tried:
            frame = blurred(noisy, WIDTHS_PX[place])
            tried[place] = mean_square(frame, clean), frame
        return tried[place][0]

    here = start
    while min(error(here - 1), error(here + 1)) < error(here):
        here += 1 if error(here + 1) < error(here - 1) else -1
    return tried[here][1], here


def best_gaussians(noisy: Tensor, clean: Tensor) -> Tensor:
    """Each of (T,H,W) blurred as suits it best, with the truth in hand."""
    place, found = len(WIDTHS_PX) // 2, []
    for frame, true in zip(noisy, clean, strict=True):
        result, place = best_blurred(frame, true, place)
        found.append(result)
    return torch.stack(found)


def moving(clean: Tensor) -> Tensor:
    """Where a clean movie (T,H,W) moves, bool: it differs from the mean of its eight predecessors
    by more than a quarter of the local contrast (deviation within LOCAL_PX). Nowhere before them.
    """
    before = running_mean(clean, PREDECESSORS).roll(1, dims=0)
    mean = blurred(clean, LOCAL_PX)
    contrast = (blurred(clean.square(), LOCAL_PX) - mean.square()).clamp(min=0).sqrt()
    moves = (clean - before).abs() > MOVING_SHARE * contrast
    moves[:PREDECESSORS] = False
    return moves


def share_of(frames: Tensor, pattern: Tensor) -> Tensor:
    """How much of a pattern (H,W) is in each of (...,H,W), both less their means."""
    pattern = (pattern - pattern.mean()).double()
    away = frames.double() - frames.double().mean(dim=(-2, -1), keepdim=True)
    return (away * pattern).sum(dim=(-2, -1)) / pattern.square().sum()


def correlation(first: Tensor, second: Tensor) -> float:
    """Pearson correlation of two frames' pixels."""
    both = torch.stack((first.flatten(), second.flatten())).double()
    return float(torch.corrcoef(both)[0, 1])


def r_future(outputs: Tensor, noisy: Tensor) -> float:
    """Mean correlation of output i with the mean of the noisy frames i + 3 and later, i from 8 to
    T - 14; (T,H,W) both. No method has seen those frames when it gives output i.
    """
    later = noisy.double().flip(0).cumsum(0).flip(0)
    return float(np.mean([correlation(outputs[i], later[i + 3]) for i in judged_frames(noisy)]))


def judged_frames(noisy: Tensor) -> range:
    """The frames of r_future."""
    return range(8, len(noisy) - 13)


def paired_gains(outputs: Tensor, noisy: Tensor, position_px: Floats) -> Floats:
    """Mean of (flat - y)^2 - (output - y)^2 of each frame that has a y two frames later, counts^2,
    (T-2,): `scgn.stream.scores` for any method. y is brought to the output's coordinates.
    """
    grid = Grid(noisy.shape[1], noisy.shape[2]).double()
    gains = []
    for i in range(len(noisy) - scores.LAG):
        moved = torch.from_numpy(position_px[i + scores.LAG] - position_px[i]).view(1, 2, 1, 1)
        later = shifted(grid, noisy[i + scores.LAG].double(), moved)
        output = outputs[i].double()
        gains.append(float(scores.gain((output - output.mean())[None, None], later)))
    return np.array(gains)


def shifted(grid: Grid, frame: Tensor, moved: Tensor) -> Tensor:
    """A frame (H,W) less its mean, read (1,2,1,1) px further on; (1,1,H,W)."""
    cosine, sine = phase(grid, moved[:, :1], moved[:, 1:])
    spectrum = grid.spectrum((frame - frame.mean())[None, None])
    result: Tensor = grid.frames(turned(spectrum, cosine, sine))
    return result


def mean_and_error(values: Floats) -> tuple[float, float]:
    """Mean and its standard error, of values with noise of their own."""
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Rank correlation; equal values share their mean rank."""
    one, other = (mean_ranks(np.asarray(values, float)) for values in (first, second))
    return float(np.corrcoef(one, other)[0, 1])


def mean_ranks(values: Floats) -> Floats:
    """Ranks from 0, equal values at the mean of theirs."""
    below = (values[:, None] > values).sum(axis=1)
    equal = (values[:, None] == values).sum(axis=1)
    return np.asarray(below + (equal - 1) / 2)
