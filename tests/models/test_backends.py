"""Backends: one graph, one result whatever runs it, on memory that stays; and which one is chosen.

The reference is the graph itself as PyTorch runs it, so nothing here says that the graph is right.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from graphs import inputs_of, state_of
from networks import shaken
from torch import Tensor

from scgn.architectures import build_network
from scgn.backends import BACKENDS, Backend, BackendError, Engine, backend_named, choose
from scgn.backends.backend import ignore, runtime, why_not, word_on
from scgn.backends.onnx_runtime import OnnxRuntime
from scgn.backends.openvino import OpenVino
from scgn.calibration import Calibration, build_calibration
from scgn.checkpoint import Checkpoint, checkpoint_of, describe
from scgn.deploy import DeployRecipe, Graph, deploy
from scgn.deploy.counts import as_raw
from scgn.deploy.export import onnx_bytes
from scgn.deploy.signature import signature_of
from scgn.metrics import psnr_db
from scgn.network import SCGN
from scgn.sizes import Design, Size
from scgn.stream.facts import Facts

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SHAPE = (16, 24)
ON_CPU = ("eager", "openvino", "onnxruntime")  # inductor's C++ takes minutes
ON_CUDA = tuple(name for name, backend in BACKENDS.items() if "cuda" in backend.devices)


@dataclass(frozen=True)
class Slot:
    """Memory of one context; a frame's pixels and a calibration are written into it in place."""

    graph: Graph
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def show(self, pixels: np.ndarray, calibration: Calibration | None = None) -> None:
        """Of a stream that knows nothing yet."""
        given = inputs_of(self.graph, pixels, calibration)
        for place, value in zip(self.inputs, given, strict=True):
            place.copy_(value)

    def go_on(self) -> None:
        """The state that came out goes in again."""
        for place, value in zip(
            reversed(self.inputs), reversed(state_of(self.outputs)), strict=False
        ):
            place.copy_(value)

    def result(self) -> Tensor:
        """A copy of the denoised frame, on the CPU."""
        return self.outputs[0].to(CPU, copy=True)


def slot_of(graph: Graph, device: torch.device = CPU) -> Slot:
    pixels = np.zeros(graph.recipe.shape, graph.recipe.camera_dtype)
    inputs = tuple(value.to(device, copy=True) for value in inputs_of(graph, pixels))
    return Slot(graph, inputs, signature_of(graph).blank_outputs(graph.recipe, device))


def camera_frame(scene: int, shape: tuple[int, int] = SHAPE, seed: int | None = None) -> np.ndarray:
    """Counts with structure, another level for each scene, and other noise for each seed."""
    rng = np.random.default_rng(scene if seed is None else seed)
    wave = np.sin(np.arange(shape[1]) / 2) * np.cos(np.arange(shape[0]) / 3)[:, None]
    return rng.poisson(200 + 100 * scene + 60 * wave).astype("<u2")


def camera_calibration(shape: tuple[int, int] = SHAPE) -> Calibration:
    """Dark, gain, lone defects and a patch so wide that its middle copies a far pixel."""
    rng = np.random.default_rng(7)
    mask = rng.random(shape) < 0.02
    mask[2:11, 3:12] = True
    return build_calibration(
        rng.uniform(10, 30, shape), rng.uniform(0.8, 1.2, shape), mask, "multiply"
    )


def scgn() -> Checkpoint:
    """Sees one frame."""
    network = shaken(SCGN(Size(8, 1), "image"), seed=0)
    return checkpoint_of(network, describe(network, "small"))


def student() -> Checkpoint:
    """Knows its stream."""
    network = shaken(build_network(Design("student4", Size(8, 1), "stream")), seed=0)
    return checkpoint_of(network, describe(network, "small"))


@torch.inference_mode()
def own_result(slot: Slot) -> tuple[Tensor, ...]:
    """What the graph itself makes of the slot's inputs."""
    outputs: tuple[Tensor, ...] = slot.graph(*slot.inputs)
    return outputs


def engine_of(backend: Backend, graph: Graph, device: torch.device = CPU) -> tuple[Graph, Engine]:
    """Built and loaded, beside its graph."""
    return graph, backend.load(backend.build(graph, ignore), graph, device, 1)


@pytest.fixture(scope="module")
def exported() -> Callable[[Callable[[], Checkpoint]], tuple[Graph, bytes]]:
    """A network's graph and its ONNX, which takes seconds and is the same for all that take it."""

    @functools.cache
    def export(network: Callable[[], Checkpoint]) -> tuple[Graph, bytes]:
        graph = deploy(network(), DeployRecipe(SHAPE))
        return graph, onnx_bytes(graph)

    return export


