"""Simulated frames per second of the physical generator on one CPU thread.

Median over batches, drawn as training draws them; beside it, what one training step of the
`compact` network costs for the same frames, so that one sees whether data would hold it up.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import torch

from benchmarks.harness import arguments, save
from scgn.simulate import Recipe, simulate
from scgn.train import TrainingPlan
from scgn.train.data import pairs
from scgn.train.run import train_step
from scgn.train.state import begin

SIDES_PX = (128, 256)


def generator_fps(side_px: int, batches: int) -> float:
    """Frames per second of processor time, batches of four."""
    rng, seconds = np.random.default_rng(0), []
    for _ in range(batches):
        begun = time.process_time()
        simulate(rng, 4, side_px, Recipe())
        seconds.append(time.process_time() - begun)
    return round(4 / statistics.median(seconds), 1)


def training_fps(side_px: int, steps: int) -> float:
    """Frames per second that training of `compact` can take, data not counted."""
    plan = TrainingPlan(size="compact", sides_px=(side_px,), pixels_per_step=2 * side_px**2)
    state = begin(plan, torch.device("cpu"))
    data, seconds = pairs(plan, 0), []
    for _ in range(steps):
        begun = time.process_time()
        train_step(state, plan, data)
        seconds.append(time.process_time() - begun)
    return round(len(data.given) / statistics.median(seconds), 2)


def main() -> None:
    """Measure; --save writes results/bench_generator.json."""
    args = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    batches, begun = (5 if args.quick else 40), time.monotonic()
    rows: dict[str, Any] = {
        "frames_per_core_second": {side: generator_fps(side, batches) for side in SIDES_PX},
        "training_takes_128": training_fps(128, 2 if args.quick else 8),
    }
    save("bench_generator", rows, time.monotonic() - begun)


if __name__ == "__main__":
    main()
