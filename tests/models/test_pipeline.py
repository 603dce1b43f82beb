"""Frames in flight: each meets its own pixels and calibration whatever overtakes what, failures
cost only their own call, copies overlap calls; and a stream denoiser that never lets frames wait.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from devices import FakeDevice, any_calibration, expected, lane_on
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import shaken
from support import wait_for

from scgn.backends import BACKENDS, BackendError, Choice
from scgn.backends.cache import EngineCache, key_of
from scgn.calibration import Calibration, build_calibration
from scgn.checkpoint import Checkpoint, describe, load_network, save_checkpoint
from scgn.compile import built
from scgn.denoise import Denoiser, FrameError
from scgn.deploy import DeployRecipe
from scgn.deploy.references import References, references
from scgn.metrics import psnr_db
from scgn.network import SCGN
from scgn.pipeline import (
    CpuDevice,
    DeviceLost,
    Frames,
    Lane,
    Pipeline,
    StreamDenoiser,
    Ticket,
    stream_denoiser,
)
from scgn.pipeline.stream_denoiser import LANES_MAX, Running
from scgn.sizes import Size

# ---- a pipeline on a device of virtual time ----

KINDS = (((6, 8), "<u2", 1), ((6, 8), "<u2", 3), ((5, 7), ">u2", 1), ((5, 7), "<f4", 3))
CALIBRATIONS = 4  # of each shape, the first of which is none
DRAWN = {"upload": (0.0, 3.0), "compute": (0.0, 3.0), "download": (0.0, 2.0), "copy": (0.0, 1.0)}

plans = st.lists(
    st.tuples(st.integers(0, len(KINDS) - 1), st.integers(0, CALIBRATIONS - 1)),
    min_size=1,
    max_size=24,
)
slots_of_lanes = st.integers(1, 4)
seeds = st.integers(0, 2**32)


@dataclass
class Call:
    """Frames, and what came of them: facts, or an error."""

    lane: Lane
    raws: list[Any]
    calibration: Calibration | None
    known: References
    results: list[Any] = field(default_factory=list)
    wanted: list[Any] = field(default_factory=list)
    outcome: Any = None

    def __post_init__(self) -> None:
        self.results = [np.zeros(4 * raw.size, np.uint8) for raw in self.raws]
        self.wanted = [expected(raw, self.calibration) for raw in self.raws]

    @property
    def right(self) -> bool:
        """Whether each result is its own frame's, with its own calibration."""
        shape = self.lane.recipe.shape
        return all(
            (pixels.view(np.float32).reshape(shape) == denoised).all() and (row == facts).all()
            for pixels, row, (denoised, facts) in zip(
                self.results, self.outcome, self.wanted, strict=True
            )
        )


def frame_of(number: int, shape: tuple[int, int], dtype: str) -> Any:
    return np.random.default_rng(number).integers(0, 60_000, shape).astype(dtype)


class Carrier:
    """A pipeline, its lanes, and a plan: calls submitted by one thread, waited for by another."""

    def __init__(self, device: FakeDevice, slots: int) -> None:
        self.pipeline = Pipeline(device)
        self.slots = slots
        self.lanes = [lane_on(device, *kind, slots) for kind in KINDS]
        self.begun = [0] * len(KINDS)  # waits, by lane
        self.peak = 0  # calls of a lane in flight at once
        shapes = {shape for shape, _, _ in KINDS}
        self._shown = {
            (number, shape): (calibration, references(calibration, shape))
            for number, shape in itertools.product(range(CALIBRATIONS), shapes)
            for calibration in [any_calibration(number, shape) if number else None]
        }
        self._submitted: queue.SimpleQueue[Ticket | Exception] = queue.SimpleQueue()

    def calls(self, plan: list[tuple[int, int]]) -> list[Call]:
        return [self._call(place, *words) for place, words in enumerate(plan)]

    def _call(self, place: int, kind: int, number: int) -> Call:
        shape, dtype, batch = KINDS[kind]
        raws = [frame_of(3 * place + index, shape, dtype) for index in range(batch)]
        return Call(self.lanes[kind], raws, *self._shown[number, shape])

    def carry(self, calls: list[Call]) -> None:
        thread = threading.Thread(target=self._submit, args=(calls,), daemon=True)
        thread.start()
        for call in calls:
            entry = self._submitted.get(timeout=20)
            call.outcome = entry if isinstance(entry, Exception) else self._waited(call, entry)
            for raw in call.raws:
                raw.fill(0x77)  # it is over: nothing may still be reading them
        thread.join(20)
        assert not thread.is_alive()

    def _submit(self, calls: list[Call]) -> None:
        submitted = dict.fromkeys(range(len(KINDS)), 0)
        for call in calls:
            lane = self.lanes.index(call.lane)
            try:
                ticket = self.pipeline.submit(call.lane, call.raws, call.known, call.results)
            except RuntimeError as error:
                self._submitted.put(error)
                self.begun[lane] += 1
            else:
                self._submitted.put(ticket)
            submitted[lane] += 1
            self.peak = max(self.peak, submitted[lane] - self.begun[lane])

    def _waited(self, call: Call, ticket: Ticket) -> Any:
        self.begun[self.lanes.index(call.lane)] += 1
        try:
            return ticket.wait()
        except RuntimeError as error:
            return error

    def slots_are_back(self) -> bool:
        return all(lane.free.qsize() == self.slots for lane in self.lanes)


