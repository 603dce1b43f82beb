"""Command line of the network: `scgn train | distill | compile | calibrate | evaluate | ...`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from scgn import compile as compile_command
from scgn.backends import BackendError
from scgn.calibrate import command as calibrate_command
from scgn.calibration import CalibrationError
from scgn.checkpoint import CheckpointError, load_network
from scgn.deploy import DeployError
from scgn.evaluate import EvaluationError
from scgn.evaluate import command as evaluate_command
from scgn.proof import command as prove_command
from scgn.simulate import dataset as dataset_command
from scgn.simulate.dataset import DatasetError
from scgn.stacks import StackError
from scgn.train import TrainingError
from scgn.train import command as train_command
from scgn.train import distill as distill_command

ERRORS = (
    BackendError, CalibrationError, CheckpointError, DatasetError, DeployError, EvaluationError,
    StackError, TrainingError,
)  # fmt: skip
COMMANDS = {
    "train": (train_command, "train on simulated frames; resumes where it stopped"),
    "distill": (distill_command, "train a fast student of a trained network"),
    "calibrate": (calibrate_command, "noise and references of a camera from its own frames"),
    "prove": (prove_command, "whether references belong to a camera's frames, and which way"),
    "compile": (compile_command, "build the engine of a network for a camera's frames"),
    "dataset": (dataset_command, "write a fixed set of simulated pairs"),
    "evaluate": (evaluate_command, "any methods in one table, on simulated or real frames"),
}


def parser() -> argparse.ArgumentParser:
    """Arguments of every verb."""
    top = argparse.ArgumentParser(prog="scgn", description="SCGN networks for HRTEM frames.")
    verbs = top.add_subparsers(dest="verb", required=True)
    for verb, (command, help_text) in COMMANDS.items():
        command.add_arguments(verbs.add_parser(verb, help=help_text))
    info = verbs.add_parser("info", help="print the provenance of a network")
    info.add_argument("network", help="shipped name or path of a .safetensors file")
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    args = parser().parse_args(argv)
    try:
        return run(args)
    except ERRORS as error:
        print(f"scgn: {error}", file=sys.stderr)
        return 2


def run(args: argparse.Namespace) -> int:
    """One verb with its parsed arguments."""
    if args.verb == "info":
        checkpoint = load_network(args.network)
        print(json.dumps({"id": checkpoint.id} | asdict(checkpoint.provenance), indent=2))
        return 0
    status: int = COMMANDS[args.verb][0].run(args)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
