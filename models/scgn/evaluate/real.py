"""Real frames without a clean one: what can still be said of a denoiser, beside the best Gaussian.

The Gaussian's width is chosen with the answer in hand, which flatters it. Nothing is trained here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scgn.evaluate import EvaluationError
from scgn.evaluate.methods import GAUSSIAN_PX, Method
from scgn.metrics import gaussian_filter, umse_of_pair
from scgn.stacks import read_stack

MOVIE = "pt_ceo2_41x100.gif"
MOVIE_COLUMNS = 100  # the right half shows another denoiser's output
PAIR = ("lctem_exposure_1.tif", "lctem_exposure_2.tif")
NOTES = {
    "movie": "Mean correlation of each frame, denoised alone, with the mean of the other frames. "
    "The movie is an 8-bit GIF of a palette: no counts, no calibration.",
    "pair": "uMSE = mean (y2 - f(y1))^2 - mean (y1 - y2)^2 / 2, averaged over both directions "
    "(arXiv 2210.05553 for two exposures). The subtracted noise is the same for every method, so "
    "differences are unbiased; below 0 it says only that the error is under its uncertainty. "
    "Clipping at 0 makes the stored mean of dark pixels larger than the beam's, for every method "
    "alike.",
}
Denoise = Callable[[Tensor], Tensor]


def read_frames(path: Path) -> Tensor:
    """(N,1,H,W) float32 of a file; StackError from the reader."""
    return torch.from_numpy(read_stack(path).astype("float32"))[:, None]


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson correlation of two frames' pixels."""
    return float(torch.corrcoef(torch.stack((a.flatten(), b.flatten())).double())[0, 1])


def correlation_with_others(frames: Tensor, denoise: Denoise) -> float:
    """Mean over frames (N,1,H,W) of the correlation of f(y_t) with the mean of the other y."""
    total, denoised = frames.double().sum(dim=0), torch.cat([denoise(f) for f in frames[:, None]])
    others = (total - frames.double()) / (len(frames) - 1)
    return sum(correlation(f, o) for f, o in zip(denoised, others, strict=True)) / len(frames)


def pair_umse(first: Tensor, second: Tensor, denoise: Denoise) -> float:
    """uMSE of two exposures (1,1,H,W), both ways."""
    there = umse_of_pair(denoise(first), first, second)
    return (there + umse_of_pair(denoise(second), second, first)) / 2


def best_of(score: Callable[[Denoise], float], sign: int) -> dict[str, float]:
    """The Gaussian with the best score, over all widths; sign -1 where less is better."""
    scores = [(sign * score(partial(gaussian_filter, sigma_px=s)), s) for s in GAUSSIAN_PX]
    best, sigma_px = max(scores)
    return {"score": sign * best, "sigma_px": sigma_px}


def clipped_share(frames: Tensor) -> float:
    """Share of pixels at the smallest value, where it is 0."""
    return float((frames == 0).float().mean())


def judge(
    score: Callable[[Denoise], float], sign: int, methods: Sequence[Method]
) -> dict[str, Any]:
    """Scores of the noisy frames, the best Gaussian and each method."""
    return {
        "noisy": score(lambda noisy: noisy),
        "best_gaussian": best_of(score, sign),
        "methods": {method.name: score(method.filter) for method in methods},
    }


def movie_result(folder: Path, methods: Sequence[Method]) -> dict[str, Any]:
    """Correlations on the movie of platinum on ceria."""
    frames = read_frames(folder / MOVIE)[..., :MOVIE_COLUMNS]
    found = judge(lambda f: correlation_with_others(frames, f), 1, methods)
    return {"file": MOVIE, "shape": list(frames.shape), "note": NOTES["movie"], **found}


def pair_result(folder: Path, methods: Sequence[Method]) -> dict[str, Any]:
    """uMSE on the two exposures of one liquid cell."""
    first, second = (read_frames(folder / name) for name in PAIR)
    found = judge(lambda f: pair_umse(first, second, f), -1, methods)
    clipped = clipped_share(torch.cat((first, second)))
    return {"files": list(PAIR), "clipped_share": clipped, "note": NOTES["pair"], **found}


def evaluate_real(folder: Path, methods: Sequence[Method]) -> dict[str, Any]:
    """Both comparisons for methods that give intensities and need no tuning.

    Raises EvaluationError naming what the folder lacks, or methods of another kind.
    """
    if missing := [name for name in (MOVIE, *PAIR) if not (folder / name).is_file()]:
        raise EvaluationError(f"{folder}: expected {', '.join(missing)}")
    if wrong := [m.name for m in methods if m.grid or m.target != "clean"]:
        raise EvaluationError(f"expected networks with target clean, got {', '.join(wrong)}")
    return {"movie": movie_result(folder, methods), "pair": pair_result(folder, methods)}