@pytest.fixture(
    scope="module",
    params=[(name, network) for name in ON_CPU for network in (scgn, student)],
    ids=lambda given: f"{given[0]}-{given[1].__name__}",
)
def made(request, exported) -> tuple[Graph, Engine]:
    """A small network's graph and its engine, one of every CPU backend."""
    name, network = request.param
    graph, content = exported(network)
    return graph, BACKENDS[name].load(content, graph, CPU, 1)


def assert_agrees(slot: Slot) -> None:
    """The slot holds the graph's own result, within the rounding of float32."""
    denoised, facts, *state = own_result(slot)
    assert psnr_db(slot.result(), denoised) >= (90 if state else 100)
    torch.testing.assert_close(slot.outputs[1], facts, rtol=1e-4 if state else 1e-5, atol=1e-4)
    for got, want in zip(state_of(slot.outputs), state, strict=True):
        assert (got - want).abs().max() <= 1e-4 * want.abs().max() + 1e-4


# ---- one result, on memory that stays ----


def test_engine_gives_what_the_graph_gives(made) -> None:
    graph, engine = made
    slot = slot_of(graph)
    slot.show(camera_frame(0))
    engine.context(slot.inputs, slot.outputs).enqueue()
    assert slot.result().std() > 1
    assert_agrees(slot)


def test_new_pixels_in_the_same_memory_give_a_new_result(made) -> None:
    graph, engine = made
    slot = slot_of(graph)
    context = engine.context(slot.inputs, slot.outputs)
    slot.show(camera_frame(0))
    context.enqueue()
    before = slot.result()
    slot.show(camera_frame(1))
    context.enqueue()
    assert (slot.result() - before).mean() > 50, "the second frame is brighter by 100 counts"
    assert_agrees(slot)


def test_new_calibration_in_the_same_memory_needs_no_new_engine(made) -> None:
    graph, engine = made
    slot = slot_of(graph)
    context = engine.context(slot.inputs, slot.outputs)
    slot.show(camera_frame(0))
    context.enqueue()
    before = slot.result()
    slot.show(camera_frame(0), camera_calibration())
    context.enqueue()
    assert (before - slot.result()).mean() > 5, "the dark reference takes 20 counts away"
    assert_agrees(slot)


def test_contexts_of_one_engine_share_no_memory(made) -> None:
    graph, engine = made
    first, second = slot_of(graph), slot_of(graph)
    contexts = [engine.context(slot.inputs, slot.outputs) for slot in (first, second)]
    first.show(camera_frame(0))
    second.show(camera_frame(1), camera_calibration())
    contexts[0].enqueue()
    kept = first.result()
    assert not second.result().any(), "the second has not run yet"
    contexts[1].enqueue()
    assert torch.equal(first.result(), kept)
    assert_agrees(first)
    assert_agrees(second)


def test_frame_of_nan_leaves_nothing_behind_for_the_next(made) -> None:
    graph, engine = made
    slot = slot_of(graph)
    context = engine.context(slot.inputs, slot.outputs)
    slot.show(camera_frame(0))
    slot.inputs[1].fill_(torch.nan)
    context.enqueue()
    assert not slot.outputs[1][0, 0].isfinite(), "the level"
    slot.show(camera_frame(0))
    context.enqueue()
    assert_agrees(slot)


def test_a_stream_goes_on_through_an_engine(made) -> None:
    """Five frames, the state given back each time; the noise is of the stream from the second."""
    graph, engine = made
    if not signature_of(graph).temporal:
        pytest.skip("a network that sees one frame")
    slot, averaged = slot_of(graph), []
    context = engine.context(slot.inputs, slot.outputs)
    slot.show(camera_frame(0))
    for seed in range(5):
        slot.inputs[0].copy_(as_raw(camera_frame(1, seed=seed), graph.recipe))
        context.enqueue()
        assert_agrees(slot)
        averaged.append(float(slot.outputs[1][0, Facts._fields.index("averaged")]))
        slot.go_on()
    assert averaged == pytest.approx([1, 2, 3, 4, 5], abs=0.3)


