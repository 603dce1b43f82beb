"""The deployed graph against what it stands for: pixels, corrections, estimate, whole networks."""

from __future__ import annotations

import copy
import math
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
import torch
from graphs import inputs_of, series_of
from networks import shaken
from torch import Tensor, nn

from scgn.architectures import build_network
from scgn.calibration import Calibration, build_calibration
from scgn.checkpoint import Checkpoint, checkpoint_of, describe, load_network
from scgn.denoise import Correction, Denoiser
from scgn.deploy import DeployError, DeployGraph, DeployRecipe, StreamGraph, deploy
from scgn.deploy.counts import as_pixels, as_raw, counts_of, out_shape, pixels_of, raw_shape
from scgn.deploy.graph import COUNTS_MAX, GIVEN_MAX
from scgn.deploy.references import corrected, references
from scgn.network import SCGN
from scgn.sizes import PLAIN, Design, Parts, Size
from scgn.stream.facts import Facts
from scgn.stream.front import Front, State
from scgn.stream.state import empty_state
from scgn.units import ATOM_MAP_PEAK, noise_units

SIDES = [(24, 32), (21, 30), (20, 27), (33, 33)]
EXTREMES: dict[Any, list[float]] = {
    "|u1": [0, 1, 127, 128, 255],
    "<u2": [0, 1, 255, 256, 32767, 32768, 65535],
    ">u2": [0, 1, 255, 256, 32767, 32768, 65535],
    "<i2": [0, 1, -1, 255, -256, 32767, -32768],
    "<u4": [0, 1, 65536, 2**31 - 1, 2**31, 2**32 - 256, 2**32 - 1],
    "<i4": [0, 1, -1, 2**24 + 1, 2**31 - 1, -(2**31)],
    "<f4": [0, -0.5, 1e-30, 3.4e38, math.inf, -math.inf, math.nan],
}


def lattice(sides: tuple[int, int], seed: int = 0, mean: float = 40) -> np.ndarray:
    """Poisson counts of waves along no side of the frame, (rows, columns) float64."""
    rows, columns = np.mgrid[: sides[0], : sides[1]]
    waves = np.cos(0.62 * rows + 0.25 * columns) * np.cos(0.55 * columns - 0.27 * rows)
    return np.random.default_rng(seed).poisson(mean * (1 + 0.8 * waves)).astype(np.float64)


def agreement_db(result: Tensor, expected: Tensor) -> float:
    """Peak to peak of the expected over the difference."""
    error = float((result.double() - expected).square().mean())
    return math.inf if error == 0 else 10 * math.log10(float(np.ptp(expected.numpy())) ** 2 / error)


def checkpoint(design: Design, seed: int = 0, **known: Any) -> Checkpoint:
    network = shaken(build_network(design), seed)
    return checkpoint_of(network, describe(network, "drawn", **known))


