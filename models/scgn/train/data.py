"""Endless training frames: step k draws from (seed, k), so any run can be resumed unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from scgn.noise import NoiseModel
from scgn.simulate import SimulatedBatch, simulate
from scgn.simulate.paper import simulate_paper
from scgn.train.plan import TrainingPlan
from scgn.units import ATOM_MAP_PEAK, noise_units

VALIDATION_SEED = 10**6  # no training step draws from it


@dataclass(frozen=True)
class Pairs:
    """Frames as the network takes and gives them, (B,1,H,W): noise units or counts."""

    given: Tensor
    wanted: Tensor

    def to(self, device: torch.device) -> Pairs:
        """The same on a device."""
        return Pairs(self.given.to(device), self.wanted.to(device))


def draw(plan: TrainingPlan, step: int, camera: NoiseModel | None = None) -> SimulatedBatch:
    """The frames of one step, on the CPU."""
    place = step if plan.epoch_steps is None else step % plan.epoch_steps
    rng = np.random.default_rng([plan.seed, place])
    side_px = int(rng.choice(plan.sides_px))
    count = max(1, plan.pixels_per_step // side_px**2)
    if plan.data == "paper":
        return simulate_paper(rng, count, side_px)
    return simulate(rng, count, side_px, plan.recipe, camera)


def pairs(plan: TrainingPlan, data: SimulatedBatch) -> Pairs:
    """What the network is given and what it should give.

    An atom map is wanted as 0..1 beside noise units, as 0..255 beside counts.
    """
    in_counts = plan.input_units == "counts"
    units = noise_units(data.noisy)
    given = data.noisy if in_counts else units.enter(data.noisy)
    if plan.target == "atom_map":
        return Pairs(given, data.atom_map / (1.0 if in_counts else ATOM_MAP_PEAK))
    return Pairs(given, data.clean if in_counts else units.enter(data.clean))


class StepData(Dataset[tuple[Tensor, Tensor]]):
    """Item k is the pair of step `first + k`."""

    def __init__(self, plan: TrainingPlan, camera: NoiseModel | None, first: int) -> None:
        self._plan, self._camera, self._first = plan, camera, first

    def __len__(self) -> int:
        return max(0, self._plan.steps - self._first)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        drawn = pairs(self._plan, draw(self._plan, self._first + index, self._camera))
        return drawn.given, drawn.wanted


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    # Containers often have little shared memory, and drawn frames wait there.
    torch.multiprocessing.set_sharing_strategy("file_system")  # type: ignore[no-untyped-call]


def stream(
    plan: TrainingPlan, camera: NoiseModel | None, first: int, workers: int
) -> Iterator[Pairs]:
    """Pairs of the steps from `first` to the plan's end; drawn ahead by workers, if any."""
    # Made anew, not forked: a fork of a process with other libraries' threads can crash.
    loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
        StepData(plan, camera, first), batch_size=None, shuffle=False, num_workers=workers,
        worker_init_fn=_start_worker, prefetch_factor=4 if workers else None,
        multiprocessing_context="spawn" if workers else None,
    )  # fmt: skip
    return (Pairs(given, wanted) for given, wanted in loader)


def validation_pairs(plan: TrainingPlan, camera: NoiseModel | None = None) -> Pairs:
    """Thirty-two 128x128 frames of the plan's kind that no step trains on."""
    fixed = replace(
        plan, seed=VALIDATION_SEED, sides_px=(128,), pixels_per_step=32 * 128**2, epoch_steps=None
    )
    return pairs(fixed, draw(fixed, 0, camera))
