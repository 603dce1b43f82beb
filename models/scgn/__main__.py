"""Command line of the network: `scgn train`, `scgn info`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from scgn.checkpoint import CheckpointError, load_network
from scgn.sizes import SIZES
from scgn.train import TrainingError, TrainingPlan, train


def parser() -> argparse.ArgumentParser:
    """Arguments of every verb."""
    top = argparse.ArgumentParser(prog="scgn", description="SCGN networks for HRTEM frames.")
    verbs = top.add_subparsers(dest="verb", required=True)
    plan = TrainingPlan()
    learn = verbs.add_parser("train", help="train on simulated frames; resumes where it stopped")
    learn.add_argument("--size", choices=sorted(SIZES), default=plan.size)
    learn.add_argument("--steps", type=int, default=plan.steps)
    learn.add_argument("--pixels-per-step", type=int, default=plan.pixels_per_step)
    learn.add_argument("--seed", type=int, default=plan.seed)
    learn.add_argument("--peak-rate", type=float, default=plan.peak_rate, help="learning rate")
    learn.add_argument("--start-from", help="begin with this network's weights (name or path)")
    learn.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    learn.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    learn.add_argument("--out", type=Path, required=True, help="folder of state, weights and log")
    info = verbs.add_parser("info", help="print the provenance of a network")
    info.add_argument("network", help="shipped name or path of a .safetensors file")
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    args = parser().parse_args(argv)
    try:
        return run(args)
    except (CheckpointError, TrainingError) as error:
        print(f"scgn: {error}", file=sys.stderr)
        return 2


def run(args: argparse.Namespace) -> int:
    """One verb with its parsed arguments."""
    if args.verb == "info":
        checkpoint = load_network(args.network)
        print(json.dumps({"id": checkpoint.id} | asdict(checkpoint.provenance), indent=2))
        return 0
    torch.set_num_threads(args.threads)
    plan = TrainingPlan(
        size=args.size,
        steps=args.steps,
        pixels_per_step=args.pixels_per_step,
        peak_rate=args.peak_rate,
        seed=args.seed,
        start_from=args.start_from,
    )
    print(train(plan, args.out, torch.device(args.device)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