def reference(checkpoint: Checkpoint, pixels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Denoised (B,H,W) and facts (B,3) of (B,H,W), the trained network itself in float64."""
    network = copy.deepcopy(checkpoint.network).double()
    frames = torch.from_numpy(pixels)[:, None]
    units, known = noise_units(frames), checkpoint.provenance
    with torch.no_grad():
        if known.input_units == "counts":
            result = network(frames)
        else:
            result = network(units.enter(frames))
            atoms = known.target == "atom_map"
            result = ATOM_MAP_PEAK * result if atoms else units.leave(result)
    mean = result.mean(dim=(-2, -1), keepdim=True)
    return result[:, 0], torch.cat((units.level, units.scale, mean), dim=1)[:, :, 0, 0]


def check_whole(
    checkpoint: Checkpoint, sides: tuple[int, int], precision: Any, least_db: float
) -> None:
    """Of two frames, one ten times as bright."""
    pixels = np.stack([lattice(sides), lattice(sides, 1, 400)])
    recipe = DeployRecipe(sides, precision=precision, batch=2)
    graph = deploy(checkpoint, recipe)
    assert isinstance(graph, DeployGraph)
    denoised, facts = graph(*inputs_of(graph, pixels))
    expected, expected_facts = reference(checkpoint, pixels)
    for frame in range(2):
        assert agreement_db(denoised[frame], expected[frame]) >= least_db
        assert expected[frame].std() > 0.01
    assert (denoised.dtype, facts.dtype) == (torch.float32, recipe.wide)
    known, mean = facts.double().split((2, 1), dim=1)
    torch.testing.assert_close(known, expected_facts[:, :2], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(mean[:, 0], denoised.double().mean(dim=(1, 2)), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def stream_reference(
    checkpoint: Checkpoint, frames: list[np.ndarray]
) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """Denoised (B,H,W) and facts of each of the frames (B,H,W), the trained network in float64."""
    network = copy.deepcopy(checkpoint.network).double()
    sides, count = frames[0].shape[-2:], len(frames[0])
    front, found = Front((sides[0], sides[1]), "<u2").double(), []
    state = State(*empty_state((sides[0], sides[1]), count, torch.float64))
    control = torch.tensor([[0.0, 1.0, 16.0, 0.0]] * count, dtype=torch.float64)
    for pixels in frames:
        counts = torch.from_numpy(pixels)[:, None]
        seen, after, facts = front(counts, counts, None, control, state)
        there = front.corrected(seen, network(seen.given))
        state = front.keep(after, (there, seen.long, seen.estimate), control)
        result = front.back(there, seen)
        found.append((result[:, 0], facts | {"mean": result.mean(dim=(-2, -1), keepdim=True)}))
    return found


def check_stream(
    checkpoint: Checkpoint, sides: tuple[int, int], precision: Any, least_db: float
) -> None:
    """Of three frames of two streams, one ten times as bright."""
    frames = [np.stack([lattice(sides, seed), lattice(sides, 9 + seed, 400)]) for seed in range(3)]
    recipe = DeployRecipe(sides, precision=precision, batch=2)
    graph = deploy(checkpoint, recipe)
    assert isinstance(graph, StreamGraph)
    found = zip(series_of(graph, frames), stream_reference(checkpoint, frames), strict=True)
    for (denoised, facts), (expected, expected_facts) in found:
        assert (denoised.dtype, facts.dtype) == (torch.float32, recipe.wide)
        for frame in range(2):
            assert agreement_db(denoised[frame], expected[frame]) >= least_db
            assert expected[frame].std() > 0.01
        for index, name in enumerate(Facts._fields):
            wanted = expected_facts[name][:, 0, 0, 0]
            near = 1e-6 if precision == "float64" else 1e-2 * float(wanted.abs().max()) + 1e-2
            assert (facts[:, index].double() - wanted).abs().max() <= near, name


# ---- pixels ----


def drawn_pixels(dtype: Any, sides: tuple[int, int]) -> np.ndarray:
    """Any bytes at all as pixels, the dtype's extremes in front."""
    count = sides[0] * sides[1]
    if dtype == "<f4":
        pixels = np.random.default_rng(0).normal(0, 1e4, count).astype(dtype)
    else:
        raw = np.random.default_rng(0).bytes(count * np.dtype(dtype).itemsize)
        pixels = np.frombuffer(raw, dtype).copy()
    pixels[: len(EXTREMES[dtype])] = EXTREMES[dtype]
    return pixels.reshape(sides)


@pytest.mark.parametrize("wide", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", EXTREMES)
def test_counts_are_numpys(dtype, wide) -> None:
    recipe = DeployRecipe((9, 14), camera_dtype=dtype)
    pixels = drawn_pixels(dtype, recipe.shape)
    raw = as_raw(pixels, recipe)
    assert raw.shape == raw_shape(recipe)
    counts = counts_of(raw, dtype, wide)
    assert counts.dtype == wide
    expected = pixels.astype(np.float32 if wide == torch.float32 else np.float64)[None]
    most = len(EXTREMES[dtype])
    np.testing.assert_array_equal(counts.numpy().ravel()[:most], expected.ravel()[:most])
    # A <u4 beyond 2**31 may be rounded twice in float32: as an int32, and shifted.
    once = dtype == "<u4" and wide == torch.float32
    np.testing.assert_allclose(counts.numpy(), expected, rtol=2**-23 if once else 0, atol=0)


def test_byte_orders_of_the_same_numbers_differ_in_memory_alone() -> None:
    numbers = lattice((8, 10), mean=3000)
    counts = []
    for dtype in ("<u2", ">u2"):
        recipe = DeployRecipe((8, 10), camera_dtype=dtype)
        raw = as_raw(numbers.astype(dtype), recipe)
        counts.append((raw, counts_of(raw, dtype, torch.float32)))
    assert not torch.equal(counts[0][0], counts[1][0])
    assert torch.equal(counts[0][1], counts[1][1])
    np.testing.assert_array_equal(counts[0][1][0].numpy(), numbers)


def test_contiguous_pixels_are_not_copied_and_others_are_read_right() -> None:
    recipe = DeployRecipe((6, 8), batch=2)
    pixels = np.zeros((2, 6, 8), "<u2")
    raw = as_raw(pixels, recipe)
    pixels[1, 2, 3] = 513
    assert raw[1, 2, 3].tolist() == [1, 2]
    turned = np.arange(48, dtype="<u2").reshape(8, 6).T
    one = DeployRecipe((6, 8))
    counts = counts_of(as_raw(turned, one), "<u2", torch.float32)
    np.testing.assert_array_equal(counts[0].numpy(), turned)


def pixels_as(counts: list[float], dtype: Any) -> np.ndarray:
    recipe = DeployRecipe((4, 4), output_dtype=dtype)
    padded = torch.tensor(counts + [0.0] * (16 - len(counts))).view(1, 4, 4)
    out = pixels_of(padded, dtype)
    assert out.shape == out_shape(recipe)
    pixels = as_pixels(out, recipe)
    assert pixels.shape == (1, 4, 4)
    assert pixels.dtype == np.dtype(dtype)
    return pixels.ravel()[: len(counts)]


def test_uint16_rounds_and_clips() -> None:
    counts = [-7, -0.4, 0.5, 1.5, 254.6, 255.5, 256, 257.4, 32768, 65534.6, 65535, 7e4, 1e30]
    expected = [0, 0, 0, 2, 255, 256, 256, 257, 32768, 65535, 65535, 65535, 65535]
    assert pixels_as(counts, "uint16").tolist() == expected


def test_every_uint16_comes_out_as_itself() -> None:
    recipe = DeployRecipe((256, 256), output_dtype="uint16")
    counts = torch.arange(65536.0).view(1, 256, 256)
    pixels = as_pixels(pixels_of(counts, "uint16"), recipe)
    np.testing.assert_array_equal(pixels.ravel(), np.arange(65536))


def test_float16_saturates() -> None:
    counts = [-1e9, -65519.0, 0.1, 2049.0, 65504.0, 65519.0, 65536.0, math.inf]
    expected = [-65504, -65504, np.float16(0.1), 2048, 65504, 65504, 65504, 65504]
    assert pixels_as(counts, "float16").tolist() == expected


def test_float32_is_what_it_was() -> None:
    counts = [-1e9, 0.1, 65536.5, 3.4e38]
    assert pixels_as(counts, "float32").tolist() == np.float32(counts).tolist()


# ---- references ----


def masked(sides: tuple[int, int], share: float, holes: bool = True) -> np.ndarray:
    """Random defects; holes: and clusters that no window of 7x7 sees out of, one in a corner."""
    mask = np.random.default_rng(5).random(sides) < share
    if holes:
        mask[8:19, 9:20] = mask[:8, -9:] = True
        mask[:, 3] = True
    return mask


def calibrated(sides: tuple[int, int], dark: bool, gain: bool, share: float) -> Calibration:
    rng = np.random.default_rng(6)
    factor = rng.uniform(0.7, 1.4, sides).astype(np.float32)
    factor[5, 6] = 0  # dead: joins the mask
    return build_calibration(
        dark=rng.normal(20, 3, sides).astype(np.float32) if dark else None,
        gain=factor if gain else None,
        mask=masked(sides, share),
        gain_convention="multiply" if gain else None,
    )


def as_corrected(counts: Tensor, calibration: Calibration | None) -> Tensor:
    sides = (counts.shape[-2], counts.shape[-1])
    return corrected(counts, *references(calibration, sides).tensors())


@pytest.mark.parametrize("share", [0.0, 0.02, 0.2])
@pytest.mark.parametrize(("dark", "gain"), [(1, 1), (1, 0), (0, 1), (0, 0)])
def test_correction_is_the_calibrations(dark, gain, share) -> None:
    calibration = calibrated((40, 51), dark, gain, share)
    counts = torch.from_numpy(lattice((40, 51), mean=300)).float()
    expected = Correction(calibration, torch.device("cpu"))(counts)
    torch.testing.assert_close(as_corrected(counts[None], calibration)[0], expected)


def test_a_batch_is_corrected_frame_by_frame() -> None:
    calibration = calibrated((40, 51), True, True, 0.05)
    counts = torch.from_numpy(np.stack([lattice((40, 51), seed) for seed in range(3)])).float()
    correct = Correction(calibration, torch.device("cpu"))
    expected = torch.stack([correct(frame) for frame in counts])
    torch.testing.assert_close(as_corrected(counts, calibration), expected)


def test_far_defects_copy_the_nearest_good_pixel() -> None:
    calibration = build_calibration(mask=masked((40, 51), 0.0))
    source = references(calibration, (40, 51)).source
    own = torch.arange(40 * 51, dtype=torch.int32).view(40, 51)
    far = (source != own).numpy()
    assert far[13, 14]
    assert far.sum() < calibration.masked
    assert not calibration.mask.ravel()[source.numpy()[far]].any()
    counts = torch.arange(40.0 * 51).view(1, 40, 51)
    taken = as_corrected(counts, calibration)[0].numpy()
    np.testing.assert_array_equal(taken[far], source.numpy()[far])


@pytest.mark.parametrize("value", [math.nan, math.inf, -3e38])
def test_what_a_defect_holds_goes_nowhere(value) -> None:
    calibration = calibrated((40, 51), True, True, 0.05)
    counts = torch.from_numpy(lattice((40, 51))).float()[None]
    spoilt = counts.masked_fill(torch.from_numpy(calibration.mask), value)
    result = as_corrected(spoilt, calibration)
    assert result.isfinite().all()
    assert torch.equal(result, as_corrected(counts, calibration))


def test_without_a_calibration_counts_are_left_alone() -> None:
    counts = torch.from_numpy(lattice((12, 17))).float()[None]
    assert torch.equal(as_corrected(counts, None), counts)


def test_references_leave_the_calibrations_arrays_alone() -> None:
    calibration = calibrated((40, 51), True, True, 0.05)
    before = copy.deepcopy(calibration)
    for tensor in references(calibration, (40, 51)).tensors():
        tensor.zero_()
    np.testing.assert_array_equal(calibration.dark, before.dark)
    np.testing.assert_array_equal(calibration.gain, before.gain)
    np.testing.assert_array_equal(calibration.mask, before.mask)


# ---- the whole graph ----

STREAMS = {
    "scgn": Design("scgn", Size(8, 1), "stream"),
    "wide": Design("scgn", Size(12, 1), "stream"),
    "no parts": Design("scgn", Size(8, 1, PLAIN), "stream"),
    "no bands": Design("scgn", Size(8, 1, Parts(band=False)), "stream"),
    "fast": Design("student4", Size(12, 1), "stream"),
    "preview": Design("student4", Size(8, 2), "stream"),
}
ALONE = {
    "image": Design("scgn", Size(8, 2), "image"),
    "feature": Design("scgn", Size(8, 1), "feature"),
    "no deviation": Design("scgn", Size(8, 1, Parts(deviation=False)), "image"),
    "no frequency": Design("scgn", Size(8, 1, Parts(frequency=False, band=False)), "feature"),
    "student alone": Design("student4", Size(8, 1), "none"),
    "dncnn": Design("dncnn", Size(8, 2), "image"),
}
WHOLE = STREAMS | ALONE


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("name", ALONE)
def test_graph_is_the_network_in_noise_units(name, sides) -> None:
    check_whole(checkpoint(WHOLE[name], seed=3), sides, "float64", 120)


@pytest.mark.parametrize(
    ("name", "sides"),
    [*(("scgn", sides) for sides in SIDES), *((name, SIDES[1]) for name in STREAMS)],
)
def test_graph_of_a_stream_is_the_network_behind_its_front(name, sides) -> None:
    check_stream(checkpoint(WHOLE[name], seed=3), sides, "float64", 120)


@pytest.mark.parametrize("name", ["feature", "student alone"])
def test_graph_is_the_network_in_counts(name) -> None:
    check_whole(checkpoint(WHOLE[name], seed=4, input_units="counts"), (21, 30), "float64", 120)


@pytest.mark.parametrize("name", ["feature", "student alone"])
def test_graph_maps_atoms(name) -> None:
    check_whole(checkpoint(WHOLE[name], seed=5, target="atom_map"), (20, 27), "float64", 120)


@pytest.mark.parametrize(("precision", "least_db"), [("float32", 100), ("bfloat16", 30)])
@pytest.mark.parametrize("name", ["image", "student alone", "dncnn"])
def test_lower_precisions_agree_as_far_as_they_can(name, precision, least_db) -> None:
    check_whole(checkpoint(WHOLE[name], seed=6), (21, 30), precision, least_db)


@pytest.mark.parametrize(("precision", "least_db"), [("float32", 80), ("bfloat16", 30)])
@pytest.mark.parametrize("name", ["scgn", "preview"])
def test_lower_precisions_of_a_stream_agree_as_far_as_they_can(name, precision, least_db) -> None:
    check_stream(checkpoint(WHOLE[name], seed=6), (21, 30), precision, least_db)


@pytest.mark.parametrize("name", ["scgn", "image", "no parts", "dncnn"])
def test_no_batch_norm_is_left(name) -> None:
    trained = checkpoint(WHOLE[name])
    graph = deploy(trained, DeployRecipe((20, 20)))
    assert any(isinstance(module, nn.BatchNorm2d) for module in trained.network.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in graph.modules())


@pytest.mark.parametrize("name", ["scgn", "feature", "fast", "dncnn"])
def test_a_batch_is_its_frames(name) -> None:
    trained = checkpoint(WHOLE[name], seed=7)
    frames = [
        np.stack([lattice((21, 30), seed), lattice((21, 30), 9 + seed, 4000)]) for seed in range(3)
    ]
    both, one = (
        deploy(trained, DeployRecipe((21, 30), precision="float64", batch=n)) for n in (2, 1)
    )
    together = series_of(both, frames)
    for frame in range(2):
        alone = series_of(one, [pixels[frame] for pixels in frames])
        for (denoised, facts), (expected, expected_facts) in zip(together, alone, strict=True):
            torch.testing.assert_close(denoised[frame], expected[0])
            torch.testing.assert_close(facts[frame], expected_facts[0], rtol=1e-9, atol=1e-9)
            assert facts[1, 0] > 50 * facts[0, 0]


@pytest.mark.parametrize("dtype", EXTREMES)
def test_shipped_network_is_the_denoiser_with_a_calibration(dtype) -> None:
    """Of frames of every camera; a defect of float frames holds NaN."""
    calibration, trained = calibrated((40, 51), True, True, 0.02), load_network("tiny-clean")
    pixels = lattice((40, 51), mean=90).clip(0, 255).astype(dtype)
    frames = [pixels, np.ascontiguousarray(pixels[::-1]), pixels]
    if dtype == "<f4":
        frames = [np.where(calibration.mask, np.float32(np.nan), frame) for frame in frames]
    recipe = DeployRecipe((40, 51), camera_dtype=dtype)
    graph = deploy(trained, recipe)
    remembers = Denoiser(trained, torch.device("cpu")).series()
    found = series_of(graph, frames, calibration)
    for frame, (denoised, facts) in zip(frames, found, strict=True):
        expected = torch.from_numpy(remembers(frame, calibration))
        assert agreement_db(denoised[0], expected.double()) > 80
        mean = float(facts[0, Facts._fields.index("mean")])
        assert mean == pytest.approx(float(expected.mean()), rel=1e-4)


@pytest.mark.parametrize("output", ["uint16", "float16"])
def test_outputs_are_the_float32_ones_rounded(output) -> None:
    trained, pixels = load_network("tiny-clean"), lattice((20, 27), mean=900)
    recipes = [DeployRecipe((20, 27), output_dtype=dtype) for dtype in ("float32", output)]
    exact, rounded = (
        as_pixels(graph(*inputs_of(graph, pixels))[0], graph.recipe)
        for graph in (deploy(trained, recipe) for recipe in recipes)
    )
    assert exact.std() > 100
    np.testing.assert_array_equal(
        rounded, exact.round().astype(output) if output == "uint16" else exact.astype(output)
    )


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("units", ["noise", "counts"])
def test_input_beyond_the_most_saturates_in_half_precision_alone(units, precision) -> None:
    """A pixel a million times the noise is to half precision as one at the limit, and no NaN."""
    trained = checkpoint(WHOLE["feature"], seed=8, input_units=units)
    recipe = DeployRecipe((40, 40), "<f4", precision=precision)
    graph, pixels = deploy(trained, recipe), lattice((40, 40))
    network = copy.deepcopy(trained.network)
    most = GIVEN_MAX if units == "noise" else COUNTS_MAX
    for value in (3e6, 1e7):
        pixels[20, 20] = value
        frames = torch.from_numpy(pixels).float()[None, None]
        found = noise_units(frames)
        given = found.enter(frames) if units == "noise" else frames
        assert given.max() > most
        with torch.no_grad():
            expected = network(given.clamp(-most, most) if precision == "float16" else given)
        expected = found.leave(expected) if units == "noise" else expected
        denoised, _ = graph(*inputs_of(graph, pixels))
        assert denoised.isfinite().all()
        least = 55 if precision == "float16" else 90
        assert agreement_db(denoised[0], expected[0, 0].double()) > least


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["image", "scgn", "preview"])
def test_facts_of_a_spoilt_frame_are_not_finite(name, value) -> None:
    recipe = DeployRecipe((20, 24), "<f4", batch=2)
    pixels = np.stack([lattice((20, 24)), lattice((20, 24), 1)])
    pixels[1, 3, 4] = value
    graph = deploy(checkpoint(WHOLE[name]), recipe)
    facts = graph(*inputs_of(graph, pixels))[1]
    assert facts[0].isfinite().all()
    assert not facts[1].isfinite().all()
    assert not facts[1, 0].isfinite(), "the level tells"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_spoilt_frame_leaves_its_stream_as_it_was_and_the_other_goes_on(value) -> None:
    recipe = DeployRecipe((20, 24), "<f4", batch=2)
    graph = deploy(checkpoint(WHOLE["preview"]), recipe)
    frames = [np.stack([lattice((20, 24), seed), lattice((20, 24), 9 + seed)]) for seed in range(4)]
    spoilt = frames[2].copy()
    spoilt[1, 3, 4] = value
    whole, broken = (
        series_of(graph, [*frames[:2], third, frames[3]]) for third in (frames[2], spoilt)
    )
    without = series_of(graph, [frames[0], frames[1], frames[3]])
    for index in range(2):  # pixels, facts
        assert torch.equal(broken[3][index][0], whole[3][index][0])
        assert torch.equal(broken[3][index][1], without[2][index][1])


def test_a_frame_without_noise_has_scale_one() -> None:
    for name in ("image", "scgn"):
        graph = deploy(checkpoint(WHOLE[name]), DeployRecipe((16, 18)))
        denoised, facts = graph(*inputs_of(graph, np.full((16, 18), 7.0)))[:2]
        assert facts[0, :2].tolist() == [7.0, 1.0]
        assert denoised.isfinite().all()


def test_what_is_shown_is_what_is_asked_for() -> None:
    """The network's result, the mean as it is, the frame's own estimate."""
    graph = deploy(checkpoint(WHOLE["preview"]), DeployRecipe((20, 24), precision="float64"))
    frames = [lattice((20, 24), seed, 400) for seed in range(2)]
    network, mean, estimate = (series_of(graph, frames, show=show)[-1][0][0] for show in range(3))
    torch.testing.assert_close(mean.double().numpy(), (frames[0] + frames[1]) / 2, atol=2, rtol=0.1)
    assert (network - estimate).std() > 1
    assert 1 < (mean - estimate).std() < 30, "the noise of the mean"
    alone = series_of(graph, frames[1:], longest=1, show=1)[-1][0][0]
    np.testing.assert_allclose(alone.numpy(), frames[1], atol=1e-2)


@pytest.mark.parametrize("name", ["scgn", "fast", "dncnn"])
@pytest.mark.parametrize("precision", ["float64", "float16"])
def test_the_trained_network_is_left_alone(name, precision) -> None:
    trained = checkpoint(WHOLE[name])
    before = copy.deepcopy(trained.network)
    graph = deploy(trained, DeployRecipe((20, 24), precision=precision))
    with torch.no_grad():
        for value in graph.state_dict().values():
            value.zero_()
    for key, value in before.state_dict().items():
        assert torch.equal(trained.network.state_dict()[key], value)
        assert trained.network.state_dict()[key].dtype == value.dtype
    names = [name for name, _ in before.named_modules()]
    assert [name for name, _ in trained.network.named_modules()] == names
    assert all(p.requires_grad for p in trained.network.parameters())


def test_the_deployed_graph_is_for_inference() -> None:
    network = SCGN(Size(8, 1), "stream").train()
    trained = Checkpoint(network, describe(network, "drawn"), "scgn-drawn-0")
    graph = deploy(trained, DeployRecipe((20, 24)))
    assert not any(module.training for module in graph.modules())
    assert not any(p.requires_grad for p in graph.parameters())


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_statistics_stay_wide_in_half_precision(precision) -> None:
    recipe = DeployRecipe((20, 24), precision=precision)
    state = deploy(checkpoint(WHOLE["scgn"]), recipe).state_dict()
    wide = {name for name, value in state.items() if value.dtype == torch.float32}
    front = {name for name in state if name.startswith("front.")}
    banded = {name for name in state if name.endswith((".squeeze", ".excite"))}
    assert front
    assert banded
    assert wide == front | banded
    assert {state[name].dtype for name in state.keys() - wide} == {recipe.dtype}


# ---- recipes ----


@pytest.mark.parametrize(
    ("wrong", "fact"),
    [
        ({"shape": (3, 64)}, r"shape: expected at least 4 px a side, got \(3, 64\)"),
        ({"shape": (64,)}, r"shape: expected .* got \(64,\)"),
        ({"camera_dtype": "<f8"}, r"camera_dtype: expected one of .*'<u2'.* got .*'<f8'"),
        ({"output_dtype": "int8"}, r"output_dtype: expected one of .*'uint16'.* got .*'int8'"),
        ({"precision": "int8"}, r"precision: expected one of .*'float16'.* got .*'int8'"),
        ({"batch": 0}, r"batch: expected at least 1, got 0"),
    ],
)
def test_impossible_recipes_say_what_was_expected(wrong, fact) -> None:
    with pytest.raises(DeployError, match=fact):
        DeployRecipe(**({"shape": (64, 64)} | wrong))


def test_recipes_can_be_keys() -> None:
    recipe = DeployRecipe((64, 48))
    assert {recipe: 1}[DeployRecipe((64, 48), "<u2", "float32", "float32", 1)] == 1
    with pytest.raises(FrozenInstanceError):
        recipe.batch = 2