@settings(max_examples=80, deadline=None)
@given(plans, slots_of_lanes, seeds)
def test_every_frame_is_its_own_with_its_own_calibration(plan, slots: int, seed: int) -> None:
    device = FakeDevice(seed, DRAWN)
    carrier = Carrier(device, slots)
    calls = carrier.calls(plan)
    carrier.carry(calls)
    wrong = [place for place, call in enumerate(calls) if not call.right]
    assert wrong == [], "these calls met others' pixels or references"
    assert carrier.peak <= slots
    assert carrier.slots_are_back()
    assert len(device.done("compute")) == len(plan)


@settings(max_examples=60, deadline=None)
@given(plans, slots_of_lanes, seeds, st.data())
def test_failed_calls_cost_only_themselves(plan, slots: int, seed: int, data) -> None:
    failing = data.draw(st.sets(st.integers(0, len(plan) - 1), min_size=1))
    carrier = Carrier(FakeDevice(seed, DRAWN, fails=tuple(failing)), slots)
    calls = carrier.calls(plan)
    carrier.carry(calls)
    for place, call in enumerate(calls):
        if place in failing:
            assert isinstance(call.outcome, RuntimeError)
            assert f"call {place} failed" in str(call.outcome)
            assert not getattr(call.outcome, "fatal", False)
        else:
            assert call.right, f"call {place} suffered from another's failure"
    assert carrier.slots_are_back()


@settings(max_examples=60, deadline=None)
@given(plans, slots_of_lanes, seeds, st.data())
def test_a_lost_device_is_said_to_be_lost_from_then_on(plan, slots: int, seed: int, data) -> None:
    lost_from = data.draw(st.integers(0, len(plan) - 1))
    carrier = Carrier(FakeDevice(seed, DRAWN, lost_from=lost_from), slots)
    calls = carrier.calls(plan)
    carrier.carry(calls)
    gone = [isinstance(call.outcome, DeviceLost) and call.outcome.fatal for call in calls]
    first = gone.index(True)
    assert first <= lost_from
    assert all(gone[first:]), "a call after the loss was not told of it"
    assert all(call.right for call in calls[:first])
    assert carrier.slots_are_back()


def test_a_call_beyond_the_slots_waits_for_one() -> None:
    device = FakeDevice(1)
    carrier = Carrier(device, slots=2)
    first, second, third = carrier.calls([(0, 1), (0, 2), (0, 3)])
    tickets = [
        carrier.pipeline.submit(call.lane, call.raws, call.known, call.results)
        for call in (first, second)
    ]
    assert carrier.lanes[0].free.empty()
    with_third: list[Ticket] = []

    def submit() -> None:
        words = third.lane, third.raws, third.known, third.results
        with_third.append(carrier.pipeline.submit(*words))

    thread = threading.Thread(target=submit)
    thread.start()
    first.outcome = tickets[0].wait()
    thread.join(20)
    assert len(with_third) == 1
    assert with_third[0].slot is tickets[0].slot
    second.outcome, third.outcome = tickets[1].wait(), with_third[0].wait()
    assert first.right
    assert second.right
    assert third.right


def makespan(slots: int, stages: tuple[float, float, float], frames: int = 12) -> FakeDevice:
    """The device after that many frames, as many of them in flight as there are slots."""
    up, compute, down = stages
    # The denoised frame and its facts come down one after the other.
    takes = {"upload": (up, up), "compute": (compute, compute), "download": (down / 2, down / 2)}
    device = FakeDevice(3, takes)
    carrier = Carrier(device, slots)
    tickets: list[Ticket] = []
    for call in carrier.calls([(0, 0)] * frames):
        if len(tickets) == slots:
            tickets.pop(0).wait()
        tickets.append(carrier.pipeline.submit(call.lane, call.raws, call.known, call.results))
    for ticket in tickets:
        ticket.wait()
    return device


