"""Fixed frames to judge by: the same scenes at every dose, through one fixed camera."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from scgn.simulate.batch import SimulatedBatch
from scgn.simulate.detector import Detector, column, gaussian_mtf
from scgn.simulate.generator import draw_images, observed, pixel_sizes_a, seeded
from scgn.simulate.recipe import Recipe
from scgn.simulate.structures import NOTHING, atoms_of_fields, draw_atoms

DOSES_E_PER_PX = (0.5, 2.0, 8.0, 32.0)
TEST_SEED, TUNING_SEED = 2026, 2027  # what is reported, and what classical filters are tuned on
SCENES = replace(Recipe(), spacing_px=(7.0, 22.0), film_rad=(0.0, 0.03), phase_max_rad=(0.3, 1.0))


def judging_camera(frame_count: int, side_px: int, dose_e_per_px: float) -> Detector:
    """An integrating camera: 20 counts per electron, 0.3 e read noise, 0.4 px of blur, and column
    noise of a fifth of the point noise (frames of even index) or row noise (odd), redrawn each.
    """
    same = np.ones(frame_count)
    point_e = np.sqrt(dose_e_per_px + 0.3**2)
    blur = gaussian_mtf(column(0.4 * same), side_px)
    return Detector(
        gain_adu_per_e=column(20 * same),
        read_noise_adu=column(20 * 0.3 * same),
        line_noise_adu=column(20 * 0.2 * point_e * same),
        line_blend=column(0.5 * same),
        along_columns=column(np.arange(frame_count) % 2 == 0),
        signal_transfer=blur, noise_transfer=blur,
        response=column(0.005 * same), hot_share=column(0 * same), clips=column(0 * same),
    )  # fmt: skip


def evaluation_set(
    dose_e_per_px: float, frames: int, side_px: int, seed: int = TEST_SEED
) -> SimulatedBatch:
    """`frames` scenes of every kind at one dose; the scenes are those of the seed at any dose."""
    rng = np.random.default_rng(seed)
    noise = seeded(rng, None)
    atoms = draw_atoms(rng, frames, side_px, SCENES.spacing_px)
    pixel_a = pixel_sizes_a(rng, atoms, SCENES)
    images = draw_images(rng, atoms, pixel_a, side_px, SCENES, noise)
    dose = column(np.full(frames, dose_e_per_px))
    camera = judging_camera(frames, side_px, dose_e_per_px)
    noise.manual_seed(seed)  # the film took as many numbers as the scenes needed
    return observed(atoms, dose * images, dose, pixel_a, camera, noise)


def noise_only_set(
    dose_e_per_px: float, frames: int, side_px: int, seed: int = TEST_SEED
) -> SimulatedBatch:
    """Empty beam alone, 0.025 nm per px: whatever a method shows there, it invented."""
    empty = [(NOTHING.position, NOTHING.amplitude, NOTHING.amplitude, NOTHING.species)] * frames
    atoms = atoms_of_fields(empty, np.full(frames, 10.0))
    dose = column(np.full(frames, dose_e_per_px))
    pixel_a = torch.full((frames, 1, 1), 0.25)
    electrons = dose.expand(frames, 1, side_px, side_px).contiguous()
    camera = judging_camera(frames, side_px, dose_e_per_px)
    noise = torch.Generator().manual_seed(seed)
    return observed(atoms, electrons, dose, pixel_a, camera, noise)
