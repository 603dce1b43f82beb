"""Endless training frames: step k draws from (seed, k), so any run can be resumed unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from scgn.noise import NoiseModel
from scgn.simulate import SimulatedBatch, simulate
from scgn.simulate.paper import simulate_paper
from scgn.train.movies import VALIDATION_SEED, draw_looks, validation_looks
from scgn.train.pairs import Pairs
from scgn.train.plan import TrainingPlan
from scgn.units import ATOM_MAP_PEAK, noise_units


def draw(plan: TrainingPlan, step: int, camera: NoiseModel | None = None) -> SimulatedBatch:
    """The frames of one step, on the CPU."""
    place = step if plan.epoch_steps is None else step % plan.epoch_steps
    rng = np.random.default_rng([plan.seed, place])
    side_px = int(rng.choice(plan.sides_px))
    count = max(1, plan.pixels_per_step // side_px**2)
    if plan.data == "paper":
        return simulate_paper(rng, count, side_px)
    return simulate(rng, count, side_px, plan.recipe, camera)


def pairs(plan: TrainingPlan, step: int, camera: NoiseModel | None = None) -> Pairs:
    """What the network is given in one step and what it should give.

    An atom map is wanted as 0..1 beside noise units, as 0..255 beside counts.
    """
    if plan.design.residual == "stream":
        return draw_looks(plan, step, camera)
    return map_pairs(plan, draw(plan, step, camera))


def map_pairs(plan: TrainingPlan, data: SimulatedBatch) -> Pairs:
    """Frames of one batch with the maps of their atoms."""
    in_counts = plan.input_units == "counts"
    given = data.noisy if in_counts else noise_units(data.noisy).enter(data.noisy)
    return Pairs(given, data.atom_map / (1.0 if in_counts else ATOM_MAP_PEAK))


class StepData(Dataset[tuple[Tensor | None, ...]]):
    """Item k is the pair of step `first + k`."""

    def __init__(self, plan: TrainingPlan, camera: NoiseModel | None, first: int) -> None:
        self._plan, self._camera, self._first = plan, camera, first

    def __len__(self) -> int:
        return max(0, self._plan.steps - self._first)

    def __getitem__(self, index: int) -> tuple[Tensor | None, ...]:
        return tuple(vars(pairs(self._plan, self._first + index, self._camera)).values())


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    # Containers often have little shared memory, and drawn frames wait there.
    torch.multiprocessing.set_sharing_strategy("file_system")  # type: ignore[no-untyped-call]


def stream(
    plan: TrainingPlan, camera: NoiseModel | None, first: int, workers: int
) -> Iterator[Pairs]:
    """Pairs of the steps from `first` to the plan's end; drawn ahead by workers, if any."""
    # Made anew, not forked: a fork of a process with other libraries' threads can crash.
    loader: DataLoader[tuple[Tensor | None, ...]] = DataLoader(
        StepData(plan, camera, first), batch_size=None, shuffle=False, num_workers=workers,
        worker_init_fn=_start_worker, prefetch_factor=4 if workers else None,
        multiprocessing_context="spawn" if workers else None,
    )  # fmt: skip
    return (Pairs(*parts) for parts in loader)


def validation_pairs(plan: TrainingPlan, camera: NoiseModel | None = None) -> Pairs:
    """Examples of the plan's kind that no step trains on."""
    if plan.design.residual == "stream":
        return validation_looks(plan, camera)
    fixed = replace(
        plan, seed=VALIDATION_SEED, sides_px=(128,), pixels_per_step=32 * 128**2, epoch_steps=None
    )
    return map_pairs(fixed, draw(fixed, 0, camera))
