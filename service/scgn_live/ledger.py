"""The ledger: every frame index of a series ends in exactly one bucket, and the sum always holds.

expected = published + dropped + failed + missing + in_flight
"""

from __future__ import annotations

import bisect
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from scgn_client.messages import Start

ENDED_KEPT = 256  # runs whose ledger can still be asked for
ARRIVALS_KEPT = 4096  # arrivals that the rate is taken from
LOSSES_KEPT = 256  # losses not yet told, before neighbours are told as one


@dataclass(eq=False)
class Run:
    """One series from its start to its end; all counts in frames.

    Only the ledger changes it, but for `announced`: the ingest has put its `start` in line.
    """

    start: Start
    expected: int = 0
    published: int = 0
    missing: int = 0
    in_flight: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    last_published: int | None = None
    announced: bool = False
    ended: bool = False
    fell_silent: bool = False  # ended by the service, so a frame may open it anew
    restart: Start | None = None
    touched_s: float = field(default_factory=time.monotonic)
    # (last index, reason, frames), by index: told in the header of the next published frame.
    losses: list[tuple[int, str, int]] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str]:
        return self.start.source, self.start.series

    def buckets(self) -> dict[str, Any]:
        """The map that `end` and heartbeats carry."""
        return {
            "expected": self.expected, "published": self.published, "missing": self.missing,
            "in_flight": self.in_flight, "dropped": dict(self.dropped),
            "failed": dict(self.failed), "rejected": dict(self.rejected),
        }  # fmt: skip


