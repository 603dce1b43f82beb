"""Stage `train`: the networks of the quality table, trained on the GPU, a sitting at a time.

State lies in FOLDER/train/NAME; a call goes on where the last one stopped and stays inside its
minutes. A network whose weights are done is left alone.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.quality import RUNS, Run, plan_of
from scgn.train import TrainingPlan, named_plan

SITTING_S = 520.0  # of the ten minutes a call may take
BUDGET: dict[str, Any] = {
    "steps": 12_000, "sides_px": (128, 192), "pixels_per_step": 16 * 128**2,
    "precision": "bfloat16",
}  # fmt: skip


def plans() -> dict[str, TrainingPlan]:
    """By folder. `paper` for both targets first: they ship; then what stands beside them."""
    ship = {
        "paper-clean": named_plan("ours", size="paper", **BUDGET),
        "paper-atom-map": named_plan("ours", size="paper", target="atom_map", **BUDGET),
        "paper-recipe": named_plan("paper", size="paper"),
    }
    return ship | {f"{run.name}-clean": with_budget(run) for run in RUNS}


def with_budget(run: Run) -> TrainingPlan:
    """The table's plan with what a GPU can do."""
    return replace(plan_of(run), **BUDGET)


def train_next(folder: Path, seconds: float = SITTING_S) -> dict[str, Any]:
    """Train the unfinished plans in turn until the sitting is over; says where each stands."""
    begun, rows = time.monotonic(), {}
    for name, plan in plans().items():
        left_s = seconds - (time.monotonic() - begun)
        if left_s > 30 and steps_done(folder / name) < plan.steps:
            sit(plan, folder / name, left_s)
        known = {"steps": steps_done(folder / name), "of": plan.steps}
        rows[name] = known | last_row(folder / name)
    done = all(row["steps"] >= row["of"] for row in rows.values())
    return {"unit": "see scgn.train.run.validate", "rows": rows, "done": done}


def sit(plan: TrainingPlan, folder: Path, seconds: float) -> None:
    """One sitting of one plan."""
    import torch

    from scgn.train import Sitting, train

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    workers = max(0, min(12, (os.cpu_count() or 1) - 2))
    sitting = Sitting(every_s=90, stop_after_s=seconds - 20, workers=workers)
    train(plan, folder, torch.device("cuda"), sitting)


def finished_weights(folder: Path) -> list[Path]:
    """Weights of the plans that are done and take noise units; others eat 8-bit counts."""
    done = [
        name
        for name, plan in plans().items()
        if plan.input_units == "noise" and steps_done(folder / name) >= plan.steps
    ]
    return [folder / name / "weights.safetensors" for name in done]


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
