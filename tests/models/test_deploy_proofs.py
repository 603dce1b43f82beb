"""What a deployed graph must show before any GPU sees it: its operations, half precision, ONNX."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from networks import shaken
from torch import Tensor

from scgn.architectures import build_network
from scgn.backends.tensorrt import TensorRtRtx
from scgn.checkpoint import Checkpoint, checkpoint_of, describe, load_network
from scgn.deploy import DeployError, DeployRecipe, body, deploy
from scgn.deploy.body import scale_of
from scgn.deploy.counts import HALF_MAX, as_pixels, as_raw
from scgn.deploy.emulate import Extremes, emulated
from scgn.deploy.export import ALLOWED, complex_nodes, onnx_bytes, operations, program
from scgn.deploy.graph import INPUTS, OUTPUTS
from scgn.deploy.references import references
from scgn.sizes import Design, Size, design_named

SMALL = {
    "scgn": Design("scgn", Size(8, 1), "wiener"),
    "fast": Design("student4", Size(12, 1), "wiener"),
    "preview": Design("student4", Size(8, 1), "wiener"),
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


def inputs_of(pixels: np.ndarray, recipe: DeployRecipe) -> tuple[Tensor, ...]:
    known = references(None, recipe.shape).tensors()
    wide = (t.to(recipe.wide) if t.is_floating_point() else t for t in known)
    return as_raw(pixels.astype(recipe.camera_dtype), recipe), *wide


def agreement_db(result: Tensor, expected: Tensor) -> float:
    error = float((result.double() - expected.double()).square().mean())
    return 10 * math.log10(float(np.ptp(expected.numpy())) ** 2 / error)


def halved(checkpoint: Checkpoint, *frames: np.ndarray) -> tuple[Tensor, Tensor, Extremes]:
    """Denoised and facts in emulated half precision, of the frames as one batch."""
    recipe = DeployRecipe(frames[0].shape, precision="float16", batch=len(frames))
    graph = deploy(checkpoint, recipe)
    (denoised, facts), extremes = emulated(graph, inputs_of(np.stack(frames), recipe))
    return denoised, facts, extremes


# ---- operations ----


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("name", SMALL)
def test_programs_are_real_and_of_known_operations(name, sides) -> None:
    exported = program(deploy(drawn(SMALL[name]), DeployRecipe(sides)))
    found = operations(exported)
    assert found.keys() <= ALLOWED
    assert found["aten.convolution.default"] > 2
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
    exported = program(deploy(drawn(SMALL["fast"]), recipe))
    assert operations(exported).keys() <= ALLOWED
    assert complex_nodes(exported) == []


def test_the_trained_network_itself_would_be_complex() -> None:
    """What the rebuilt graph saves us from, and that `complex_nodes` sees it."""
    network = drawn(SMALL["scgn"]).network
    exported = torch.export.export(network, (torch.zeros(1, 1, 20, 24),), strict=False)
    assert complex_nodes(exported)


def test_other_operations_are_refused_by_name() -> None:
    graph = deploy(drawn(Design("restormer", Size(4, 1), "wiener")), DeployRecipe((20, 24)))
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
    exact, exact_facts = deploy(checkpoint, recipe)(*inputs_of(frame, recipe))
    assert agreement_db(denoised, exact) >= NETWORK_DB
    assert exact.std() > 1
    torch.testing.assert_close(facts.double(), exact_facts, rtol=1e-3, atol=1e-3)
    assert 1 < extremes.largest < HALF_MAX / 100


def test_emulation_rounds_to_half_precision() -> None:
    """It is neither float32's result nor far from it."""
    checkpoint, frame = drawn(SMALL["preview"]), lattice((21, 27))
    denoised, _, extremes = halved(checkpoint, frame)
    recipe = DeployRecipe((21, 27))
    exact, _ = deploy(checkpoint, recipe)(*inputs_of(frame, recipe))
    assert 50 < agreement_db(denoised, exact) < 90
    assert np.float16(extremes.largest) == extremes.largest > 0
    assert extremes.node


def test_emulation_is_of_half_precision_alone() -> None:
    recipe = DeployRecipe((20, 24))
    graph = deploy(drawn(SMALL["preview"]), recipe)
    with pytest.raises(DeployError, match=r"expected 'float16' to emulate, got .*'float32'"):
        emulated(graph, inputs_of(lattice((20, 24)), recipe))


def test_brightest_frames_stay_in_range() -> None:
    """An edge over all 16 bits and a lattice at their end; beside, the edge is the worse one."""
    frames = edge(256), lattice((256, 256), 43000)
    denoised, facts, extremes = halved(load_network("tiny-clean"), *frames)
    assert denoised.isfinite().all()
    assert facts.isfinite().all()
    assert 1000 < extremes.largest < HALF_MAX / 8


def test_the_brightest_large_frame_stays_in_range() -> None:
    """1024 px a side: a spectrum's terms grow with it."""
    denoised, _, extremes = halved(load_network("tiny-clean"), edge(1024))
    assert denoised.isfinite().all()
    assert 10_000 < extremes.largest < HALF_MAX / 2


def test_scaled_features_are_why(monkeypatch) -> None:
    """The same network with features at their full size overflows."""
    tiny = load_network("tiny-clean")
    monkeypatch.setattr(body, "SCALE", 1.0)
    denoised, _, extremes = halved(tiny, edge(128))
    assert math.isinf(extremes.largest)
    assert not denoised.isfinite().all()


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
    ("name", "sides", "output"), [("scgn", (21, 28), "float32"), ("preview", (22, 27), "uint16")]
)
def test_onnx_is_the_graph(name, sides, output) -> None:
    recipe = DeployRecipe(sides, output_dtype=output, batch=2)
    graph = deploy(drawn(SMALL[name]), recipe)
    content = onnx_bytes(graph)
    onnx.checker.check_model(onnx.load_model_from_string(content), full_check=True)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    inputs = inputs_of(np.stack([lattice(sides), lattice(sides, 900)]), recipe)
    named = {key: value.numpy() for key, value in zip(INPUTS, inputs, strict=True)}
    denoised, facts = session.run(list(OUTPUTS), named)
    expected, expected_facts = graph(*inputs)
    pixels = as_pixels(torch.from_numpy(denoised), recipe).astype(np.float64)
    wanted = as_pixels(expected, recipe).astype(np.float64)
    near = 0 if output == "float32" else 1  # a count's half may round either way
    for got, want in zip(pixels, wanted, strict=True):
        assert np.ptp(want) > 10
        assert np.abs(got - want).max() <= max(near, 1e-4 * np.ptp(want))
        assert np.mean(got != want) < 0.02 or output == "float32"
    np.testing.assert_allclose(facts, expected_facts.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["scgn", "fast"])
def test_tensorrt_rtx_takes_a_graph_whole(name) -> None:
    """One engine, no gaps, in half precision; the build itself raises for anything else."""
    try:
        pytest.importorskip("tensorrt_rtx_bindings", exc_type=ImportError)
    except OSError as error:
        pytest.skip(f"TensorRT-RTX's libraries do not load: {error}")
    said: list[str] = []
    graph = deploy(drawn(SMALL[name]), DeployRecipe((32, 36), precision="float16"))
    assert len(TensorRtRtx().build(graph, said.append)) > 10_000
    assert any(word.endswith("nodes in 1 engine") for word in said)
