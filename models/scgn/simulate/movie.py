"""Consecutive frames of one nucleating field: a crystal grows through its melt, atoms jiggle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from scgn.noise import NoiseModel
from scgn.simulate.atoms import Atoms
from scgn.simulate.batch import SimulatedBatch
from scgn.simulate.detector import column, log_uniform, of_noise_model
from scgn.simulate.elements import MATERIALS
from scgn.simulate.generator import (
    DARKEST,
    background,
    draw_detector,
    observed,
    padded_atoms,
    pixel_sizes_a,
    seeded,
    specimen_images,
)
from scgn.simulate.optics import draw_optics
from scgn.simulate.recipe import Recipe
from scgn.simulate.structures import (
    MARGIN_PX,
    Floats,
    Sites,
    atoms_of_fields,
    lattice,
    liquid,
    together,
)

GAP = 0.8  # spacings that the melt keeps from the crystal
MOVIE_RECIPE = Recipe(film_rad=(0.0, 0.02))
CRYSTAL_JIGGLE, MELT_STEP = 0.03, 0.08  # spacings: thermal, and per frame


@dataclass(frozen=True)
class MoviePlan:
    """frames, side_px; spacing_px: of neighbours; dose_e_per_px; growth: the crystal's radius in
    the first and the last frame, in sides of the frame; aligned: the crystal's rows run along the
    frame's rows or columns.
    """

    frames: int = 40
    side_px: int = 256
    spacing_px: float = 12.0
    dose_e_per_px: float = 6.0
    growth: tuple[float, float] = (0.05, 0.5)
    aligned: bool = False


def melt_of_frame(melt: Sites, crystal: Sites, spacing_px: float) -> Sites:
    """The melt's atoms that no crystal atom has taken the place of."""
    if len(crystal.position) == 0:
        return melt
    apart = melt.position[:, None] - crystal.position
    nearest = np.sqrt(np.square(apart).sum(axis=2).min(axis=1))
    return melt.where(np.asarray(nearest > GAP * spacing_px))


def rough_radius(rng: np.random.Generator, angle: Floats) -> Floats:
    """Relative radius (N,) of a nucleus in each direction, about 0.85..1.15."""
    waves = [
        rng.normal(0, 0.08 / order) * np.sin(order * angle + rng.uniform(0, 6))
        for order in range(2, 7)
    ]
    return np.asarray(1 + sum(waves))


def nucleation_fields(
    rng: np.random.Generator, plan: MoviePlan
) -> list[tuple[Floats, Floats, Floats, NDArray[np.int64]]]:
    """(position, sigma, amplitude, species) of every frame; the crystal only grows."""
    reach = plan.side_px / 2 + MARGIN_PX
    crystal = lattice(rng, plan.spacing_px, reach, plan.aligned)
    melt = liquid(rng, 0.9 * plan.spacing_px, reach)
    away = crystal.position - rng.uniform(-0.15, 0.15, 2) * plan.side_px
    size = np.hypot(*away.T) / rough_radius(rng, np.arctan2(*away.T))
    radii = np.linspace(*plan.growth, plan.frames) * plan.side_px
    position, fields = melt.position, []
    for radius in radii:
        position = position + rng.normal(0, MELT_STEP * plan.spacing_px, position.shape)
        solid = crystal.where(np.asarray(size < radius))
        loose = melt_of_frame(melt._replace(position=position), solid, plan.spacing_px)
        sites = together(solid, loose)
        jiggle = CRYSTAL_JIGGLE * plan.spacing_px
        shaken = sites.position + rng.normal(0, jiggle, sites.position.shape)
        sigma = np.full(len(shaken), 0.22 * plan.spacing_px)
        fields.append((shaken + plan.side_px / 2, sigma, sites.amplitude, sites.species))
    return fields


def simulate_movie(
    rng: np.random.Generator,
    plan: MoviePlan,
    recipe: Recipe | None = None,
    camera: NoiseModel | None = None,
) -> SimulatedBatch:
    """One series as a batch in the order of time: one lens, one camera, one slow background."""
    recipe = recipe or MOVIE_RECIPE
    noise = seeded(rng, None)
    spacings = np.full(plan.frames, plan.spacing_px)
    atoms = atoms_of_fields(nucleation_fields(rng, plan), spacings)
    dose = column(np.full(plan.frames, plan.dose_e_per_px))
    pixel_a = pixel_sizes_a(rng, atoms.of(0), recipe).expand(plan.frames, 1, 1)
    images = movie_images(rng, atoms, pixel_a, plan, recipe, noise)
    detector = draw_detector(rng, dose[:1], plan.side_px, recipe)
    if camera is not None:
        detector = of_noise_model(camera, 1, plan.side_px)
    return observed(atoms, dose * images, dose, pixel_a, detector, noise)


def movie_images(
    rng: np.random.Generator,
    atoms: Atoms,
    pixel_a: torch.Tensor,
    plan: MoviePlan,
    recipe: Recipe,
    noise: torch.Generator,
) -> torch.Tensor:
    """Relative intensity (frames,1,side,side): everything but the atoms stays as it is."""
    optics = draw_optics(rng, 1)
    material = MATERIALS[int(rng.integers(len(MATERIALS)))]
    film = column(rng.uniform(*recipe.film_rad, 1))[:, 0]
    columns = log_uniform(rng, recipe.columns, 1)[:, 0]
    phase_max_rad = log_uniform(rng, recipe.phase_max_rad, 1)[:, 0]
    images = specimen_images(
        padded_atoms(atoms), [material], columns, film, 0.05 + 0 * film, optics, pixel_a[:1],
        plan.side_px, phase_max_rad, noise,
    )  # fmt: skip
    return (images * background(rng, 1, plan.side_px)).clamp(min=DARKEST)