durations = st.floats(0.1, 5.0)


@settings(max_examples=25, deadline=None)
@given(st.tuples(durations, durations, durations), st.integers(3, 5))
def test_with_three_slots_the_slowest_stage_is_all_that_counts(stages, slots: int) -> None:
    overlapped = sum(stages) + 11 * max(stages)
    assert makespan(slots, stages).now == pytest.approx(overlapped)


@settings(max_examples=10, deadline=None)
@given(st.tuples(durations, durations, durations))
def test_with_one_slot_nothing_overlaps(stages) -> None:
    assert makespan(1, stages).now == pytest.approx(12 * sum(stages))


@pytest.mark.parametrize(("slots", "beside"), [(1, False), (2, True), (3, True)])
def test_a_frame_goes_up_while_the_one_before_is_computed(slots: int, beside: bool) -> None:
    device = makespan(slots, (1.0, 1.5, 1.0))
    ups, computes = device.done("upload")[1:], device.done("compute")
    pairs = list(zip(ups, computes, strict=False))
    assert len(pairs) == 11
    assert all(beside == (up.start < compute.end) for up, compute in pairs)


def test_references_go_to_the_device_only_when_they_change() -> None:
    device = FakeDevice(1)
    carrier = Carrier(device, slots=2)
    carrier.carry(carrier.calls([(0, number) for number in (0, 1, 1, 1, 2, 2, 1)]))
    assert len(device.done("copy")) == 4 * 4  # four tensors, four changes


# ---- a network on the CPU ----

CPU = torch.device("cpu")
SHAPE = (16, 24)
DTYPES = ("|u1", "<u2", ">u2", "<i2", "<u4", "<i4", "<f4")


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> str:
    """A small network's file."""
    path = tmp_path_factory.mktemp("network") / "small.safetensors"
    small = shaken(SCGN(Size(8, 1), "image"), seed=0)
    save_checkpoint(path, small, describe(small, "small"))
    return str(path)


@pytest.fixture(scope="module")
def checkpoint(network) -> Checkpoint:
    return load_network(network)


@pytest.fixture(scope="module")
def engines(tmp_path_factory, checkpoint) -> Path:
    """A cache that holds OpenVINO's engines for two kinds of frames."""
    folder = tmp_path_factory.mktemp("cache") / "engines"
    for dtype in (">u2", "<f4"):
        recipe = DeployRecipe(SHAPE, dtype)
        built(checkpoint, recipe, BACKENDS["openvino"], CPU, EngineCache(folder))
    return folder


@contextmanager
def denoiser_on(
    backend: str, checkpoint: Checkpoint, network: str, cache: Path, **changes: Any
) -> Iterator[StreamDenoiser]:
    choice = Choice(BACKENDS[backend], "as set")
    running = Running(network=network, precision="float32", threads=1, cache=cache, **changes)
    with closing(StreamDenoiser(checkpoint, CpuDevice(), choice, running)) as denoiser:
        yield denoiser


@pytest.fixture
def eager(checkpoint, network, tmp_path) -> Iterator[StreamDenoiser]:
    with denoiser_on("eager", checkpoint, network, tmp_path / "engines") as denoiser:
        yield denoiser


def camera_frame(seed: int, dtype: str = "<u2", shape: tuple[int, int] = SHAPE) -> Any:
    """Counts that every wire dtype holds, negative ones where it can."""
    wave = np.sin(np.arange(shape[1]) / 2) * np.cos(np.arange(shape[0]) / 3)[:, None]
    counts = np.random.default_rng(seed).poisson(100 + 40 * wave)
    return (counts - 90 if dtype in ("<i2", "<i4") else counts).astype(dtype)


def camera_calibration(seed: int = 7, shape: tuple[int, int] = SHAPE) -> Calibration:
    rng = np.random.default_rng(seed)
    dark, gain = rng.uniform(10, 30, shape), rng.uniform(0.8, 1.2, shape)
    return build_calibration(dark, gain, rng.random(shape) < 0.02, "multiply")


def denoised(
    denoiser: StreamDenoiser, *raws: Any, calibration: Calibration | None = None
) -> list[Any]:
    """The results of one call, in memory of their own."""
    results = [np.zeros(denoiser.result_bytes(raw.shape), np.uint8) for raw in raws]
    return denoiser.submit(Frames(raws, results), calibration).wait()


