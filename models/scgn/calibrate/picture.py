"""The report as one picture, after figure 3 of Li et al., CVPR 2026."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from scgn.calibrate.report import Histogram, Report
from scgn.stacks import library

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#555555"  # Okabe and Ito, told apart by all eyes


def save_picture(path: Path, report: Report) -> None:
    """Write a PNG: histograms of line and point noise, variance against signal with the fitted line
    and its residuals, autocorrelation. Raises StackError without matplotlib.
    """
    figure = library("matplotlib.figure").Figure(figsize=(10, 7.6), dpi=110, layout="constrained")
    grid = figure.add_gridspec(3, 2, height_ratios=(10, 7, 3))
    axis = report.line_axis
    lines, points = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
    _histogram(lines, report.line_histogram, f"{axis} means, counts", _line_words(report))
    _histogram(points, report.point_histogram, "point noise over its fitted deviation")
    upper = figure.add_subplot(grid[1, 0])
    _transfer(upper, figure.add_subplot(grid[2, 0], sharex=upper), report)
    _autocorrelation(figure, figure.add_subplot(grid[1:, 1]), report)
    figure.suptitle(_title(report), fontsize=10)
    figure.savefig(path, format="png")


def _title(report: Report) -> str:
    rows, columns = report.shape
    frames = " + ".join(str(number) for number in report.frames)
    frames += " frame" if report.frames == [1] else " frames"
    said = ", ".join(dict.fromkeys(doubt.reason for doubt in report.doubts))
    doubt = f"DOUBTS: {said}" if said else "no doubts"
    return f"Noise from {report.source}, {frames} of {rows} x {columns} px \u2014 {doubt}"


def _line_words(report: Report) -> str:
    if not report.line_found:
        return "\nno line noise beyond the point noise"
    found = report.column_noise_adu if report.line_axis == "column" else report.row_noise_adu
    return f"\nwithout the point noise: {found.value:.3g} \u00b1 {found.error:.2g}"


def _histogram(axes: Any, histogram: Histogram, label: str, more: str = "") -> None:
    edges, counts = np.array(histogram.edges), np.array(histogram.counts)
    width, sigma = edges[1] - edges[0], histogram.sigma
    axes.stairs(counts / max(counts.sum() * width, 1e-30), edges, fill=True, color=BLUE, alpha=0.55)
    if sigma > 0:
        x = np.linspace(edges[0], edges[-1], 400)
        normal = np.exp(-0.5 * (x / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
        axes.plot(x, normal, color=ORANGE, label=f"normal, deviation {sigma:.3g}{more}")
        axes.legend(frameon=False, fontsize=8, loc="upper right")
        axes.set_ylim(0, 1.25 * axes.get_ylim()[1])
    axes.set(xlabel=label, ylabel="density")


def _transfer(upper: Any, lower: Any, report: Report) -> None:
    signal, variance = np.array(report.signal), np.array(report.variance)
    bars = {"fmt": "o", "ms": 3.5, "lw": 1, "color": BLUE}
    gain, zero = report.gain_adu_per_e.value, report.variance_at_zero.value
    upper.errorbar(signal, variance, report.variance_error, **bars)
    ends = np.array([signal.min(), signal.max()])
    line = f"{zero:.4g} {gain:+.4g} x signal" if len(signal) > 1 else "one signal: no line"
    upper.plot(ends, zero + gain * ends, color=ORANGE, label=line)
    upper.legend(frameon=False, fontsize=8, loc="best")
    upper.set(ylabel="variance, counts\u00b2")
    upper.tick_params(labelbottom=False)
    if len(signal) == 1:
        upper.set_xlim(signal[0] - 1, signal[0] + 1)
    lower.errorbar(signal, variance - zero - gain * signal, report.variance_error, **bars)
    lower.axhline(0, color=ORANGE)
    lower.set(xlabel="signal, counts", ylabel="residual")


def _autocorrelation(figure: Any, axes: Any, report: Report) -> None:
    values = np.array(report.autocorrelation)
    reach = len(values) // 2
    span = (-reach - 0.5, reach + 0.5, reach + 0.5, -reach - 0.5)
    picture = axes.imshow(values, cmap="cividis", vmin=min(0, values.min()), vmax=1, extent=span)
    for (row, column), value in np.ndenumerate(values):
        colour = "black" if value > 0.6 else "white"
        place = (column - reach, row - reach)
        axes.text(
            *place, f"{value.round(2) + 0:.2f}", ha="center", va="center", fontsize=7, color=colour
        )
    axes.set(xlabel="lag along a row, px", ylabel="lag along a column, px")
    axes.set_title("autocorrelation of the point noise", fontsize=10)
    figure.colorbar(picture, ax=axes, shrink=0.85)
