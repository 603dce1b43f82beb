"""The detector against closed forms: Poisson, gain, read noise, point spread, lines, defects."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scgn.noise import Axis, NoiseModel
from scgn.simulate.detector import (
    Detector,
    blend_of_correlation,
    column,
    expose,
    filtered,
    gaussian_mtf,
    line_noise,
    noise_transfer,
    of_noise_model,
)

SIDE = 128


def camera(count: int, **changes: Tensor | bool | None) -> Detector:
    """A perfect counting camera, but for the changes."""
    nothing = column(np.zeros(count))
    values: dict[str, Tensor | bool | None] = {
        "gain_adu_per_e": column(np.ones(count)), "read_noise_adu": nothing,
        "line_noise_adu": nothing, "line_blend": nothing,
        "along_columns": column(np.ones(count)),
        "signal_transfer": None, "noise_transfer": None,
        "response": nothing, "hot_share": nothing, "clips": nothing, **changes,
    }  # fmt: skip
    return Detector(**values)  # type: ignore[arg-type]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def level(electrons: float, count: int = 4, side: int = SIDE) -> Tensor:
    return torch.full((count, 1, side, side), electrons)


def same(value: float, count: int = 4) -> Tensor:
    return column(np.full(count, value))


def autocorrelation(noise: Tensor, dy: int, dx: int) -> float:
    """Of zero-mean periodic noise (B,1,H,W) at one shift, relative to none."""
    return float((noise * noise.roll((dy, dx), (-2, -1))).mean() / noise.square().mean())


# ---- point noise ----


@pytest.mark.parametrize("electrons", [0.2, 0.5, 4.0, 60.0])
def test_shot_noise_is_poisson(electrons) -> None:
    noisy, clean = expose(camera(4), level(electrons), seeded(7))
    count = noisy.numel()
    assert torch.equal(clean, level(electrons))
    assert torch.equal(noisy, noisy.round())
    assert float(noisy.min()) >= 0
    assert float(noisy.mean()) == pytest.approx(electrons, abs=5 * (electrons / count) ** 0.5)
    variance_error = electrons * ((2 + 1 / electrons) / count) ** 0.5
    assert float(noisy.var()) == pytest.approx(electrons, abs=5 * variance_error)
    none = float((noisy == 0).double().mean())
    assert none == pytest.approx(math.exp(-electrons), abs=5 * (0.25 / count) ** 0.5)


@pytest.mark.parametrize("gain", [0.5, 20.0])
def test_gain_multiplies_signal_and_noise(gain) -> None:
    """Photon transfer: variance = gain x mean, in counts."""
    noisy, clean = expose(camera(4, gain_adu_per_e=same(gain), whole=False), level(9.0), seeded(1))
    torch.testing.assert_close(clean, level(9.0 * gain))
    assert float(noisy.mean()) == pytest.approx(9 * gain, rel=0.01)
    assert float(noisy.var() / noisy.mean()) == pytest.approx(gain, rel=0.03)


def test_read_noise_adds_its_variance() -> None:
    noisy, _ = expose(camera(4, read_noise_adu=same(3.0), whole=False), level(10.0), seeded(8))
    assert float(noisy.var()) == pytest.approx(10 + 9, rel=0.03)
    dark, _ = expose(camera(4, read_noise_adu=same(3.0), whole=False), level(0.0), seeded(8))
    assert float(dark.var()) == pytest.approx(9, rel=0.03)
    assert autocorrelation(dark, 0, 1) == pytest.approx(0, abs=0.02)


def test_rounding_adds_a_twelfth() -> None:
    dark = camera(4, read_noise_adu=same(1.0))
    noisy, _ = expose(dark, level(0.0), seeded(9))
    assert torch.equal(noisy, noisy.round())
    assert float(noisy.var()) == pytest.approx(1 + 1 / 12, rel=0.03)


# ---- point spread ----


@pytest.mark.parametrize("sigma_px", [0.7, 1.2])
def test_point_spread_correlates_shot_noise_as_its_own_autocorrelation(sigma_px) -> None:
    """A Gaussian spread gives a Gaussian of sqrt(2) sigma, and the variance 1 / (4 pi sigma^2)."""
    mtf = gaussian_mtf(same(sigma_px, 8), SIDE)
    blurred = camera(8, signal_transfer=mtf, noise_transfer=mtf, whole=False)
    noisy, clean = expose(blurred, level(400.0, 8), seeded(2))
    noise = noisy - clean
    for dy, dx in ((0, 1), (1, 0), (1, 1), (2, 0), (0, 3)):
        expected = math.exp(-(dy**2 + dx**2) / (2 * (math.sqrt(2) * sigma_px) ** 2))
        assert autocorrelation(noise, dy, dx) == pytest.approx(expected, abs=0.02)
    assert float(noise.var()) == pytest.approx(400 / (4 * math.pi * sigma_px**2), rel=0.04)


def test_clean_is_seen_through_the_point_spread() -> None:
    """A Gaussian atom grows wider by the spread's sigma and keeps its electrons."""
    y, x = torch.meshgrid(*[torch.arange(64.0)] * 2, indexing="ij")
    r2 = (y - 30) ** 2 + (x - 33) ** 2
    atom = 50 * torch.exp(-r2 / (2 * 2.0**2))[None, None]
    mtf = gaussian_mtf(same(1.5, 1), 64)
    _, clean = expose(camera(1, signal_transfer=mtf), atom, seeded(0))
    expected = 50 * 2.0**2 / (2.0**2 + 1.5**2) * torch.exp(-r2 / (2 * (2.0**2 + 1.5**2)))
    torch.testing.assert_close(clean[0, 0], expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(filtered(atom, None), atom)


def test_noise_only_spread_leaves_the_signal() -> None:
    mtf = gaussian_mtf(same(1.0), SIDE)
    noisy, clean = expose(camera(4, noise_transfer=mtf, whole=False), level(30.0), seeded(4))
    torch.testing.assert_close(clean, level(30.0))
    assert autocorrelation(noisy - clean, 0, 1) == pytest.approx(math.exp(-0.25), abs=0.02)


# ---- lines ----


@pytest.mark.parametrize(("along_columns", "axis"), [(1.0, -2), (0.0, -1)])
def test_lines_lie_along_the_said_axis_with_the_said_deviation(along_columns, axis) -> None:
    lined = camera(40, line_noise_adu=same(7.0, 40), along_columns=same(along_columns, 40))
    noise = line_noise(lined, torch.Size((40, 1, 90, 200)), seeded(3))
    first = noise.select(axis, 0).unsqueeze(axis)
    assert torch.equal(noise, first.expand_as(noise)), "constant along its line"
    assert float(first.std()) == pytest.approx(7.0, rel=0.05)
    assert not torch.equal(noise[0], noise[1]), "redrawn for each frame"


@pytest.mark.parametrize("blend", [0.0, 0.5, 1.0])
def test_neighbouring_lines_correlate_as_their_blend(blend) -> None:
    lined = camera(60, line_noise_adu=same(1.0, 60), line_blend=same(blend, 60))
    lines = line_noise(lined, torch.Size((60, 1, 2, 400)), seeded(5))[:, 0, 0]
    assert float(lines.var()) == pytest.approx(1, rel=0.05)
    assert float((lines[:, 1:] * lines[:, :-1]).mean()) == pytest.approx(
        blend / (1 + blend**2), abs=0.03
    )
    assert float((lines[:, 2:] * lines[:, :-2]).mean()) == pytest.approx(0, abs=0.03)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.floats(-0.499, 0.499))
