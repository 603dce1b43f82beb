"""`scgn distill`: train a student on what a trained network makes of the generator's frames."""

from __future__ import annotations

import argparse
from dataclasses import replace

from scgn.sizes import STUDENTS
from scgn.train import command
from scgn.train.plan import TrainingPlan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the verb: those of `train`, and the teacher."""
    parser.add_argument("--teacher", required=True, help="a trained network (name or path)")
    share = TrainingPlan.teacher_share
    parser.add_argument(
        "--teacher-share", type=float, default=share, help=f"of the target, 0..1, default {share}"
    )
    command.add_arguments(parser, sorted(STUDENTS), "preview")


def run(args: argparse.Namespace) -> int:
    """Train or resume; prints the path of the weights."""
    return command.run_plan(
        args, lambda plan: replace(plan, teacher=args.teacher, teacher_share=args.teacher_share)
    )
