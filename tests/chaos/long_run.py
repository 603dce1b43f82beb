"""Random faults at random instants until the time is over, and a report of what they cost.

Each round strikes once with every fault, in an order of its own; a service of each kind lives
through all of it. Round n of seed s is always the same: `--fault NAME --seed s` repeats a fault.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import chaos.faults  # noqa: F401  (they enter themselves into the table)
from benchmarks import harness
from chaos.account import Account
from chaos.stage import Stage, opened
from chaos.struck import Struck
from chaos.table import FAULTS, Fault, NotHere

RESULT = "chaos"
SHOWN = 60  # points of the memory's course, a kind
KILLED = "kill_frame_process"
STOPPED_S = 3.0  # without a beat of the pulse


@dataclass
class Report:
    """What came of all strikes."""

    strikes: dict[str, list[Struck]] = field(default_factory=dict)
    course: dict[str, list[tuple[float, float, int]]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    by_hand: int = 0
    disturbed: int = 0  # strikes that say nothing, as this program itself was stopped

    def as_json(self) -> dict[str, Any]:
        """Sums over all faults, times after kill -9, then each fault, then memory."""
        rows = [struck for strikes in self.strikes.values() for struck in strikes]
        kinds = sorted(self.course)
        return {
            "strikes": len(rows), "fewest_of_a_fault": min(map(len, self.strikes.values())),
            "hangs": sum(row.hang is not None for row in rows),
            "frames_lost_uncounted": sum(part.uncounted for part in _accounts(rows)),
            "restarts_by_hand": self.by_hand, "complaints": sum(len(row.wrong) for row in rows),
            "next_good_frame_after_kill9_s": {
                name: _after_kill(strikes) for name, strikes in sorted(self.strikes.items())
                if name.startswith(KILLED)
            },
            "disturbed": self.disturbed,
            "faults": {name: _row(strikes) for name, strikes in sorted(self.strikes.items())},
            "skipped": self.skipped,
            "course_minute_mb_descriptors": {kind: _thinned(self.course[kind]) for kind in kinds},
        }  # fmt: skip


def _accounts(rows: Iterable[Struck]) -> Iterator[Account]:
    for row in rows:
        yield from ([] if row.film is None else [row.film])
        yield from row.others


def _row(strikes: list[Struck]) -> dict[str, Any]:
    well = [row for row in strikes if row.hang is None]
    accounts = list(_accounts(strikes))
    frames = {key: sum(getattr(a, key) for a in accounts) for key in (
        "sent", "published", "received", "missing", "uncounted", "unseen", "disorder",
    )}  # fmt: skip
    for key in ("dropped", "failed", "rejected"):
        frames[key] = sum(sum(getattr(a, key).values()) for a in accounts)
    return {
        "strikes": len(strikes), "recovery_s": _times(row.recovery_s for row in well),
        "longest_pause_s": _times(row.pause_s for row in well), "frames": frames,
        "hangs": len(strikes) - len(well),
        "wrong": [f"seed {row.seed}: {text[:300]}" for row in strikes for text in row.wrong][:5],
    }  # fmt: skip


def _times(values: Iterable[float]) -> dict[str, float]:
    found = sorted(values)
    if not found:
        return {}
    return {"median": round(statistics.median(found), 3), "worst": round(found[-1], 3)}


def _after_kill(strikes: list[Struck]) -> dict[str, Any]:
    """Median and worst; apart, those of processes that had lived for a while: the supervisor waits
    longer the sooner one dies.
    """
    well = [row for row in strikes if row.hang is None]
    steady = [row.recovery_s for row in well if row.deaths == 1]
    every = [row.recovery_s for row in well]
    return {
        "kills": len(every), **_times(every),
        "of_a_steady_process": {"kills": len(steady), **_times(steady)},
    }  # fmt: skip


def _thinned(points: list[tuple[float, float, int]]) -> list[tuple[float, float, int]]:
    step = -(-len(points) // SHOWN)
    return points[::step]


class Pulse:
    """Whether this program itself was stopped, by a person or a sleeping machine: what was struck
    meanwhile is not the service's doing.
    """

    def __init__(self) -> None:
        self._beat_s = time.monotonic()
        self._stopped = False
        threading.Thread(target=self._beat, name="pulse", daemon=True).start()

    def stopped(self) -> bool:
        """Since the last call."""
        stopped, self._stopped = self._stopped, False
        return stopped or time.monotonic() > self._beat_s + STOPPED_S

    def _beat(self) -> None:
        while True:
            time.sleep(0.2)
            now_s = time.monotonic()
            self._stopped |= now_s > self._beat_s + STOPPED_S
            self._beat_s = now_s


class Stages:
    """A service of each kind, begun when it is first needed and made anew only when it is lost."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[Stage, ExitStack]] = {}

    def of(self, kind: str) -> Stage:
        if kind not in self._open:
            stack = ExitStack()
            self._open[kind] = stack.enter_context(opened(kind, short=False)), stack
        return self._open[kind][0]

    def lose(self, kind: str) -> None:
        """End a service; the next call of `of` makes another one."""
        _, stack = self._open.pop(kind)
        stack.close()

    def close(self) -> None:
        for kind in list(self._open):
            self.lose(kind)