class Arrival:
    """What became of a frame that came in."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    ENDED = "ended"


class Ledger:
    """All runs of the service. Every method is atomic; any thread may call any of them."""

    def __init__(self, max_series: int) -> None:
        self._lock = threading.Lock()
        self._max_series = max_series
        self._runs: dict[tuple[str, str], Run] = {}  # the newest run of each series
        self._closing: list[Run] = []  # ended or replaced, frames may still be in flight
        self._past: deque[Run] = deque(maxlen=ENDED_KEPT)
        self._totals: Counter[tuple[str, str]] = Counter()
        self._arrivals_s: deque[float] = deque(maxlen=ARRIVALS_KEPT)

    # Arrivals: the ingest thread.

    def open(self, start: Start) -> tuple[Run | None, list[Run]]:
        """A `start` came: the run it opens (None: it is open already), and runs to end before it.

        An open series goes on; only a frame 0 after this shows that the camera began anew.
        """
        with self._lock:
            run = self._runs.get((start.source, start.series))
            if run is None or run.ended:
                return self._begin(start), self._over_limit()
            run.touched_s = time.monotonic()
            if run.expected == 0:
                run.start = start
            else:
                run.restart = start
            return None, []

    def arrive(self, run: Run, index: int) -> str:
        """Account one arrived frame; an Arrival word. Accepted ones are in flight."""
        with self._lock:
            run.touched_s = time.monotonic()
            if index < run.expected or run.ended:
                word = Arrival.DUPLICATE if index < run.expected else Arrival.ENDED
                self._reject(run, word)
                return word
            if index > run.expected:
                self._lose(run, "missing", index - 1, index - run.expected)
            run.expected = index + 1
            run.in_flight += 1
            self._totals["received", ""] += 1
            self._arrivals_s.append(run.touched_s)
            return Arrival.ACCEPTED

    def run_of(self, source: str, series: str, index: int) -> tuple[Run, list[Run]]:
        """The run that a frame belongs to, opened if need be, and runs to end before it.

        A frame 0 after a second `start` begins the series anew and ends the run before.
        """
        with self._lock:
            run = self._runs.get((source, series))
            if run is None or run.fell_silent:
                start = Start(source, series) if run is None else run.start
                return self._begin(start), self._over_limit()
            if run.restart is not None and not run.ended:
                restart, run.restart = run.restart, None
                if index == 0:
                    run.ended = True
                    return self._begin(restart), [run]
            return run, []

    def recall(self, source: str, series: str, frames: int | None) -> list[Run]:
        """An `end` comes: a series unheard of, whose frames were lost with the process before this
        one, is opened, so that `announce` can count them. Runs to end before it.
        """
        with self._lock:
            remembered = (*self._runs.values(), *self._closing, *self._past)
            if not frames or any(run.key == (source, series) for run in remembered):
                return []
            self._begin(Start(source, series))
            return self._over_limit()

    def announce(self, source: str, series: str, frames: int | None) -> Run | None:
        """An `end` came: its run, with the tail that never arrived as missing; None if unknown."""
        with self._lock:
            run = self._runs.get((source, series))
            if run is None or run.ended:
                return None
            if frames is not None and frames > run.expected:
                self._lose(run, "missing", frames - 1, frames - run.expected)
                run.expected = frames
            run.ended = True
            return run

    def touch(self, source: str, series: str) -> None:
        """A camera's heartbeat: its series is not idle."""
        with self._lock:
            if run := self._runs.get((source, series)):
                run.touched_s = time.monotonic()

    def reject(self, reason: str) -> None:
        """A message that was no frame at all, of no known series."""
        with self._lock:
            self._totals["rejected", reason] += 1

    def idle(self, idle_s: float) -> list[Run]:
        """Runs without any message for `idle_s` seconds, now marked as ended."""
        with self._lock:
            limit = time.monotonic() - idle_s
            quiet = [run for run in self._runs.values() if run.touched_s < limit]
            late = [run for run in quiet if not run.ended and run.in_flight == 0]
            for run in late:
                run.ended = run.fell_silent = True
            return late

    # Outcomes: each frame in flight meets exactly one.

    def publish(self, run: Run, index: int) -> dict[str, int]:
        """One frame leaves; returns what was lost of its series since the one before, by reason."""
        with self._lock:
            self._leave(run)
            run.published += 1
            run.last_published = index
            self._totals["published", ""] += 1
            told = bisect.bisect_left(run.losses, (index, "", 0))
            lost: Counter[str] = Counter()
            for _, reason, frames in run.losses[:told]:
                lost[reason] += frames
            del run.losses[:told]
            return dict(lost)

    def drop(self, run: Run, index: int, reason: str) -> None:
        """One frame in flight is let go on purpose."""
        with self._lock:
            self._leave(run)
            self._lose(run, "dropped", index, 1, reason)

    def fail(self, run: Run, index: int, reason: str) -> None:
        """One frame in flight could not be processed."""
        with self._lock:
            self._leave(run)
            self._lose(run, "failed", index, 1, reason)

    def close(self, run: Run) -> dict[str, Any]:
        """The run's `end` goes out: its final buckets. It stays in the status for a while."""
        with self._lock:
            run.ended = True
            if run not in self._past:
                self._past.append(run)
            self._closing = [other for other in self._closing if other is not run]
            return run.buckets()

    # Questions.

    def open_runs(self) -> list[tuple[Run, dict[str, Any]]]:
        """Runs that have not ended, with their buckets."""
        with self._lock:
            return [(run, run.buckets()) for run in self._runs.values() if not run.ended]

    def last_runs(self) -> list[tuple[Run, dict[str, Any]]]:
        """The newest run of each source, open or not, with its buckets."""
        with self._lock:
            newest = {run.start.source: run for run in (*self._past, *self._runs.values())}
            return [(run, run.buckets()) for run in newest.values()]

    def snapshot(self) -> list[dict[str, Any]]:
        """Every run that is remembered, oldest first, with state and buckets."""
        with self._lock:
            runs = dict.fromkeys((*self._past, *self._closing, *self._runs.values()))
            return [
                {"source": run.start.source, "series": run.start.series,
                 "state": "ended" if run.ended else "open",
                 "exposure_ms": run.start.exposure_ms, "pixel_size_nm": run.start.pixel_size_nm,
                 "last_published": run.last_published, **run.buckets()}
                for run in runs
            ]  # fmt: skip

    def rate_in_fps(self, window_s: float) -> float:
        """Frames that came in over the last `window_s`, per second."""
        now = time.monotonic()
        with self._lock:
            inside = [at_s for at_s in self._arrivals_s if at_s > now - window_s]
        return (len(inside) - 1) / (now - inside[0]) if len(inside) > 1 else 0.0

    def totals(self) -> dict[tuple[str, str], int]:
        """(bucket, reason) -> frames or messages since the process began; never falls."""
        with self._lock:
            return dict(self._totals)

    # Inside the lock.

    def _begin(self, start: Start) -> Run:
        key = (start.source, start.series)
        before = self._runs.pop(key, None)
        if before is not None and before not in self._past:
            self._closing.append(before)
        run = self._runs[key] = Run(start)
        self._totals["series", ""] += 1
        return run

    def _over_limit(self) -> list[Run]:
        """Runs beyond the limit, idlest first: open ones are ended, ended ones forgotten."""
        late = []
        while len(self._runs) > self._max_series:
            oldest = min(self._runs.values(), key=lambda run: (not run.ended, run.touched_s))
            del self._runs[oldest.key]
            if not oldest.ended:
                oldest.ended = True
                late.append(oldest)
            if oldest not in self._past:
                self._closing.append(oldest)
        return late

    def _reject(self, run: Run, reason: str) -> None:
        run.rejected[reason] += 1
        self._totals["rejected", reason] += 1

    def _leave(self, run: Run) -> None:
        assert run.in_flight > 0, f"no frame of {run.key} is in flight"
        run.in_flight -= 1

    def _lose(self, run: Run, bucket: str, index: int, frames: int, reason: str = "") -> None:
        if bucket == "missing":
            run.missing += frames
        else:
            getattr(run, bucket)[reason] += frames
        self._totals[bucket, reason] += frames
        self._remember(run, index, reason or bucket, frames)
        if len(run.losses) > LOSSES_KEPT:
            self._merge_oldest(run)

    @staticmethod
    def _remember(run: Run, last: int, reason: str, frames: int) -> None:
        """Note frames up to `last`; runs of neighbours lost for one reason are one entry."""
        place = bisect.bisect_left(run.losses, (last, "", 0))
        if place:
            before, its_reason, its_frames = run.losses[place - 1]
            if its_reason == reason and before == last - frames:
                run.losses[place - 1] = (last, reason, its_frames + frames)
                return
        run.losses.insert(place, (last, reason, frames))

    @staticmethod
    def _merge_oldest(run: Run) -> None:
        """Losses of changing reasons and nothing published: tell the oldest of each as one."""
        half = LOSSES_KEPT // 2
        merged: dict[str, tuple[int, int]] = {}
        for index, reason, frames in run.losses[:half]:
            merged[reason] = (index, merged.get(reason, (0, 0))[1] + frames)
        run.losses[:half] = sorted((i, reason, n) for reason, (i, n) in merged.items())
