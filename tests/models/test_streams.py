"""Streams through the pipeline: each has its own past whatever is in flight, forgets when it must,
and costs nobody else anything when it fails or goes.
"""

from __future__ import annotations

import itertools
import queue
import random
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import temporal
import torch
from devices import FakeDevice
from hypothesis import given, settings
from hypothesis import strategies as st
from temporal import mean_of

from scgn.backends import BACKENDS, Choice
from scgn.backends.backend import Movable
from scgn.backends.cache import EngineCache
from scgn.calibration import build_calibration
from scgn.compile import built, compiled, run_once
from scgn.denoise import FrameError
from scgn.deploy import DeployError, DeployRecipe
from scgn.deploy.export import sample
from scgn.deploy.signature import NEW, Signature, signature_of
from scgn.noise import NoiseModel
from scgn.pipeline import (
    CpuDevice,
    CudaDevice,
    Device,
    Frames,
    Results,
    Stream,
    StreamDenoiser,
    streams,
)
from scgn.pipeline.state import Block, Pair
from scgn.pipeline.stream_denoiser import Running
from scgn.pipeline.streams import Kind, StateLost, StreamStore
from scgn.stream.facts import PROBED, Facts
from scgn.stream.state import PROBE, STATE, state_shapes
from scgn.stream.tracker import Controls, Exposure

CPU = torch.device("cpu")
SHAPE = (6, 8)
DRAWN = {"upload": (0.0, 3.0), "compute": (0.0, 3.0), "download": (0.0, 2.0), "copy": (0.0, 1.0)}


class Recorder:
    """A tracker that asks for what it was set to, and keeps what it is told."""

    asked = Controls(16, 0, None)

    def __init__(self, temporal: Any = "auto", probe_every: int = 8) -> None:
        self.temporal, self.heard = temporal, list[tuple[int, Facts, Controls]]()

    def controls(self) -> Controls:
        return replace(self.asked, longest=1) if self.temporal == "off" else self.asked

    def told(
        self, facts: Facts, exposure: Exposure, controls: Controls, display_range: float
    ) -> Any:
        self.heard.append((exposure.frame, facts, controls))
        return facts

    def status(self) -> dict[str, Any]:
        return {"temporal": self.temporal, "frames": [frame for frame, _, _ in self.heard]}


