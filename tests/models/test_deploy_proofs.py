"""What a deployed graph must show before any GPU sees it: its operations, half precision, ONNX."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from graphs import inputs_of, state_of
from networks import shaken
from torch import Tensor

from scgn.architectures import build_network
from scgn.backends.tensorrt import TensorRtRtx
from scgn.checkpoint import Checkpoint, checkpoint_of, describe, load_network
from scgn.deploy import DeployError, DeployRecipe, body, deploy
from scgn.deploy.body import scale_of
from scgn.deploy.counts import HALF_MAX, as_pixels
from scgn.deploy.emulate import Extremes, HalfBody, emulated
from scgn.deploy.export import ALLOWED, complex_nodes, onnx_bytes, operations, program
from scgn.sizes import Design, Size, design_named
from scgn.stream.facts import SEEN
from scgn.stream.front import SEEN_MAX

SMALL = {
    "scgn": Design("scgn", Size(8, 1), "stream"),
    "fast": Design("student4", Size(12, 1), "stream"),
    "preview": Design("student4", Size(8, 1), "stream"),
}
# Their bodies without a stream's front, which is the same before each of them and takes long.
ALONE = {
    "scgn": Design("scgn", Size(8, 1), "image"),
    "fast": Design("student4", Size(12, 1), "none"),
}
SIDES = [(20, 24), (21, 27), (24, 33)]
NETWORK_DB = 70  # half precision against float64


def lattice(sides: tuple[int, int], mean: float = 40) -> np.ndarray:
    """Poisson counts of waves along no side of the frame, in a 16-bit camera's range."""
    rows, columns = np.mgrid[: sides[0], : sides[1]]
    waves = np.cos(0.62 * rows + 0.25 * columns) * np.cos(0.55 * columns - 0.27 * rows)
    counts = np.random.default_rng(0).poisson(mean * (1 + 0.5 * waves))
    return counts.clip(0, 65535).astype("<u2")


def edge(side: int) -> np.ndarray:
    """The brightest edge that 16 bits have, without noise: every pixel is at the input's limit."""
    frame = np.zeros((side, side), "<u2")
    frame[:, side // 2 :] = 65535
    return frame


def drawn(design: Design, seed: int = 0, **known: Any) -> Checkpoint:
    network = shaken(build_network(design), seed)
    return checkpoint_of(network, describe(network, "drawn", **known))


def agreement_db(result: Tensor, expected: Tensor) -> float:
    error = float((result.double() - expected.double()).square().mean())
    return 10 * math.log10(float(np.ptp(expected.numpy())) ** 2 / error)


def halved(checkpoint: Checkpoint, *frames: np.ndarray) -> tuple[Tensor, Tensor, Extremes]:
    """Denoised and facts in emulated half precision, of the frames as one batch."""
    recipe = DeployRecipe(frames[0].shape, precision="float16", batch=len(frames))
    graph = deploy(checkpoint, recipe)
    (denoised, facts, *_), extremes = emulated(graph, inputs_of(graph, np.stack(frames)))
    return denoised, facts, extremes


# ---- operations ----


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("name", ALONE)
def test_programs_are_real_and_of_known_operations(name, sides) -> None:
    exported = program(deploy(drawn(ALONE[name]), DeployRecipe(sides)))
    found = operations(exported)
    assert found.keys() <= ALLOWED
    assert found["aten.convolution.default"] > 2
    assert complex_nodes(exported) == []


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("scgn", DeployRecipe((20, 24), "<i2", "uint16", "float16")),
        ("preview", DeployRecipe((21, 33), "<u4", "float32", "float32", batch=2)),
    ],
)
def test_programs_of_streams_are_of_known_operations(name, recipe) -> None:
    exported = program(deploy(drawn(SMALL[name]), recipe))
    assert operations(exported).keys() <= ALLOWED
    assert complex_nodes(exported) == []


