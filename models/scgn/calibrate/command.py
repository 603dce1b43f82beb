"""`scgn calibrate`: files of frames in, a calibration, a report and a picture out."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from scgn.calibrate.estimate import calibrate_references, calibrate_series
from scgn.calibrate.picture import save_picture
from scgn.calibrate.report import Report
from scgn.calibration import Calibration, save_calibration
from scgn.references import CalibrationError
from scgn.stacks import StackError, read_series, read_stack


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--dark", type=Path, help="stack of dark frames")
    source.add_argument("--series", type=Path, nargs="+", help="live series, several files are one")
    parser.add_argument("--flat", type=Path, nargs="+", default=[], help="one flat stack per level")
    parser.add_argument("--out", type=Path, required=True, help="calibration to write, .npz")
    parser.add_argument("--report", type=Path, help="what was found, .json")
    parser.add_argument("--picture", type=Path, help="the same to look at, .png")


def run(args: argparse.Namespace) -> int:
    """Calibrate, write, say; 0 when written, doubts or not, 2 when nothing could be."""
    try:
        calibration, report = _calibrate(args)
        if args.picture:
            save_picture(args.picture, report)
        if args.report:
            args.report.write_text(json.dumps(report.as_json(), indent=2) + "\n")
        save_calibration(args.out, calibration)
    except (CalibrationError, StackError, OSError) as error:
        print(f"scgn: {error}", file=sys.stderr)
        return 2
    trust = "trustworthy" if report.trustworthy else "written, but read the doubts"
    print(f"{report.words()}\ncalibration  {calibration.id}, {trust}")
    return 0


def _calibrate(args: argparse.Namespace) -> tuple[Calibration, Report]:
    if args.series:
        if args.flat:
            raise CalibrationError("flat", "expected flats with --dark, got them with --series")
        return calibrate_series(read_series(args.series))
    return calibrate_references(read_stack(args.dark), [read_stack(path) for path in args.flat])
