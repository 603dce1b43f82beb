"""The service's engine with several calls in flight: order, batches, fairness, failures, swaps,
and an orderly end. Frames run on a device of virtual time, so whatever may overtake does.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from devices import FakeDevice, OnFakeDevice, any_calibration, expected
from hypothesis import given, settings
from hypothesis import strategies as st
from support import adds_up, frame_parts, noise_frame, push, running_app, subscribed, wait_for

from scgn.calibration import Calibration
from scgn_client.messages import FrameHeader, Start
from scgn_live import app as service
from scgn_live.app import EXIT_DEVICE_LOST, App
from scgn_live.engine import Engine, EngineState
from scgn_live.ledger import Ledger
from scgn_live.ring import Event, Overload, Ring, Slot
from scgn_live.run import Run
from scgn_live.stage import Stage

SHAPE = (8, 6)
DRAWN = {"upload": (0.0, 3.0), "compute": (0.0, 3.0), "download": (0.0, 2.0), "copy": (0.0, 1.0)}
IN_FLIGHT = 4


@dataclass(frozen=True)
class Left:
    """A frame that left the ring."""

    source: str
    series: str
    index: int
    denoised: Any
    calibration: str | None
    failed: str | None


class Line:
    """Ring, ledger and engine, and the two ends: `put` is the ingest's, `leave` the publisher's."""

    def __init__(
        self, processor: OnFakeDevice, slots: int = 12, overload: Overload = "block"
    ) -> None:
        self.processor = processor
        self.ledger = Ledger(64)
        self.ring = Ring(slots, overload, self._dropped, processor.host)
        self.engine = Engine(self.ring, self.ledger, EngineState(processor))
        self.left: list[Left | str] = []
        self.sent: dict[tuple[str, str, int], Any] = {}
        self._next: dict[tuple[str, str], int] = {}
        self._waited = 0

    def _dropped(self, slot: Slot) -> None:
        self.ledger.drop(slot.run, slot.header.frame, "overload")

    def put(self, pixels: Any, source: str = "cam", series: str = "s") -> None:
        index = self._next.get((source, series), 0)
        self._next[source, series] = index + 1
        run, _ = self.ledger.run_of(source, series, index)
        self.ledger.arrive(run, index)
        slot = self.ring.claim()
        assert slot is not None
        header = FrameHeader(source, series, index, pixels.shape, pixels.dtype.str)
        slot.store(header, run, zmq.Frame(pixels.tobytes()), time.monotonic())
        self.sent[source, series, index] = pixels
        self.ring.fill(slot)

    def end(self, series: str = "s") -> None:
        self.ring.post(Event("end", Run(Start("cam", series))))

    def leave(self, timeout_s: float = 0.0) -> bool:
        """Let the head of the line go; False when it may not yet."""
        entry = self.ring.next(timeout_s)
        if isinstance(entry, Event):
            self.left.append(f"end {entry.run.start.series}")
        elif entry is not None:
            self._publish(entry)
        return entry is not None

    def _publish_some(self) -> None:
        self.leave(0.02)

    def _publish(self, slot: Slot) -> None:
        header = slot.header
        if slot.failed is None:
            self.ledger.publish(slot.run, header.frame)
        else:
            self.ledger.fail(slot.run, header.frame, slot.failed)
        result = None if slot.denoised is None else slot.denoised.copy()
        words = result, slot.calibration, slot.failed
        self.left.append(Left(header.source, header.series, header.frame, *words))
        self.ring.release(slot)

    # The engine's two threads, when the caller is both.

    @property
    def under_way(self) -> int:
        """Calls submitted and not waited for."""
        return len(self.processor.sizes) - self._waited

    def turn(self) -> None:
        """Submit a call, unless that would have to wait."""
        if self.ring.depths()["filled"] and self.under_way < IN_FLIGHT:
            self.engine.turn()

    def complete(self) -> None:
        """Wait for the oldest call, if any."""
        if self.under_way:
            self.engine.complete()
            self._waited += 1

    def run_dry(self) -> None:
        """All that is in line goes through, with as many calls in flight as may be."""
        while self.ring.depths()["filled"] or self.under_way:
            if not self.ring.depths()["filled"] or self.under_way == IN_FLIGHT:
                self.complete()
            self.turn()
        while self.leave():
            pass

    @contextmanager
    def threads(self) -> Iterator[None]:
        """The three stages beside the caller, who is the ingest."""
        died = threading.Event()
        turns = {
            "engine": self.engine.turn, "complete": self.engine.complete,
            "publish": self._publish_some,
        }  # fmt: skip
        stages = [Stage(name, turn, died.set) for name, turn in turns.items()]
        for stage in stages:
            stage.start()
        try:
            yield
        finally:
            for stage in stages:
                stage.stop()
        assert not died.is_set(), [stage.error for stage in stages]

    def until(self, entries: int) -> None:
        wait_for(lambda: len(self.left) >= entries, f"{entries} entries leaving")

    def frames(self) -> list[Left]:
        return [entry for entry in self.left if isinstance(entry, Left)]

    def right(self, left: Left, calibrations: dict[str | None, Calibration | None]) -> bool:
        """Whether the result is its own frame's, with the calibration that it names."""
        raw = self.sent[left.source, left.series, left.index]
        wanted, _ = expected(raw, calibrations[left.calibration])
        return left.denoised is not None and bool((left.denoised == wanted).all())


