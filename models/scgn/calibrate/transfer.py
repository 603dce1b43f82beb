"""Photon transfer: the point noise's variance against the signal, and its straight line.

Pixels are sorted into bins by a guide that shares no noise with them, and both variance and signal
are averaged in each bin: noise in the signal then moves no pixel to another bin, so the line is not
flattened (the guide is what regression calls an instrument).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgn.calibrate.statistics import (
    OVERLAP,
    REACH,
    Doubles,
    Floats,
    Statistics,
    box_mean,
    differences,
    point_part,
)

Array = NDArray[Any]
BINS = 24
PIXELS_PER_BIN = 400  # or fewer bins
RING = 5  # px from a pixel to its guide, beyond its noise's reach and off its lines


@dataclass(frozen=True)
class Points:
    """One bin each: signal, counts; variance of the point noise, counts^2; samples: how many
    independent squares were averaged.
    """

    signal: Doubles
    variance: Doubles
    samples: Doubles

    def joined(self, other: Points) -> Points:
        """The bins of both."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Points(*(np.concatenate(pair) for pair in pairs))


def guided(stack: Array) -> Iterator[tuple[Floats, Floats, Floats]]:
    """(guide, signal, point noise) of each pair of neighbouring frames.

    The guide is the mean of the other frames; where there are none, that of four places around the
    pixel, and NaN at the frame's edge.
    """
    total = stack.sum(0, dtype=np.float64)
    for index, difference in enumerate(differences(stack)):
        pair = stack[index : index + 2].sum(0, dtype=np.float64)
        signal = (pair / min(len(stack), 2)).astype(np.float32)
        others = len(stack) - 2
        guide = box_mean((total - pair) / others, 3, 3) if others > 0 else _ring(signal)
        yield guide, signal, point_part(difference)


def _ring(signal: Floats) -> Floats:
    smooth, edge = box_mean(signal, 3, 3), RING + 1
    guide = np.full_like(signal, np.nan)
    inner = guide[edge:-edge, edge:-edge]
    inner[:] = 0
    for down in (-RING, RING):
        for right in (-RING, RING):
            inner += np.roll(smooth, (down, right), (0, 1))[edge:-edge, edge:-edge] / 4
    return guide