def test_openvino_in_bfloat16_stays_close() -> None:
    graph, engine = engine_of(OpenVino(), deploy(scgn(), DeployRecipe(SHAPE, precision="bfloat16")))
    slot = slot_of(graph)
    slot.show(camera_frame(0))
    engine.context(slot.inputs, slot.outputs).enqueue()
    exact = exact_result(scgn(), slot)[0]
    assert psnr_db(slot.result(), exact) >= 45


def exact_result(checkpoint: Checkpoint, slot: Slot) -> tuple[Tensor, ...]:
    """Of the same inputs in float64, on the CPU."""
    precise = slot_of(
        deploy(checkpoint, DeployRecipe(slot.graph.recipe.shape, precision="float64"))
    )
    for place, value in zip(precise.inputs, slot.inputs, strict=True):
        place.copy_(value)
    return own_result(precise)


# ---- which one runs ----


class Missing(OpenVino):
    """A runtime whose package is not there."""

    def version(self) -> str:
        return str(runtime(self.name, "no_such_runtime").__version__)


class MissingOnnx(OnnxRuntime):
    """Another."""

    def version(self) -> str:
        return str(runtime(self.name, "no_such_onnx").__version__)


def test_first_module_that_imports_is_the_runtime(tmp_path, monkeypatch) -> None:
    (tmp_path / "half_installed_runtime.py").write_text("raise OSError('libother.so: not there')")
    monkeypatch.syspath_prepend(tmp_path)
    assert runtime("any", "no_such_runtime", "half_installed_runtime", "json").__name__ == "json"
    with pytest.raises(BackendError, match=r"backend any: .*no_such_runtime.*; half_.*libother"):
        runtime("any", "no_such_runtime", "half_installed_runtime")


@pytest.mark.parametrize("name", BACKENDS)
def test_backend_goes_by_its_name(name) -> None:
    assert backend_named(name).name == name
    assert set(backend_named(name).devices) <= {"cpu", "cuda"}


def test_unknown_backend_is_told_the_known_ones() -> None:
    with pytest.raises(BackendError, match="unknown backend 'fastest'") as raised:
        choose("fastest", CPU)
    assert all(name in str(raised.value) for name in BACKENDS)


@pytest.mark.parametrize(
    ("name", "device", "words"),
    [
        ("openvino", CUDA, "runs on cpu, not on cuda"),
        ("tensorrt", CPU, "runs on cuda, not on cpu"),
        ("eager", torch.device("mps"), "runs on cpu or cuda, not on mps"),
    ],
)
def test_backend_says_why_it_does_not_run_on_a_device(name, device, words) -> None:
    assert why_not(BACKENDS[name], device) == words


@pytest.mark.parametrize("name", ON_CPU)
def test_backend_that_runs_has_a_version_and_nothing_against_it(name) -> None:
    assert why_not(BACKENDS[name], CPU) is None
    assert BACKENDS[name].version()[0].isdigit()


def test_auto_takes_the_fastest_and_says_so() -> None:
    choice = choose("auto", CPU)
    assert choice.backend is BACKENDS["openvino"]
    assert choice.why == "fastest on cpu of what runs here"


def test_auto_passes_over_a_missing_runtime_and_says_why(monkeypatch) -> None:
    monkeypatch.setitem(BACKENDS, "openvino", Missing())
    choice = choose("auto", CPU)
    assert choice.backend is BACKENDS["onnxruntime"]
    assert "backend openvino: no_such_runtime: No module named" in choice.why


def test_eager_is_left_where_nothing_else_is_installed(monkeypatch) -> None:
    monkeypatch.setitem(BACKENDS, "openvino", Missing())
    monkeypatch.setitem(BACKENDS, "onnxruntime", MissingOnnx())
    choice = choose("auto", CPU)
    assert choice.backend is BACKENDS["eager"]
    assert "no_such_runtime" in choice.why
    assert "no_such_onnx" in choice.why


def test_wanted_backend_is_taken_though_another_is_faster() -> None:
    choice = choose("eager", CPU)
    assert (choice.backend, choice.why) == (BACKENDS["eager"], "as set")


def test_wanted_backend_that_cannot_run_is_refused_by_its_name_once(monkeypatch) -> None:
    monkeypatch.setitem(BACKENDS, "openvino", Missing())
    with pytest.raises(BackendError, match="no_such_runtime") as raised:
        choose("openvino", CPU)
    assert str(raised.value).count("backend openvino") == 1
    with pytest.raises(BackendError, match="backend tensorrt: runs on cuda, not on cpu"):
        choose("tensorrt", CPU)


