"""What happens in a movie to judge by, before any camera sees it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scgn.simulate.generator import draw_images, pixel_sizes_a
from scgn.simulate.movie import MoviePlan
from scgn.simulate.movies.events import Spot, place_of, presence, spot_frames
from scgn.simulate.movies.motion import REACH_PX, Floats, direction, seen, steady
from scgn.simulate.movies.recipe import log_between
from scgn.simulate.movies.scenes import growing, images_of_fields, melting_fields
from scgn.simulate.movies.shapes import along, inside
from scgn.simulate.sets import SCENES
from scgn.simulate.structures import MARGIN_PX, atoms_of_fields, draw_atoms, lattice

SPEEDS_PX = {"drift-0.3": 0.3, "drift-0.5": 0.5, "drift-1": 1.0, "drift-2": 2.0}
EVENTS = ("appear", "vanish", "hop", "flicker")
SCENARIOS = (
    "rest", *SPEEDS_PX, "jump", "cut", "growing-front", "diffusion", *EVENTS, "dose-up",
    "dose-down", "blanked", "blur-0.8", "lines-1", "lattice-on-axes", "sparse-counting",
    "vacuum-edge",
)  # fmt: skip
SALT = 20261  # apart from the seeds of every other set
EVENT_SIGMA_PX, EVENT_CONTRAST, EVENT_APART_PX, EVENT_COUNT = 2.3, 0.3, 24.0, 12
HOP_SIGMAS, JUMP_PX, DOSE_FACTOR, SPARSER = 2.0, 5.0, 3.0, 50.0
LEAST = 0.01  # of the beam


@dataclass(frozen=True)
class Play:
    """What happens before the camera; intensities are relative to the beam.

    images: (T,H,W) without the spots; spots; drift_px: (T,2); factor: (T,) of the dose; cut: first
    frame of another scene, T for none.
    """

    images: Tensor
    spots: list[Spot]
    drift_px: Floats
    factor: Floats
    cut: int

    def with_spots(self) -> Tensor:
        """Frames (T,H,W) with the spots."""
        added = spot_frames(self.spots, len(self.images), self.images.shape[-1])
        return (self.images + added).clamp(min=LEAST)


def numbers(seed: int, what: int) -> np.random.Generator:
    """The numbers of one kind of choice of a seed."""
    return np.random.default_rng([SALT, seed, 100 + what])


def play(name: str, seed: int, frames: int, side_px: int) -> Play:
    """What a scenario shows, the same at every dose."""
    if name not in SCENARIOS:
        raise ValueError(f"no scenario {name!r}; there are {', '.join(SCENARIOS)}")
    drift_px = path(name, seed, frames)
    images = shown(name, seed, drift_px, side_px).clamp(min=LEAST)
    cut = frames // 2 if name == "cut" else frames
    if name == "cut":
        other = shown(name, seed, drift_px, side_px, what=3).clamp(min=LEAST)
        images = torch.cat([images[:cut], other[cut:]])
    spots = placed_spots(name, numbers(seed, 2), images, drift_px) if name in EVENTS else []
    return Play(images, spots, drift_px, dose_factor(name, frames), cut)


def path(name: str, seed: int, frames: int) -> Floats:
    """Position (T,2) of the specimen; a seed drifts and jumps in one direction."""
    towards = direction(numbers(seed, 1))
    if name == "jump":
        return (np.arange(frames) >= frames // 2)[:, None] * JUMP_PX * towards
    return steady(frames, SPEEDS_PX.get(name, 0.0) * towards)


def dose_factor(name: str, frames: int) -> Floats:
    """(T,) factor of the dose: up, down, or 0 for a sixth of the movie."""
    factor, middle = np.ones(frames), frames // 2
    if name == "dose-up":
        factor[middle:] = DOSE_FACTOR
    elif name == "dose-down":
        factor[middle:] = 1 / DOSE_FACTOR
    elif name == "blanked":
        factor[middle : middle + max(1, frames // 6)] = 0
    return factor


def shown(name: str, seed: int, drift_px: Floats, side_px: int, what: int = 0) -> Tensor:
    """Frames (T,side,side) of the scenario's specimen; another with another `what`."""
    rng, frames = numbers(seed, what), len(drift_px)
    noise = torch.Generator().manual_seed(int(rng.integers(2**62)))
    if name == "growing-front":
        return growing(rng, side_px, frames, SCENES, noise, growth=(0.1, 0.45))
    if name == "diffusion":
        return diffusing(rng, frames, side_px, noise)
    farthest = max(max(SPEEDS_PX.values()) * (frames - 1), JUMP_PX)  # one canvas for all of them
    margin = math.ceil(farthest) + REACH_PX + 1
    canvas = specimen(rng, side_px + 2 * margin, noise, aligned=name == "lattice-on-axes")
    if name == "vacuum-edge":
        canvas = before_vacuum(rng, canvas)
    return seen(canvas.expand(frames, -1, -1), drift_px, np.full(2, float(margin)), side_px)