def rounds(faults: list[Fault], seed: int, end_s: float) -> Iterator[tuple[Fault, str]]:
    """Faults and their seeds, in order, until the time is over: at least one round."""
    number = 0
    while True:
        order = random.Random(f"{seed} {number}").sample(faults, len(faults))
        for fault in order:
            if number and time.monotonic() > end_s:
                return
            yield fault, f"{seed}-{number}"
        number += 1
        print(f"round {number}, {end_s - time.monotonic():.0f} s left", file=sys.stderr, flush=True)


def run(faults: list[Fault], seed: int, minutes: float) -> Report:
    """Strike until the time is over."""
    report, stages, pulse, began_s = Report(), Stages(), Pulse(), time.monotonic()
    try:
        for fault, which in rounds(faults, seed, began_s + 60 * minutes):
            if fault.name in report.skipped:
                continue
            try:
                struck = stages.of(fault.kind).strike(fault, which)
            except NotHere as error:
                report.skipped[fault.name] = str(error)
                continue
            if pulse.stopped():
                report.disturbed += 1
                stages.lose(fault.kind)
                continue
            _note(report, fault, struck, (time.monotonic() - began_s) / 60)
            if struck.wrong and not stages.of(fault.kind).is_well():
                report.by_hand += 1
                stages.lose(fault.kind)
    finally:
        stages.close()
    return report


def _note(report: Report, fault: Fault, struck: Struck, minute: float) -> None:
    report.strikes.setdefault(fault.name, []).append(struck)
    if struck.memory_mb:
        point = round(minute, 1), struck.memory_mb, struck.descriptors
        report.course.setdefault(fault.kind, []).append(point)
    for text in struck.wrong:
        print(f"{fault.name} seed {struck.seed}: {text}", file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    """Flags of `dev.py chaos`."""
    top = argparse.ArgumentParser(prog="dev.py chaos", description=__doc__.split("\n")[0])
    top.add_argument("--minutes", type=float, default=5.0, help="how long; a round takes about two")
    top.add_argument("--seed", type=int, default=1)
    top.add_argument("--fault", action="append", choices=sorted(FAULTS), help="only this one")
    top.add_argument("--save", action="store_true", help="write benchmarks/results/chaos.json")
    return top


def main(argv: list[str]) -> int:
    """Strike, print the report, and return 1 when anything was wrong."""
    args = parser().parse_args(argv)
    faults = [FAULTS[name] for name in args.fault or sorted(FAULTS)]
    began_s = time.monotonic()
    found = run(faults, args.seed, args.minutes).as_json()
    result = {
        "command": " ".join(["python dev.py chaos", *argv]), "date": time.strftime("%Y-%m-%d"),
        "seconds": round(time.monotonic() - began_s, 1), "machine": harness.machine(), **found,
    }  # fmt: skip
    text = json.dumps(result, indent=1)
    print(text)
    if args.save:
        Path(harness.RESULTS / f"{RESULT}.json").write_text(text + "\n")
    return 1 if found["complaints"] or found["restarts_by_hand"] else 0
