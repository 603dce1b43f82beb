"""What came of one strike, and what of it must not be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from chaos.account import Account, SeenFrame
from chaos.table import Fault
from chaos.watcher import DEADLINE_S


@dataclass
class Struck:
    """What came of one strike. Times in s: recovery to the next good frame, pause the longest
    between two frames at the viewer; memory in MB; deaths: of frame processes in quick succession,
    by which the supervisor waits longer.
    """

    fault: str
    seed: str
    film: Account | None = None
    others: tuple[Account, ...] = ()
    recovery_s: float = 0.0
    pause_s: float = 0.0
    restarts: int = 0
    deaths: int = 0
    memory_mb: float = 0.0
    descriptors: int = 0
    complaints: tuple[str, ...] = ()
    hang: str | None = None

    @property
    def wrong(self) -> list[str]:
        """Everything that must not be."""
        return [*filter(None, [self.hang]), *self.complaints]


def wrong_strike(fault: Fault, struck: Struck, frames: list[SeenFrame]) -> Iterator[str]:
    """What the film's account and its frames show that the fault must not cost."""
    film = struck.film
    assert film is not None
    if film.uncounted:
        yield f"{film.uncounted} frames lost uncounted: {film}"
    if film.disorder:
        yield f"{film.disorder} frames out of order or damaged"
    if film.rejected:
        yield f"frames of the film were rejected: {film.rejected}"
    given_up = film.total - film.sent
    if film.missing != given_up and not fault.restarts and "missing" not in fault.costs:
        yield f"{film.missing} missing, the camera gave up {given_up}"
    if lost := {*film.dropped, *film.failed} - {*fault.costs}:
        yield f"lost for {sorted(lost)}, which this fault must not cost"
    if struck.restarts != min(1, fault.restarts):
        yield f"the frame process was {'' if struck.restarts else 'not '}made anew"
    if slow := [seen for seen in frames if not 0 <= seen.latency_ms < 1000 * DEADLINE_S]:
        yield f"latency of frame {slow[0].frame} is {slow[0].latency_ms} ms"


def longest_s(frames: list[SeenFrame]) -> float:
    """Between two frames at the viewer, s."""
    times = [seen.received_s for seen in frames]
    return max((b - a for a, b in pairwise(times)), default=0.0)


def record(line: str) -> dict[str, Any]:
    """A line of the log; empty for one that is none of ours."""
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}
