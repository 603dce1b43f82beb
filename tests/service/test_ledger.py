"""The ledger adds up whatever comes, and tells each loss once, in the right header."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support import adds_up

from scgn_client.messages import Start
from scgn_live.ledger import PAST_KEPT, Arrival, Ledger
from scgn_live.run import LOSSES_KEPT, Run


def arrived(ledger: Ledger, run: Run, *indices: int) -> list[str]:
    return [ledger.arrive(run, index) for index in indices]


def new_run(ledger: Ledger, series: str = "s") -> Run:
    run, _ = ledger.run_of("cam", series, 0)
    return run


def test_each_frame_ends_in_one_bucket() -> None:
    ledger = Ledger(4)
    run = new_run(ledger)
    arrived(ledger, run, 0, 1, 4, 5)
    ledger.publish(run, 0)
    ledger.drop(run, 1, "overload")
    ledger.fail(run, 4, "engine_error")
    assert run.buckets() == {
        "expected": 6, "published": 1, "missing": 2, "in_flight": 1,
        "dropped": {"overload": 1}, "failed": {"engine_error": 1}, "rejected": {},
    }  # fmt: skip


def test_losses_are_told_by_the_next_published_frame_after_them() -> None:
    ledger = Ledger(4)
    run = new_run(ledger)
    arrived(ledger, run, 0, 1, 2, 5, 6)  # 3 and 4 are missing
    assert ledger.publish(run, 0) == {}
    ledger.drop(run, 2, "overload")
    assert ledger.publish(run, 1) == {}, "what was lost behind frame 1 is not lost before it"
    assert ledger.publish(run, 5) == {"overload": 1, "missing": 2}
    assert ledger.publish(run, 6) == {}, "a loss is told once"


def test_duplicates_and_late_frames_are_rejected() -> None:
    ledger = Ledger(4)
    run = new_run(ledger)
    assert arrived(ledger, run, 0, 3, 3, 1) == [
        Arrival.ACCEPTED, Arrival.ACCEPTED, Arrival.DUPLICATE, Arrival.DUPLICATE,
    ]  # fmt: skip
    assert run.buckets()["rejected"] == {"duplicate": 2}
    assert run.buckets()["missing"] == 2


def test_end_announces_the_tail_as_missing() -> None:
    ledger = Ledger(4)
    run = new_run(ledger)
    arrived(ledger, run, 0, 1)
    assert ledger.announce("cam", "s", 5) is run
    assert run.buckets()["missing"] == 3
    assert ledger.announce("cam", "s", 5) is None, "a series ends once"
    assert arrived(ledger, run, 7) == [Arrival.ENDED]


def test_end_with_fewer_frames_than_seen_changes_nothing() -> None:
    ledger = Ledger(4)
    run = new_run(ledger)
    arrived(ledger, run, 0, 1, 2)
    ledger.announce("cam", "s", 1)
    assert run.buckets()["expected"] == 3


def test_second_start_goes_on_unless_the_camera_counts_from_zero() -> None:
    ledger = Ledger(4)
    run, _ = ledger.open(Start("cam", "s"))
    assert run is not None
    arrived(ledger, run, 0, 1)
    assert ledger.open(Start("cam", "s", exposure_ms=2.0)) == (None, [])
    assert ledger.run_of("cam", "s", 2) == (run, [])
    ledger.open(Start("cam", "s", exposure_ms=2.0))
    again, ended = ledger.run_of("cam", "s", 0)
    assert ended == [run]
    assert again is not run
    assert again.start.exposure_ms == 2.0
    assert arrived(ledger, again, 0) == [Arrival.ACCEPTED]
    assert [row["state"] for row in ledger.snapshot()] == ["ended", "open"]


def test_start_after_the_end_opens_a_new_run() -> None:
    ledger = Ledger(4)
    run = new_run(ledger)
    arrived(ledger, run, 0)
    ledger.publish(run, 0)
    ledger.announce("cam", "s", 1)
    ledger.close(run)
    again, _ = ledger.open(Start("cam", "s"))
    assert again is not None
    assert again.expected == 0


def test_more_series_than_allowed_end_the_idlest() -> None:
    ledger = Ledger(2)
    first, second = new_run(ledger, "a"), new_run(ledger, "b")
    arrived(ledger, first, 0)  # b is the idlest now
    _, ended = ledger.run_of("cam", "c", 0)
    assert ended == [second]
    assert {run.start.series for run, _ in ledger.open_runs()} == {"a", "c"}


def test_a_flood_of_starts_stays_within_the_limit() -> None:
    ledger = Ledger(3)
    ended = [run for n in range(50) for run in ledger.open(Start("cam", f"s{n}"))[1]]
    assert len(ledger.open_runs()) == 3
    assert len(ended) == 47


def test_idle_runs_are_ended_once_nothing_of_them_is_in_flight() -> None:
    ledger = Ledger(4)
    run = new_run(ledger)
    assert ledger.idle(60) == []
    ledger.arrive(run, 0)
    assert ledger.idle(-1) == []
    ledger.publish(run, 0)
    assert ledger.idle(-1) == [run]
    assert ledger.open_runs() == []


def silent(ledger: Ledger, *indices: int) -> Run:
    """A run that published these and was ended by the service."""
    run, _ = ledger.open(Start("cam", "s", exposure_ms=2.0))
    assert run is not None
    arrived(ledger, run, *indices)
    for index in indices:
        ledger.publish(run, index)
    assert ledger.idle(-1) == [run]
    return run


def test_a_series_that_fell_silent_goes_on_where_it_was() -> None:
    ledger = Ledger(4)
    run = silent(ledger, *range(10))
    assert ledger.close(run) is not None
    run.announced = True
    again, over = ledger.run_of("cam", "s", 3)
    assert (again, over, run.ended) == (run, [], True), "what was seen opens nothing"
    assert arrived(ledger, run, 3) == [Arrival.DUPLICATE]
    again, _ = ledger.run_of("cam", "s", 11)
    assert (again, run.ended, run.announced) == (run, False, False), "its start is said again"
    assert arrived(ledger, run, 11) == [Arrival.ACCEPTED]
    assert ledger.publish(run, 11) == {"missing": 1}
    assert ledger.announce("cam", "s", 12) is run
    buckets = ledger.close(run)
    assert buckets is not None
    assert (buckets["expected"], buckets["published"], buckets["missing"]) == (12, 11, 1)
    assert adds_up(buckets)
    assert len(ledger.snapshot()) == ledger.totals()["series", ""] == 1


def test_start_begins_a_silent_series_anew() -> None:
    ledger = Ledger(4)
    run = silent(ledger, 0, 1)
    again, _ = ledger.open(Start("cam", "s"))
    assert again not in (None, run)
    assert ledger.run_of("cam", "s", 0) == (again, [])


def test_frame_zero_after_a_start_and_a_silence_begins_anew() -> None:
    ledger = Ledger(4)
    run = new_run(ledger)
    arrived(ledger, run, 0)
    ledger.publish(run, 0)
    ledger.open(Start("cam", "s", exposure_ms=3.0))
    ledger.close(ledger.idle(-1)[0])
    again, over = ledger.run_of("cam", "s", 0)
    assert (again.start.exposure_ms, over) == (3.0, []), "its end was said before"
    assert arrived(ledger, again, 0) == [Arrival.ACCEPTED]


def test_end_of_a_silent_series_tells_what_never_came_and_is_final() -> None:
    ledger = Ledger(4)
    run = silent(ledger, 0, 1)
    ledger.close(run)
    assert ledger.recall("cam", "s", 5) == []
    assert ledger.announce("cam", "s", 5) is run
    assert (ledger.close(run) or {})["missing"] == 3
    assert ledger.run_of("cam", "s", 7) == (run, [])
    assert arrived(ledger, run, 7) == [Arrival.ENDED]


def test_series_that_was_put_away_goes_on_before_its_end_is_said() -> None:
    """Its end is still in line: it is not said, for it is not true any more."""
    ledger = Ledger(1)
    run = new_run(ledger)
    arrived(ledger, run, 0)
    other, over = ledger.run_of("cam", "other", 0)
    assert over == [run]
    again, over = ledger.run_of("cam", "s", 1)
    assert (again, over) == (run, [other])
    assert arrived(ledger, run, 0, 1) == [Arrival.DUPLICATE, Arrival.ACCEPTED]
    assert ledger.close(run) is None
    assert ledger.close(other) is not None
    assert [r for r, _ in ledger.open_runs()] == [run]
    assert ledger.announce("cam", "s", 2) is run
    assert ledger.close(run) is not None


def test_a_series_that_ended_and_was_put_away_publishes_nothing_again() -> None:
    ledger = Ledger(1)
    run = new_run(ledger)
    arrived(ledger, run, 0, 1)
    ledger.announce("cam", "s", 2)
    ledger.close(run)
    new_run(ledger, "other")
    again, _ = ledger.run_of("cam", "s", 1)
    assert again is run
    assert arrived(ledger, run, 1, 2) == [Arrival.DUPLICATE, Arrival.ENDED]


@pytest.mark.parametrize("limit", [1, 300])
def test_thousands_of_series_leave_a_bounded_memory(limit: int) -> None:
    ledger = Ledger(limit)
    for round_ in range(4):
        for n in range(1000):
            run, over = ledger.open(Start(f"cam{n % 2}", f"s{round_ if n % 2 else n}"))
            for late in over:
                ledger.close(late)
            assert run is not None
            if n % 3:
                ledger.announce(*run.key, 0)
            ledger.close(run)
    assert len(ledger.snapshot()) <= limit + PAST_KEPT


def test_a_source_that_is_open_beats_and_so_does_the_last_run_of_another() -> None:
    ledger = Ledger(8)
    for source, series in (("a", "one"), ("b", "one"), ("a", "two"), ("b", "two"), ("c", "one")):
        run, _ = ledger.run_of(source, series, 0)
        if source != "c":
            ledger.announce(*run.key, None)
            ledger.close(run)
    assert {run.key for run, _ in ledger.beating_runs()} == {
        ("a", "two"), ("b", "two"), ("c", "one"),
    }  # fmt: skip


def test_losses_between_frames_still_in_flight_are_told_in_their_own_gap() -> None:
    """Thousands of drops behind frames that have not left yet: each gap still tells its own."""
    ledger = Ledger(4)
    run = new_run(ledger)
    for index in range(5000):
        ledger.arrive(run, index)
    published = (0, 11, 500, 4999)
    for index in range(5000):
        if index not in published:
            ledger.drop(run, index, "overload")
    assert len(run.losses) == 3
    told = [ledger.publish(run, index) for index in published]
    assert told == [{}, {"overload": 10}, {"overload": 488}, {"overload": 4498}]


def test_untold_losses_stay_bounded_and_complete() -> None:
    ledger = Ledger(4)
    run = new_run(ledger)
    for index in range(10_000):
        ledger.arrive(run, index)
        if index % 2:
            ledger.drop(run, index, "overload")
        else:
            ledger.fail(run, index, "engine_error")
    assert len(run.losses) <= LOSSES_KEPT
    ledger.arrive(run, 10_000)
    assert ledger.publish(run, 10_000) == {"overload": 5000, "engine_error": 5000}


def test_totals_never_fall() -> None:
    ledger = Ledger(1)
    for series in "abc":
        run = new_run(ledger, series)
        ledger.arrive(run, 2)
        ledger.publish(run, 2)
    ledger.reject("version")
    assert ledger.totals() == {
        ("series", ""): 3, ("received", ""): 3, ("missing", ""): 6, ("published", ""): 3,
        ("rejected", "version"): 1,
    }  # fmt: skip


class LedgerMachine(RuleBasedStateMachine):
    """Any order of arrivals, outcomes, starts and ends, over three series and a limit of two."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(2)
        self.flying: list[tuple[Run, int]] = []
        self.accepted = self.told = self.lost = 0
        self.runs: set[Run] = set()

    @rule(series=st.sampled_from("abc"), step=st.integers(-3, 5), restart=st.booleans())
    def frame(self, series: str, step: int, restart: bool) -> None:
        known = [run for run, _ in self.ledger.open_runs() if run.start.series == series]
        if restart:
            self.ledger.open(Start("cam", series))
        index = 0 if restart else max(0, (known[0].expected if known else 0) + step)
        run, _ = self.ledger.run_of("cam", series, index)
        self.runs.add(run)
        if self.ledger.arrive(run, index) == Arrival.ACCEPTED:
            self.flying.append((run, index))

    @rule(outcome=st.sampled_from(["publish", "drop", "fail"]))
    def oldest_leaves(self, outcome: str) -> None:
        if self.flying:
            run, index = self.flying.pop(0)
            if outcome == "publish":
                self.told += sum(self.ledger.publish(run, index).values())
            else:
                getattr(self.ledger, outcome)(run, index, "reason")

    @rule(series=st.sampled_from("abc"), frames=st.none() | st.integers(0, 30))
    def end(self, series: str, frames: int | None) -> None:
        if run := self.ledger.announce("cam", series, frames):
            self.ledger.close(run)

    @invariant()
    def every_run_adds_up(self) -> None:
        assert all(adds_up(run.buckets()) for run in self.runs)
        assert all(adds_up(row) for row in self.ledger.snapshot())
        assert sum(run.in_flight for run in self.runs) == len(self.flying)

    @invariant()
    def losses_are_told_or_waiting(self) -> None:
        waiting = sum(frames for run in self.runs for _, _, frames in run.losses)
        lost = sum(
            run.missing + sum(run.dropped.values()) + sum(run.failed.values()) for run in self.runs
        )
        assert self.told + waiting == lost


TestLedgerMachine = LedgerMachine.TestCase


@given(st.lists(st.integers(0, 50), max_size=60))
def test_any_arrival_order_adds_up(indices: list[int]) -> None:
    ledger = Ledger(1)
    run = new_run(ledger)
    words = arrived(ledger, run, *indices)
    assert adds_up(run.buckets())
    assert words.count(Arrival.ACCEPTED) == run.in_flight
    assert words.count(Arrival.DUPLICATE) == run.rejected["duplicate"]