def test_blend_is_the_inverse_of_the_correlation(correlation) -> None:
    blend = blend_of_correlation(correlation)
    assert -1 <= blend <= 1
    assert blend / (1 + blend**2) == pytest.approx(correlation, abs=1e-9)


@pytest.mark.parametrize("correlation", [0.5, 0.8, -0.7])
def test_more_correlation_than_one_neighbour_gives_is_cut(correlation) -> None:
    blend = blend_of_correlation(correlation)
    assert blend / (1 + blend**2) == pytest.approx(math.copysign(0.5, correlation), abs=2e-4)


# ---- defects ----


def test_response_is_relative_to_the_signal() -> None:
    uneven = camera(4, response=same(0.02), gain_adu_per_e=same(100.0), whole=False)
    noisy, clean = expose(uneven, level(2000.0), seeded(6))
    assert float((noisy - clean).mean()) == pytest.approx(0, abs=60)
    assert float(noisy.var()) == pytest.approx(100 * 2e5 + (0.02 * 2e5) ** 2, rel=0.03)


def test_hot_pixels_are_as_many_and_as_bright_as_said() -> None:
    noisy, clean = expose(camera(4, hot_share=same(0.01)), level(100.0), seeded(11))
    usual, _ = expose(camera(4), level(100.0), seeded(11))
    lift = (noisy - usual)[noisy != usual]
    assert len(lift) / clean.numel() == pytest.approx(0.01, rel=0.15)
    deviation = float(usual.std())
    assert 4.9 * deviation < float(lift.min()) < 10 * deviation
    assert 45 * deviation < float(lift.max()) < 51 * deviation


