"""What a noise calibration found, as plain values for JSON, for the eye and for the picture."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgn.calibrate.doubts import Doubt
from scgn.calibrate.statistics import Lines, Statistics
from scgn.calibrate.transfer import PhotonTransfer, guided

BARS = 61  # a third for few values
BARS_REACH = 4.5  # deviations
FRAMES_FOR_BARS = 9


@dataclass(frozen=True)
class Histogram:
    """Counts between edges, and the normal that was fitted: its deviation in the edges' unit."""

    edges: list[float]
    counts: list[int]
    sigma: float


@dataclass(frozen=True)
class Measurement:
    """A value and its standard error, None where it could not be told."""

    value: float
    error: float | None


@dataclass(frozen=True)
class Report:
    """Everything found, in counts unless the name says otherwise.

    source: `references` or `series`; shape: rows, columns; frames: of each stack; line_axis: the
    axis of the stronger line noise, line_found: whether it stands out of the point noise;
    gain_adu_per_e: slope of the pixels' variance against signal; gain_without_blur_adu_per_e:
    counts per electron if a point spread smooths the shot noise, None without a slope; signal,
    variance, variance_error: the photon transfer's points; variance_at_zero: of its line;
    r_squared, chi2_per_dof, misfit (relative): how well the line fits; autocorrelation:
    (7,7) of the point noise; defects: pixels by kind; trustworthy: no doubts.
    """

    source: str
    shape: tuple[int, int]
    frames: list[int]
    line_axis: str
    line_found: bool
    column_noise_adu: Measurement
    row_noise_adu: Measurement
    line_correlation: float
    read_noise_adu: float
    point_noise_adu: float
    gain_adu_per_e: Measurement
    gain_without_blur_adu_per_e: Measurement | None
    variance_at_zero: Measurement
    signal: list[float]
    variance: list[float]
    variance_error: list[float]
    r_squared: float
    chi2_per_dof: float | None
    misfit: float
    autocorrelation: list[list[float]]
    line_histogram: Histogram
    point_histogram: Histogram
    defects: dict[str, int]
    doubts: list[Doubt]

    @property
    def trustworthy(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.doubts

    def as_json(self) -> dict[str, Any]:
        """The same in plain values, with `trustworthy`."""
        return {"trustworthy": self.trustworthy} | asdict(self)

    def words(self) -> str:
        """A few lines for the operator."""
        lines = self.column_noise_adu if self.line_axis == "column" else self.row_noise_adu
        line = f"{lines.value:.3g} +- {lines.error:.2g}, along {self.line_axis}s"
        correlated = f", neighbours correlated {self.line_correlation:.2f}"
        blur = self.gain_without_blur_adu_per_e
        said = [
            f"read noise   {self.read_noise_adu:.3g} counts",
            f"line noise   {line + correlated if self.line_found else 'none found'}",
            f"gain         {_words(self.gain_adu_per_e)} (variance per count of signal)",
            *([f"             {_words(blur)} without blur (counts per electron)"] if blur else []),
            *(f"{kind:12} {number} pixels" for kind, number in self.defects.items()),
            *(f"DOUBT        {doubt.reason}: {doubt.text}" for doubt in self.doubts),
        ]
        return "\n".join(said)


def _words(value: Measurement) -> str:
    return "not measured" if value.error is None else f"{value.value:.4g} +- {value.error:.2g}"


def measurement(value: float, error: float) -> Measurement:
    """Value and error, as JSON can say them."""
    return Measurement(float(value), float(error) if math.isfinite(error) else None)


def line_histogram(noise: Statistics, lines: Lines) -> Histogram:
    """Of all lines' means along an axis, counts."""
    means = noise.columns if lines.axis == "column" else noise.rows
    return _histogram(means.ravel(), float(means.std()))


def point_histogram(stack: NDArray[Any], transfer: PhotonTransfer, noise: Statistics) -> Histogram:
    """Of the point noise over the deviation that the fitted line gives at each pixel's signal."""
    points, parts = transfer.points, []
    usual = float(np.average(points.variance, weights=points.samples)) or 1.0
    for guide, _, point in guided(stack[:FRAMES_FOR_BARS]):
        inside = np.isfinite(guide)
        fitted = transfer.line(guide[inside]) if transfer.resolved else usual
        variance = np.maximum(fitted, 0.01 * usual) * noise.kept
        parts.append(point[inside] / np.sqrt(variance))
    values = np.concatenate(parts)
    return _histogram(values, float(values.std()))


def _histogram(values: NDArray[Any], sigma: float) -> Histogram:
    reach = BARS_REACH * sigma if sigma > 0 else 1.0
    bars = BARS if values.size > 5000 else BARS // 3 | 1
    counts, edges = np.histogram(values, bars, (-reach, reach))
    return Histogram(edges.tolist(), counts.tolist(), sigma)
