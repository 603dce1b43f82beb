"""The estimate behind any camera, against a flat frame and the best Gaussian."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scgn.evaluate.movies.measures import best_blurred, decibel, mean_square
from scgn.evaluate.movies.watch import alone, opened, watched
from scgn.simulate.detector import Detector, column, gaussian_mtf, read_out
from scgn.simulate.movies.staged import play
from scgn.simulate.sets import judging_camera

BLURS_PX, LINES, DOSES_E_PER_PX = (0.0, 0.4, 0.6, 0.8), (0.0, 0.2, 1.0), (2.0, 8.0, 32.0)
FRAMES, LAST = 16, 4
JUDGING_LINES = 0.2
MIDDLE = 12  # a place among the Gaussians' widths


@dataclass(frozen=True)
class Cell:
    """One camera, PSNR in dB, mean over the seeds and the last frames of a movie at rest: of a flat
    frame, of the frame's best Gaussian (width by the truth), of the estimate of that frame alone
    whose noise the stream has told, and of the estimate with all that was before. worst_one,
    worst_sixteen: least of any frame over the better of flat and the Gaussian.
    """

    blur_px: float
    lines: float
    dose_e_per_px: float
    flat: float
    gaussian: float
    one: float
    sixteen: float
    worst_one: float
    worst_sixteen: float


def camera(blur_px: float, lines: float, dose_e_per_px: float, side_px: int, odd: int) -> Detector:
    """The judging camera with another blur and line noise of `lines` times the point noise's sigma,
    along rows where odd.
    """
    judging = judging_camera(1, side_px, dose_e_per_px)
    blur = gaussian_mtf(column([blur_px]), side_px) if blur_px else None
    return replace(
        judging, signal_transfer=blur, noise_transfer=blur, along_columns=column([1 - odd]),
        line_noise_adu=judging.line_noise_adu * (lines / JUDGING_LINES),
    )  # fmt: skip


def movie(detector: Detector, dose: float, seed: int, side_px: int) -> tuple[Tensor, Tensor]:
    """(noisy (T,H,W), clean (H,W)) counts of the scene at rest of a seed."""
    chance = torch.Generator().manual_seed(seed)
    scene = dose * play("rest", seed, FRAMES, side_px).images[:, None]
    noisy, clean = read_out(detector, scene, torch.poisson(scene, generator=chance), chance)
    return noisy[:, 0], clean[0, 0]


def values(noisy: Tensor, clean: Tensor) -> NDArray[np.float64]:
    """PSNR (LAST,4) of the last frames: flat, Gaussian, one, sixteen."""
    estimate, last = opened(None), noisy[-LAST:]
    ways = (
        last.mean(dim=(-2, -1), keepdim=True).expand_as(last),
        torch.stack([best_blurred(frame, clean, MIDDLE)[0] for frame in last]),
        alone(estimate, noisy.numpy())[-LAST:], watched(estimate, noisy.numpy()).output[-LAST:],
    )  # fmt: skip
    db = [[decibel(mean_square(frame, clean), clean) for frame in frames] for frames in ways]
    return np.array(db).T


def cells(
    blurs_px: Iterable[float] = BLURS_PX, lines: Iterable[float] = LINES,
    doses_e_per_px: Iterable[float] = DOSES_E_PER_PX, seeds: Iterable[int] = (1, 2, 3, 4),
    side_px: int = 256,
) -> list[Cell]:  # fmt: skip
    """Every combination."""
    found, numbers = [], list(seeds)
    for blur, share, dose in product(blurs_px, lines, doses_e_per_px):
        each = []
        for seed in numbers:
            detector = camera(blur, share, dose, side_px, seed % 2)
            each.append(values(*movie(detector, dose, seed, side_px)))
        db = np.concatenate(each)
        over = db[:, 2:] - db[:, :2].max(axis=1, keepdims=True)
        found.append(Cell(blur, share, dose, *db.mean(axis=0), *over.min(axis=0)))
    return found
