"""What `python -m tests.fuzz` does, and the file of its figures."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, machine

from .messages import content_of, parts_of

FOUND = Path(__file__).parent / "found"


def parser() -> argparse.ArgumentParser:
    """Flags of every verb."""
    top = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz what comes in.")
    verbs = top.add_subparsers(dest="verb", required=True)
    wire = verbs.add_parser("wire", help="messages through decoders, ingest and publisher")
    wire.add_argument("--messages", type=int, default=1_000_000)
    files = verbs.add_parser("calibrations", help="files through every reader, each in a process")
    files.add_argument("--files", type=int, default=10_000)
    for verb in (wire, files):
        verb.add_argument("--seed", type=int, default=1)
        verb.add_argument("--save", action="store_true", help="write benchmarks/results/fuzz.json")
    verbs.add_parser("again", help="try everything in found/ again")
    put = verbs.add_parser("keep", help="put what `guided` failed on into found/")
    put.add_argument("harness", choices=("wire", "calibrations"))
    put.add_argument("file", type=Path)
    verbs.add_parser("corpus", help="write corpus/ anew")
    return top


def main(words: list[str] | None = None) -> int:
    """Run one verb; 1 when something was found."""
    args = parser().parse_args(words)
    if args.verb == "corpus":
        from .corpus import write

        write()
        return 0
    if args.verb == "again":
        return again()
    if args.verb == "keep":
        print(keep_file(args.harness, args.file.read_bytes()))
        return 0
    found = _wire(args) if args.verb == "wire" else _calibrations(args)
    result = {
        "command": "python -m tests.fuzz " + " ".join(words or sys.argv[1:]),
        "date": time.strftime("%Y-%m-%d"), "machine": machine(), **found,
    }  # fmt: skip
    print(json.dumps(result, indent=2))
    if args.save:
        save(args.verb, result)
    return 1 if found["findings"] else 0


def _wire(args: argparse.Namespace) -> dict[str, Any]:
    from .wire import Found, fuzz_wire

    try:
        return {**fuzz_wire(args.messages, args.seed), "findings": []}
    except Found as error:
        traceback.print_exception(error)
        return {"findings": [keep("wire", content_of(error.parts), ".bin")]}


def _calibrations(args: argparse.Namespace) -> dict[str, Any]:
    from .calibrations import fuzz_calibrations

    return fuzz_calibrations(args.files, args.seed, FOUND)


def keep(harness: str, content: bytes, ending: str) -> str:
    """Write a finding to found/, under its content's name; the name."""
    FOUND.mkdir(exist_ok=True)
    path = FOUND / f"{harness}-{hashlib.sha256(content).hexdigest()[:12]}{ending}"
    path.write_bytes(content)
    return path.name


def keep_file(harness: str, content: bytes) -> str:
    """A message, or a file as the reader of darks got it; the name in found/."""
    if harness == "wire":
        return keep(harness, content, ".bin")
    from .calibrations import Job

    job = Job("read", {"dark": ("a.mrc", content)})
    (FOUND / job.name).mkdir(parents=True, exist_ok=True)
    job.write(FOUND / job.name)
    return job.name


def again() -> int:
    """Everything that was ever found; 1 when some of it is a finding still."""
    from .calibrations import attempt, job_in
    from .wire import WireTarget

    bad = []
    logging.disable()
    with WireTarget() as target:
        for path in sorted(FOUND.glob("wire-*.bin")):
            target.try_message(parts_of(path.read_bytes()))
    for folder in sorted(path for path in FOUND.iterdir() if path.is_dir()):
        told = attempt(job_in(folder))
        print(folder.name, told)
        bad += [folder.name] if "word" not in told else []
    return 1 if bad else 0


def save(verb: str, result: dict[str, Any]) -> None:
    """Into the file that holds the last run of each verb."""
    path = RESULTS / "fuzz.json"
    rows = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**rows, verb: result}, indent=2) + "\n")
