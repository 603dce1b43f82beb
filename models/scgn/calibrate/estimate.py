"""A camera's calibration from its own frames: from dark and flat stacks, or from a live series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from scgn.calibrate.doubts import Doubt, doubts_of_fit, doubts_of_stack
from scgn.calibrate.fixed_pattern import (
    corrected,
    dark_reference,
    dead_pixels,
    hot_pixels,
    noisy_pixels,
    response,
)
from scgn.calibrate.report import Measurement, Report, line_histogram, measurement, point_histogram
from scgn.calibrate.statistics import Lines, Statistics, line_noise, statistics, without_hits
from scgn.calibrate.transfer import (
    PhotonTransfer,
    Points,
    fit_transfer,
    gain_without_blur,
    transfer_points,
)
from scgn.calibration import Calibration, build_calibration
from scgn.noise import Axis, NoiseModel
from scgn.references import CalibrationError, Floats

Array = NDArray[Any]
Source = Literal["references", "series"]
SIDE_MIN = 16  # px; the lags of the autocorrelation and the ring of guides must fit in
BINS_PER_FLAT = 4


def calibrate_series(series: Array) -> tuple[Calibration, Report]:
    """Noise of a live series (frames, rows, columns) of a scene that stands still, as stored.

    Needs no reference and no flat region: differences of neighbouring frames cancel the scene. The
    calibration has no dark, no gain and an empty mask. Raises CalibrationError for fewer than two
    frames or frames below 16 pixels a side.
    """
    _checked("series", series, frames_min=2)
    series = without_hits(series)
    noise = statistics([series])
    transfer = fit_transfer(transfer_points(series, noise))
    doubts = doubts_of_stack(series, noise, "series")
    doubts += doubts_of_fit(transfer, noise, {"series": [len(series)]})
    found = _Found("series", series, noise, noise, transfer, float(series.mean()))
    calibration = build_calibration(mask=np.zeros(noise.shape, bool), noise=found.model())
    return calibration, found.report([len(series)], {}, doubts)


def calibrate_references(dark: Array, flats: list[Array]) -> tuple[Calibration, Report]:
    """References and noise from a dark stack and flat stacks, (frames, rows, columns) each.

    Noise is that of corrected frames: line noise from the dark, gain from all stacks,
    autocorrelation from the flats if there are any. Without flats there is no gain reference and
    the noise model's gain is 0. Raises CalibrationError for stacks that do not fit together.
    """
    _checked("dark", dark, frames_min=1)
    for flat in flats:
        _checked("flat", flat, frames_min=2, shape=dark.shape[1:])
    defects = {"noisy": noisy_pixels(dark)}  # a pixel that blinks is hit often
    dark, flats = without_hits(dark), [without_hits(flat) for flat in flats]
    level = dark_reference(dark)
    relative = response(flats, level) if flats else None
    defects["hot"] = hot_pixels(dark)
    if relative is not None:
        defects["dead"] = dead_pixels(relative)
    mask = np.logical_or.reduce(list(defects.values()))
    gain = None if relative is None else _gain(relative, mask)
    clean = [corrected(stack, level, gain, mask) for stack in (dark, *flats)]
    found = _from_corrected(clean[0], clean[1:], mask)
    doubts = _stack_doubts(dark, flats)
    frames = {"dark": [len(dark)], "flat": [len(flat) for flat in flats]}
    doubts += doubts_of_fit(found.transfer, found.lines_from, frames)
    calibration = build_calibration(
        level, gain, mask, None if gain is None else "multiply", found.model()
    )
    numbers = {kind: int(pixels.sum()) for kind, pixels in defects.items()}
    return calibration, found.report([len(stack) for stack in clean], numbers, doubts)


def _checked(
    field: str, stack: Array, frames_min: int, shape: tuple[int, ...] | None = None
) -> None:
    if stack.ndim != 3 or min(stack.shape[1:]) < SIDE_MIN or stack.dtype.kind not in "fiub":
        expected = f"expected real (frames, rows, columns) of {SIDE_MIN} px a side or more"
        raise CalibrationError(field, f"{expected}, got {stack.dtype} {stack.shape}")
    if len(stack) < frames_min:
        raise CalibrationError(field, f"expected {frames_min} frames or more, got {len(stack)}")
    if shape is not None and stack.shape[1:] != shape:
        raise CalibrationError(
            field, f"expected frames of the dark's {shape}, got {stack.shape[1:]}"
        )


def _stack_doubts(dark: Array, flats: list[Array]) -> list[Doubt]:
    """Of the stacks as stored; a flat is named by its mean, a reason comes once per stack."""
    doubts = []
    for kind, stack in (("dark", dark), *(("flat", flat) for flat in flats)):
        name = kind if kind == "dark" else f"flat of mean {stack.mean():.4g}"
        for doubt in doubts_of_stack(stack, statistics([stack]), kind):
            doubts.append(Doubt(doubt.reason, f"{name}: {doubt.text}"))
    return doubts


def _from_corrected(dark: Array, flats: list[Array], mask: NDArray[np.bool_]) -> _Found:
    alone = statistics([dark])
    points = transfer_points(dark, alone, 1, mask)
    for flat in flats:
        own = statistics([flat])
        points = points.joined(transfer_points(flat, own, BINS_PER_FLAT, mask))
    together = statistics(flats) if flats else alone
    changes = [len(flat) - 1 for flat in flats]
    signal = float(np.average([f.mean() for f in flats], weights=changes)) if flats else 0.0
    shown = max(flats, key=np.mean, default=dark)
    return _Found("references", shown, alone, together, fit_transfer(points), signal)


@dataclass(frozen=True, eq=False)
class _Found:
    """Estimates of one camera, as a noise model and as a report.

    shown: the stack whose point noise the histogram shows; lines_from, points_from: statistics that
    line noise and autocorrelation are taken from; signal: mean counts of the latter's frames.
    """

    source: Source
    shown: Array
    lines_from: Statistics
    points_from: Statistics
    transfer: PhotonTransfer
    signal: float

    @property
    def lines(self) -> Lines:
        """The stronger of the line noises that were found; columns' when none was."""
        columns, rows = self._lines_of("column"), self._lines_of("row")
        return rows if rows.found and rows.sigma > columns.sigma else columns

    def _lines_of(self, axis: Axis) -> Lines:
        return line_noise(self.lines_from, axis)

    def model(self) -> NoiseModel:
        """What frames have; without a slope, one deviation at every signal."""
        lines, transfer = self.lines, self.transfer
        resolved = transfer.resolved
        read = np.sqrt(max(transfer.offset, 0)) if resolved else self.lines_from.point_sigma
        return NoiseModel(
            gain_adu_per_e=transfer.gain if resolved else 0.0,
            read_noise_adu=float(read),
            line_noise_adu=lines.sigma if lines.found else 0.0,
            line_axis=lines.axis,
            line_correlation=lines.correlation,
            autocorrelation=self.points_from.autocorrelation.astype(np.float32),
        )

    def report(self, frames: list[int], defects: dict[str, int], doubts: list[Doubt]) -> Report:
        """The same with errors, the transfer's points and histograms."""
        lines, transfer, noise = self.lines, self.transfer, self.points_from
        blurless = (noise, transfer, self.signal)
        return Report(
            source=self.source,
            shape=noise.shape,
            frames=frames,
            line_axis=lines.axis,
            line_found=lines.found,
            column_noise_adu=_lines(self._lines_of("column")),
            row_noise_adu=_lines(self._lines_of("row")),
            line_correlation=lines.correlation,
            read_noise_adu=self.model().read_noise_adu,
            point_noise_adu=noise.point_sigma,
            gain_adu_per_e=measurement(transfer.gain, transfer.gain_error),
            gain_without_blur_adu_per_e=(
                measurement(*gain_without_blur(*blurless)) if transfer.resolved else None
            ),
            variance_at_zero=measurement(transfer.offset, transfer.offset_error),
            **_points(transfer.points),
            r_squared=transfer.r_squared,
            chi2_per_dof=transfer.chi2_per_dof,
            misfit=transfer.misfit,
            autocorrelation=noise.autocorrelation.round(4).tolist(),
            line_histogram=line_histogram(self.lines_from, lines),
            point_histogram=point_histogram(self.shown, transfer, noise),
            defects=defects,
            doubts=doubts,
        )


def _gain(relative: Floats, mask: NDArray[np.bool_]) -> Floats:
    return np.asarray(1 / np.where(mask, 1, relative), np.float32)


def _lines(lines: Lines) -> Measurement:
    return measurement(lines.sigma, lines.error)


def _points(points: Points) -> dict[str, list[float]]:
    error = points.variance * np.sqrt(2 / points.samples)
    return {
        "signal": points.signal.tolist(),
        "variance": points.variance.tolist(),
        "variance_error": error.tolist(),
    }