def lane_of(denoiser: StreamDenoiser) -> dict[str, Any]:
    """The one lane's line of the status."""
    (lane,) = denoiser.status()["lanes"]
    return lane


def assert_agrees(got: Any, wanted: Any) -> None:
    assert not isinstance(got, FrameError)
    assert np.abs(got - wanted).max() <= 1e-3 * np.ptp(wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_eager_lane_agrees_with_the_denoiser(dtype: str, eager, checkpoint) -> None:
    reference = Denoiser(checkpoint, CPU)
    for seed, calibration in enumerate((None, camera_calibration(1), camera_calibration(2), None)):
        raw = camera_frame(seed, dtype)
        (got,) = denoised(eager, raw, calibration=calibration)
        assert_agrees(got, reference(raw, calibration))
    assert lane_of(eager)["state"] == "ready"


@pytest.mark.parametrize("dtype", [">u2", "<f4"])
def test_openvino_lane_agrees_with_the_denoiser(dtype, checkpoint, network, engines) -> None:
    reference = Denoiser(checkpoint, CPU)
    with denoiser_on("openvino", checkpoint, network, engines) as denoiser:
        denoiser.prepare(SHAPE, dtype)
        assert lane_of(denoiser)["backend"] == "openvino"
        for seed, calibration in enumerate((None, camera_calibration())):
            raw = camera_frame(seed, dtype)
            (got,) = denoised(denoiser, raw, calibration=calibration)
            assert_agrees(got, reference(raw, calibration))


@pytest.mark.parametrize("dtype", ["float16", "uint16"])
def test_results_come_in_the_dtype_that_was_asked_for(dtype, checkpoint, network, tmp_path) -> None:
    raw = camera_frame(0)
    wanted = Denoiser(checkpoint, CPU)(raw)
    if dtype == "uint16":
        wanted = wanted.round().clip(0, 65535)
    with denoiser_on("eager", checkpoint, network, tmp_path, output_dtype=dtype) as denoiser:
        (got,) = denoised(denoiser, raw)
    assert (got.dtype, got.shape) == (np.dtype(dtype), SHAPE)
    assert np.abs(got.astype(float) - wanted).max() <= (1 if dtype == "uint16" else 0.2)


def test_calls_in_flight_meet_their_own_calibrations(eager, checkpoint) -> None:
    reference = Denoiser(checkpoint, CPU)
    given_ones = [None, *(camera_calibration(seed) for seed in range(3))]  # more than are kept
    under_way: queue.SimpleQueue[Any] = queue.SimpleQueue()
    order = [given_ones[number % 4] for number in range(12)]

    def submit() -> None:
        for seed, calibration in enumerate(order):
            raw = camera_frame(seed)
            results = [np.zeros(eager.result_bytes(SHAPE), np.uint8)]
            under_way.put(eager.submit(Frames([raw], results), calibration))

    thread = threading.Thread(target=submit)
    thread.start()
    for seed, calibration in enumerate(order):
        (got,) = under_way.get(timeout=20).wait()
        assert_agrees(got, reference(camera_frame(seed), calibration))
    thread.join(20)


@pytest.mark.parametrize(
    ("raw", "calibration", "reason"),
    [
        (np.ones((3, 40), "<u2"), None, "too_small"),
        (np.ones((40, 3), "<u2"), None, "too_small"),
        (np.ones((8, 8), "<u2"), camera_calibration(), "calibration_shape"),
        (np.ones(SHAPE, "<f8"), None, "camera_dtype"),
        (np.ones(SHAPE, ">f4"), None, "camera_dtype"),
        (np.ones(SHAPE, ">i4"), camera_calibration(), "camera_dtype"),
    ],
)
def test_frames_that_cannot_be_are_refused(raw, calibration, reason: str, eager) -> None:
    with pytest.raises(FrameError) as refused:
        denoised(eager, raw, calibration=calibration)
    assert refused.value.reason == reason
    assert eager.status()["lanes"] == [], "a lane was made for a frame that cannot be"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_frame_that_is_not_finite_fails_alone_in_its_batch(value, eager, checkpoint) -> None:
    reference = Denoiser(checkpoint, CPU)
    raws = [camera_frame(seed, "<f4") for seed in range(3)]
    raws[1][3, 4] = value
    first, bad, last = denoised(eager, *raws)
    assert isinstance(bad, FrameError)
    assert bad.reason == "non_finite"
    assert_agrees(first, reference(raws[0]))
    assert_agrees(last, reference(raws[2]))
    (again,) = denoised(eager, raws[2])
    assert_agrees(again, last)


def test_what_a_defect_holds_is_nobodys_fault(eager, checkpoint) -> None:
    mask = np.zeros(SHAPE, bool)
    mask[3, 4] = True
    calibration = build_calibration(mask=mask)
    raw = camera_frame(0, "<f4")
    raw[3, 4] = np.nan
    (got,) = denoised(eager, raw, calibration=calibration)
    assert_agrees(got, Denoiser(checkpoint, CPU)(raw, calibration))


def test_lanes_are_bounded_and_the_least_used_one_goes(eager) -> None:
    shapes = [(8, 8 + side) for side in range(LANES_MAX)]
    for shape in shapes:
        denoised(eager, np.ones(shape, "<u2"))
    denoised(eager, np.ones(shapes[0], "<u2"))
    denoised(eager, np.ones((9, 9), "<u2"))
    assert len(eager.status()["lanes"]) == LANES_MAX
    assert eager.has_lane(shapes[0], "<u2", 1)
    assert not eager.has_lane(shapes[1], "<u2", 1)
    (again,) = denoised(eager, np.ones(shapes[1], "<u2"))
    assert np.isfinite(again).all()


def test_a_lane_that_goes_still_finishes_its_calls(eager, checkpoint) -> None:
    raw = camera_frame(0)
    under_way = eager.submit(Frames([raw], [np.zeros(4 * raw.size, np.uint8)]), None)
    for side in range(LANES_MAX):
        denoised(eager, np.ones((8, 8 + side), "<u2"))
    assert not eager.has_lane(SHAPE, "<u2", 1)
    assert_agrees(under_way.wait()[0], Denoiser(checkpoint, CPU)(raw))


# ---- builds beside frames ----


@pytest.mark.timeout(240)
def test_frames_of_a_new_shape_do_not_wait_for_its_engine(checkpoint, network, tmp_path) -> None:
    raw, calibration = camera_frame(0), camera_calibration()
    with denoiser_on("openvino", checkpoint, network, tmp_path / "engines") as denoiser:
        (first,) = denoised(denoiser, raw, calibration=calibration)
        lane = lane_of(denoiser)
        assert (lane["backend"], lane["state"]) == ("eager", "building")
        assert_agrees(first, Denoiser(checkpoint, CPU)(raw, calibration))
        wait_for(lambda: lane_of(denoiser)["state"] != "building", "the end of the build", 170)
        lane = lane_of(denoiser)
        assert (lane["backend"], lane["state"]) == ("openvino", "ready")
        (later,) = denoised(denoiser, raw, calibration=calibration)
    assert psnr_db(torch.from_numpy(later), torch.from_numpy(first)) >= 60


@pytest.mark.timeout(240)
def test_a_build_that_fails_leaves_frames_flowing_and_says_why(
    checkpoint, network, tmp_path
) -> None:
    gone = str(tmp_path / "gone.safetensors")
    raw = camera_frame(0)
    with denoiser_on("openvino", checkpoint, gone, tmp_path / "engines") as denoiser:
        (first,) = denoised(denoiser, raw)
        wait_for(lambda: lane_of(denoiser)["state"] != "building", "the end of the build", 170)
        lane = lane_of(denoiser)
        assert lane["backend"] == "eager"
        assert lane["state"].startswith("not built: ")
        assert gone in lane["state"], "the reason names the file that was not found"
        (later,) = denoised(denoiser, raw)
    assert (later == first).all()


def test_closing_ends_a_build_under_way(checkpoint, network, tmp_path) -> None:
    with denoiser_on("openvino", checkpoint, network, tmp_path / "engines") as denoiser:
        denoised(denoiser, camera_frame(0))
        (build,) = (thread for thread in threading.enumerate() if thread.name == "build")
        begun = time.monotonic()
        denoiser.close()
        assert time.monotonic() - begun < 5
        assert not build.is_alive()
        assert lane_of(denoiser)["backend"] == "eager"
        (still,) = denoised(denoiser, camera_frame(0))
    assert np.isfinite(still).all()
    assert EngineCache(tmp_path / "engines").entries() == []


class HeldBuilds:
    """Builds that fail once `go` is set or the denoiser ends: what was begun, in order."""

    def __init__(self, denoiser: StreamDenoiser, patch: pytest.MonkeyPatch) -> None:
        self.go, self.begun = threading.Event(), list[tuple[int, int]]()
        self._denoiser = denoiser
        patch.setattr(denoiser, "_build", self)

    def __call__(self, key: Any) -> None:
        self.begun.append(key[0])
        wait_for(lambda: self.go.is_set() or self._denoiser._stopping.is_set(), "the end")
        raise BackendError("held")


def builders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "build"]


