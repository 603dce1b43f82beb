"""How fast an event is seen: contrast of a spot in the output, by frames and evidence since then.

A movie and its twin without the spots have the same noise, so the difference of their outputs is
what the spots do there. Each spot is fitted with its own clean difference after the detector's
blur: 1 is its full contrast, 0 none. What came (it shows now) and what went (it showed before) are
kept apart, by frames since the last change, 1 in the first frame after it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scgn.simulate.movies import Event, Movies

Floats = NDArray[np.float64]
WINDOW_PX = 11  # half side of a spot's window; spots are further apart than two of them
READ_NOISE_E = 0.3  # of the judging camera
LIT = 0.5  # of a spot's contrast
EVIDENCE = (6.0, 9.0)  # sigma of a matched filter
Samples = dict[str, Any]


def window(event: Event, shape: Sequence[int]) -> tuple[slice, slice]:
    """The pixels around a spot."""
    return tuple(
        slice(max(0, round(place) - WINDOW_PX), min(side, round(place) + WINDOW_PX + 1))
        for place, side in zip((event.row, event.column), shape[-2:], strict=True)
    )  # type: ignore[return-value]


def templates(event: Event, difference: Tensor) -> Tensor:
    """Clean differences (K,h,w) in a spot's window: where it is; of a hop, where it was too."""
    first = event.first_frame
    if event.kind == "hop":
        return torch.stack([difference[first], difference[first - 1]])
    return (
        difference[first - 1 : first] if event.kind == "vanish" else difference[first : first + 1]
    )


def contrasts(frames: Tensor, patterns: Tensor) -> Floats:
    """Contrast of each pattern (K,h,w) in each of (T,h,w) by least squares, (T,K)."""
    found = torch.linalg.lstsq(patterns.flatten(1).double().T, frames.flatten(1).double().T)
    return np.asarray(found.solution.T.numpy())


def sigma_of_one(pattern: Tensor, level: float, gain: float) -> float:
    """Sigma of a matched filter in one frame: sqrt(sum d^2 / variance), of shot and read noise."""
    variance = gain**2 * (max(level, 0.0) / gain + READ_NOISE_E**2)
    return math.sqrt(float(pattern.double().square().sum()) / variance)


def since_change(lit: NDArray[np.bool_], first: int) -> list[tuple[int, bool, int]]:
    """(frame, whether it shows, frames since that changed) from the first change on."""
    found, start = [], first
    for frame in range(first, len(lit)):
        start = frame if frame > first and lit[frame] != lit[frame - 1] else start
        found.append((frame, bool(lit[frame]), frame - start + 1))
    return found


def spot_samples(event: Event, movies: Movies, output: Tensor, twin: Tensor) -> list[Samples]:
    """One spot's contrasts in every frame since it changed; of a hop at both places."""
    assert movies.twin_clean is not None
    rows, columns = window(event, output.shape)
    clean, empty = (
        part[event.movie, :, rows, columns] for part in (movies.clean, movies.twin_clean)
    )
    patterns = templates(event, clean - empty)
    true = contrasts(clean - empty, patterns) > LIT
    shown = contrasts(output[:, rows, columns] - twin[:, rows, columns], patterns)
    level = float(empty[event.first_frame].mean())
    sigma = sigma_of_one(patterns[0], level, float(movies.gain_adu_per_e[event.movie]))
    return [
        {"came": came, "since": since, "sigma": sigma, "contrast": float(shown[frame, place])}
        for place in range(len(patterns))
        for frame, came, since in since_change(true[:, place], event.first_frame)
    ]  # fmt: skip


def samples_of(movies: Movies, output: Tensor, twin: Tensor) -> list[Samples]:
    """Those of all spots of a movie (T,H,W) and of its twin."""
    return [s for event in movies.events for s in spot_samples(event, movies, output, twin)]


def step_response(samples: Sequence[Samples]) -> dict[str, Any]:
    """Mean contrast by frames since the change, `came` and `went`, {frames: [mean, spots]}; and at
    each of EVIDENCE the frames are those of each spot. sigma: mean of one frame's.
    """
    result: dict[str, Any] = {"sigma": float(np.mean([s["sigma"] for s in samples]))}
    for word, came in (("came", True), ("went", False)):
        some = [s for s in samples if s["came"] is came]
        by_frames: dict[int, list[float]] = {}
        for s in some:
            by_frames.setdefault(s["since"], []).append(s["contrast"])
        result[word] = {n: [float(np.mean(v)), len(v)] for n, v in sorted(by_frames.items())}
        for sigma in EVIDENCE:
            then = [
                s["contrast"] for s in some if s["since"] == math.ceil((sigma / s["sigma"]) ** 2)
            ]
            mean = float(np.mean(then)) if then else math.nan
            result[f"{word}_at_{sigma:g}_sigma"] = [mean, len(then)]
    return result
