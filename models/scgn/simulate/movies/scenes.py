"""Specimens as key frames on a canvas: structures, growing fronts, melts, shapes, fringes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scgn.simulate.atoms import render
from scgn.simulate.generator import DARKEST, background, draw_images, pixel_sizes_a
from scgn.simulate.movie import MOVIE_RECIPE, MoviePlan, movie_images, nucleation_fields
from scgn.simulate.movies.motion import Floats
from scgn.simulate.movies.recipe import MovieRecipe, log_between, one_of
from scgn.simulate.movies.shapes import draw_shape, fringes
from scgn.simulate.recipe import Recipe
from scgn.simulate.structures import MARGIN_PX, atoms_of_fields, draw_atoms, draw_field

Rng = np.random.Generator
Fields = list[tuple[Floats, Floats, Floats, NDArray[np.int64]]]


def structure(
    rng: Rng, side_px: int, recipe: Recipe, noise: torch.Generator, aligned: bool = False
) -> Tensor:
    """Atoms through a lens or as plain spots, (1,side,side) relative to the beam."""
    atoms = draw_atoms(rng, 1, side_px, recipe.spacing_px, aligned)
    pixel_a = pixel_sizes_a(rng, atoms, recipe)
    return draw_images(rng, atoms, pixel_a, side_px, recipe, noise)[:, 0]


def images_of_fields(
    rng: Rng, fields: Fields, plan: MoviePlan, recipe: Recipe, noise: torch.Generator, spots: bool
) -> Tensor:
    """Frames (K,side,side) of one specimen's atoms, as plain spots or through one lens."""
    atoms = atoms_of_fields(fields, np.full(plan.frames, plan.spacing_px))
    if spots:
        strength = float(rng.choice([-1, 1], p=[0.4, 0.6]) * rng.uniform(*recipe.contrast))
        drawn = render(atoms, atoms.amplitude, atoms.sigma_px, plan.side_px)
        return (1 + strength * drawn).clamp(min=DARKEST)
    pixel_a = pixel_sizes_a(rng, atoms.of(0), recipe).expand(plan.frames, 1, 1)
    return movie_images(rng, atoms, pixel_a, plan, MOVIE_RECIPE, noise)[:, 0]


def growing(
    rng: Rng, side_px: int, keys: int, recipe: Recipe, noise: torch.Generator,
    aligned: bool = False, growth: tuple[float, float] | None = None,
) -> Tensor:  # fmt: skip
    """A crystal that grows through its melt, (keys,side,side); growth as in MoviePlan."""
    spacing_px = log_between(rng, (max(7.0, recipe.spacing_px[0]), recipe.spacing_px[1]))
    start = float(rng.uniform(0.05, 0.3))
    growth = growth or (start, start + float(rng.uniform(0.05, 0.3)))
    plan = MoviePlan(keys, side_px, spacing_px, growth=growth, aligned=aligned)
    fields = nucleation_fields(rng, plan)
    return images_of_fields(rng, fields, plan, recipe, noise, rng.random() < recipe.spots_share)


def melting_fields(rng: Rng, plan: MoviePlan, step: float, loose_share: float) -> Fields:
    """(position, sigma, amplitude, species) per frame: some atoms walk, the others stand still.

    step: deviation of a mobile atom's step along each axis, spacings a frame.
    """
    sites = draw_field(rng, plan.spacing_px, plan.side_px / 2 + MARGIN_PX)
    position, count = sites.position + plan.side_px / 2, len(sites.position)
    mobile = (rng.random(count) < loose_share)[:, None] * step * plan.spacing_px
    sigma = np.full(count, rng.uniform(0.18, 0.3) * plan.spacing_px)
    fields: Fields = []
    for _ in range(plan.frames):
        fields.append((position, sigma, sites.amplitude, sites.species))
        position = position + mobile * rng.normal(0, 1, position.shape)
    return fields


def melting(
    rng: Rng, side_px: int, frames: int, keys: int, recipe: Recipe, noise: torch.Generator
) -> Tensor:
    """Atoms that diffuse: every frame of plain spots (T,side,side), or `keys` through a lens."""
    spots = rng.random() < 0.5
    drawn = frames if spots else keys
    spacing_px = log_between(rng, (max(7.0, recipe.spacing_px[0]), recipe.spacing_px[1]))
    plan = MoviePlan(drawn, side_px, spacing_px)
    step = log_between(rng, (0.02, 0.12)) * np.sqrt(1 if spots else frames / max(1, keys))
    fields = melting_fields(rng, plan, float(step), float(rng.uniform(0.2, 1)))
    return images_of_fields(rng, fields, plan, recipe, noise, spots)


def shape(
    rng: Rng, side_px: int, view_px: int, moves: bool, recipe: MovieRecipe, noise: torch.Generator
) -> Tensor:
    """One of the plain shapes, empty or filled with a structure, (1,side,side)."""
    level = draw_shape(rng, side_px, view_px, moves, recipe)[None]
    if rng.random() < recipe.textured_share:
        level = level * structure(rng, side_px, recipe.still, noise)
    return level.clamp(min=0.003)


def draw_scene(
    rng: Rng, side_px: int, view_px: int, frames: int, moves: bool, recipe: MovieRecipe,
    noise: torch.Generator,
) -> Tensor:  # fmt: skip
    """Key frames (K,side,side) relative to the beam of one specimen; a frame shows view_px of it.

    K is 1 for what only moves, else a few, or one a frame.
    """
    kind, still = one_of(rng, recipe.scenes), recipe.still
    aligned = bool(rng.random() < recipe.aligned_share)
    keys = min(frames, int(rng.integers(recipe.key_frames[0], recipe.key_frames[1] + 1)))
    if kind == "growing":
        return growing(rng, side_px, keys, still, noise, aligned)
    if kind == "melting":
        return melting(rng, side_px, frames, keys, still, noise)
    if kind == "shape":
        return shape(rng, side_px, view_px, moves, recipe, noise)
    if kind == "structure":
        return structure(rng, side_px, still, noise, aligned)
    level = background(rng, 1, side_px)[:, 0] ** float(rng.integers(2))
    return level * fringes(rng, side_px, recipe) if kind == "fringes" else level
