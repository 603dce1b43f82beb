"""`scgn train`: our recipe, the paper's, or either on the noise of one's own camera."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch

from scgn.calibration import Calibration, load_noisy_calibration
from scgn.sizes import DESIGNS
from scgn.stacks import StackError
from scgn.train.curves import draw_curves
from scgn.train.data import pairs
from scgn.train.plan import Loss, TrainingError, TrainingPlan, named_plan
from scgn.train.run import Sitting, clock_of, train, train_step
from scgn.train.state import begin
from scgn.train.teacher import Teacher

TIMED_STEPS = 4


def add_arguments(
    parser: argparse.ArgumentParser, sizes: Sequence[str] = sorted(DESIGNS), size: str = "tiny"
) -> None:
    """Flags of the verb, for the given rows of the table of networks."""
    plan = TrainingPlan()
    parser.add_argument("--size", choices=sizes, default=size)
    parser.add_argument("--recipe", choices=["ours", "white-noise", "paper"], default="ours")
    parser.add_argument("--target", choices=["clean", "atom_map"], help="what it learns")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--steps", type=int, help=f"optimiser steps (default {plan.steps})")
    amount.add_argument("--minutes", type=float, help="as many steps as fit: core-minutes on a CPU")
    parser.add_argument("--sides", type=int, nargs="+", help="sides of training frames, px")
    movies = f"a step, of 128 px a side, for temporal networks, default {plan.movies.movies}"
    parser.add_argument("--movies", type=float, help=movies)
    pixels = f"of other networks' frames, default {plan.pixels_per_step}"
    parser.add_argument("--pixels-per-step", type=int, help=pixels)
    parser.add_argument("--peak-rate", type=float, help=f"learning rate, default {plan.peak_rate}")
    parser.add_argument("--loss", choices=get_args(Loss), help=f"default {plan.loss}")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], help="of convolutions")
    parser.add_argument("--seed", type=int, default=plan.seed)
    parser.add_argument("--start-from", help="begin with this network's weights (name or path)")
    parser.add_argument("--calibration", type=Path, help="learn this camera's noise (.npz)")
    parser.add_argument("--out", type=Path, required=True, help="folder of state, weights and log")
    sitting = parser.add_argument_group("this sitting (decides nothing about the weights)")
    sitting.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    sitting.add_argument("--workers", type=int, default=0, help="processes that draw ahead")
    sitting.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    sitting.add_argument("--compile", action="store_true", help="fuse the network: slow to start")
    sitting.add_argument("--stop-after", type=float, default=float("inf"), help="s, then resume")
    sitting.add_argument("--every", type=float, default=120.0, help="s between checkpoints")


def run(args: argparse.Namespace) -> int:
    """Train or resume; prints the path of the weights."""
    return run_plan(args, lambda plan: plan)


def run_plan(args: argparse.Namespace, change: Callable[[TrainingPlan], TrainingPlan]) -> int:
    """The plan of the flags, changed, run or resumed."""
    torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    device = torch.device(args.device)
    camera = None if args.calibration is None else load_noisy_calibration(args.calibration)
    plan = change(plan_of(args, camera))
    if args.minutes is not None:
        plan = replace(plan, steps=planned_steps(plan, args.minutes, args.out, device))
    sitting = Sitting(args.every, args.stop_after, args.compile, args.workers)
    print(train(plan, args.out, device, sitting, camera))
    picture(args.out, plan.name)
    return 0


def picture(folder: Path, name: str) -> None:
    """Print where the curves are, or what is missing to draw them: no reason to fail a run."""
    try:
        print(draw_curves(folder, name))
    except StackError as error:
        print(f"scgn: {error}", file=sys.stderr)


def plan_of(args: argparse.Namespace, camera: Calibration | None) -> TrainingPlan:
    """The recipe with what the flags change."""
    flags = {
        "target": args.target, "steps": args.steps, "sides_px": args.sides and tuple(args.sides),
        "pixels_per_step": args.pixels_per_step, "peak_rate": args.peak_rate,
        "precision": args.precision, "loss": args.loss,
        "movies": args.movies and replace(TrainingPlan().movies, movies=args.movies),
    }  # fmt: skip
    given = {name: value for name, value in flags.items() if value is not None}
    return named_plan(
        args.recipe, size=args.size, seed=args.seed, start_from=args.start_from,
        camera=None if camera is None else camera.id, **given,
    )  # fmt: skip


def planned_steps(plan: TrainingPlan, minutes: float, folder: Path, device: torch.device) -> int:
    """How many steps fit into `minutes` here; measured once a folder, so that a run can resume.

    Without compiling and workers, which only make it faster. Raises TrainingError for a folder
    whose run was planned for other minutes.
    """
    kept = folder / "budget.json"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        steps = max(1, int(60 * minutes / seconds_per_step(plan, device)))
        kept.write_text(json.dumps({"minutes": minutes, "steps": steps}) + "\n")
    budget = json.loads(kept.read_text())
    if budget["minutes"] != minutes:
        got = f"expected its {budget['minutes']:g} minutes, got {minutes:g}: use another folder"
        raise TrainingError(f"{folder} holds a run: {got}")
    return int(budget["steps"])


def seconds_per_step(plan: TrainingPlan, device: torch.device) -> float:
    """Work of one step, data included, in seconds of this device's clock."""
    state, clock = begin(plan, device), clock_of(device)
    teacher = None if plan.teacher is None else Teacher(plan, device)
    before = 0.0
    for step in range(1 + TIMED_STEPS):
        data = pairs(plan, step)
        float(train_step(state, plan, data if teacher is None else teacher(data)))
        before = before if step else clock()  # the first is no measure
    return (clock() - before) / TIMED_STEPS