@pytest.fixture(autouse=True)
def _simple_streams(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Trackers that say what they are told, and a graph that says what it is told."""
    monkeypatch.setattr(streams, "StreamTracker", Recorder)
    with temporal.deployed():
        yield


def asking(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    monkeypatch.setattr(Recorder, "asked", replace(Recorder.asked, **changes))


def denoiser_on(
    device: Device, cache: Path = Path(), backend: str = "eager", **changes: Any
) -> closing[StreamDenoiser]:
    running = Running("stand-in", "float32", threads=1, cache=cache, **changes)
    choice = Choice(BACKENDS[backend], "as set")
    return closing(StreamDenoiser(temporal.checkpoint(), device, choice, running))


def frame_of(number: int, shape: tuple[int, int] = SHAPE, dtype: str = "<u2") -> Any:
    return np.random.default_rng(number).integers(0, 200, shape).astype(dtype)


def stream_of(source: str, index: int, series: str = "s") -> Stream:
    return Stream(source, series, Exposure(index))


def submitted(
    denoiser: StreamDenoiser, raw: Any, stream: Stream | None, calibration: Any = None
) -> Results:
    results = [np.zeros(denoiser.result_bytes(raw.shape), np.uint8)]
    return denoiser.submit(Frames([raw], results, [stream]), calibration)


def done(
    denoiser: StreamDenoiser, raw: Any, stream: Stream | None, calibration: Any = None
) -> tuple[Any, Any]:
    """The denoised frame, and what its stream says of it: here the graph's facts."""
    call = submitted(denoiser, raw, stream, calibration)
    (result,) = call.wait()
    (report,) = call.reports
    return result, report


def told(facts: Any) -> tuple[float, float, float, float]:
    """The control that a call had, as the stand-in gives it back."""
    return facts.filled, facts.flagged, facts.saturated, facts.error


# ---- names ----


def test_sample_is_in_the_graphs_own_order() -> None:
    graph = temporal.stand_in(DeployRecipe(SHAPE, precision="float64"))
    named = dict(zip(graph.inputs, sample(graph), strict=True))
    assert named["raw"].shape == (1, *SHAPE, 2)
    assert named["noise_power"].shape == (6, 5)
    assert named["law"].shape == (6,)
    assert named["control"].shape == (1, 4)
    for name, shape in state_shapes(SHAPE).items():
        assert named[name].shape == shape
        assert not named[name].any(), "zeros are the empty state"
    outputs = dict(zip(graph.outputs, graph(*sample(graph)), strict=True))
    blank = signature_of(graph).blank_outputs(graph.recipe)
    for value, expected in zip(outputs.values(), blank, strict=True):
        assert (value.shape, value.dtype) == (expected.shape, expected.dtype)


def test_two_tensors_of_one_name_are_refused() -> None:
    with pytest.raises(DeployError, match="noise"):
        Signature(("raw", "noise", "noise"), ("denoised",))


@pytest.mark.parametrize("backend", ["eager", "openvino", "onnxruntime"])
def test_engine_gives_the_state_that_the_graph_gives(backend: str, tmp_path) -> None:
    recipe = DeployRecipe((16, 24))
    graph, device = temporal.stand_in(recipe), CPU
    cache = EngineCache(tmp_path / "engines")
    engine = compiled(temporal.checkpoint(), recipe, BACKENDS[backend], device, cache, threads=1)
    assert (engine.signature.inputs, engine.signature.outputs) == (graph.inputs, graph.outputs)
    generator = torch.Generator().manual_seed(1)
    inputs = [
        torch.rand(t.shape, generator=generator) if t.dtype == torch.float32 else t
        for t in sample(graph)
    ]
    inputs[graph.inputs.index("control")] = torch.tensor([[0.0, 3, 8, 0]])
    outputs = engine.signature.blank_outputs(recipe)
    engine.context(inputs, outputs).enqueue()
    for name, got, wanted in zip(graph.outputs, outputs, graph(*inputs), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5, msg=name)
    run_once(engine, graph, device)


@pytest.mark.parametrize("backend", ["eager", "openvino", "onnxruntime"])
def test_a_context_on_a_cpu_may_be_moved(backend: str, tmp_path) -> None:
    recipe = DeployRecipe((16, 24))
    graph, cache = temporal.stand_in(recipe), EngineCache(tmp_path / "engines")
    engine = compiled(temporal.checkpoint(), recipe, BACKENDS[backend], CPU, cache, threads=1)
    inputs, outputs = list(sample(graph)), engine.signature.blank_outputs(recipe)
    context = engine.context(inputs, outputs)
    assert isinstance(context, Movable)
    pair = Pair(recipe, CPU)
    pair.clear()
    for made in pair.made.values():
        made.fill_(-1)
    for number in range(1, 6):
        inputs[0].fill_(number)
        context.bind(pair.named())
        context.enqueue()
        pair.keep(STATE)
        pixels = 257 * np.arange(1, number + 1)
        assert float(outputs[0].mean()) == pytest.approx(pixels.mean())
        assert pair.parts["age"].unique().tolist() == [number]
        assert float(pair.parts["ring"][0, -1].max()) == (0 if number < 7 else 257)


def test_state_lies_in_one_piece_of_memory() -> None:
    block = Block(DeployRecipe(SHAPE), CPU)
    assert {name: part.shape for name, part in block.parts.items()} == state_shapes(SHAPE)
    block.whole.zero_()
    for number, part in enumerate(block.parts.values(), 1):
        assert part.data_ptr() % 64 == block.whole.data_ptr() % 64
        part.fill_(number)
    for number, part in enumerate(block.parts.values(), 1):
        assert (part == number).all(), "two parts overlap"


# ---- what the next frame may know ----

KIND = Kind("abc", "<u2")


def block() -> Block:
    return Block(DeployRecipe(SHAPE), CPU)


@pytest.mark.parametrize(
    ("series", "frame", "kind", "reset", "steps"),
    [
        ("s", 11, KIND, 0, 1),
        ("s", 13, KIND, 0, 3),
        ("s", 18, KIND, 0, 8),
        ("s", 19, KIND, 1, 9),
        ("s", 10, KIND, 1, 1),
        ("s", 0, KIND, 1, 1),
        ("t", 11, KIND, 1, 1),
        ("t", 0, KIND, 1, 1),
        ("s", 11, Kind("abd", "<u2"), 2, 1),
        ("s", 11, Kind(None, "<u2"), 2, 1),
        ("s", 11, Kind("abc", ">u2"), 2, 1),
    ],
)
def test_what_came_before_decides_what_is_kept(series, frame, kind, reset, steps) -> None:
    store = StreamStore()
    first = store.turn(stream_of("cam", 10), SHAPE, KIND, block)
    assert first.past.control == (2, 1, 16, 0), "a new stream has no past"
    assert first.past.fresh
    turn = store.turn(stream_of("cam", frame, series), SHAPE, kind, block)
    assert turn.past.control == (reset, steps, 16, 0)
    assert turn.past.fresh == (reset == 2)
    assert turn.past.state is first.past.state


def test_a_series_or_another_calibration_is_another_streams_trackers() -> None:
    store = StreamStore()
    turns = [
        store.turn(stream_of("cam", frame, series), SHAPE, kind, block)
        for series, frame, kind in (
            ("s", 0, KIND), ("s", 1, KIND), ("s", 30, KIND), ("t", 0, KIND), ("t", 0, KIND),
            ("t", 1, Kind(None, "<u2")),
        )
    ]  # fmt: skip
    trackers = [turn.tracker for turn in turns]
    same = [a is b for a, b in itertools.pairwise(trackers)]
    assert same == [True, True, False, False, False], "a gap is the same stream's"


def test_shapes_of_one_source_have_a_past_each() -> None:
    store = StreamStore()
    one = store.turn(stream_of("cam", 0), SHAPE, KIND, block)
    other = store.turn(stream_of("cam", 1), (8, 8), KIND, block)
    again = store.turn(stream_of("cam", 2), SHAPE, KIND, block)
    assert other.past.fresh
    assert again.past.control[:2] == (0, 2)
    assert again.past.state is one.past.state is not other.past.state


def test_the_least_recently_used_stream_goes() -> None:
    store = StreamStore(streams_max=2)
    for source in ("a", "b", "a", "c"):
        store.turn(stream_of(source, len(source)), SHAPE, KIND, block)
    assert list(store.status()) == ["a", "c"]
    assert store.turn(stream_of("b", 5), SHAPE, KIND, block).past.fresh


def test_states_are_bounded_by_their_bytes_but_one_always_stays() -> None:
    store = StreamStore(bytes_max=2 * block().bytes)
    for source in "abc":
        store.turn(stream_of(source, 0), SHAPE, KIND, block)
    assert list(store.status()) == ["b", "c"]
    small = StreamStore(bytes_max=1)
    for source in "ab":
        small.turn(stream_of(source, 0), SHAPE, KIND, block)
    assert list(small.status()) == ["b"]
    assert small.turn(stream_of("b", 1), SHAPE, KIND, block).past.control[0] == 0


def test_a_probe_is_not_asked_for_where_there_is_no_past(monkeypatch) -> None:
    asking(monkeypatch, probe_longest=1)
    store = StreamStore()
    turns = [
        store.turn(stream_of("cam", frame, series), SHAPE, KIND, block)
        for frame, series in ((0, "s"), (1, "s"), (2, "t"))
    ]
    assert [turn.controls.probe_longest for turn in turns] == [None, 1, None]
    assert [turn.past.probe for turn in turns] == [None, (0, 1, 1, PROBED), None]


# ---- frames ----


def test_a_frame_knows_the_frames_before_it() -> None:
    with denoiser_on(CpuDevice()) as denoiser:
        raws = [frame_of(number) for number in range(5)]
        for index, raw in enumerate(raws):
            result, facts = done(denoiser, raw, stream_of("cam", index))
            np.testing.assert_allclose(result, mean_of(raws[: index + 1]), rtol=1e-6)
            assert facts.averaged == index + 1
            assert told(facts) == (0 if index else 2, 1, 16, 0)
        assert denoiser.status()["streams"] == {
            "cam": {"temporal": "auto", "frames": [0, 1, 2, 3, 4]}
        }


def test_a_frame_of_no_stream_has_no_past_and_leaves_none() -> None:
    with denoiser_on(CpuDevice()) as denoiser:
        first, second, third = (frame_of(number) for number in range(3))
        done(denoiser, first, stream_of("cam", 0))
        alone, report = done(denoiser, second, None)
        assert (alone == second).all()
        assert report is None
        both, facts = done(denoiser, third, stream_of("cam", 1))
        np.testing.assert_allclose(both, mean_of([first, third]), rtol=1e-6)
        assert facts.gain_network == 2, "the frame between was no call of this stream's"


def test_calibration_reaches_the_graph_and_another_one_begins_anew() -> None:
    lags = np.array([[0, 0.2, 0], [0.2, 1, 0.2], [0, 0.2, 0]], np.float32)
    noise = NoiseModel(3.0, 2.0, 0.5, "row", 0.5, lags)
    known = build_calibration(dark=np.zeros(SHAPE), noise=noise)
    with denoiser_on(CpuDevice()) as denoiser:
        words = [
            done(denoiser, frame_of(index), stream_of("cam", index), calibration)[1]
            for index, calibration in enumerate((None, None, known, known, None))
        ]
    assert [facts.filled for facts in words] == [2, 0, 2, 0, 2]
    assert [facts.averaged for facts in words] == [1, 2, 1, 2, 1]
    law = [3.0, 2.0, 0.5, 0.0, 0.5, 1.0]
    assert words[2].gain_adu_per_e == pytest.approx(np.mean(law))
    assert words[4].gain_adu_per_e == 0
    assert words[4].line_rows == 0
    assert words[2].line_rows == pytest.approx(1, abs=0.2), "of relative power, on half the plane"


def test_another_dtype_of_the_same_camera_begins_anew() -> None:
    with denoiser_on(CpuDevice()) as denoiser:
        for index, dtype in enumerate(("<u2", "<u2", "<f4", "<f4", "<u2")):
            _, facts = done(denoiser, frame_of(index, dtype=dtype), stream_of("cam", index))
            assert facts.averaged == (2 if index in (1, 3) else 1)
            assert facts.filled == (0 if index in (1, 3) else 2)


def test_a_frame_that_is_not_finite_leaves_its_stream_as_it_was() -> None:
    with denoiser_on(CpuDevice()) as denoiser:
        raws = [frame_of(number, dtype="<f4") for number in range(4)]
        for index in (0, 1):
            done(denoiser, raws[index], stream_of("cam", index))
        raws[2][1, 1] = np.nan
        result, report = done(denoiser, raws[2], stream_of("cam", 2))
        assert isinstance(result, FrameError)
        assert report is None
        result, facts = done(denoiser, raws[3], stream_of("cam", 3))
        np.testing.assert_allclose(result, mean_of([raws[0], raws[1], raws[3]]), rtol=1e-6)
        assert told(facts)[:2] == (0, 2), "the last one that was processed is two frames back"


def test_forgetting_a_source_frees_its_past() -> None:
    with denoiser_on(CpuDevice()) as denoiser:
        for source in "ab":
            done(denoiser, frame_of(0), stream_of(source, 0))
        denoiser.forget("a")
        assert list(denoiser.status()["streams"]) == ["b"]
        assert done(denoiser, frame_of(1), stream_of("a", 1))[1].averaged == 1
        assert done(denoiser, frame_of(1), stream_of("b", 1))[1].averaged == 2


def test_temporal_is_set_for_streams_that_are_and_that_come() -> None:
    with denoiser_on(CpuDevice(), temporal="off") as denoiser:
        assert done(denoiser, frame_of(0), stream_of("a", 0))[1].saturated == 1
        denoiser.set_temporal("auto")
        assert done(denoiser, frame_of(1), stream_of("a", 1))[1].saturated == 16
        denoiser.set_temporal("off")
        assert done(denoiser, frame_of(1), stream_of("b", 0))[1].saturated == 1
        _, facts = done(denoiser, frame_of(2), stream_of("a", 2))
        assert (facts.saturated, facts.averaged) == (1, 3), "the state goes on beside"


def test_frames_of_a_temporal_network_never_go_together() -> None:
    with denoiser_on(CpuDevice()) as denoiser:
        denoiser.prepare(SHAPE, "<u2", 3)
        assert denoiser.status()["lanes"] == [], "there is nothing to prepare for three"
        denoiser.prepare(SHAPE, "<u2", 1)
        assert denoiser.has_lane(SHAPE, "<u2", 1)
        assert not denoiser.has_lane(SHAPE, "<u2", 3)
        with pytest.raises(ValueError, match="expected one a call, got 2"):
            denoiser.submit(Frames([frame_of(0)] * 2, []), None)


def stream_state(denoiser: StreamDenoiser, source: str) -> dict[str, torch.Tensor]:
    """A copy of what is kept of a source."""
    (kept,) = (kept for key, kept in denoiser._streams._kept.items() if key[0] == source)
    return {name: part.clone() for name, part in kept.state.parts.items()}


def test_a_probe_leaves_nothing_but_its_own_score(monkeypatch) -> None:
    raws = [frame_of(number) for number in range(4)]

    def run(probed: bool) -> tuple[Any, Any, dict[str, torch.Tensor]]:
        with denoiser_on(CpuDevice()) as denoiser:
            for index, raw in enumerate(raws[:3]):
                done(denoiser, raw, stream_of("cam", index))
            asking(monkeypatch, probe_longest=1 if probed else None)
            result, facts = done(denoiser, raws[3], stream_of("cam", 3))
            asking(monkeypatch, probe_longest=None)
            return result, facts, stream_state(denoiser, "cam")

    (plain, facts, without), (beside, probed, with_it) = run(False), run(True)
    assert (plain == beside).all()
    for name in set(STATE) - set(PROBE):
        assert torch.equal(without[name], with_it[name]), name
    changed = {n for n, a, b in zip(Facts._fields, facts, probed, strict=True) if a != b}
    assert changed == {"scored_probe"}
    # What the call itself found there: the third frame's, or that of a probe of the fourth.
    assert (facts.scored_probe, probed.scored_probe) == (1600 + 3, 100 + 4)


# ---- frames in flight ----

STEPS = ("a", "a", "b", "c", "none", "series", "gap", "calibration", "bad")
CALIBRATIONS = (None, build_calibration(dark=np.full(SHAPE, 7.0)))


class Model:
    """What each frame should come to, by a few lists."""

    def __init__(self) -> None:
        self.frames: dict[str, list[Any]] = defaultdict(list)
        self.series: dict[str, int] = defaultdict(int)
        self.index: dict[str, int] = defaultdict(int)
        self.kind: dict[str, int] = {}
        self.calibration = 0

    def take(self, step: str, raw: Any, chance: random.Random) -> tuple[Stream | None, Any]:
        """The frame's stream, and the denoised frame, None where it is none."""
        if step == "none":
            return None, self._corrected(raw)
        source = step if step in "abc" else chance.choice("abc")
        if step == "series":
            self.series[source], self.index[source] = self.series[source] + 1, 0
        elif step == "gap":
            self.index[source] += 9
        elif step == "calibration":
            self.calibration = 1 - self.calibration
        if step in ("series", "gap") or self.kind.get(source) != self.calibration:
            self.frames[source].clear()
        self.kind[source] = self.calibration
        stream = stream_of(source, self.index[source], str(self.series[source]))
        self.index[source] += 1
        if step == "bad":
            raw[0, 0] = np.inf
            return stream, None
        self.frames[source].append(self._corrected(raw))
        return stream, mean_of(self.frames[source])

    def _corrected(self, raw: Any) -> Any:
        return raw - 7 if self.calibration else raw.copy()


@contextmanager
def waiting(outcomes: list[Any]) -> Iterator[queue.SimpleQueue[Any]]:
    """A thread that waits for calls in order, and keeps what came of them."""
    under_way: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def wait() -> None:
        while (call := under_way.get(timeout=20)) is not None:
            try:
                outcomes.append(call.wait()[0])
            except RuntimeError as error:
                outcomes.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    yield under_way
    under_way.put(None)
    thread.join(20)
    assert not thread.is_alive()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(STEPS), min_size=1, max_size=25), st.integers(1, 4),
    st.integers(0, 2**32), st.booleans(),
)  # fmt: skip
def test_no_stream_meets_anothers_past_whatever_the_timing(
    steps: list[str], in_flight: int, seed: int, probes: bool
) -> None:
    chance, model, outcomes = random.Random(seed), Model(), list[Any]()
    wanted, raws = [], []
    with pytest.MonkeyPatch.context() as patch:
        asking(patch, probe_longest=1 if probes else None)
        with denoiser_on(FakeDevice(seed, DRAWN), in_flight=in_flight) as denoiser:
            with waiting(outcomes) as under_way:
                for number, step in enumerate(steps):
                    raws.append(frame_of(number, dtype="<f4"))
                    stream, result = model.take(step, raws[-1], chance)
                    wanted.append(result)
                    calibration = CALIBRATIONS[model.calibration]
                    under_way.put(submitted(denoiser, raws[-1], stream, calibration))
    for got, expected in zip(outcomes, wanted, strict=True):
        if expected is None:
            assert isinstance(got, FrameError)
        else:
            np.testing.assert_allclose(got, expected, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.text("ab", min_size=4, max_size=20), st.integers(0, 2**32), st.data())
