"""The ledger beside a model that writes down the fate of every single index."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from scgn_client.messages import Start
from scgn_live.ledger import Arrival, Ledger
from scgn_live.run import Run

SERIES = ("a", "b", "c", "d")
SERIES_MAX = 3
REASONS = ("overload", "shutdown", "engine_error")


@dataclass
class Fates:
    """index -> what became of it: `flying`, `published`, `missing`, or (bucket, reason)."""

    of: dict[int, object] = field(default_factory=dict)
    told: set[int] = field(default_factory=set)
    rejected: Counter[str] = field(default_factory=Counter)
    ended: bool = False
    silent: bool = False  # ended by the service: a new index resumes it
    idle: bool = False  # ended so for its silence: frame 0 begins anew
    restart: bool = False  # a second start came: frame 0 begins anew
    opened: int = 1  # times that it was opened

    @property
    def expected(self) -> int:
        return max(self.of, default=-1) + 1

    def count(self, fate: object) -> int:
        return sum(value == fate for value in self.of.values())

    def reasons(self, bucket: str) -> dict[str, int]:
        pairs = [value for value in self.of.values() if isinstance(value, tuple)]
        return dict(Counter(reason for kind, reason in pairs if kind == bucket))

    def end(self, silent: bool = False) -> None:
        self.ended, self.silent = True, silent

    def resume(self) -> None:
        self.ended = self.silent = self.idle = False
        self.opened += 1

    def lost_before(self, index: int) -> dict[str, int]:
        """What the frame's header must tell, by reason; it is told from then on."""
        lost = {i: v for i, v in self.of.items() if i < index and i not in self.told}
        lost = {i: v for i, v in lost.items() if v not in ("flying", "published")}
        self.told |= set(lost)
        return dict(Counter(v[1] if isinstance(v, tuple) else str(v) for v in lost.values()))


