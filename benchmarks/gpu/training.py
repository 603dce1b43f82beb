"""Stage `train`: the networks of the quality table, trained on the GPU, a sitting at a time.

State lies in FOLDER/train/NAME; a call goes on where the last one stopped and stays inside its
minutes. A network whose weights are done is left alone.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SITTING_S = 520.0  # of the ten minutes a call may take


@dataclass(frozen=True)
class Run:
    """name: of the folder; size: row of the table; recipe, target, steps: of the plan."""

    name: str
    size: str
    recipe: str
    target: str
    steps: int


# `paper` for both targets first: they ship. Then what stands beside them, on the same data.
RUNS = (
    Run("paper-clean", "paper", "ours", "clean", 12_000),
    Run("paper-atom-map", "paper", "ours", "atom_map", 12_000),
    Run("compact-clean", "compact", "ours", "clean", 12_000),
    Run("paper-recipe", "paper", "paper", "atom_map", 12_500),
    *(Run(f"{peer}-clean", peer, "ours", "clean", 12_000)
      for peer in ("dncnn", "ffdnet", "nafnet", "restormer", "unet")),
    *(Run(f"{part}-clean", f"compact-{part}", "white-noise", "clean", 12_000)
      for part in ("plain", "frequency", "deviation")),
    Run("band-clean", "compact", "white-noise", "clean", 12_000),
)  # fmt: skip


def train_next(folder: Path) -> dict[str, Any]:
    """Train the unfinished runs in turn until the sitting is over; says where each stands."""
    begun, rows = time.monotonic(), {}
    for run in RUNS:
        left_s = SITTING_S - (time.monotonic() - begun)
        if left_s > 30 and steps_done(folder / run.name) < run.steps:
            sit(run, folder / run.name, left_s)
        rows[run.name] = {"steps": steps_done(folder / run.name), "of": run.steps} | last_row(
            folder / run.name
        )
    return {"unit": "see scgn.train.run.validate", "rows": rows}


def sit(run: Run, folder: Path, seconds: float) -> None:
    """One sitting of one run."""
    import torch

    from scgn.train import Sitting, named_plan, train

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    changes: dict[str, Any] = {"size": run.size, "precision": "bfloat16"}
    if run.recipe != "paper":  # the paper's recipe keeps its own batches and steps
        changes |= {
            "steps": run.steps, "target": run.target, "sides_px": (128, 192),
            "pixels_per_step": 16 * 128 * 128,
        }  # fmt: skip
    workers = max(0, min(12, (os.cpu_count() or 1) - 2))
    sitting = Sitting(every_s=90, stop_after_s=seconds - 20, workers=workers)
    train(named_plan(run.recipe, **changes), folder, torch.device("cuda"), sitting)


def last_row(folder: Path) -> dict[str, Any]:
    """The newest line of a run's log."""
    log = folder / "log.jsonl"
    if not log.exists():
        return {}
    row: dict[str, Any] = json.loads(log.read_text().splitlines()[-1])
    return row


def steps_done(folder: Path) -> int:
    """How far a run is."""
    return int(last_row(folder).get("step", 0))


def finished(folder: Path) -> bool:
    """Whether every run has its steps."""
    return all(steps_done(folder / run.name) >= run.steps for run in RUNS)