def test_clipping_loses_negative_counts_alone() -> None:
    noisy, _ = expose(camera(2, read_noise_adu=same(4.0, 2), clips=column([1, 0])), level(0.0, 2),
                      seeded(12))  # fmt: skip
    assert float(noisy[0].min()) == 0
    assert float((noisy[0] == 0).float().mean()) == pytest.approx(0.55, abs=0.02)
    assert float(noisy[1].min()) < -8


# ---- a calibration as detector ----

CORRELATED = np.array(
    [[0.04, 0.2, 0.04], [0.2, 1.0, 0.2], [0.04, 0.2, 0.04]], np.float32
)  # outer product of (0.2, 1, 0.2)


@pytest.mark.parametrize("signal", [0.0, 30.0, 800.0])
@pytest.mark.parametrize("kernel", [np.ones((1, 1), np.float32), CORRELATED], ids=["white", "psf"])
def test_calibrated_detector_has_the_models_point_noise(signal, kernel) -> None:
    noise = NoiseModel(gain_adu_per_e=6.0, read_noise_adu=11.0, autocorrelation=kernel)
    detector = of_noise_model(noise, 8, SIDE)
    noisy, clean = expose(detector, level(signal / 6.0, 8), seeded(13))
    torch.testing.assert_close(clean, level(signal, 8))
    assert float((noisy - clean).std()) == pytest.approx(
        float(noise.point_sigma(signal)), rel=0.015
    )
    assert float((noisy - clean).mean()) == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize(("axis", "correlation"), [("column", 0.4), ("row", 0.0), ("row", -0.3)])
def test_calibrated_detector_has_the_models_lines(axis: Axis, correlation) -> None:
    noise = NoiseModel(1.0, 2.0, 5.0, axis, correlation)
    noisy, clean = expose(of_noise_model(noise, 40, SIDE), level(12.0, 40), seeded(14))
    means = (noisy - clean).mean(dim=-2 if axis == "column" else -1)[:, 0]
    across = (noisy - clean).mean(dim=-1 if axis == "column" else -2)[:, 0]
    assert float(means.var()) == pytest.approx(25 + (4 + 12) / SIDE, rel=0.05)
    assert float((across - across.mean(dim=1, keepdim=True)).var()) == pytest.approx(
        (4 + 12) / SIDE, rel=0.1
    )
    neighbours = (means[:, 1:] * means[:, :-1]).mean() / means.var()
    assert float(neighbours) == pytest.approx(correlation, abs=0.05)


def test_calibrated_detector_has_the_models_autocorrelation() -> None:
    noise = NoiseModel(5.0, 0.0, autocorrelation=CORRELATED)
    noisy, clean = expose(of_noise_model(noise, 8, SIDE), level(200.0, 8), seeded(15))
    for dy in range(-1, 2):
        for dx in range(-1, 2):
            measured = autocorrelation(noisy - clean, dy, dx)
            assert measured == pytest.approx(float(CORRELATED[dy + 1, dx + 1]), abs=0.015)
    assert autocorrelation(noisy - clean, 0, 2) == pytest.approx(0, abs=0.015)


@pytest.mark.parametrize(("sigma_px", "reach"), [(0.8, 1), (1.2, 2), (0.7, 5)])
def test_correlation_cut_short_keeps_the_variance(sigma_px, reach) -> None:
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernel = np.exp(-(x**2 + y**2) / (4 * sigma_px**2)).astype(np.float32)
    noise = NoiseModel(5.0, 0.0, autocorrelation=kernel)
    noisy, clean = expose(of_noise_model(noise, 8, SIDE), level(200.0, 8), seeded(16))
    assert float((noisy - clean).var()) == pytest.approx(25 * 200, rel=0.03)


def test_white_noise_needs_no_transfer() -> None:
    assert noise_transfer(NoiseModel(1.0, 1.0), 64) is None
    power = noise_transfer(NoiseModel(1.0, 1.0, autocorrelation=CORRELATED), 64)
    assert power is not None
    assert power.shape == (1, 1, 64, 33)
    assert float(power[0, 0, 0, 0].square()) == pytest.approx(CORRELATED.sum(), rel=1e-5)