def specimen(
    rng: np.random.Generator, side_px: int, noise: torch.Generator, aligned: bool = False
) -> Tensor:
    """A structure with atoms in it (1,side,side); aligned: one crystal along the frame's axes."""
    atoms = draw_atoms(rng, 1, side_px, SCENES.spacing_px)
    while len(atoms.frame) == 0:
        atoms = draw_atoms(rng, 1, side_px, SCENES.spacing_px)
    if aligned:
        spacing_px = log_between(rng, SCENES.spacing_px)
        sites = lattice(rng, spacing_px, side_px / 2 + MARGIN_PX, aligned=True)
        sigma = np.full(len(sites.position), 0.22 * spacing_px)
        field = (sites.position + side_px / 2, sigma, sites.amplitude, sites.species)
        atoms = atoms_of_fields([field], np.array([spacing_px]))
    pixel_a = pixel_sizes_a(rng, atoms, SCENES)
    return draw_images(rng, atoms, pixel_a, side_px, SCENES, noise)[:, 0]


def before_vacuum(rng: np.random.Generator, canvas: Tensor) -> Tensor:
    """The specimen (1,C,C), 0.7 as bright, up to a straight edge through the middle; then 1."""
    depth = along(canvas.shape[-1], tuple(direction(rng)))
    return 1 + (0.7 * canvas - 1) * inside(depth, 0.8)


def diffusing(
    rng: np.random.Generator, frames: int, side_px: int, noise: torch.Generator
) -> Tensor:
    """Frames (T,side,side): six in ten atoms walk .05 spacings a frame along each axis."""
    plan = MoviePlan(frames, side_px, log_between(rng, (9.0, 20.0)))
    fields = melting_fields(rng, plan, 0.05, 0.6)
    while len(fields[0][0]) == 0:
        fields = melting_fields(rng, plan, 0.05, 0.6)
    return images_of_fields(rng, fields, plan, SCENES, noise, bool(rng.random() < 0.3))


def apart(rng: np.random.Generator, side_px: int) -> Floats:
    """Up to EVENT_COUNT places (N,2), half of EVENT_APART_PX off the border and that far apart."""
    places: list[Floats] = []
    for place in rng.uniform(EVENT_APART_PX / 2, side_px - 1 - EVENT_APART_PX / 2, (500, 2)):
        if all(np.hypot(*(place - other)) >= EVENT_APART_PX for other in places):
            places.append(place)
    return np.array(places[:EVENT_COUNT])


def placed_spots(
    name: str, rng: np.random.Generator, images: Tensor, drift_px: Floats
) -> list[Spot]:
    """The spots of a scenario, all at the middle frame: dark and bright ones, dark only where
    the image (T,H,W) leaves room for them.
    """
    frames, middle = len(images), len(images) // 2
    spots = []
    for centre in apart(rng, images.shape[-1]):
        row, column = centre.round().astype(int)
        around = images[:, row - 3 : row + 4, column - 3 : column + 4]
        dark = rng.random() < 0.5 and float(around.min()) > EVENT_CONTRAST + LEAST
        hop_px = HOP_SIGMAS * EVENT_SIGMA_PX * direction(rng)
        place = place_of(name, middle, centre, drift_px, hop_px)
        there = presence(rng, name, middle, frames)
        contrast = -EVENT_CONTRAST if dark else EVENT_CONTRAST
        spots.append(Spot(name, middle, EVENT_SIGMA_PX, contrast, place, there))
    return spots
