"""Local events: single spots, or clusters of them, that appear, vanish, hop or flicker."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scgn.simulate.movies.motion import Floats, direction
from scgn.simulate.movies.recipe import MovieRecipe, one_of
from scgn.simulate.movies.series import Event

Rng = np.random.Generator
INSET_PX = 4  # events lie this far inside the frame where there is room
EDGE_SIGMAS = 5.0  # beyond this a spot is nothing


@dataclass(frozen=True)
class Spot:
    """One event of a movie of T frames.

    kind, first_frame, sigma_px: as in Event; contrast: of the beam; place_px: (T,2) centre in each
    frame's rows and columns; there: (T,) 1 where it shows, else 0.
    """

    kind: str
    first_frame: int
    sigma_px: float
    contrast: float
    place_px: Floats
    there: Floats

    def event(self, counts_per_beam: Floats, still: Tensor) -> Event:
        """Its record in movie 0, at the counts of the beam in each frame (T,).

        still: (side,side) share of the beam that lights each pixel.
        """
        now, before = self.place_px[self.first_frame], self.place_px[self.first_frame - 1]
        start = before if self.kind == "hop" else now
        row, column = now.round().clip(0, len(still) - 1).astype(int)
        beam = float(counts_per_beam[self.first_frame]) * float(still[row, column])
        return Event(
            0, self.first_frame, self.kind, float(now[0]), float(now[1]), self.sigma_px,
            self.contrast * beam, float(start[0]), float(start[1]),
        )  # fmt: skip


def presence(rng: Rng, kind: str, first_frame: int, frames: int) -> Floats:
    """(T,) 1 in the frames that show a spot of this kind."""
    after = (np.arange(frames) >= first_frame).astype(float)
    if kind == "vanish":
        return np.asarray(1 - after)
    if kind == "flicker":
        lit = (rng.random(frames) < 0.5).astype(float)
        lit[first_frame] = 1
        return np.asarray(after * lit)
    return np.ones(frames) if kind == "hop" else np.asarray(after)


def place_of(
    kind: str, first_frame: int, centre_px: Floats, drift_px: Floats, hop_px: Floats
) -> Floats:
    """(T,2) centres of a spot at centre_px in first_frame that moves with the drift.

    A hop of hop_px (2,) has brought it there.
    """
    place = centre_px + drift_px - drift_px[first_frame]
    if kind == "hop":
        place = place - hop_px * (np.arange(len(place)) < first_frame)[:, None]
    return np.asarray(place)


def cluster(rng: Rng, sigma_px: float) -> Floats:
    """(N,2) centres in px of 3 to 7 atoms that touch, about the origin."""
    turn = rng.uniform(0, 2 * math.pi) + np.arange(6) * math.pi / 3
    ring = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    return np.concatenate([np.zeros((1, 2)), ring])[: int(rng.integers(3, 8))] * 2.4 * sigma_px


def draw_event(rng: Rng, side_px: int, drift_px: Floats, recipe: MovieRecipe) -> list[Spot]:
    """One event: a spot, or all spots of a cluster, which do the same."""
    frames, kind = len(drift_px), one_of(rng, recipe.event_kinds)
    first = int(rng.integers(1, frames))
    sigma_px = float(rng.uniform(*recipe.event_sigma_px))
    contrast = float(rng.choice([-1, 1]) * rng.uniform(*recipe.event_contrast))
    inset = min(INSET_PX, side_px // 4)
    centre = rng.uniform(inset, side_px - 1 - inset, 2)
    hop_px = rng.uniform(*recipe.hop_sigmas) * sigma_px * direction(rng)
    there = presence(rng, kind, first, frames)
    many = rng.random() < recipe.cluster_share
    atoms = cluster(rng, sigma_px) if many else np.zeros((1, 2))
    return [
        Spot(kind, first, sigma_px, contrast,
             place_of(kind, first, centre + atom, drift_px, hop_px), there)
        for atom in atoms
    ]  # fmt: skip


def draw_events(rng: Rng, side_px: int, drift_px: Floats, recipe: MovieRecipe) -> list[Spot]:
    """The spots of a movie, none in some."""
    happens = rng.random() < recipe.event_share and len(drift_px) > 1
    if not happens:
        return []
    least, most = recipe.event_count
    count = int(rng.integers(least, most + 1))
    return [spot for _ in range(count) for spot in draw_event(rng, side_px, drift_px, recipe)]


def upright(spot: Spot, images: Tensor, least: float) -> Spot:
    """The spot, bright instead of dark where the images (T,H,W) are too dark to show a dark one."""
    middle = spot.place_px[spot.first_frame].round().clip(0, images.shape[-1] - 1).astype(int)
    level = float(images[spot.first_frame, middle[0], middle[1]])
    return spot if level + spot.contrast > least else replace(spot, contrast=abs(spot.contrast))


def spot_frames(spots: list[Spot], frames: int, side_px: int) -> Tensor:
    """What the spots add to the frames (T,side,side), relative to the beam."""
    if not spots:
        return torch.zeros(frames, side_px, side_px)
    place = np.stack([spot.place_px for spot in spots], axis=1)
    height = np.stack([spot.contrast * spot.there for spot in spots], axis=1)
    sigma = np.array([spot.sigma_px for spot in spots])
    away = (np.arange(side_px) - place[..., None]) / sigma[:, None, None]
    profile = np.where(np.abs(away) < EDGE_SIGMAS, np.exp(-0.5 * away**2), 0).astype(np.float32)
    rows = torch.from_numpy(profile[:, :, 0] * _f32(height)[..., None])
    return torch.bmm(rows.transpose(1, 2), torch.from_numpy(profile[:, :, 1]))


def _f32(values: Floats) -> NDArray[np.float32]:
    return values.astype(np.float32)
