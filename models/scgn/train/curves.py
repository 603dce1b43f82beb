"""How a run went, to look at: loss and validation against steps, from its log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scgn.stacks import library

BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"  # Okabe and Ito, told apart by all eyes
ABOVE = "above_flat_db_"  # before the number of frames seen before


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The rows of log.jsonl in order; those of a step taken twice (after a crash) once."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    by_step = {row["step"]: row for row in rows}
    return [by_step[step] for step in sorted(by_step)]


def draw_curves(folder: Path, title: str) -> Path:
    """Write curves.png beside the log; StackError without matplotlib."""
    rows = read_log(folder)
    figure = library("matplotlib.figure").Figure(figsize=(9, 3.6), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    _line(left, rows, "loss", BLUE, "training")
    _line(left, rows, "error", ORANGE, "validation, averaged weights")
    left.set(xlabel="optimiser steps", ylabel="error, as trained", title=title)
    left.legend(frameon=False, fontsize=8)
    times = [key.removeprefix(ABOVE) for key in rows[-1] if key.startswith(ABOVE)]
    for time, color in zip(times, (BLUE, ORANGE, GREEN), strict=False):
        _line(right, rows, ABOVE + time, color, f"after {time} frames")
        right.axhline(rows[-1][f"estimate_{ABOVE}{time}"], color=color, linestyle=":")
    if times:
        right.legend(frameon=False, fontsize=8)
    else:
        _line(right, rows, "error", GREEN, "validation")
    said = "above a flat frame, dB (dotted: the estimate)" if times else "error, as trained"
    right.set(xlabel="optimiser steps", ylabel=said)
    right.set_title(f"{rows[-1]['minutes']:.0f} minutes of work")
    path = folder / "curves.png"
    figure.savefig(path, format="png")
    return path


def _line(axes: Any, rows: list[dict[str, Any]], key: str, color: str, label: str) -> None:
    points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
    axes.plot(*zip(*points, strict=True), marker=".", color=color, label=label)
    axes.grid(alpha=0.3)
