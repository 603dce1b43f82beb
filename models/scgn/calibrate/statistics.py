"""Noise without the scene: differences of frames, means of their lines, covariance of the rest.

d_t = (y_t - y_{t-1}) / sqrt(2) cancels a scene that stands still and keeps the noise's variance.
Removing the means of columns and rows leaves the point noise, whose covariance is corrected for
what those means took along. After Li et al., CVPR 2026, section 3.1, for correlated noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgn.noise import Axis

Array = NDArray[Any]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
REACH = 3  # px; lags of the autocorrelation, 7x7
HIT = 12.0  # deviations; beyond is an X-ray or cosmic ray
HITS_MAX = 1e-4  # of the pixels; more is the noise itself
OVERLAP = 1.5  # neighbouring differences share a frame: variances of averages over them grow so


def differences(stack: Array) -> Iterator[Floats]:
    """(y_t - y_{t-1}) / sqrt(2) of each pair of neighbouring frames, counts.

    A stack of one frame gives that frame without its large-scale background and without hits: what
    is fixed in the frame then counts as noise.
    """
    if len(stack) == 1:
        alone = stack[0] - background(stack[0])
        alone[_hits(alone)] = 0
        yield alone
    for before, after in pairwise(stack):
        yield difference(before, after)


def difference(before: Array, after: Array) -> Floats:
    """(after - before) / sqrt(2), counts."""
    change = after.astype(np.float32) - before.astype(np.float32)
    return np.asarray(change / np.float32(np.sqrt(2)))


def without_hits(stack: Array) -> Array:
    """The stack with the lower value of both frames where an X-ray or cosmic ray struck one.

    The same array when there are none.
    """
    clean = stack
    for index in range(1, len(stack)):
        change = difference(clean[index - 1], clean[index])
        struck = _hits(change)
        if struck.any():
            clean = stack.copy() if clean is stack else clean
            lower = np.minimum(clean[index - 1], clean[index])
            clean[index - 1 : index + 1, struck] = lower[struck]
    return clean


def _hits(change: Floats) -> NDArray[np.bool_]:
    size = np.abs(change)
    usual = size[size <= np.quantile(size, 0.999)]
    struck = size > HIT * np.sqrt(np.mean(np.square(usual, dtype=np.float64)))
    return np.asarray(struck & (struck.sum() <= max(4, HITS_MAX * size.size)))


def box_mean(frame: Array, height: int, width: int) -> Floats:
    """Mean over height x width (odd) around each pixel, edges mirrored."""
    pad = ((height // 2 + 1, height // 2), (width // 2 + 1, width // 2))
    total = np.pad(frame.astype(np.float64), pad, mode="symmetric").cumsum(0).cumsum(1)
    boxes = total[height:, width:] - total[:-height, width:]
    boxes -= total[height:, :-width] - total[:-height, :-width]
    return np.asarray(boxes / (height * width), np.float32)


def background(frame: Array) -> Floats:
    """Mean over a quarter of the frame's sides, over which a line stands out from those beside."""
    height, width = (side // 4 | 1 for side in frame.shape)
    return box_mean(frame, height, width)


def point_part(change: Floats) -> Floats:
    """What is left without the means of columns and rows."""
    columns, rows = change.mean(0), change.mean(1)
    return np.asarray(change - columns - rows[:, None] + columns.mean(), np.float32)


@dataclass(frozen=True, eq=False)
class Statistics:
    """What the differences of one stack, or of several alike, say.

    shape: rows, columns; differences: D, their number; columns: (D, columns) means over the rows
    less the frame's mean, counts; rows: (D, rows) likewise; covariance: (7,7) of the point noise by
    lag, counts^2; raw: the same as measured, before correction for the removed means.
    """

    shape: tuple[int, int]
    differences: int
    columns: Doubles
    rows: Doubles
    covariance: Doubles
    raw: Doubles

    @property
    def autocorrelation(self) -> Doubles:
        """Covariance by lag over the one at lag 0; (1 at lag 0 alone) for frames without noise."""
        variance = self.covariance[REACH, REACH]
        if variance > 0:
            return np.asarray(self.covariance / variance)
        zero = np.arange(-REACH, REACH + 1) == 0
        return np.asarray(np.outer(zero, zero), np.float64)

    @property
    def kept(self) -> float:
        """Share of the point noise's variance that is left without the means of lines."""
        variance = self.covariance[REACH, REACH]
        return float(self.raw[REACH, REACH] / variance) if variance > 0 else 1.0

    @property
    def point_sigma(self) -> float:
        """Deviation of the point noise over all signals, counts."""
        return float(np.sqrt(max(self.covariance[REACH, REACH], 0)))

    @property
    def samples(self) -> float:
        """Independent samples of the point noise's square."""
        pixels = self.differences * self.shape[0] * self.shape[1]
        overlap = OVERLAP if self.differences > 1 else 1.0
        return float(pixels / overlap / np.square(self.autocorrelation).sum())


def statistics(stacks: list[Array]) -> Statistics:
    """Statistics over all differences of stacks of one frame shape."""
    columns, rows, raw = [], [], np.zeros((2 * REACH + 1, 2 * REACH + 1))
    for stack in stacks:
        for change in differences(stack):
            columns.append(change.mean(0, dtype=np.float64) - change.mean())
            rows.append(change.mean(1, dtype=np.float64) - change.mean())
            raw += lagged(point_part(change))
    shape = stacks[0].shape[1], stacks[0].shape[2]
    covariance = _without_means(raw / len(rows), shape)
    return Statistics(
        shape, len(rows), np.array(columns), np.array(rows), covariance, raw / len(rows)
    )


def lagged(frame: Floats) -> Doubles:
    """(7,7) mean products of a frame with itself moved by -3..3 rows and columns."""
    rows, columns = frame.shape
    side = 2 * REACH + 1
    result = np.empty((side, side))
    for down in range(REACH + 1):
        for right in range(-REACH, REACH + 1):
            left = max(-right, 0), columns - max(right, 0)
            one = frame[: rows - down, left[0] : left[1]]
            other = frame[down:, left[0] + right : left[1] + right]
            mean = float(np.vdot(one.ravel(), other.ravel())) / one.size
            result[REACH + down, REACH + right] = result[REACH - down, REACH - right] = mean
    return result


def _without_means(raw: Doubles, shape: tuple[int, int]) -> Doubles:
    """Covariance before the means of columns and rows were removed, from the one after.

    Removing them takes (sum over a column's lags) / rows + (sum over a row's lags) / columns
    - (sum over all) / pixels from each lag; solved by repetition, as the sums are what is sought.
    """
    covariance = raw
    for _ in range(8):
        taken = covariance.sum(0) / shape[0] + covariance.sum(1)[:, None] / shape[1]
        covariance = raw + taken - covariance.sum() / (shape[0] * shape[1])
    return covariance


@dataclass(frozen=True)
class Lines:
    """Noise that whole lines share: deviation and its standard error, counts; correlation of
    neighbouring lines; found: whether it stands out of what the point noise does to lines' means.
    """

    axis: Axis
    sigma: float
    error: float
    correlation: float
    found: bool


def line_noise(noise: Statistics, axis: Axis) -> Lines:
    """Noise of columns or rows: variance of lines' means less what the point noise leaves in them.

    The latter is its covariance summed along the line over the length, sigma_p^2 / length if white.
    """
    means, length, along = noise.columns, noise.shape[0], noise.covariance.sum(0)
    if axis == "row":
        means, length, along = noise.rows, noise.shape[1], noise.covariance.sum(1)
    number = means.shape[1]
    variance = np.square(means).mean() * number / (number - 1)
    neighbours = np.mean(means[:, 1:] * means[:, :-1]) + variance / number
    excess = float(variance - along[REACH] / length)
    between = float(neighbours - along[REACH + 1] / length)
    overlap = OVERLAP if noise.differences > 1 else 1.0
    spread = 2 * overlap * (1 + 2 * (neighbours / variance) ** 2) if variance > 0 else 0.0
    error = float(variance * np.sqrt(spread / means.size))
    if excess <= 4 * error:
        return Lines(axis, float(np.sqrt(max(excess, 0))), float(np.sqrt(error)), 0.0, False)
    correlation = float(np.clip(between / excess, -1, 1))
    sigma = float(np.sqrt(excess))
    return Lines(axis, sigma, error / (2 * sigma), correlation, True)
