"""Command line of the network: `scgn train | calibrate | evaluate | dataset | info`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from scgn.checkpoint import CheckpointError, load_network
from scgn.train import TrainingError
from scgn.train import command as train_command


def parser() -> argparse.ArgumentParser:
    """Arguments of every verb."""
    top = argparse.ArgumentParser(prog="scgn", description="SCGN networks for HRTEM frames.")
    verbs = top.add_subparsers(dest="verb", required=True)
    learn = verbs.add_parser("train", help="train on simulated frames; resumes where it stopped")
    train_command.add_arguments(learn)
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
    return train_command.run(args)


if __name__ == "__main__":
    raise SystemExit(main())