@pytest.mark.parametrize(
    "recipe",
    [
        DeployRecipe((20, 24), "<i2", "uint16", "float16"),
        DeployRecipe((21, 27), ">u2", "float16", "bfloat16"),
        DeployRecipe((24, 33), "<u4", "float32", "float32", batch=2),
        DeployRecipe((4, 1024), "|u1", "uint16", "float16"),  # a side whose transform is split
    ],
)
def test_programs_of_any_recipe_are_of_known_operations(recipe) -> None:
    exported = program(deploy(drawn(ALONE["fast"]), recipe))
    assert operations(exported).keys() <= ALLOWED
    assert complex_nodes(exported) == []


def test_the_trained_network_itself_would_be_complex() -> None:
    """What the rebuilt graph saves us from, and that `complex_nodes` sees it."""
    network = drawn(SMALL["scgn"]).network
    exported = torch.export.export(network, (torch.zeros(1, len(SEEN), 20, 24),), strict=False)
    assert complex_nodes(exported)


def test_other_operations_are_refused_by_name() -> None:
    graph = deploy(drawn(Design("restormer", Size(4, 1), "none")), DeployRecipe((20, 24)))
    with pytest.raises(DeployError, match=r"known operations, got .*'aten._softmax.default'"):
        program(graph)


# ---- half precision ----


@pytest.mark.parametrize(("name", "side"), [("compact-clean", 128), ("paper", 64)])
def test_half_precision_loses_little(name, side) -> None:
    """Of the shipped network and of the paper's size with random weights."""
    paper = name == "paper"
    checkpoint = drawn(design_named(name)) if paper else load_network(name)
    frame = lattice((side, side))
    denoised, facts, extremes = halved(checkpoint, frame)
    recipe = DeployRecipe((side, side), precision="float64")
    graph = deploy(checkpoint, recipe)
    exact, exact_facts = graph(*inputs_of(graph, frame))[:2]
    assert agreement_db(denoised, exact) >= NETWORK_DB
    assert exact.std() > 1
    torch.testing.assert_close(facts.double(), exact_facts, rtol=1e-3, atol=1e-3)
    assert 1 < extremes.largest < HALF_MAX / 100


def test_emulation_rounds_to_half_precision() -> None:
    """It is neither float32's result nor far from it."""
    checkpoint, frame = drawn(SMALL["preview"]), lattice((21, 27))
    denoised, _, extremes = halved(checkpoint, frame)
    graph = deploy(checkpoint, DeployRecipe((21, 27)))
    exact = graph(*inputs_of(graph, frame))[0]
    assert 50 < agreement_db(denoised, exact) < 90
    assert np.float16(extremes.largest) == extremes.largest > 0
    assert extremes.node


def test_emulation_is_of_half_precision_alone() -> None:
    graph = deploy(drawn(SMALL["preview"]), DeployRecipe((20, 24)))
    with pytest.raises(DeployError, match=r"expected 'float16' to emulate, got .*'float32'"):
        emulated(graph, inputs_of(graph, lattice((20, 24))))


def test_brightest_frames_stay_in_range() -> None:
    """An edge over all 16 bits and a lattice at their end."""
    frames = edge(256), lattice((256, 256), 43000)
    denoised, facts, extremes = halved(load_network("tiny-clean"), *frames)
    assert denoised.isfinite().all()
    assert facts.isfinite().all()
    assert 10 < extremes.largest < HALF_MAX / 8


