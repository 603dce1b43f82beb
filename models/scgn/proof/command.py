"""`scgn prove`: references and raw frames in, a verdict, a report and a picture out."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgn.proof.orientation import ORIENTATIONS
from scgn.proof.picture import save_picture
from scgn.proof.posted import CONVENTIONS, PARTS, References
from scgn.proof.prove import prove
from scgn.proof.verdict import ACCEPTED
from scgn.references import CalibrationError
from scgn.stacks import StackError, read_series, read_stack

STATUS_DOUBTED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("--dark", type=Path, help="dark reference; a stack is averaged")
    parser.add_argument("--gain", type=Path, help="gain reference")
    parser.add_argument("--mask", type=Path, help="defective pixels, 1 is defective")
    parser.add_argument("--gain-convention", choices=CONVENTIONS, help="how the gain is meant")
    parser.add_argument(
        "--orientation", choices=ORIENTATIONS, default="as-is", help="turn all three first"
    )
    parser.add_argument("--frames", type=Path, nargs="+", help="raw frames of the camera")
    parser.add_argument("--report", type=Path, help="what was found, .json")
    parser.add_argument("--picture", type=Path, help="the same to look at, .png")


def run(args: argparse.Namespace) -> int:
    """Prove, write, say; 0 when accepted, 1 when doubted or refused, 2 when it cannot be tried."""
    try:
        proof = prove(_references(args), read_series(args.frames) if args.frames else None)
        if args.picture:
            save_picture(args.picture, proof)
        if args.report:
            args.report.write_text(json.dumps(proof.as_json(), indent=2, allow_nan=False) + "\n")
    except (CalibrationError, StackError, OSError) as error:
        print(f"scgn: {error}", file=sys.stderr)
        return 2
    print(proof.words())
    return 0 if proof.verdict == ACCEPTED else STATUS_DOUBTED


def _references(args: argparse.Namespace) -> References:
    dark, gain, mask = (_reference(name, getattr(args, name)) for name in PARTS)
    return References(
        dark,
        gain,
        mask,
        orientation=args.orientation,
        gain_convention=args.gain_convention,
    )


def _reference(name: str, path: Path | None) -> NDArray[Any] | None:
    """One frame; a stack of darks is averaged."""
    if path is None:
        return None
    stack = read_stack(path)
    if len(stack) == 1 or name == "dark":
        return np.asarray(stack[0] if len(stack) == 1 else stack.mean(0))
    raise CalibrationError(name, f"expected one frame, got {len(stack)} in {path.name}")