def test_shapes_without_end_are_built_by_one_thread_the_newest_first(
    checkpoint, network, tmp_path, monkeypatch
) -> None:
    first, *others = [(8, 8 + side) for side in range(3 * LANES_MAX)]
    with denoiser_on("openvino", checkpoint, network, tmp_path / "engines") as denoiser:
        held = HeldBuilds(denoiser, monkeypatch)
        denoised(denoiser, np.ones(first, "<u2"))
        wait_for(lambda: held.begun, "the first build")
        for shape in others:
            denoised(denoiser, np.ones(shape, "<u2"))
            denoised(denoiser, np.ones(shape, "<u2"))
        assert len(builders()) == 1
        held.go.set()
        wait_for(lambda: not builders(), "the builder running out of work")
        assert held.begun == [first, *reversed(others[-LANES_MAX:])]
        assert {lane["state"] for lane in denoiser.status()["lanes"]} == {"not built: held"}
        denoised(denoiser, np.ones(others[0], "<u2"))
        wait_for(lambda: held.begun[-1] == others[0], "one that was pushed out asking again")


def test_closing_begins_no_other_build(checkpoint, network, tmp_path, monkeypatch) -> None:
    with denoiser_on("openvino", checkpoint, network, tmp_path / "engines") as denoiser:
        held = HeldBuilds(denoiser, monkeypatch)
        for side in range(3):
            denoised(denoiser, np.ones((8, 8 + side), "<u2"))
        wait_for(lambda: held.begun, "the first build")
        denoiser.close()
        assert not builders()
        assert len(held.begun) == 1


