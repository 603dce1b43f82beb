"""One service with a camera and a viewer that know the truth: strikes it and judges what came."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import zmq
from support import adds_up

from benchmarks.processes import sample
from chaos.account import Account, Foretold, SeenFrame, account
from chaos.film import PACE_S, SOURCE, Film
from chaos.services import Place, is_ready, place, started
from chaos.struck import Struck, longest_s, record, wrong_strike
from chaos.table import Fault
from chaos.watcher import DEADLINE_S, Watcher
from scgn_client.admin import Admin
from scgn_client.errors import ClientError, ServiceError
from scgn_client.keys import ClientKeys
from scgn_client.sockets import open_socket
from scgn_live.running import RunningService

ASK_EVERY_S = 0.03
PACES_S = {"network": 0.02}  # between two frames of a film, where it is not PACE_S
INSTANT_S = 0.4  # a fault strikes at a random moment within
DESCRIPTORS_MORE = 4  # the sidecar's questions come and go
MEMORY_MORE_MB = 64.0  # what a process may keep of a storm; the long form looks at the trend


def until(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """`wait_for` at a pace that leaves the cores to the service, for what costs it a question."""
    end_s = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < end_s, f"{what} did not happen within {deadline_s:.0f} s"
        time.sleep(ASK_EVERY_S)
    return value


class Stage:
    """A running service. short: times are those of the short form."""

    def __init__(
        self, kind: str, where: Place, service: RunningService, watcher: Watcher, short: bool
    ) -> None:
        self.kind, self.where, self.service, self.watcher = kind, where, service, watcher
        self.short = short
        self.admin = Admin(service.http, timeout_s=10)
        self.filming: Film  # the film that runs while a fault strikes
        self.struck_s: float | None = None  # when a fault began that takes its time (monotonic)
        self.others: list[Account] = []
        self._log_at = 0
        self._kept_mb = 0.0  # memory that faults may have made the frame process keep

    # For faults.

    @property
    def camera_keys(self) -> ClientKeys | None:
        return self.where.keys.get("cam")

    @property
    def viewer_keys(self) -> ClientKeys | None:
        return self.where.keys.get("wall")

    def pid(self, role: str = "frames") -> int:
        """Of the frame process, or of the sidecar."""
        found = until(lambda: self.service.pid_of(role), f"a {role} process")
        return int(found)

    def ports(self) -> dict[str, int]:
        """TCP port by name."""
        ends = ("ingest", "frames", "latest", "http")
        return {name: int(getattr(self.service, name).rpartition(":")[2]) for name in ends}

    @contextmanager
    def camera(self) -> Iterator[zmq.Socket[bytes]]:
        """A plain PUSH socket that has connected: one order, one connection."""
        with open_socket(zmq.PUSH, keys=self.camera_keys) as socket:
            socket.setsockopt(zmq.LINGER, 5000)
            socket.setsockopt(zmq.SNDTIMEO, round(1000 * DEADLINE_S))
            socket.setsockopt(zmq.IMMEDIATE, 1)
            socket.connect(self.service.ingest)
            yield socket

    def film(self, series: str, chance: random.Random, source: str = SOURCE, **how: Any) -> Film:
        """A camera of this service."""
        keys = self.camera_keys
        return Film(self.service.ingest, series, chance, source=source, keys=keys, **how)

    def status(self) -> dict[str, Any]:
        """Of the service; every series in it must add up."""

        def asked() -> dict[str, Any] | None:
            try:
                return self.admin.status()
            except ServiceError:
                return None  # a process that begins has not its answer yet

        found: dict[str, Any] = until(asked, "an answer of /status")
        wrong = [row for row in found["series"] if not adds_up(row)]
        assert not wrong, f"these do not add up: {wrong}"
        return found

    def rejected(self) -> dict[str, int]:
        """Messages by reason since the frame process began."""
        return dict(self.status()["totals"].get("rejected", {}))

    def must_be(
        self, foretold: Foretold, series: str, source: str, run: int = 0, rejected: int = 0
    ) -> None:
        """A series has ended as docs/wire.md says, and its viewer saw that; rejected: messages that
        came after the camera's `end`, of which the ledger may tell some.
        """
        seen = self.watcher.ended(series, source, run + 1)[run]
        assert seen.ledger is not None
        more = {} if rejected == 0 else {"rejected": foretold.ledger["rejected"]}
        indices = tuple(frame.frame for frame in seen.frames)
        self.note(account(foretold.expected, len(indices), seen.frames, seen.ledger))
        assert indices == foretold.published, f"{indices} instead of {foretold.published}"
        assert {**seen.ledger, **more} == foretold.ledger, f"{seen.ledger}, not {foretold.ledger}"
        assert sum(seen.ledger["rejected"].values()) <= rejected + foretold.duplicates

    def note(self, row: Account) -> Account:
        """The account of a series of the fault's own: reported, and nothing may be hidden in it."""
        self.others.append(row)
        assert not row.uncounted, f"{row.uncounted} frames lost uncounted: {row}"
        assert not row.disorder, f"{row.disorder} frames out of order or damaged: {row}"
        return row

    def is_well(self) -> bool:
        """Whether a film goes through without help from outside."""
        try:
            with self.film(f"well-{time.monotonic_ns()}", random.Random(0)) as film:
                self.watcher.wait(lambda: self.watcher.last(film.series) >= 10, "ten frames")
                film.stop()
                self.watcher.ended(film.series)
        except (AssertionError, ClientError):
            return False
        return self.service.process.poll() is None

    # A strike.

    def strike(self, fault: Fault, seed: str) -> Struck:
        """One fault at a random instant of a film; what came of it, never an exception."""
        struck = Struck(fault.name, seed)
        self.others.clear()
        try:
            self._strike(fault, random.Random(f"{fault.name} {seed}"), struck)
        except (AssertionError, ClientError, zmq.ZMQError, OSError) as error:
            text = f"{type(error).__name__}: {error}"
            if re.search(r"did not (come|happen|end) within", text):
                struck.hang = text
            else:
                struck.complaints += (text,)
            self._new_log()  # the next strike is not to be blamed for it
        struck.others = tuple(self.others)
        self.watcher.forget()
        return struck

    def _strike(self, fault: Fault, chance: random.Random, struck: Struck) -> None:
        before = self.pid()
        pace_s = PACES_S.get(self.kind, PACE_S) if fault.pace_s is None else fault.pace_s
        with self.film(f"{fault.name}-{struck.seed}", chance, pace_s=pace_s) as film:
            self.watcher.wait(lambda: self.watcher.last(film.series) >= 0, "the film's beginning")
            time.sleep(chance.uniform(0, INSTANT_S))
            self.filming, self.struck_s = film, None
            with fault.strike(self, chance):
                struck.recovery_s = self._next_good_s(film, fault)
                film.stop()
                frames = self._account(film, fault, struck)
        struck.pause_s = longest_s(frames)
        struck.restarts = int(self.pid() != before)
        self._kept_mb = max(fault.keeps_mb, 0.0 if struck.restarts else self._kept_mb)
        struck.complaints = (*wrong_strike(fault, struck, frames), *self._afterwards(fault, struck))

    def _next_good_s(self, film: Film, fault: Fault) -> float:
        """From the fault to the next frame; behind a restart, to one that was sent after it."""
        began_s, came = self.struck_s or time.monotonic(), self.watcher.last(film.series)
        beyond = film.total if fault.restarts else came + 1
        self.watcher.wait(lambda: self.watcher.last(film.series) >= beyond, "one more good frame")
        return time.monotonic() - began_s

    def _account(self, film: Film, fault: Fault, struck: Struck) -> list[SeenFrame]:
        """Waits for the film's end; its frames, all runs of the frame process together."""
        runs = self.watcher.runs

        def is_over() -> bool:
            return any(r.ledger and r.ledger["expected"] >= film.total for r in runs(film.series))

        self.watcher.wait(is_over, f"the end of {film.series} with {film.total} frames")
        *earlier, last = runs(film.series)
        frames = [frame for run in runs(film.series) for frame in run.frames]
        assert last.ledger is not None
        struck.film = account(film.total, film.sent, frames, last.ledger, fault.restarts)
        for run in earlier:  # a process that ended in order has told what it knew
            assert run.ledger is not None
            part = account(run.ledger["expected"], 0, run.frames, run.ledger)
            more = struck.film.uncounted + part.uncounted
            struck.film = replace(struck.film, uncounted=more)
        return frames

    # Judging.

    def _afterwards(self, fault: Fault, struck: Struck) -> Iterator[str]:
        """Ring, sums, descriptors, memory and log once nothing is under way."""
        until(lambda: is_ready(self.service), "the service being ready")
        until(self._is_idle, "an empty ring and sums that hold")
        pid, most = self.pid(), self.at_rest[0] + DESCRIPTORS_MORE
        until(lambda: sample(pid).descriptors <= most, f"{most} descriptors")
        until(lambda: sample(pid).resident_mb <= self.most_mb, f"memory of {self.most_mb:.0f} MB")
        held = sample(pid)
        struck.descriptors, struck.memory_mb = held.descriptors, round(held.resident_mb, 1)
        for line in self._new_log():
            row = record(line)
            if row.get("role") == "frames":
                struck.deaths = max(struck.deaths, int(row.get("deaths", 0)))
            if row.get("level", "ERROR") == "ERROR" and not any(s in line for s in fault.says):
                yield f"the log says {line[:400]} ... {line[-600:]}"

    @property
    def most_mb(self) -> float:
        """Memory that a frame process may have kept after a strike."""
        return self.at_rest[1] + MEMORY_MORE_MB + self._kept_mb

    def _is_idle(self) -> bool:
        status = self.status()
        ring, totals = status["ring"], status["totals"]
        out = sum(sum(totals.get(key, {}).values()) for key in ("published", "dropped", "failed"))
        empty = ring["free"] == ring["slots"] and ring["events"] == 0
        return bool(empty and out == totals.get("received", {}).get("all", 0))

    def _new_log(self) -> list[str]:
        """What the service has said since the last call."""
        content = self.service.log.read_text(errors="replace")
        new, self._log_at = content[self._log_at :], len(content)
        return new.splitlines()

    @cached_property
    def at_rest(self) -> tuple[int, float]:
        """Descriptors and memory (MB) of a frame process that has filmed once."""
        with self.film("first", random.Random(0)) as film:
            self.watcher.wait(lambda: self.watcher.last("first") >= 100, "100 frames")
            film.stop()
        self.watcher.ended("first")
        pid = self.pid()
        counts = [sample(pid).descriptors]
        while len(counts) < 3 or counts[-1] != counts[-3]:
            time.sleep(0.1)
            counts.append(sample(pid).descriptors)
        return counts[-1], sample(pid).resident_mb


@contextmanager
def opened(kind: str, short: bool = True) -> Iterator[Stage]:
    """A stage whose service has served its first frames."""
    with place(kind) as where, started(kind, where) as service:
        with Watcher(service.frames, where.keys.get("wall")) as watcher:
            stage = Stage(kind, where, service, watcher, short)
            assert stage.at_rest
            yield stage