def test_a_failing_call_costs_its_stream_its_past_and_others_nothing(sources, seed, data) -> None:
    failing = data.draw(st.integers(0, len(sources) - 1))
    outcomes, known = list[Any](), defaultdict[str, list[Any]](list)
    with denoiser_on(FakeDevice(seed, DRAWN, fails=(failing,)), in_flight=3) as denoiser:
        with waiting(outcomes) as under_way:
            for number, source in enumerate(sources):
                index = sources[:number].count(source)  # its own: no gap where others come between
                under_way.put(submitted(denoiser, frame_of(number), stream_of(source, index)))
    assert isinstance(outcomes[failing], RuntimeError)
    assert f"call {failing} failed" in str(outcomes[failing])
    lost = [number for number, got in enumerate(outcomes) if isinstance(got, StateLost)]
    assert lost == [n for n in range(failing + 1, (lost or [0])[-1] + 1)
                    if sources[n] == sources[failing]]  # fmt: skip
    for number, (source, got) in enumerate(zip(sources, outcomes, strict=True)):
        if isinstance(got, RuntimeError):
            known[source].clear()
            continue
        known[source].append(frame_of(number))
        np.testing.assert_allclose(got, mean_of(known[source]), rtol=1e-5)


def test_a_call_that_cannot_be_made_costs_its_stream_its_past(monkeypatch) -> None:
    with denoiser_on(CpuDevice()) as denoiser:
        for source, index in (("a", 0), ("b", 0), ("a", 1)):
            done(denoiser, frame_of(index), stream_of(source, index))
        with monkeypatch.context() as patch:
            patch.setattr(temporal.StandIn, "forward", None)
            with pytest.raises(TypeError):
                submitted(denoiser, frame_of(2), stream_of("a", 2))
        result, facts = done(denoiser, frame_of(3), stream_of("a", 3))
        assert told(facts)[0] == 2
        assert (result == frame_of(3)).all()
        assert done(denoiser, frame_of(3), stream_of("b", 1))[1].averaged == 2


