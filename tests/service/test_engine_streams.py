"""A network that knows its stream, in the service: cameras do not mix, a stream and its times go
with each frame, and what the stream says comes back on its slot.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import pytest
import temporal
import zmq
from devices import FakeDevice
from support import wait_for
from temporal import mean_of

from scgn.backends import BACKENDS, Choice
from scgn.calibration import Calibration, build_calibration
from scgn.pipeline import CpuDevice, Device, StreamDenoiser, streams
from scgn.pipeline.stream_denoiser import Running
from scgn.stream.facts import Facts
from scgn.stream.tracker import Controls, Exposure
from scgn_client.messages import FrameHeader, Start
from scgn_live.engine import Engine, EngineState
from scgn_live.ledger import Ledger
from scgn_live.processor import ScgnProcessor
from scgn_live.ring import Ring, Slot
from scgn_live.stage import Stage

SHAPE = (8, 6)
DRAWN = {"upload": (0.0, 3.0), "compute": (0.0, 3.0), "download": (0.0, 2.0), "copy": (0.0, 1.0)}
IN_FLIGHT = 3


class Says:
    """A tracker whose report is what it was told."""

    def __init__(self, temporal: Any = "auto", probe_every: int = 8) -> None:
        pass

    def controls(self) -> Controls:
        return Controls(16, 0, None)

    def told(
        self, facts: Facts, exposure: Exposure, controls: Controls, display_range: float
    ) -> Any:
        return exposure, facts

    def status(self) -> dict[str, Any]:
        return {}


@pytest.fixture(autouse=True)
def _simple_streams(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(streams, "StreamTracker", Says)
    with temporal.deployed():
        yield


class Line:
    """Ring and engine between a test that is the ingest and one that is the publisher."""

    def __init__(self, device: Device, batch: int = 1) -> None:
        running = Running("stand-in", "float32", in_flight=IN_FLIGHT, threads=1)
        choice = Choice(BACKENDS["eager"], "as set")
        self.denoiser = StreamDenoiser(temporal.checkpoint(), device, choice, running)
        self.processor = ScgnProcessor(self.denoiser, IN_FLIGHT, batch)
        self.ledger = Ledger(64)
        self.ring = Ring(8, "block", lambda _: None, self.processor.host)
        self.engine = Engine(self.ring, self.ledger, EngineState(self.processor))
        self.left: list[tuple[str, str, int, Any, Any, str | None]] = []
        self._next: dict[tuple[str, str], int] = defaultdict(int)

    def put(self, pixels: Any, source: str = "cam", series: str = "s", **times: Any) -> None:
        index = self._next[source, series]
        self._next[source, series] = index + 1
        run, _ = self.ledger.run_of(source, series, index)
        self.ledger.arrive(run, index)
        slot = self.ring.claim()
        assert slot is not None
        header = FrameHeader(source, series, index, pixels.shape, pixels.dtype.str, **times)
        slot.store(header, run, zmq.Frame(pixels.tobytes()), time.monotonic())
        self.ring.fill(slot)

    def leave(self) -> None:
        slot = self.ring.next(0.02)
        if isinstance(slot, Slot):
            header = slot.header
            result = None if slot.denoised is None else slot.denoised.copy()
            words = header.source, header.series, header.frame
            self.left.append((*words, result, slot.report, slot.failed))
            self.ring.release(slot)

    @contextmanager
    def threads(self) -> Iterator[None]:
        died = threading.Event()
        turns = {
            "engine": self.engine.turn, "complete": self.engine.complete, "publish": self.leave,
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

    def until(self, frames: int) -> None:
        wait_for(lambda: len(self.left) >= frames, f"{frames} frames leaving")


@contextmanager
def line_on(device: Device, batch: int = 1) -> Iterator[Line]:
    line = Line(device, batch)
    with closing(line.denoiser), line.threads():
        yield line


def frame_of(number: int, dtype: str = "<u2") -> Any:
    return np.random.default_rng(number).integers(0, 200, SHAPE).astype(dtype)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("device", ["cpu", "slow"])
def test_cameras_have_a_past_each_whatever_waits_together(device: str, batch: int) -> None:
    chosen: Any = CpuDevice() if device == "cpu" else FakeDevice(3, DRAWN)
    order = [("abcab"[number % 5], str(number // 40)) for number in range(120)]
    with line_on(chosen, batch) as line:
        for number, (source, series) in enumerate(order):
            line.put(frame_of(number), source, series)
        line.until(len(order))
    behind: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for number, (left, words) in enumerate(zip(line.left, order, strict=True)):
        source, series, index, result, (exposure, facts), failed = left
        assert ((source, series), failed) == (words, None)
        behind[words].append(frame_of(number))
        assert exposure.frame == index == len(behind[words]) - 1
        assert facts.averaged == len(behind[words])
        np.testing.assert_allclose(result, mean_of(behind[words]), rtol=1e-5)


def test_what_the_camera_says_of_a_frame_goes_with_it() -> None:
    with line_on(CpuDevice()) as line:
        line.ledger.open(Start("cam", "s", exposure_ms=2.5, pixel_size_nm=0.02))
        line.put(frame_of(0), t_acquired_ns=123)
        line.put(frame_of(1))
        line.put(frame_of(2), "other")
        line.until(3)
    said = [report[0] for *_, report, _ in line.left]
    assert said == [Exposure(0, 123, 2.5, 0.02), Exposure(1, None, 2.5, 0.02), Exposure(0)]


def test_a_frame_that_failed_has_no_report_and_its_stream_goes_on() -> None:
    frames = [frame_of(number, "<f4") for number in range(3)]
    bad = frames[1].copy()
    bad[2, 2] = np.nan
    with line_on(CpuDevice()) as line:
        for frame in (frames[0], bad, frames[2]):
            line.put(frame)
        line.until(3)
    (*_, first, _), (*_, nothing, reason), (*_, result, _, _) = line.left
    assert first[1].averaged == 1
    assert (nothing, reason) == (None, "non_finite")
    np.testing.assert_allclose(result, mean_of([frames[0], frames[2]]), rtol=1e-6)


def test_swaps_of_calibration_begin_a_stream_anew() -> None:
    calibrations: list[Calibration | None] = [
        None, *(build_calibration(dark=np.full(SHAPE, level)) for level in (5.0, 9.0))
    ]  # fmt: skip
    with line_on(FakeDevice(8, DRAWN)) as line:
        for number in range(30):
            if number % 5 == 0:
                line.until(number)
                line.engine.use_calibration(calibrations[number // 5 % 3])
            line.put(frame_of(number))
        line.until(30)
    assert [report[1].averaged for *_, report, _ in line.left] == [1, 2, 3, 4, 5] * 6


def test_a_failing_call_costs_one_camera_its_past() -> None:
    with line_on(FakeDevice(2, fails=(4,))) as line:
        for number in range(12):
            line.put(frame_of(number), "ab"[number % 2])
            line.until(number + 1)
    failed = [reason for *_, reason in line.left]
    assert failed == [None] * 4 + ["engine_error"] + [None] * 7
    averaged = {
        source: [report[1].averaged for name, *_, report, _ in line.left
                 if name == source and report] for source in "ab"
    }  # fmt: skip
    assert averaged == {"a": [1, 2, 1, 2, 3], "b": [1, 2, 3, 4, 5, 6]}


def test_slots_of_frames_without_a_stream_have_no_report() -> None:
    slot = Slot(None)
    assert slot.report is None
    slot.report = ()  # type: ignore[assignment]
    run, _ = Ledger(4).run_of("cam", "s", 0)
    header = FrameHeader("cam", "s", 0, SHAPE, "<u2")
    slot.store(header, run, zmq.Frame(frame_of(0).tobytes()), 0.0)
    assert slot.report is None, "the report of the frame before"
