"""Where the specimen is in each frame, and what a frame then shows of a larger canvas."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scgn.simulate.movies.recipe import MovieRecipe, one_of

Floats = NDArray[np.float64]
REACH_PX = 10  # half length of the interpolating kernel


def direction(rng: np.random.Generator) -> Floats:
    """A unit vector (2,) of any direction in rows and columns."""
    angle = rng.uniform(0, 2 * math.pi)
    return np.array([math.cos(angle), math.sin(angle)])


def steady(frames: int, step_px: Floats) -> Floats:
    """Positions (T,2) of a drift of step_px (2,) a frame, from 0."""
    return np.arange(frames)[:, None] * step_px


def draw_drift(rng: np.random.Generator, frames: int, recipe: MovieRecipe) -> Floats:
    """Positions (T,2) in px relative to frame 0: at rest, drifting, or with one or two jumps."""
    kind = one_of(rng, recipe.motion)
    if kind == "rest" or frames < 2:
        return np.zeros((frames, 2))
    moves = kind == "drift" or rng.random() < 0.5
    step_px = float(moves) * rng.uniform(*recipe.speed_px) * direction(rng)
    walk = float(moves) * rng.normal(0, rng.uniform(*recipe.jitter_px), (frames, 2))
    if kind == "jump":
        for frame in rng.integers(1, frames, int(rng.integers(1, 3))):
            walk[frame] += rng.uniform(*recipe.jump_px) * direction(rng)
    walk[0] = 0
    return np.asarray(steady(frames, step_px) + walk.cumsum(axis=0))


def canvas_px(drift_px: Floats, side_px: int) -> tuple[int, Floats]:
    """(side of a canvas that a movie never leaves, place (2,) of frame 0's first pixel in it)."""
    if not drift_px.any():
        return side_px, np.zeros(2)
    most, least = np.ceil(drift_px.max(axis=0)), np.floor(drift_px.min(axis=0))
    side = side_px + int((most - least).max()) + 2 * REACH_PX
    return side + side % 2, most + REACH_PX


def between_keys(keys: Tensor, frames: int) -> Tensor:
    """(T,C,C) from key frames (K,C,C) spread evenly over the movie, linear between them."""
    if len(keys) in (1, frames):
        return keys.expand(frames, -1, -1)
    place = torch.linspace(0, len(keys) - 1, frames)
    weight = (1 - (place[:, None] - torch.arange(len(keys))).abs()).clamp(min=0)
    return torch.einsum("tk,kyx->tyx", weight, keys)


def seen(canvas: Tensor, drift_px: Floats, origin: Floats, side_px: int) -> Tensor:
    """Frames (T,side,side) of a canvas (T,C,C) whose specimen has moved by drift_px (T,2).

    A pixel at r shows the canvas at origin + r - drift, by a windowed sinc.
    """
    if not drift_px.any() and not origin.any() and canvas.shape[-1] == side_px:
        return canvas
    first = torch.from_numpy((origin - drift_px).astype(np.float32))
    rows, columns = (_kernel(first[:, i], side_px, canvas.shape[-1]) for i in (0, 1))
    return rows @ canvas @ columns.transpose(-1, -2)


def _kernel(first: Tensor, side_px: int, canvas_side: int) -> Tensor:
    """(T,side,C) weights of each canvas pixel in each pixel of a frame; a pixel's add up to 1."""
    whole = first.floor()
    tap = torch.arange(1 - REACH_PX, REACH_PX + 1)
    away = tap - (first - whole)[:, None]
    weight = torch.sinc(away) * torch.cos(0.5 * math.pi * away / REACH_PX).square()
    weight = (weight / weight.sum(dim=-1, keepdim=True))[:, None].expand(-1, side_px, -1)
    place = whole.long()[:, None, None] + torch.arange(side_px)[:, None] + tap
    return torch.zeros(len(first), side_px, canvas_side).scatter_(2, place, weight)
