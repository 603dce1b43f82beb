"""The ledger: every frame index of a series ends in exactly one bucket, and the sum always holds.

expected = published + dropped + failed + missing + in_flight
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from typing import Any

from scgn_client.messages import Start
from scgn_live.run import Run

PAST_KEPT = 256  # runs remembered after they made room for others
ARRIVALS_KEPT = 4096  # arrivals that the rate is taken from


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
        # A run is in one of these three.
        self._runs: dict[tuple[str, str], Run] = {}  # the newest run of each series
        self._closing: list[Run] = []  # replaced or over the limit, their `end` still in line
        self._past: deque[Run] = deque(maxlen=PAST_KEPT)  # the same, their `end` out
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

        A frame 0 after a second `start`, or after a long silence, begins the series anew and ends
        the run before. A new index resumes a run that the service had ended: what was seen of it
        stays seen.
        """
        with self._lock:
            run = self._known(source, series)
            if run is None:
                return self._begin(Start(source, series)), self._over_limit()
            if run.restart is not None and (run.resumable or not run.ended):
                restart, run.restart = run.restart, None
                if index == 0:
                    over = [] if run.ended else [run]
                    run.end()
                    return self._begin(restart), over + self._over_limit()
            if run.resumable and run.fell_silent and index == 0 < run.expected:
                run.end()
                return self._begin(Start(source, series)), self._over_limit()
            if run.resumable and index >= run.expected:
                self._resume(run)
            return run, self._over_limit()

    def recall(self, source: str, series: str, frames: int | None) -> list[Run]:
        """An `end` comes: a series unheard of, whose frames were lost with the process before this
        one, is opened, and one that the service had ended too early is resumed, so that `announce`
        can count what never arrived. Runs to end before it.
        """
        with self._lock:
            run, frames = self._known(source, series), frames or 0
            if run is None and frames:
                self._begin(Start(source, series))
            elif run is not None and run.resumable:
                run.resumable = False
                if frames > run.expected:
                    self._resume(run)
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
            run.end()
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
            late = [r for r in quiet if not (r.ended or r.in_flight or r.overtaken)]
            for run in late:
                run.end(resumable=True)
                run.fell_silent = True
            return late

    # Outcomes: each frame in flight meets exactly one.

    def publish(self, run: Run, index: int) -> dict[str, int]:
        """One frame leaves; returns what was lost of its series since the one before, by reason."""
        with self._lock:
            run.leave()
            run.published += 1
            run.last_published = index
            self._totals["published", ""] += 1
            return run.tell(index)

    def drop(self, run: Run, index: int, reason: str) -> None:
        """One frame in flight is let go on purpose."""
        with self._lock:
            run.leave()
            self._lose(run, "dropped", index, 1, reason)

    def fail(self, run: Run, index: int, reason: str) -> None:
        """One frame in flight could not be processed."""
        with self._lock:
            run.leave()
            self._lose(run, "failed", index, 1, reason)

    def close(self, run: Run) -> dict[str, Any] | None:
        """The run's `end` goes out: its buckets. None: it must not, the run was resumed before."""
        with self._lock:
            if run.overtaken:
                run.overtaken -= 1
                return None
            run.ended = run.closed = True
            if self._runs.get(run.key) is run:  # to the end: what ended last is told last
                self._runs[run.key] = self._runs.pop(run.key)
            elif run in self._closing:
                self._closing.remove(run)
                self._past.append(run)
            return run.buckets()

    # Questions.

    def open_runs(self) -> list[tuple[Run, dict[str, Any]]]:
        """Runs that have not ended, with their buckets."""
        with self._lock:
            return [(run, run.buckets()) for run in self._runs.values() if not run.ended]

    def beating_runs(self) -> list[tuple[Run, dict[str, Any]]]:
        """Open runs, and the last run of each source that has none open, with their buckets."""
        with self._lock:
            last = {run.start.source: run for run in self._remembered()}
            opened = [run for run in self._runs.values() if not run.ended]
            return [(run, run.buckets()) for run in dict.fromkeys((*opened, *last.values()))]

    def snapshot(self) -> list[dict[str, Any]]:
        """Every run that is remembered, oldest first and open ones last, as the status shows it."""
        with self._lock:
            return [run.row() for run in self._remembered()]

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

    def _remembered(self) -> list[Run]:
        """Every run, oldest first, open ones last."""
        newest = sorted(self._runs.values(), key=lambda run: not run.ended)
        return [*self._past, *self._closing, *newest]

    def _known(self, source: str, series: str) -> Run | None:
        """The newest run of a series, as long as it is remembered."""
        key = source, series
        if (run := self._runs.get(key)) is not None:
            return run
        older = (*reversed(self._closing), *reversed(self._past))
        return next((run for run in older if run.key == key), None)

    def _begin(self, start: Start) -> Run:
        key = (start.source, start.series)
        if (before := self._runs.pop(key, None)) is not None:
            self._put_away(before)
        run = self._runs[key] = Run(start)
        self._totals["series", ""] += 1
        return run

    def _resume(self, run: Run) -> None:
        """Back among the newest, from wherever it was."""
        self._runs.pop(run.key, None)
        for place in (self._closing, self._past):
            if run in place:
                place.remove(run)
        run.resume()
        self._runs[run.key] = run

    def _put_away(self, run: Run) -> None:
        (self._past if run.closed else self._closing).append(run)

    def _over_limit(self) -> list[Run]:
        """Runs beyond the limit, idlest first: open ones are ended, ended ones put away."""
        late = []
        while len(self._runs) > self._max_series:
            oldest = min(self._runs.values(), key=lambda run: (not run.ended, run.touched_s))
            del self._runs[oldest.key]
            if not oldest.ended:
                oldest.end(resumable=True)
                late.append(oldest)
            self._put_away(oldest)
        return late

    def _reject(self, run: Run, reason: str) -> None:
        run.rejected[reason] += 1
        self._totals["rejected", reason] += 1

    def _lose(self, run: Run, bucket: str, index: int, frames: int, reason: str = "") -> None:
        run.lose(bucket, index, frames, reason)
        self._totals[bucket, reason] += frames
