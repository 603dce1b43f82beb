"""The calibrated noise as a graph takes it: a power spectrum for frames of any shape, and a law."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scgn.calibration import build_calibration
from scgn.deploy.references import LAW, NAMES, noise_law, noise_power, references
from scgn.noise import NoiseModel
from scgn.simulate.detector import noise_transfer

BLURRED = np.array([[0.1, 0.3, 0.1], [0.3, 1, 0.3], [0.1, 0.3, 0.1]], np.float32)
CUT_SHORT = np.array([[0, 0.6, 0], [0.7, 1, 0.7], [0, 0.6, 0]], np.float32)  # negative powers


def model(lags: np.ndarray, axis: str = "column") -> NoiseModel:
    return NoiseModel(2.0, 3.0, 0.5, axis, 0.25, lags)  # type: ignore[arg-type]


def whole(half: torch.Tensor, columns: int) -> torch.Tensor:
    """The full plane of a half one: power at a frequency and at its negative is the same."""
    rows = half.shape[0]
    mirror = half[(-torch.arange(rows)) % rows]
    return torch.cat((half, mirror[:, 1 : columns - half.shape[1] + 1].flip(1)), dim=1)


@pytest.mark.parametrize("lags", [BLURRED, CUT_SHORT])
@pytest.mark.parametrize("side", [8, 9, 64])
def test_power_is_that_of_the_simulated_detectors_noise(lags, side: int) -> None:
    transfer = noise_transfer(model(lags), side)
    assert transfer is not None
    torch.testing.assert_close(
        noise_power(model(lags), (side, side)), transfer[0, 0].square(), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("shape", [(8, 12), (9, 5), (4, 4), (5, 64), (64, 7)])
@pytest.mark.parametrize("reach", [0, 1, 3])
def test_power_is_one_on_average_for_any_shape(shape, reach: int) -> None:
    offsets = np.arange(-reach, reach + 1)
    lags = np.exp(-(offsets[:, None] ** 2 + offsets**2) / 2).astype(np.float32)
    power = noise_power(model(lags), shape)
    assert power.shape == (shape[0], shape[1] // 2 + 1)
    assert power.dtype == torch.float32
    assert (power >= 0).all()
    assert float(whole(power, shape[1]).mean()) == pytest.approx(1, rel=1e-5)


def test_power_of_a_long_frame_is_the_transform_of_its_lags() -> None:
    wrapped = np.zeros((12, 20))
    wrapped[:3, :3] = BLURRED
    expected = np.fft.rfft2(np.roll(wrapped, (-1, -1), (0, 1))).real
    np.testing.assert_allclose(noise_power(model(BLURRED), (12, 20)), expected, atol=1e-5)


def test_lags_beyond_a_small_frame_come_in_again_at_its_other_side() -> None:
    lags = np.zeros((9, 9), np.float32)
    lags[4, 4], lags[4, 8], lags[4, 0] = 1, 0.25, 0.25  # 4 px away, in frames of 4 px: itself
    torch.testing.assert_close(noise_power(model(lags), (4, 4)), torch.ones(4, 3))


def test_white_noise_has_the_same_power_everywhere() -> None:
    torch.testing.assert_close(noise_power(NoiseModel(1, 1), (6, 8)), torch.ones(6, 5))


def test_law_names_the_lines_that_share_their_noise() -> None:
    by_row = dict(zip(LAW, noise_law(model(BLURRED, "row")).tolist(), strict=True))
    by_column = dict(zip(LAW, noise_law(model(BLURRED, "column")).tolist(), strict=True))
    assert by_row == {
        "gain_adu_per_e": 2, "read_noise_adu": 3, "line_rows": 0.5, "line_columns": 0,
        "line_correlation": 0.25, "known": 1,
    }  # fmt: skip
    assert by_column == by_row | {"line_rows": 0, "line_columns": 0.5}


def test_what_is_not_known_is_zeros() -> None:
    for calibration in (None, build_calibration(dark=np.ones((6, 8)))):
        known = references(calibration, (6, 8))
        assert known.noise_power.shape == (6, 5)
        assert not known.noise_power.any()
        assert not known.law.any()


def test_references_are_given_by_a_graphs_names() -> None:
    known = references(build_calibration(dark=np.ones((6, 8)), noise=model(BLURRED)), (6, 8))
    given = known.of(("raw", "law", "dark", "control", "noise_power"))
    assert [value is getattr(known, name) for value, name in
            zip(given, ("law", "dark", "noise_power"), strict=True)] == [True] * 3  # fmt: skip
    assert known.tensors() == (known.dark, known.gain, known.fill, known.source)
    moved = known.to(torch.device("cpu"), torch.float64)
    for name in NAMES:
        value, same = getattr(moved, name), getattr(known, name)
        assert value.data_ptr() != same.data_ptr()
        assert value.dtype == (torch.int32 if name == "source" else torch.float64)
        assert torch.equal(value.to(same.dtype), same)