class LedgerMachine(RuleBasedStateMachine):
    """Cameras that send, skip, repeat, end, fall silent and go on, over more series than fit."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(SERIES_MAX)
        self.runs: dict[Run, Fates] = {}
        self.newest: dict[str, Run] = {}
        self.flying: list[tuple[Run, int]] = []
        self.ends: list[tuple[Run, int]] = []  # in line, and the opening that each one ends
        self.refused: Counter[str] = Counter()
        self.totals: dict[tuple[str, str], int] = {}

    def newly(self, run: Run) -> Fates:
        assert run not in self.runs
        self.newest[run.start.series] = run
        self.runs[run] = Fates()
        return self.runs[run]

    def fall_silent(self, runs: list[Run]) -> None:
        for run in runs:
            assert not self.runs[run].ended
            self.runs[run].end(silent=True)
            self.ends.append((run, self.runs[run].opened))

    # Cameras.

    @rule(series=st.sampled_from(SERIES), exposure=st.none() | st.floats(0.1, 9))
    def start(self, series: str, exposure: float | None) -> None:
        before = self.newest.get(series)
        run, over = self.ledger.open(Start("cam", series, exposure))
        if before is None or self.runs[before].ended:
            assert run is not None
            self.newly(run)
        else:
            assert run is None
            self.runs[before].restart |= self.runs[before].expected > 0
        self.fall_silent(over)

    @rule(series=st.sampled_from(SERIES), step=st.integers(-3, 4), anew=st.booleans())
    def frame(self, series: str, step: int, anew: bool) -> None:
        before = self.newest.get(series)
        last = self.runs[before].expected if before else 0
        index = 0 if anew else max(0, last + step)
        run, over = self.ledger.run_of("cam", series, index)
        self.fall_silent(self.begun_or_resumed(before, run, index, over))
        fates = self.runs[run]
        word, before_it = self.ledger.arrive(run, index), fates.expected
        if index < before_it:
            assert word == Arrival.DUPLICATE
        elif fates.ended:
            assert word == Arrival.ENDED
        else:
            assert word == Arrival.ACCEPTED
            fates.of |= dict.fromkeys(range(before_it, index), "missing") | {index: "flying"}
            self.flying.append((run, index))
            return
        fates.rejected[word] += 1
        self.refused[word] += 1

    def begun_or_resumed(
        self, before: Run | None, run: Run, index: int, over: list[Run]
    ) -> list[Run]:
        """What a frame does to its series before it counts; the runs that it pushes out."""
        if before is None:
            self.newly(run)
            return over
        fates = self.runs[before]
        anew = fates.restart and index == 0 and (fates.silent or not fates.ended)
        anew |= fates.idle and fates.silent and index == 0 < fates.expected
        if fates.silent or not fates.ended:
            fates.restart = False
        if anew:
            self.newly(run)
            if not fates.ended:
                assert over.pop(0) is before
                self.ends.append((before, fates.opened))
            fates.end()
            return over
        assert run is before, "no index of a series is seen twice"
        if fates.silent and index >= fates.expected:
            fates.resume()
        return over

    @rule(series=st.sampled_from(SERIES), frames=st.none() | st.integers(0, 12))
    def end(self, series: str, frames: int | None) -> None:
        before = self.newest.get(series)
        over = self.ledger.recall("cam", series, frames)
        run = self.ledger.announce("cam", series, frames)
        if before is None and frames:
            assert run is not None
            self.newly(run)
        elif before is not None and self.runs[before].silent:
            self.runs[before].end()
            if (frames or 0) > self.runs[before].expected:
                self.runs[before].resume()
        self.fall_silent(over)
        if series not in self.newest or self.runs[self.newest[series]].ended:
            assert run is None
            return
        assert run is self.newest[series]
        fates = self.runs[run]
        fates.of |= dict.fromkeys(range(fates.expected, frames or 0), "missing")
        fates.end()
        self.ends.append((run, fates.opened))
        assert self.ledger.announce("cam", series, frames) is None, "a series ends once"

    @rule(series=st.sampled_from(SERIES))
    def heartbeat(self, series: str) -> None:
        self.ledger.touch("cam", series)

    @rule(reason=st.sampled_from(["version", "shape"]))
    def message_that_is_no_frame(self, reason: str) -> None:
        self.ledger.reject(reason)
        self.refused[reason] += 1

    @rule(idle_s=st.sampled_from([-1.0, 600.0]))
    def silence(self, idle_s: float) -> None:
        waiting = {run for run, opened in self.ends if opened != self.runs[run].opened}
        late = {r for r, f in self.runs.items() if not f.ended and not f.count("flying")}
        over = self.ledger.idle(idle_s)
        assert set(over) == (late - waiting if idle_s < 0 else set())
        self.fall_silent(over)
        for run in over:
            self.runs[run].idle = True

    # Outcomes.

    @rule()
    def oldest_end_leaves(self) -> None:
        """Unless its series went on meanwhile: then it would not be true."""
        if self.ends:
            run, opened = self.ends.pop(0)
            buckets = self.ledger.close(run)
            assert buckets == (run.buckets() if opened == self.runs[run].opened else None)

    @rule()
    def oldest_is_published(self) -> None:
        if self.flying:
            run, index = self.flying.pop(0)
            fates = self.runs[run]
            assert fates.of[index] == "flying", "no frame is published twice"
            fates.of[index] = "published"
            assert self.ledger.publish(run, index) == fates.lost_before(index)
            assert run.last_published == index

    @rule(data=st.data(), bucket=st.sampled_from(["dropped", "failed"]))
    def some_frame_is_lost(self, data: st.DataObject, bucket: str) -> None:
        if self.flying:
            run, index = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
            reason = data.draw(st.sampled_from(REASONS))
            self.runs[run].of[index] = (bucket, reason)
            {"dropped": self.ledger.drop, "failed": self.ledger.fail}[bucket](run, index, reason)

    # Always.

    @invariant()
    def every_index_is_in_the_bucket_of_its_fate(self) -> None:
        for run, fates in self.runs.items():
            assert run.buckets() == {
                "expected": fates.expected, "published": fates.count("published"),
                "missing": fates.count("missing"), "in_flight": fates.count("flying"),
                "dropped": fates.reasons("dropped"), "failed": fates.reasons("failed"),
                "rejected": dict(fates.rejected),
            }  # fmt: skip

    @invariant()
    def totals_are_the_sums_and_never_fall(self) -> None:
        totals = self.ledger.totals()
        assert all(totals.get(key, 0) >= count for key, count in self.totals.items())
        self.totals = totals
        fates = self.runs.values()
        assert totals.get(("published", ""), 0) == sum(f.count("published") for f in fates)
        assert totals.get(("missing", ""), 0) == sum(f.count("missing") for f in fates)
        assert totals.get(("series", ""), 0) == len(self.runs)
        assert Counter({r: n for (b, r), n in totals.items() if b == "rejected"}) == self.refused

    @invariant()
    def no_more_series_are_open_than_allowed(self) -> None:
        open_now = [run for run, _ in self.ledger.open_runs()]
        assert len(open_now) <= SERIES_MAX
        assert set(open_now) <= {run for run, fates in self.runs.items() if not fates.ended}

    @invariant()
    def status_tells_the_same(self) -> None:
        rows = self.ledger.snapshot()
        assert len(rows) == len(self.runs)
        assert sum(row["in_flight"] for row in rows) == len(self.flying)
        assert sum(row["state"] == "open" for row in rows) == len(self.ledger.open_runs())


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