def transfer_points(
    stack: Array, noise: Statistics, bins: int = BINS, mask: NDArray[np.bool_] | None = None
) -> Points:
    """Variance against signal of a stack (frames, rows, columns), in bins of about equal size.

    noise: the statistics of the same stack, for what the removed means of lines took along; mask:
    pixels to leave out.
    """
    edges: Doubles | None = None
    for guide, signal, noisy in guided(stack):
        inside = np.isfinite(guide)
        inside &= True if mask is None else ~mask
        if edges is None:
            bins = int(np.clip(inside.sum() * noise.differences // PIXELS_PER_BIN, 1, bins))
            sums = np.zeros((3, bins))
            edges = np.quantile(guide[inside], np.linspace(0, 1, bins + 1)[1:-1])
        chosen = np.searchsorted(edges, guide[inside])
        for row, values in enumerate((np.ones_like(signal), signal, noisy * noisy)):
            sums[row] += np.bincount(chosen, values[inside], minlength=bins)
    return _points(sums[:, sums[0] > 0], noise)


def _points(sums: Doubles, noise: Statistics) -> Points:
    number = sums[0]
    pixels = noise.differences * noise.shape[0] * noise.shape[1]
    return Points(
        sums[1] / number,
        _with_means(sums[2] / number, number, noise.kept),
        number * noise.samples / pixels,
    )


def _with_means(values: Doubles, number: Doubles, kept: float) -> Doubles:
    """Bins before the means of lines were removed, which keep the share `kept` of the average.

    x - mean has the square x^2 - 2 x mean + mean^2: the middle term takes twice the lost share of
    the bin's own, the last gives the share of all bins' average back.
    """
    lost = 1 - kept
    average = np.average(values, weights=number) / kept
    return np.maximum((values - lost * average) / (1 - 2 * lost), 0)


@dataclass(frozen=True)
class PhotonTransfer:
    """The straight line variance = offset + gain * signal through the bins, and how well it fits.

    gain, offset and their standard errors in counts, counts^2; r_squared: share of the variance's
    change that the line explains; chi2_per_dof: about 1 where the line is right, None without
    degrees of freedom; misfit: residuals' root mean square relative to the line;
    """

    points: Points
    gain: float
    gain_error: float
    offset: float
    offset_error: float
    r_squared: float
    chi2_per_dof: float | None
    misfit: float

    @property
    def resolved(self) -> bool:
        """Whether the variance grows with the signal beyond doubt."""
        return self.gain > 3 * self.gain_error

    def line(self, signal: Any) -> Any:
        """Variance that the line gives at a signal."""
        return self.offset + self.gain * signal


def fit_transfer(points: Points) -> PhotonTransfer:
    """Weighted straight line; weights from the line itself, as those from the points would pull it
    down. With bins at one signal only there is no slope: gain 0 with an infinite error.
    """
    variance = points.variance
    if len(variance) < 2 or np.ptp(points.signal) == 0 or variance.max() <= 0:
        mean = float(np.average(variance, weights=points.samples))
        return PhotonTransfer(points, 0.0, np.inf, mean, 0.0, 0.0, None, 0.0)
    expected = np.full_like(variance, variance.mean())
    for _ in range(5):
        weights = points.samples / (2 * expected**2)
        line = _fit(points.signal, variance, weights)
        expected = np.maximum(line.at(points.signal), variance.max() * 1e-3)
    changes = weights @ (variance - np.average(variance, weights=weights)) ** 2
    residual = variance - line.at(points.signal)
    return PhotonTransfer(
        points,
        gain=line.slope,
        gain_error=line.slope_error * np.sqrt(max(1.0, line.chi2 or 1.0)),
        offset=line.offset,
        offset_error=line.offset_error * np.sqrt(max(1.0, line.chi2 or 1.0)),
        r_squared=1 - float(weights @ residual**2 / changes) if changes > 0 else 0.0,
        chi2_per_dof=line.chi2,
        misfit=float(np.sqrt(np.mean((residual / np.maximum(expected, variance)) ** 2))),
    )


@dataclass(frozen=True)
class _Line:
    offset: float
    slope: float
    offset_error: float
    slope_error: float
    chi2: float | None  # per degree of freedom

    def at(self, x: Doubles) -> Doubles:
        return self.offset + self.slope * x


def _fit(x: Doubles, y: Doubles, weights: Doubles) -> _Line:
    middle = float(np.average(x, weights=weights))
    power = float(weights @ (x - middle) ** 2)
    slope = float(weights @ ((x - middle) * y)) / power
    offset = float(np.average(y, weights=weights)) - slope * middle
    residual = y - offset - slope * x
    chi2 = float(weights @ residual**2) / (len(x) - 2) if len(x) > 2 else None
    errors = float(np.sqrt(1 / weights.sum() + middle**2 / power)), float(1 / np.sqrt(power))
    return _Line(offset, slope, *errors, chi2)


def gain_without_blur(
    noise: Statistics, transfer: PhotonTransfer, signal: float
) -> tuple[float, float]:
    """Counts per electron and its standard error, where a point spread smooths the shot noise.

    Blur moves variance to other lags but leaves the sum over lags, so what the other lags hold is
    added per count of signal. signal: mean counts of the frames that the statistics are of. Takes
    read noise for white.
    """
    signal += min(transfer.offset / transfer.gain, 0)  # a negative variance at 0 is a count offset
    others = noise.covariance.sum() - noise.covariance[REACH, REACH]
    pixels = noise.differences * noise.shape[0] * noise.shape[1]
    doubt = abs(noise.covariance.sum()) * np.sqrt(2 * OVERLAP * noise.covariance.size / pixels)
    return transfer.gain + others / signal, float(np.hypot(transfer.gain_error, doubt / signal))