def test_a_stream_that_goes_while_its_call_is_under_way_finishes_it() -> None:
    device = FakeDevice(4, DRAWN)
    with denoiser_on(device, in_flight=4, streams_max=1) as denoiser:
        done(denoiser, frame_of(0), None)  # making a lane waits for the device
        device.hold()
        calls = [
            submitted(denoiser, frame_of(number), stream_of(source, number))
            for number, source in enumerate("aaba")
        ]
        device.go_on()
        got = [call.wait()[0] for call in calls]
    raws = [frame_of(number) for number in range(4)]
    for result, behind in zip(got, (raws[:1], raws[:2], raws[2:3], raws[3:]), strict=True):
        np.testing.assert_allclose(result, mean_of(behind), rtol=1e-6)


def test_trackers_hear_of_frames_in_order_with_their_own_controls(monkeypatch) -> None:
    device = FakeDevice(5, DRAWN)
    with denoiser_on(device, in_flight=3) as denoiser:
        outcomes: list[Any] = []
        with waiting(outcomes) as under_way:
            for index in range(12):
                asking(monkeypatch, longest=1 + index)
                under_way.put(submitted(denoiser, frame_of(index), stream_of("cam", index)))
        (kept,) = denoiser._streams._kept.values()
    heard = kept.tracker.heard  # type: ignore[attr-defined]
    assert [frame for frame, _, _ in heard] == list(range(12))
    for index, facts, controls in heard:
        assert controls.longest == facts.saturated == 1 + index