@pytest.mark.parametrize(
    ("name", "version", "device", "word"),
    [
        ("openvino", "2026.4.1-22982-e2-releases/2026/4", CPU, "openvino/2026.4.1/float16"),
        ("onnxruntime", "1.32.0", CPU, "onnxruntime/1.32.0/float16"),
        ("eager", "2.13.0+cpu", CPU, "eager/2.13.0/float16"),
        ("eager", "2.13.0+cu130", CUDA, "eager/2.13.0/float16/NVIDIA H200"),
        ("inductor", "2.13.0", CUDA, "inductor/2.13.0/float16/NVIDIA H200"),
        ("tensorrt", "10.13.3.9", CUDA, "tensorrt/10.13.3.9/float16/NVIDIA H200"),
    ],
)  # fmt: skip
def test_wire_says_what_a_frame_needs_to_be_made_again(
    name, version, device, word, monkeypatch
) -> None:
    monkeypatch.setattr(type(BACKENDS[name]), "version", lambda _: version)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200")
    assert word_on(BACKENDS[name], device, "float16") == word


@pytest.mark.parametrize(
    "name", [name for name in BACKENDS if why_not(BACKENDS[name], CPU) is None]
)
def test_versions_of_what_is_installed_are_short(name) -> None:
    backend, number, precision = word_on(BACKENDS[name], CPU, "float32").split("/")
    assert (backend, precision) == (name, "float32")
    assert BACKENDS[name].version().startswith(number)
    assert number[0].isdigit()


@pytest.mark.parametrize("name", BACKENDS)
def test_only_a_backend_that_keeps_something_builds_anything(name) -> None:
    backend = BACKENDS[name]
    if backend.keeps:
        assert name in ("tensorrt", "rtx", "openvino", "onnxruntime")
    else:
        assert backend.build(deploy(student(), DeployRecipe(SHAPE)), ignore) == b""


# ---- on a GPU ----


def on_gpu(test: Any) -> Any:
    """Marks of a test that needs a GPU; the compilers take their time and have their remarks."""
    for mark in (
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
        pytest.mark.timeout(600),
        pytest.mark.filterwarnings("ignore"),
    ):
        test = mark(test)
    return test


def half_on_gpu(name: str, network: Callable[[], Checkpoint]) -> tuple[Graph, Engine]:
    """In float16 with that backend; skipped where it does not run."""
    if reason := why_not(BACKENDS[name], CUDA):
        pytest.skip(reason)
    graph = deploy(network(), DeployRecipe((64, 48), precision="float16"))
    return engine_of(BACKENDS[name], graph, CUDA)


@on_gpu
@pytest.mark.parametrize("network", [scgn, student])
@pytest.mark.parametrize("name", ON_CUDA)
def test_half_precision_on_a_gpu_follows_its_memory(name, network) -> None:
    """Captured once, enqueued for two frames and two calibrations: close to float64 each time."""
    graph, engine = half_on_gpu(name, network)
    slot = slot_of(graph, CUDA)
    context = engine.context(slot.inputs, slot.outputs)
    shape, results = graph.recipe.shape, []
    for seed, calibration in ((0, None), (1, None), (1, camera_calibration(shape))):
        slot.show(camera_frame(seed, shape), calibration)
        context.enqueue()
        torch.cuda.synchronize()
        exact, facts, *_ = exact_result(network(), slot)
        assert psnr_db(slot.result(), exact) >= 70
        torch.testing.assert_close(slot.outputs[1].cpu(), facts.float(), rtol=1e-3, atol=2e-2)
        results.append(float(slot.result().mean()))
    assert results[1] - results[0] > 50
    assert results[1] - results[2] > 5


@on_gpu
@pytest.mark.parametrize("name", ON_CUDA)
def test_contexts_on_a_gpu_share_no_memory(name) -> None:
    graph, engine = half_on_gpu(name, scgn)
    first, second = slot_of(graph, CUDA), slot_of(graph, CUDA)
    contexts = [engine.context(slot.inputs, slot.outputs) for slot in (first, second)]
    first.show(camera_frame(0, graph.recipe.shape))
    second.show(camera_frame(1, graph.recipe.shape))
    streams = [torch.cuda.Stream() for _ in contexts]
    torch.cuda.synchronize()
    for _ in range(20):
        for context, stream in zip(contexts, streams, strict=True):
            with torch.cuda.stream(stream):
                context.enqueue()
    torch.cuda.synchronize()
    for slot in (first, second):
        exact = exact_result(scgn(), slot)[0]
        assert psnr_db(slot.result(), exact) >= 70