def test_frames_go_on_where_no_thread_can_be_had(
    checkpoint, network, tmp_path, monkeypatch
) -> None:
    class NoMore(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    with denoiser_on("openvino", checkpoint, network, tmp_path / "engines") as denoiser:
        held = HeldBuilds(denoiser, monkeypatch)
        with monkeypatch.context() as patch:
            patch.setattr(stream_denoiser.threading, "Thread", NoMore)
            (got,) = denoised(denoiser, camera_frame(0))
        assert np.isfinite(got).all()
        denoised(denoiser, np.ones((8, 8), "<u2"))
        held.go.set()
        wait_for(lambda: SHAPE in held.begun, "the next new shape having both built")


@pytest.mark.timeout(240)
def test_a_damaged_engine_is_built_anew(checkpoint, network, engines) -> None:
    raw, recipe = camera_frame(0, ">u2"), DeployRecipe(SHAPE, ">u2")
    cache = EngineCache(engines)
    entry = cache.path(key_of(checkpoint, recipe, BACKENDS["openvino"], CPU))
    whole = entry.read_bytes()
    entry.write_bytes(whole[: len(whole) // 2])
    with denoiser_on("openvino", checkpoint, network, engines) as denoiser:
        denoiser.prepare(SHAPE, ">u2")
        (got,) = denoised(denoiser, raw)
        assert lane_of(denoiser)["backend"] == "openvino"
    assert_agrees(got, Denoiser(checkpoint, CPU)(raw))
    _, found = cache.get(key_of(checkpoint, recipe, BACKENDS["openvino"], CPU), lambda: b"")
    assert found, "the entry is still the damaged one"


class BuildsAtOnce(threading.Thread):
    """A thread that is through before whoever started it goes on."""

    def start(self) -> None:
        super().start()
        self.join()


@pytest.mark.parametrize("ready", [True, False])
def test_a_build_that_ends_at_once_is_not_overlooked(
    ready: bool, checkpoint, network, engines, tmp_path, monkeypatch
) -> None:
    cache = engines if ready else tmp_path / "engines"
    with denoiser_on("openvino", checkpoint, network, cache) as denoiser:
        denoiser._stopping.set()  # a build that were needed would fail at once
        with monkeypatch.context() as patch:
            patch.setattr(stream_denoiser.threading, "Thread", BuildsAtOnce)
            denoised(denoiser, camera_frame(0, "<f4"))
        lane = lane_of(denoiser)
    assert lane["backend"] == ("openvino" if ready else "eager")
    assert lane["state"] != "building"
