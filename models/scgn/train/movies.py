"""What temporal networks learn from: movies through the stream's front, looked at now and then.

Nothing is learned through time: the state is plain arithmetic, so each look is an example of its
own, with a history of 0 to N frames behind it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from scgn.noise import NoiseModel
from scgn.simulate.movies import MovieRecipe, Movies, draw_movies
from scgn.stream.facts import CONTROL
from scgn.stream.front import LONG_SCALE, Front, Seen, State
from scgn.stream.grid import phase, turned
from scgn.stream.state import LONGEST, empty_state
from scgn.train.pairs import Pairs, together
from scgn.train.plan import MoviePlan, TrainingPlan

VALIDATION_SEED = 10**6  # no training step draws from it
VALIDATION_TIMES = (0, 3, 15)
FLOOR = 0.03  # noises: where the estimate is nearly exact, its error is no measure


@lru_cache(maxsize=8)
def front_of(side_px: int) -> Front:
    """A front for square frames, float32."""
    return Front((side_px, side_px)).float().requires_grad_(False)


def control_of(count: int, longest: Tensor) -> Tensor:
    """Controls of `count` streams that go on; longest: (count,)."""
    control = torch.zeros(count, len(CONTROL))
    control[:, 1], control[:, 2] = 1, longest
    return control


@torch.no_grad()
def looks_of(movies: Movies, times: list[int], alone: list[int], front: Front) -> Pairs:
    """The movies seen at `times`; at those in `alone` the network is shown the frame alone, though
    the stream's noise is known.
    """
    count = len(movies.noisy)
    state = State(*empty_state(front.grid.shape, count))
    all_of_it, one = torch.full((count,), float(LONGEST)), torch.ones(count)
    looks: list[Pairs] = []
    for time in range(max(times) + 1):
        frames = movies.noisy[:, time : time + 1]
        control = control_of(count, one if time in alone else all_of_it)
        seen, after, _ = front(frames, frames, None, control, state)
        if time in times:
            looks.append(look(seen, movies.clean[:, time : time + 1], front))
        state = after
    return together(looks)


def look(seen: Seen, clean: Tensor, front: Front) -> Pairs:
    """One frame of each movie as an example; clean: (B,1,H,W) counts of that frame."""
    away = clean - clean.mean(dim=(-2, -1), keepdim=True)
    cosine, sine = phase(front.grid, seen.position[:, :1], seen.position[:, 1:])
    there = front.grid.frames(turned(front.grid.spectrum(away), cosine, sine))
    wanted = front.narrow((there - seen.base) * LONG_SCALE / seen.scale)
    floor2 = (FLOOR * LONG_SCALE) ** 2
    missed = wanted.square().mean(dim=(1, 2, 3)) + floor2
    flat = (there * LONG_SCALE / seen.scale).square().mean(dim=(1, 2, 3)) + floor2
    return Pairs(seen.given, wanted, missed.sqrt(), flat.sqrt())


def times_of(rng: np.random.Generator, plan: MoviePlan) -> tuple[list[int], list[int]]:
    """(frames to look at, those of them that are shown alone), of a movie of random length."""
    frames = int(rng.integers(plan.frames // 2, plan.frames + 1))
    inner = rng.choice(np.arange(1, frames - 1), plan.looks - 2, replace=False)
    times = sorted({0, frames - 1, *(int(t) for t in inner)})
    alone = [t for t in times[1:-1] if rng.random() < 0.15]
    return times, alone


def draw_looks(plan: TrainingPlan, step: int, camera: NoiseModel | None = None) -> Pairs:
    """The examples of one step, on the CPU; drawn from (seed, step)."""
    place = step if plan.epoch_steps is None else step % plan.epoch_steps
    rng = np.random.default_rng([plan.seed, place])
    side = int(rng.choice(plan.sides_px))
    count = max(1, round(plan.movies.movies * (128 / side) ** 2))
    times, alone = times_of(rng, plan.movies)
    recipe = MovieRecipe(still=plan.recipe)
    movies = draw_movies(rng, count, times[-1] + 1, side, recipe, camera)
    return looks_of(movies, times, alone, front_of(side))


def validation_looks(plan: TrainingPlan, camera: NoiseModel | None = None) -> Pairs:
    """The first, fourth and last frame of twelve movies of 128 px that no step learns from."""
    return validation_movies(MovieRecipe(still=plan.recipe), camera)


def validation_movies(recipe: MovieRecipe, camera: NoiseModel | None) -> Pairs:
    """The looks of `validation_looks`."""
    parts = []
    for index in range(12):
        rng = np.random.default_rng([VALIDATION_SEED, index])
        movies = draw_movies(rng, 1, VALIDATION_TIMES[-1] + 1, 128, recipe, camera)
        parts.append(looks_of(movies, list(VALIDATION_TIMES), [], front_of(128)))
    return together(parts)
