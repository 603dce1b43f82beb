"""Movies drawn one after the other: motion, scene, events, dose, camera, defects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from scgn.noise import NoiseModel
from scgn.simulate.detector import column, of_noise_model, read_out
from scgn.simulate.generator import background, seeded
from scgn.simulate.movies.camera import arrivals, draw_camera, draw_dose, with_defects
from scgn.simulate.movies.events import Spot, draw_events, spot_frames, upright
from scgn.simulate.movies.motion import Floats, between_keys, canvas_px, draw_drift, seen
from scgn.simulate.movies.recipe import MovieRecipe
from scgn.simulate.movies.scenes import draw_scene
from scgn.simulate.movies.series import Movies, stacked
from scgn.simulate.movies.shapes import draw_mask

Rng = np.random.Generator
LEAST = 0.003  # of the beam, that an event leaves


def draw_movies(
    rng: Rng, count: int, frames: int, side_px: int, recipe: MovieRecipe | None = None,
    camera: NoiseModel | None = None,
) -> Movies:  # fmt: skip
    """`count` independent movies of `frames` square frames; the same state gives the same movies.

    side_px: even; camera: its noise replaces the drawn detectors'. Several draws together are one
    after the other: (1 movie) twice is (2 movies).
    """
    recipe = recipe or MovieRecipe()
    return stacked([draw_movie(rng, frames, side_px, recipe, camera) for _ in range(count)])


def specimen(
    rng: Rng, drift_px: Floats, side_px: int, recipe: MovieRecipe, noise: torch.Generator
) -> Tensor:
    """Frames (T,side,side) of one scene under its drift (T,2), relative to the beam."""
    canvas, origin = canvas_px(drift_px, side_px)
    frames, moves = len(drift_px), bool(drift_px.any())
    keys = draw_scene(rng, canvas, side_px, frames, moves, recipe, noise)
    return seen(between_keys(keys, frames), drift_px, origin, side_px)


def draw_images(
    rng: Rng, drift_px: Floats, side_px: int, recipe: MovieRecipe, noise: torch.Generator
) -> tuple[Tensor, list[Spot], int]:
    """(frames (T,side,side) relative to the beam, their events, the frame of a cut or T)."""
    frames = len(drift_px)
    images = specimen(rng, drift_px, side_px, recipe, noise)
    if frames > 1 and rng.random() < recipe.cut_share:
        cut = int(rng.integers(1, frames))
        other = specimen(rng, drift_px, side_px, recipe, noise)
        return torch.cat([images[:cut], other[cut:]]), [], cut
    spots = [upright(spot, images, LEAST) for spot in draw_events(rng, side_px, drift_px, recipe)]
    if spots:
        images = images + spot_frames(spots, frames, side_px)
    return images, spots, frames


def draw_movie(
    rng: Rng, frames: int, side_px: int, recipe: MovieRecipe, camera: NoiseModel | None = None
) -> Movies:
    """One movie as a batch of one."""
    noise = seeded(rng, None)
    drift_px = draw_drift(rng, frames, recipe)
    images, spots, cut = draw_images(rng, drift_px, side_px, recipe, noise)
    still = background(rng, 1, side_px)[0, 0] * draw_mask(rng, side_px, recipe)
    images = images.clamp(min=LEAST) * still
    start_e, detector = draw_camera(rng, side_px, recipe)
    if camera is not None:
        detector = of_noise_model(camera, 1, side_px)
    dose_e = draw_dose(rng, frames, start_e, recipe)
    hot_share = float(detector.hot_share)
    detector = replace(detector, hot_share=column([0.0]))
    electrons = column(dose_e) * images[:, None]
    noisy, clean = read_out(detector, electrons, arrivals(electrons, noise), noise)
    noisy, flagged = with_defects(rng, noisy[:, 0], hot_share, recipe)
    gain = float(detector.gain_adu_per_e)
    return Movies(
        noisy[None], clean[None, :, 0], _float32(drift_px)[None], _float32(dose_e)[None],
        torch.tensor([gain]), torch.tensor([cut]),
        tuple(spot.event(gain * dose_e, still) for spot in spots),
        None if flagged is None else flagged[None],
    )  # fmt: skip


def _float32(values: Floats) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