# ---- engines ----


def test_openvino_with_state_gives_what_eager_gives(tmp_path, monkeypatch) -> None:
    shape, engines = (16, 24), EngineCache(tmp_path / "engines")
    built(temporal.checkpoint(), DeployRecipe(shape), BACKENDS["openvino"], CPU, engines)
    kinds = [("a", None), ("b", None), ("a", 1), ("a", None), ("b", None)] * 3
    outcomes = []
    for backend in ("eager", "openvino"):
        with denoiser_on(CpuDevice(), engines.folder, backend) as denoiser:
            denoiser.prepare(shape, "<u2")
            assert denoiser.status()["lanes"][0]["backend"] == backend
            index, got = defaultdict[str, int](int), []
            for number, (source, probe) in enumerate(kinds):
                asking(monkeypatch, probe_longest=probe)
                got.append(
                    done(denoiser, frame_of(number, shape), stream_of(source, index[source]))
                )
                index[source] += 1
            states = [stream_state(denoiser, source) for source in "ab"]
        outcomes.append((got, states))
    (eager, eager_states), (openvino, openvino_states) = outcomes
    for (frame, facts), (other, others) in zip(eager, openvino, strict=True):
        np.testing.assert_allclose(frame, other, rtol=1e-5)
        np.testing.assert_allclose(facts, others, rtol=1e-5)
    for one, two in zip(eager_states, openvino_states, strict=True):
        for name in STATE:
            torch.testing.assert_close(one[name], two[name], rtol=1e-5, atol=1e-5, msg=name)