def line_on(seed: int = 0, batch: int = 1, fails: tuple[int, ...] = (), **words: Any) -> Line:
    device = FakeDevice(seed, DRAWN, fails=fails)
    return Line(OnFakeDevice(device, IN_FLIGHT, batch), **words)


def by_id(calibrations: list[Calibration]) -> dict[str | None, Calibration | None]:
    return {None: None} | {calibration.id: calibration for calibration in calibrations}


# ---- order ----


@pytest.mark.parametrize("batch", [1, 3])
def test_frames_leave_in_the_order_in_which_they_came(batch: int) -> None:
    line = line_on(seed=batch, batch=batch)
    with line.threads():
        for index in range(300):
            line.put(noise_frame(index, SHAPE if index % 7 else (6, 5)))
        line.until(300)
    frames = line.frames()
    assert [left.index for left in frames] == list(range(300))
    assert all(line.right(left, {None: None}) for left in frames)
    assert line.processor.slots_free()


steps = st.lists(
    st.sampled_from(["put", "put", "odd", "end", "turn", "complete", "leave", "swap"]),
    max_size=120,
)


@dataclass
class Steps:
    """A line whose stages take their turns in any order; came: what it should give back."""

    line: Line
    calibrations: list[Calibration]
    came: list[int | str] = field(default_factory=list)

    def take(self, place: int, step: str) -> None:
        line = self.line
        if step in ("put", "odd") and line.ring.depths()["free"]:
            self.came.append(len(line.sent))
            line.put(noise_frame(place, SHAPE if step == "put" else (6, 5)))
        elif step == "end":
            self.came.append(f"end {place}")
            line.end(str(place))
        elif step == "swap":
            line.engine.use_calibration(self.calibrations[place % 2])
        elif step in ("turn", "complete", "leave"):
            getattr(line, step)()


@settings(max_examples=80, deadline=None)
@given(steps, st.sampled_from([1, 2, 3]), st.integers(0, 2**32))
def test_whatever_the_timing_nothing_overtakes(taken: list[str], batch: int, seed: int) -> None:
    """Frames of two shapes, ends of series and swaps, and every stage at any moment."""
    calibrations = [any_calibration(number, SHAPE) for number in (1, 2)]
    line = line_on(seed, batch)
    stepped = Steps(line, calibrations)
    for place, step in enumerate(taken):
        stepped.take(place, step)
    line.run_dry()
    assert [e if isinstance(e, str) else e.index for e in line.left] == stepped.came
    assert all(line.right(left, by_id(calibrations)) for left in line.frames())
    assert line.processor.slots_free()


def test_an_end_waits_for_the_frames_in_flight_before_it() -> None:
    device = FakeDevice(1, DRAWN)
    line = Line(OnFakeDevice(device, IN_FLIGHT))
    line.processor.have_lane(SHAPE, "<u2", 1)  # making one waits for the device
    device.hold()
    with line.threads():
        for index in range(IN_FLIGHT):
            line.put(noise_frame(index, SHAPE))
        line.end()
        wait_for(lambda: line.ring.depths()["busy"] == IN_FLIGHT, "all frames being in flight")
        assert line.left == []
        device.go_on()
        line.until(IN_FLIGHT + 1)
    assert [left.index for left in line.frames()] == list(range(IN_FLIGHT))
    assert line.left[-1] == "end s"


# ---- batches ----

KINDS = (((8, 6), "<u2"), ((6, 8), "<u2"), ((8, 6), ">u2"))


