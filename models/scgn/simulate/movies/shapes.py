"""Scenes that are no atoms: steps, disks, ramps, edges, fringes, and masks that stand still."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from scgn.simulate.movies.motion import direction
from scgn.simulate.movies.recipe import MovieRecipe, log_between, one_of

Rng = np.random.Generator
AXES = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])


def direction_of(rng: Rng, aligned_share: float) -> tuple[float, float]:
    """A unit vector in rows and columns, along an axis in a share of the draws."""
    vector = AXES[int(rng.integers(4))] if rng.random() < aligned_share else direction(rng)
    return float(vector[0]), float(vector[1])


def grid(side_px: int) -> tuple[Tensor, Tensor]:
    """Rows (side,1) and columns (1,side) in px from the middle."""
    axis = torch.arange(side_px, dtype=torch.float32) - (side_px - 1) / 2
    return axis[:, None], axis[None, :]


def along(side_px: int, vector: tuple[float, float]) -> Tensor:
    """Distance (side,side) in px from the middle along a unit vector."""
    row, column = grid(side_px)
    return vector[0] * row + vector[1] * column


def inside(depth_px: Tensor, softness_px: float) -> Tensor:
    """1 where depth is positive, 0 where negative, a Gaussian edge of that sigma between."""
    return 0.5 * (1 + torch.erf(depth_px / (math.sqrt(2) * softness_px)))


def fringes(rng: Rng, side_px: int, recipe: MovieRecipe) -> Tensor:
    """Plane fringes (side,side) on a level of 1."""
    vector = direction_of(rng, recipe.fringe_aligned_share)
    wave = 2 * math.pi / log_between(rng, recipe.fringe_period_px)
    phase = wave * along(side_px, vector) + float(rng.uniform(0, 2 * math.pi))
    return 1 + log_between(rng, recipe.fringe_modulation) * torch.cos(phase)


def step(rng: Rng, side_px: int, view_px: int, softness_px: float) -> Tensor:
    """Two levels (side,side) with a straight edge near the middle of a view, brighter side 1."""
    depth = along(side_px, direction_of(rng, 0.5)) - float(rng.uniform(-0.3, 0.3)) * view_px
    low = log_between(rng, (0.02, 0.9))
    return low + (1 - low) * inside(depth, softness_px)


def disk(rng: Rng, side_px: int, view_px: int, softness_px: float) -> Tensor:
    """One to three disks (side,side), brighter or darker than the level around."""
    row, column = grid(side_px)
    covered = torch.zeros(side_px, side_px)
    for _ in range(int(rng.integers(1, 4))):
        centre, radius = rng.uniform(-0.4, 0.4, 2) * view_px, rng.uniform(0.06, 0.3) * view_px
        away = ((row - centre[0]).square() + (column - centre[1]).square()).sqrt()
        covered = torch.maximum(covered, inside(float(radius) - away, softness_px))
    low = log_between(rng, (0.02, 0.9))
    return low + (1 - low) * (covered if rng.random() < 0.5 else 1 - covered)


def ramp(rng: Rng, side_px: int, view_px: int, softness_px: float) -> Tensor:
    """A linear slope (side,side) across the view, from 0.05..0.7 to 1."""
    way = (along(side_px, direction_of(rng, 0.5)) / view_px + 0.5).clamp(0, 1)
    low = float(rng.uniform(0.05, 0.7))
    return low + (1 - low) * way


def edge(rng: Rng, side_px: int, view_px: int, softness_px: float) -> Tensor:
    """A thick specimen's rough edge (side,side) against vacuum of 1."""
    vector = direction_of(rng, 0.3)
    across = along(side_px, (-vector[1], vector[0]))
    wave = float(rng.uniform(0, 0.05)) * view_px
    bend = wave * torch.sin(across * float(rng.uniform(3, 20)) / view_px + float(rng.uniform(0, 6)))
    depth = along(side_px, vector) + bend - float(rng.uniform(-0.3, 0.3)) * view_px
    return 1 - float(rng.uniform(0.1, 0.8)) * inside(depth, softness_px)


SHAPES = {"step": step, "disk": disk, "ramp": ramp, "edge": edge}


def draw_shape(rng: Rng, side_px: int, view_px: int, moves: bool, recipe: MovieRecipe) -> Tensor:
    """One shape (side,side); its edges are sharp only where nothing moves."""
    kind = one_of(rng, recipe.shapes)
    softness_px = float(rng.uniform(0.6 if moves else 0.05, 1.5))
    return SHAPES[kind](rng, side_px, view_px, softness_px)


def draw_mask(rng: Rng, side_px: int, recipe: MovieRecipe) -> Tensor:
    """What the camera sees of the beam, (side,side) 0..1: all, beside a stop, or an aperture."""
    kind = one_of(rng, recipe.masks)
    if kind == "none":
        return torch.ones(side_px, side_px)
    passed = beam_stop(rng, side_px) if kind == "stop" else round_aperture(rng, side_px)
    level = log_between(rng, recipe.stop_level)
    return level + (1 - level) * passed


def beam_stop(rng: Rng, side_px: int) -> Tensor:
    """0 behind a needle with a round tip that comes in from a side, else 1; (side,side)."""
    vector = direction_of(rng, 0.5)
    tip, half_px = rng.uniform(-0.25, 0.3) * side_px, rng.uniform(0.05, 0.18) * side_px
    beyond = (along(side_px, vector) - float(tip)).clamp(max=0)
    across = along(side_px, (-vector[1], vector[0])) - float(rng.uniform(-0.2, 0.2)) * side_px
    away = (beyond.square() + across.square()).sqrt()
    return 1 - inside(float(half_px) - away, float(rng.uniform(0.3, 3)))


def round_aperture(rng: Rng, side_px: int) -> Tensor:
    """1 within a circle about the middle, else 0; (side,side)."""
    row, column = grid(side_px)
    centre, radius = rng.uniform(-0.1, 0.1, 2) * side_px, rng.uniform(0.3, 0.55) * side_px
    away = ((row - centre[0]).square() + (column - centre[1]).square()).sqrt()
    return inside(float(radius) - away, float(rng.uniform(0.3, 3)))
