"""One camera a movie: its dose over time, its detector, pixels that do not show the specimen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from scgn.simulate.detector import Detector, column
from scgn.simulate.generator import draw_detector
from scgn.simulate.movies.motion import Floats
from scgn.simulate.movies.recipe import MovieRecipe, log_between

Rng = np.random.Generator
LARGEST = 65535.0
MANY_E = 8.0


def draw_dose(rng: Rng, frames: int, dose_e_per_px: float, recipe: MovieRecipe) -> Floats:
    """(T,) e/px of the empty beam: constant, with a sudden factor, or blanked for a while."""
    dose = np.full(frames, dose_e_per_px)
    kind = rng.random()
    if frames > 1 and kind < recipe.dose_change_share:
        dose[int(rng.integers(1, frames)) :] *= log_between(rng, recipe.dose_factor)
    elif frames > 2 and kind < recipe.dose_change_share + recipe.blank_share:
        first = int(rng.integers(1, frames - 1))
        dose[first : first + int(rng.integers(1, max(2, frames // 3)))] = 0
    return dose


def draw_camera(rng: Rng, side_px: int, recipe: MovieRecipe) -> tuple[float, Detector]:
    """(dose in e/px, detector of one movie); at sparse doses one that counts single electrons."""
    sparse = rng.random() < recipe.sparse_share
    dose = log_between(rng, recipe.sparse_e_per_px if sparse else recipe.still.dose_e_per_px)
    detector = draw_detector(rng, column([dose]), side_px, recipe.still)
    if sparse:
        none = column([0.0])
        detector = replace(
            detector, gain_adu_per_e=detector.gain_adu_per_e.round(), read_noise_adu=none,
            line_noise_adu=none, response=none, signal_transfer=None, noise_transfer=None,
        )  # fmt: skip
    return dose, without_idle_blur(detector)


def without_idle_blur(detector: Detector) -> Detector:
    """The same detector with its transfers left out where they do nothing; saves the transforms."""
    transfer = detector.signal_transfer
    if transfer is None or float(transfer.min()) < 1:
        return detector
    return replace(detector, signal_transfer=None, noise_transfer=None)


def arrivals(electrons: Tensor, noise: torch.Generator) -> Tensor:
    """Electrons that arrive where `electrons` are expected, any shape.

    Poisson below MANY_E; above it a normal deviate with the same mean, variance and skewness,
    rounded (Cornish and Fisher's first term), which is several times faster.
    """
    few = electrons < MANY_E
    exact = torch.poisson(electrons * few, generator=noise)
    if bool(few.all()):
        return exact
    z = torch.randn(electrons.shape, generator=noise)
    spread = (electrons - (1 / 18 + 1 / 12)).clamp(min=0).sqrt()  # the skew and rounding add these
    normal = (electrons + spread * z + (z.square() - 1) / 6).round().clamp(min=0)
    return torch.where(few, exact, normal)


def hot(rng: Rng, noisy: Tensor, share: float) -> Tensor:
    """Counts that a movie's hot pixels add, (side,side): 5..50 deviations of its first frame."""
    side_px = noisy.shape[-1]
    there = torch.from_numpy(rng.random((side_px, side_px)) < share)
    height = torch.from_numpy(rng.uniform(5, 50, (side_px, side_px)).astype(np.float32))
    return there * height * noisy[0].std()


def hits(rng: Rng, noisy: Tensor, per_frame: float) -> Tensor:
    """Counts that X-ray hits add, (T,side,side): short tracks of 8..200 deviations."""
    frames, side_px, _ = noisy.shape
    counts = torch.zeros_like(noisy)
    deviation = float(noisy.std())
    for frame, count in enumerate(rng.poisson(per_frame, frames)):
        for _ in range(count):
            place = rng.integers(0, side_px, 2)
            height = log_between(rng, (8, 200)) * deviation
            for _ in range(int(rng.integers(1, 4))):
                y, x = (place % side_px).tolist()
                counts[frame, y, x] += height
                place = place + rng.integers(-1, 2, 2)
    return counts


def stuck(rng: Rng, side_px: int, pixels: tuple[int, int]) -> Tensor:
    """(side,side) bool of the pixels that always hold the largest number."""
    there = torch.zeros(side_px * side_px, dtype=torch.bool)
    count = int(rng.integers(pixels[0], pixels[1] + 1))
    there[torch.from_numpy(rng.choice(side_px * side_px, count, replace=False))] = True
    return there.view(side_px, side_px)


def with_defects(
    rng: Rng, noisy: Tensor, hot_share: float, recipe: MovieRecipe
) -> tuple[Tensor, Tensor | None]:
    """(frames (T,side,side) with their hot, stuck and hit pixels, bool of those or None)."""
    extra = torch.zeros(1)
    if hot_share > 0:
        extra = hot(rng, noisy, hot_share)[None]
    if rng.random() < recipe.hit_share:
        extra = extra + hits(rng, noisy, float(rng.uniform(*recipe.hits_per_frame)))
    full = torch.zeros(1, dtype=torch.bool)
    if rng.random() < recipe.stuck_share:
        full = stuck(rng, noisy.shape[-1], recipe.stuck_pixels)
    flagged = (extra > 0) | full
    if not bool(flagged.any()):
        return noisy, None
    noisy = torch.where(full, torch.tensor(LARGEST), noisy + extra.ceil()).clamp(max=LARGEST)
    return noisy, flagged.expand(noisy.shape)
