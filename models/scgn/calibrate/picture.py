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
    word = f"{axis} means" if report.line_found else f"{axis} means (no line noise found)"
    _histogram(figure.add_subplot(grid[0, 0]), report.line_histogram, f"{word}, counts")
    point = "point noise over its fitted deviation"
    _histogram(figure.add_subplot(grid[0, 1]), report.point_histogram, point)
    upper = figure.add_subplot(grid[1, 0])
    _transfer(upper, figure.add_subplot(grid[2, 0], sharex=upper), report)
    _autocorrelation(figure, figure.add_subplot(grid[1:, 1]), report)
    figure.suptitle(_title(report), fontsize=10)
    figure.savefig(path, format="png")


def _title(report: Report) -> str:
    rows, columns = report.shape
    frames = " + ".join(str(number) for number in report.frames)
    said = ", ".join(dict.fromkeys(doubt.reason for doubt in report.doubts))
    doubt = f"DOUBTS: {said}" if said else "no doubts"
    return f"Noise from {report.source}, {frames} frames of {rows} x {columns} px \u2014 {doubt}"


def _histogram(axes: Any, histogram: Histogram, label: str) -> None:
    edges, counts = np.array(histogram.edges), np.array(histogram.counts)
    width, sigma = edges[1] - edges[0], histogram.sigma
    axes.stairs(counts / max(counts.sum() * width, 1e-30), edges, fill=True, color=BLUE, alpha=0.55)
    if sigma > 0:
        x = np.linspace(edges[0], edges[-1], 400)
        normal = np.exp(-0.5 * (x / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
        axes.plot(x, normal, color=ORANGE, label=f"normal, deviation {sigma:.3g}")
        axes.legend(frameon=False, fontsize=8, loc="upper right")
    axes.set(xlabel=label, ylabel="density")


def _transfer(upper: Any, lower: Any, report: Report) -> None:
    signal, variance = np.array(report.signal), np.array(report.variance)
    bars = {"fmt": "o", "ms": 3.5, "lw": 1, "color": BLUE}
    gain, zero = report.gain_adu_per_e.value, report.variance_at_zero.value
    upper.errorbar(signal, variance, report.variance_error, **bars)
    ends = np.array([signal.min(), signal.max()])
    upper.plot(ends, zero + gain * ends, color=ORANGE, label=f"{zero:.4g} + {gain:.4g} x signal")
    upper.legend(frameon=False, fontsize=8, loc="upper left")
    upper.set(ylabel="variance, counts\u00b2")
    upper.tick_params(labelbottom=False)
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
        axes.text(*place, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set(xlabel="lag along a row, px", ylabel="lag along a column, px")
    axes.set_title("autocorrelation of the point noise", fontsize=10)
    figure.colorbar(picture, ax=axes, shrink=0.85)
