"""A call's minutes: the rows of a stage one by one, in a process that may crash or hang alone.

An error of CUDA stays in its process, so the row after a failed one begins in a new process.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu.rows import BEGUN, OUT_OF_TIME, NotHere, Row, Rows

CALL_S = 560.0
STOP_S = 20.0  # for a process to put away what it started
ERROR_CHARACTERS = 1500


@dataclass(frozen=True)
class Call:
    """One command: its folder, when it must be over, and whether what failed is tried again."""

    out: Path
    again: bool = False
    seconds: float = CALL_S
    begun: float = field(default_factory=time.monotonic)

    def left_s(self) -> float:
        """Seconds until it must be over."""
        return self.seconds - (time.monotonic() - self.begun)


@dataclass(frozen=True)
class Step:
    """One row. seconds: not begun when a call has less left."""

    measure: Callable[[], Row]
    seconds: float = 30.0


@dataclass(frozen=True)
class Stage:
    """Rows in the order of how much they are wanted. steps: cheap, and touches no device."""

    unit: str
    steps: Callable[[Path], dict[str, Step]]


Worker = Callable[[float], str]  # of the seconds left; how it ended


def attempt(step: Step) -> Row:
    """A row, or why there is none."""
    try:
        return step.measure()
    except NotHere as reason:
        return {"not_here": str(reason)}
    except Exception:
        return {"error": traceback.format_exc()[-ERROR_CHARACTERS:]}


def work(stage: Stage, rows: Rows, call: Call) -> None:
    """Measure rows in this process until one fails, time is short or all are done."""
    steps = stage.steps(call.out)
    for key in rows.todo(steps):
        if call.left_s() < steps[key].seconds:
            return
        rows.put(key, {BEGUN: round(call.left_s())})
        rows.put(key, attempt(steps[key]))
        print(key, rows.rows[key], flush=True)
        if "error" in rows.rows[key]:
            return


def sit(stage: Stage, rows: Rows, call: Call, worker: Worker) -> dict[str, Any]:
    """Have workers measure what is to be done; the rows, and whether all are there."""
    if call.again:
        rows.forget_failed()
    steps = stage.steps(call.out)
    while todo := rows.todo(steps):
        if call.left_s() < steps[todo[0]].seconds:
            break
        ended = worker(call.left_s())
        rows.load()
        rows.settle(ended)
        if rows.todo(steps) == todo and ended != OUT_OF_TIME:  # it did not get as far as a row
            rows.put(todo[0], {"error": f"its process ended: {ended}"})
    return {**rows.content(), "done": not rows.todo(steps)}


def process(stage: str, call: Call) -> Worker:
    """A worker that is a process: this program once more. What it says lies in OUT/STAGE.log."""

    def run(left_s: float) -> str:
        program = str(Path(__file__).with_name("run.py"))
        words = [stage, "--out", str(call.out), "--worker", str(left_s)]
        return ended([sys.executable, program, *words], call.out / f"{stage}.log", left_s)

    return run


def ended(command: list[str], log: Path, left_s: float) -> str:
    """Run a program, its errors in a file: processes that it leaves behind hold no pipe of ours.

    In words how it ended.
    """
    with log.open("wb") as errors:
        child = subprocess.Popen(command, stderr=errors)
    try:
        status = child.wait(left_s)
    except subprocess.TimeoutExpired:
        stop(child)
        return OUT_OF_TIME
    return f"status {status}: {log.read_text(errors='replace')[-ERROR_CHARACTERS:]}"


def stop(child: subprocess.Popen[bytes]) -> None:
    """Ask it to end, wait a while, then end it."""
    child.terminate()
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def unwind_when_told() -> None:
    """SIGTERM as an exception, so that what was started is stopped."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