@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=20), st.integers(2, 4))
def test_only_full_batches_of_alike_frames_go_together(kinds: list[Any], batch: int) -> None:
    line = line_on(slots=20)
    for kind in kinds:
        line.put(np.zeros(*kind))
    taken: list[Slot] = []
    while (slot := line.ring.take(0)) is not None:
        place = len(taken)
        together = [slot, *line.ring.take_like(slot, batch - 1)]
        taken += together
        could = kinds[place : place + batch] == [kinds[place]] * batch
        assert len(together) == (batch if could else 1)
    assert [slot.header.frame for slot in taken] == list(range(len(kinds)))


def test_frames_go_together_under_backlog_and_alone_otherwise() -> None:
    line = line_on(batch=3)
    for index in range(7):
        line.put(noise_frame(index, SHAPE))
    line.run_dry()
    assert line.processor.sizes == [3, 3, 1]
    for index in range(4):
        line.put(noise_frame(index, SHAPE))
        line.run_dry()
    assert line.processor.sizes[3:] == [1, 1, 1, 1]
    assert all(line.right(left, {None: None}) for left in line.frames())
    assert len(line.frames()) == 11


def test_a_frame_of_another_kind_keeps_a_batch_from_forming_before_it() -> None:
    line = line_on(batch=3)
    for index, letter in enumerate("aabaaab"):
        line.put(noise_frame(index, SHAPE if letter == "a" else (6, 5)))
    line.run_dry()
    assert line.processor.sizes == [1, 1, 1, 3, 1]
    assert [left.index for left in line.frames()] == list(range(7))


# ---- fairness ----


def oldest_first(arrivals: list[str], room: int, every: int) -> list[str]:
    """Sources that plain oldest-first lets go of: a queue, and a frame taken every few arrivals."""
    waiting: deque[str] = deque()
    gone = []
    for number, source in enumerate(arrivals):
        if len(waiting) == room:
            gone.append(waiting.popleft())
        waiting.append(source)
        if number % every == every - 1:
            waiting.popleft()
    return gone


def test_a_fast_camera_does_not_push_out_a_slow_one() -> None:
    room, every = 6, 8  # slots; the engine manages one frame in eight
    arrivals = (["slow"] + ["fast"] * 10) * 12
    assert oldest_first(arrivals, room, every).count("slow") > 0, "nothing to be fair about"
    line = line_on(slots=room, overload="latest")
    for number, source in enumerate(arrivals):
        line.put(noise_frame(number, SHAPE), source)
        if number % every == every - 1:
            line.turn()
            line.complete()
            line.leave()
    line.run_dry()
    buckets = {row["source"]: row for row in line.ledger.snapshot()}
    assert buckets["slow"]["published"] == 12
    assert buckets["slow"]["dropped"] == {}
    assert buckets["fast"]["dropped"] == {"overload": 120 - buckets["fast"]["published"]}
    assert buckets["fast"]["published"] > 0
    for source in ("slow", "fast"):
        left = [entry.index for entry in line.frames() if entry.source == source]
        assert left == sorted(left)


# ---- failures and swaps ----


def test_a_failing_call_costs_only_the_frames_of_its_batch() -> None:
    line = line_on(batch=3, fails=(1,))
    for index in range(10):
        line.put(noise_frame(index, SHAPE))
    line.run_dry()
    assert line.processor.sizes == [3, 3, 3, 1]
    words = [left.failed for left in line.frames()]
    assert words == [None] * 3 + ["engine_error"] * 3 + [None] * 4
    good = [left for left in line.frames() if left.failed is None]
    assert all(line.right(left, {None: None}) for left in good)
    (row,) = line.ledger.snapshot()
    assert (row["published"], row["failed"]) == (7, {"engine_error": 3})
    assert adds_up(row)
    assert line.processor.slots_free()


def test_calls_that_fail_under_load_are_counted_and_no_others() -> None:
    failing = tuple(range(5, 200, 9))  # never so many in a row that the engine gives up
    line = line_on(seed=5, fails=failing)
    with line.threads():
        for index in range(200):
            line.put(noise_frame(index, SHAPE))
        line.until(200)
    assert tuple(left.index for left in line.frames() if left.failed) == failing
    assert sum(line.right(left, {None: None}) for left in line.frames()) == 200 - len(failing)
    (row,) = line.ledger.snapshot()
    assert row["failed"] == {"engine_error": len(failing)}
    assert adds_up(row)


