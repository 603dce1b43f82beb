"""A real movie without truth: who foretells the frames to come, and by how much for certain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scgn.evaluate import EvaluationError
from scgn.evaluate.movies.measures import (
    blurred,
    correlation,
    judged_frames,
    mean_and_error,
    paired_gains,
    r_future,
    running_mean,
    spearman,
)
from scgn.evaluate.movies.watch import ESTIMATE, Watched, alone, opened, watched
from scgn.evaluate.real import MOVIE, MOVIE_COLUMNS
from scgn.evaluate.table import markdown
from scgn.stacks import read_stack

ALIKE = 0.98  # correlation of two methods' outputs
FEWEST = 22  # frames: one has eight before it and enough after it
WIDTHS_PX = tuple(0.5 * 1.15**step for step in range(24))
NOTE = (
    "r_future: mean over i = 8..n-14 of the correlation of output i with the mean of the raw "
    "frames i+3 and later. gain: mean of (flat - y)^2 - (output - y)^2 over raw frames y two "
    "later, brought to the output's coordinates, in thousandths of one frame's noise variance, "
    "i = 8..n-3; over: the same less the best Gaussian's, frame by frame. Gaussians are chosen by "
    "r_future. spearman: of r_future and gain, those left out that show what an earlier one shows."
)
Result = dict[str, Any]
Outputs = dict[str, Tensor]


def read_movie(path: Path, frames: slice) -> NDArray[np.generic]:
    """(T,H,W) as stored; the known movie without the other denoiser's half."""
    stack = read_stack(path)[frames]
    stack = stack[..., :MOVIE_COLUMNS] if path.name == MOVIE else stack
    if len(stack) < FEWEST:
        raise EvaluationError(f"{path.name}: expected at least {FEWEST} frames, got {len(stack)}")
    return np.ascontiguousarray(stack)


def best_by_future(frames: Tensor, noisy: Tensor) -> tuple[Tensor, float]:
    """The Gaussian blur of frames with the best r_future, and its width in px."""
    found = ((blurred(frames, width), width) for width in WIDTHS_PX)
    return max(found, key=lambda each: r_future(each[0], noisy))


def classical(noisy: Tensor) -> tuple[Outputs, dict[str, float]]:
    """Noisy frames and running means with their best Gaussians, and their widths in px."""
    outputs, widths = {"noisy": noisy}, {}
    for count, label in ((1, "gaussian"), (4, "mean of 4 + gaussian"), (8, "mean of 8 + gaussian")):
        outputs[label], widths[label] = best_by_future(running_mean(noisy, count), noisy)
    return outputs, widths


def learned(
    names: Sequence[str], frames: NDArray[np.generic], device: torch.device
) -> tuple[Outputs, Watched]:
    """The estimate and every network, single and temporal, and the estimate's own way."""
    outputs: Outputs = {}
    first = opened(None, device)
    estimate = watched(first, frames)
    for name in (None, *names):
        label, _, where = (name or ESTIMATE).rpartition("=")
        denoiser = opened(where, device)
        outputs[f"{label or where} single"] = alone(denoiser, frames)
        if denoiser.temporal:
            shown = estimate if name is None else watched(denoiser, frames)
            outputs[f"{label or where} temporal"] = shown.output
    return outputs, estimate


def noise_variance(noisy: Tensor) -> float:
    """Half the mean square difference of neighbouring frames, counts^2."""
    return float((noisy[1:] - noisy[:-1]).double().square().mean() / 2)


def judge_movie(
    path: Path,
    names: Sequence[str],
    frames: slice = slice(None),
    device: torch.device | None = None,
) -> Result:
    """Every method on a movie by r_future and by the paired number, and how alike those rank them.

    names: networks by name, path or LABEL=PATH. Raises StackError, CheckpointError and
    EvaluationError for a movie too short to be judged.
    """
    stack = read_movie(path, frames)
    noisy = torch.from_numpy(stack.astype(np.float32))
    outputs, widths = classical(noisy)
    networks, estimate = learned(names, stack, device or torch.device("cpu"))
    outputs |= networks
    variance = noise_variance(noisy)
    gains = {
        name: 1000 * paired_gains(each, noisy, estimate.position_px)[8:] / variance
        for name, each in outputs.items()
    }
    rows = [row_of(name, each, noisy, gains) for name, each in outputs.items()]
    judged, twins = judged_frames(noisy), alike(outputs, noisy)
    return {
        "file": path.name, "shape": list(stack.shape), "dtype": stack.dtype.str, "note": NOTE,
        "frames": [judged.start, judged.stop - 1], "noise_variance": variance,
        "position_px": estimate.position_px.round(3).tolist(), "gaussian_px": widths,
        "rows": rows, "alike": twins,
        "spearman": rank_agreement([row for row in rows if row["method"] not in twins]),
    }  # fmt: skip


def row_of(name: str, output: Tensor, noisy: Tensor, gains: dict[str, Any]) -> Result:
    """One method's figures."""
    gain, error = mean_and_error(gains[name])
    over, over_error = mean_and_error(gains[name] - gains["gaussian"])
    return {
        "method": name, "r_future": r_future(output, noisy), "gain": gain, "gain_error": error,
        "over": over, "over_error": over_error,
    }  # fmt: skip


def alike(outputs: Outputs, noisy: Tensor) -> list[str]:
    """Methods that show what an earlier one shows: chance alone ranks those."""
    kept: list[Tensor] = []
    found = []
    for name, output in outputs.items():
        judged = output[judged_frames(noisy)]
        if any(correlation(judged, other) > ALIKE for other in kept):
            found.append(name)
        else:
            kept.append(judged)
    return found


def rank_agreement(rows: Sequence[Result]) -> float:
    """Spearman's rank correlation of r_future and the paired gain."""
    return spearman([row["r_future"] for row in rows], [row["gain"] for row in rows])


def movie_table(result: Result) -> str:
    """The result as Markdown."""
    heading = ["method", "r_future", "gain", "+-", "over gaussian", "+-"]
    lines = [
        [row["method"], f"{row['r_future']:.3f}",
         *(f"{row[key]:.2f}" for key in ("gain", "gain_error", "over", "over_error"))]
        for row in sorted(result["rows"], key=lambda row: row["r_future"])
    ]  # fmt: skip
    first, last = result["frames"]
    told = f"{result['file']}, frames {first}..{last}; Spearman {result['spearman']:.3f}"
    return f"{told}\n\n{markdown(heading, lines)}"