def most_of(checkpoint: Checkpoint, sides: tuple[int, int]) -> tuple[Tensor, Extremes]:
    """What the body makes of an edge as high as anything that it is ever given, in all channels."""
    graph = deploy(checkpoint, DeployRecipe(sides, precision="float16"))
    given = torch.full((1, len(SEEN), *sides), SEEN_MAX)
    given[..., : sides[1] // 2] = -SEEN_MAX
    half = HalfBody(graph.body)
    return half(given.half()), half.extremes


TINY = Design("scgn", Size(16, 2), "stream")


@pytest.mark.parametrize("sides", [(256, 256), (128, 1024)])
def test_the_most_that_can_be_seen_stays_in_range(sides) -> None:
    """A spectrum's terms grow with the sides."""
    result, extremes = most_of(drawn(TINY), sides)
    assert result.isfinite().all()
    assert 300 < extremes.largest < HALF_MAX / 8


def test_scaled_features_are_why(monkeypatch) -> None:
    """The same network with features at their full size overflows."""
    monkeypatch.setattr(body, "SCALE", 1.0)
    result, extremes = most_of(drawn(TINY), (256, 256))
    assert math.isinf(extremes.largest)
    assert not result.isfinite().all()


@pytest.mark.parametrize(("side", "mean"), [(128, 4000), (512, 43000)])
def test_a_counts_network_stays_in_range(side, mean) -> None:
    """4000 counts over 128 px have a mean term of half a million; its input saturates there."""
    checkpoint = drawn(Design("scgn", Size(8, 1), "feature"), input_units="counts")
    denoised, _, extremes = halved(checkpoint, lattice((side, side), mean))
    assert denoised.isfinite().all()
    assert extremes.largest < HALF_MAX / 4


def test_larger_sides_have_smaller_features() -> None:
    assert [scale_of((side, side), True) for side in (64, 1024, 1026, 2048, 4096)] == [
        256, 256, 512, 512, 1024,
    ]  # fmt: skip
    assert scale_of((64, 64), False) == 1024


# ---- other programs ----


@pytest.mark.parametrize(
    ("design", "sides", "output"),
    [(ALONE["scgn"], (21, 28), "float32"), (SMALL["preview"], (22, 27), "uint16")],
)
def test_onnx_is_the_graph(design, sides, output) -> None:
    recipe = DeployRecipe(sides, output_dtype=output, batch=2)
    graph = deploy(drawn(design), recipe)
    content = onnx_bytes(graph)
    onnx.checker.check_model(onnx.load_model_from_string(content), full_check=True)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    state: tuple[Tensor, ...] = ()
    for mean in (40, 42):  # the first frame of two streams, and the next
        pixels = np.stack([lattice(sides, mean), lattice(sides, 20 * mean)])
        inputs = inputs_of(graph, pixels, state=state)
        named = {key: value.numpy() for key, value in zip(graph.inputs, inputs, strict=True)}
        found = [torch.from_numpy(part) for part in session.run(list(graph.outputs), named)]
        expected = graph(*inputs)
        state = state_of(expected)
        check_pixels(found[0], expected[0], recipe)
        for name, got, want in zip(graph.outputs[1:], found[1:], expected[1:], strict=True):
            near = 1e-4 * float(want.abs().max()) + 1e-4
            assert (got - want).abs().max() <= near, name


def check_pixels(found: Tensor, expected: Tensor, recipe: DeployRecipe) -> None:
    """The same pixels within rounding."""
    pixels = as_pixels(found, recipe).astype(np.float64)
    wanted = as_pixels(expected, recipe).astype(np.float64)
    rounded = recipe.output_dtype != "float32"  # a count's half may round either way
    for got, want in zip(pixels, wanted, strict=True):
        assert np.ptp(want) > 10
        assert np.abs(got - want).max() <= max(int(rounded), 1e-4 * np.ptp(want))
        assert np.mean(got != want) < 0.02 or not rounded


@pytest.mark.parametrize("design", [ALONE["scgn"], SMALL["fast"]], ids=["scgn", "stream"])
def test_tensorrt_rtx_takes_a_graph_whole(design) -> None:
    """One engine, no gaps, in half precision; the build itself raises for anything else."""
    try:
        pytest.importorskip("tensorrt_rtx_bindings", exc_type=ImportError)
    except OSError as error:
        pytest.skip(f"TensorRT-RTX's libraries do not load: {error}")
    said: list[str] = []
    graph = deploy(drawn(design), DeployRecipe((32, 36), precision="float16"))
    assert len(TensorRtRtx().build(graph, said.append)) > 10_000
    assert any(word.endswith("nodes in 1 engine") for word in said)