@pytest.mark.parametrize("batch", [1, 3])
def test_swaps_of_calibration_never_mix_with_calls_in_flight(batch: int) -> None:
    line = line_on(seed=9, batch=batch)
    calibrations = [any_calibration(number, SHAPE) for number in range(1, 5)]
    with line.threads():
        for index in range(400):
            if index % 3 == 0:
                swapped = calibrations[index % 4]
                line.engine.prepare(swapped)
                line.engine.use_calibration(swapped)
            line.put(noise_frame(index, SHAPE))
        line.until(400)
    frames = line.frames()
    wrong = [left.index for left in frames if not line.right(left, by_id(calibrations))]
    assert wrong == [], "these frames met two calibrations, or name another"
    met = [left.calibration for left in frames]
    assert len(set(met)) == 4
    assert sum(a != b for a, b in itertools.pairwise(met)) > 20, "hardly a swap under load"


# ---- the whole process' end ----


@contextmanager
def app_on(
    device: FakeDevice, folder: Path, patch: pytest.MonkeyPatch, **changes: Any
) -> Iterator[App]:
    processor = OnFakeDevice(device, IN_FLIGHT)
    processor.have_lane((16, 12), "<u2", 1)
    patch.setattr(service, "build_processor", lambda *_: processor)
    with running_app(folder, ring_slots=16, **changes) as app:
        yield app


def send(app: App, frames: int) -> None:
    with push(app.ingest.endpoint) as camera:
        for index in range(frames):
            camera.send_multipart(frame_parts("s", index, noise_frame(index)))


def stopped_once(app: App) -> threading.Thread:
    """The app's `stop`, under way in a thread; its own block does not stop it again."""
    thread = threading.Thread(target=app.stop)
    app.stop = lambda: None  # type: ignore[method-assign]
    thread.start()
    return thread


def test_stop_finishes_the_calls_in_flight(tmp_path, monkeypatch) -> None:
    device = FakeDevice(2, DRAWN)
    with app_on(device, tmp_path, monkeypatch) as app, subscribed(app) as sub:
        device.hold()
        send(app, IN_FLIGHT + 2)
        wait_for(lambda: app.ring.depths()["busy"] == IN_FLIGHT, "calls being in flight")
        wait_for(lambda: app.ring.depths()["filled"] == 2, "frames waiting for them")
        stopping = stopped_once(app)
        wait_for(lambda: not app.stages["ingest"].alive, "the stop being under way")
        device.go_on()
        frames, end = sub.series("s")
        stopping.join(20)
        assert not stopping.is_alive()
    assert [frame["frame"] for frame in frames] == list(range(IN_FLIGHT + 2))
    assert end["ledger"]["published"] == IN_FLIGHT + 2
    assert app.exit_status() == 0


def test_stop_does_not_wait_for_ever_for_a_device_that_hangs(tmp_path, monkeypatch) -> None:
    device = FakeDevice(2, DRAWN)
    with app_on(device, tmp_path, monkeypatch, shutdown_s=0.3) as app, subscribed(app) as sub:
        device.hold()
        send(app, IN_FLIGHT + 2)
        wait_for(lambda: app.ring.depths()["filled"] == 2, "frames waiting for calls in flight")
        begun = time.monotonic()
        stopping = stopped_once(app)
        stopping.join(10)
        assert not stopping.is_alive(), "stop hangs"
        assert time.monotonic() - begun < 5
        end, _ = sub.until("end", series="s")
        device.go_on()
        wait_for(lambda: not app.stages["complete"].alive, "the late stage ending")
    assert end["reason"] == "shutdown"
    assert end["ledger"]["failed"] == {"shutdown": IN_FLIGHT + 2}
    assert adds_up(end["ledger"])
    assert app.stages["complete"].error is None


def test_a_device_lost_in_flight_ends_the_process_with_its_own_status(
    tmp_path, monkeypatch
) -> None:
    device = FakeDevice(3, DRAWN, lost_from=3)
    with app_on(device, tmp_path, monkeypatch) as app:
        send(app, 12)
        assert app.ended.wait(10), "the loss did not end the process"
        assert app.failed_stage() == "complete"
        assert "DeviceLost" in app.reasons_not_ready()[0]
        processor = app.engine.state.processor
        assert isinstance(processor, OnFakeDevice)
    assert app.exit_status() == EXIT_DEVICE_LOST
    for row in app.ledger.snapshot():
        assert adds_up(row)
        assert row["in_flight"] == 0
