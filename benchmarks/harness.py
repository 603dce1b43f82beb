"""What every benchmark shares: the machine, a running service, percentiles, a result file."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from scgn_live.running import READY_S, RunningService, start_service

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """What the numbers were taken on."""
    model = platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    names = ("numpy", "pyzmq", "msgpack", "torch")
    versions = {name: metadata.version(name) for name in names}
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version(), **versions}


def stolen() -> tuple[int, int]:
    """Clock ticks that the hypervisor kept from this machine, and all ticks (zero off Linux)."""
    with contextlib.suppress(OSError):
        ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
        return ticks[7], sum(ticks)
    return 0, 0


BEGUN = stolen()


def percentiles(values: Any) -> dict[str, float]:
    """p50, p90, p99 and the largest, rounded to a thousandth."""
    found = np.percentile(values, (50, 90, 99, 100))
    return dict(zip(("p50", "p90", "p99", "max"), (round(float(v), 3) for v in found), strict=True))


def save(name: str, rows: dict[str, Any], seconds: float) -> None:
    """Print the result and, with --save, write results/NAME.json with machine and command."""
    taken, ticks = (now - then for now, then in zip(stolen(), BEGUN, strict=True))
    command = "python " + " ".join([f"-m benchmarks.{name}", *sys.argv[1:]])
    result = {
        "command": command, "date": time.strftime("%Y-%m-%d"), "seconds": round(seconds, 1),
        "machine": machine(), "stolen_share": round(taken / max(1, ticks), 3), **rows,
    }  # fmt: skip
    print(json.dumps(result, indent=2))
    if "--save" in sys.argv:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The flags every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--save", action="store_true", help="write the result under results/")
    parser.add_argument("--quick", action="store_true", help="a tenth of the frames")
    return parser


def add_flags(parser: argparse.ArgumentParser) -> None:
    """`--flag=--backend=eager`: what a benchmark hands on to `scgn-live serve` besides its own."""
    parser.add_argument("--flag", action="append", default=[], metavar="=FLAG", dest="flags")


@contextlib.contextmanager
def service(*flags: str, ready_s: float = READY_S) -> Iterator[RunningService]:
    """The real service on free ports, ready within `ready_s`, stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="scgn-bench-") as state:
        running = start_service(["--state-dir", state, *flags], ready_s)
        try:
            yield running
        finally:
            running.stop()