def test_a_better_engine_goes_on_with_the_streams_past(tmp_path) -> None:
    shape, engines = (16, 24), EngineCache(tmp_path / "engines")
    built(temporal.checkpoint(), DeployRecipe(shape), BACKENDS["openvino"], CPU, engines)
    with denoiser_on(CpuDevice(), engines.folder, "openvino") as denoiser:
        raws = [frame_of(number, shape) for number in range(4)]
        denoiser._put((shape, "<u2", 1), denoiser._standing((shape, "<u2", 1), BACKENDS["eager"]))
        for index in (0, 1):
            done(denoiser, raws[index], stream_of("cam", index))
        denoiser.prepare(shape, "<u2")
        for index in (2, 3):
            result, _ = done(denoiser, raws[index], stream_of("cam", index))
    np.testing.assert_allclose(result, mean_of(raws), rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.filterwarnings("ignore")
def test_captured_graphs_on_a_gpu_keep_streams_apart(monkeypatch) -> None:
    device = CudaDevice(torch.device("cuda"))
    asking(monkeypatch, probe_longest=1)
    with denoiser_on(device, in_flight=3) as denoiser:
        denoiser.prepare(SHAPE, "<u2")
        assert denoiser.host is not None
        outcomes: list[Any] = []
        raws, results = (
            [denoiser.host(size).view(dtype).reshape(SHAPE) for _ in range(60)]
            for size, dtype in ((96, np.uint16), (192, np.float32))
        )
        with waiting(outcomes) as under_way:
            for number, (raw, result) in enumerate(zip(raws, results, strict=True)):
                raw[:] = frame_of(number)
                stream = stream_of("aab"[number % 3], number)
                memory = result.reshape(-1).view(np.uint8)
                under_way.put(denoiser.submit(Frames([raw], [memory], [stream]), None))
    behind: dict[str, list[Any]] = defaultdict(list)
    for number, got in enumerate(outcomes):
        source = behind["aab"[number % 3]]
        source.append(frame_of(number))
        np.testing.assert_allclose(got, mean_of(source), rtol=1e-4)


def test_a_temporal_that_cannot_be_changes_nothing(monkeypatch) -> None:
    class Strict(Recorder):
        def __init__(self, temporal: Any = "auto") -> None:
            if temporal == 99:
                raise ValueError("temporal: expected at most 16 frames, got 99")
            super().__init__(temporal)

    monkeypatch.setattr(streams, "StreamTracker", Strict)
    with pytest.raises(ValueError, match="got 99"):
        denoiser_on(CpuDevice(), temporal=99)
    with denoiser_on(CpuDevice()) as denoiser:
        done(denoiser, frame_of(0), stream_of("cam", 0))
        with pytest.raises(ValueError, match="got 99"):
            denoiser.set_temporal(99)
        done(denoiser, frame_of(1), stream_of("cam", 1))
        assert denoiser.status()["streams"] == {"cam": {"temporal": "auto", "frames": [0, 1]}}


def test_new_names_are_the_states_own() -> None:
    assert temporal.OUTPUTS[2:] == tuple(NEW + name for name in STATE)
