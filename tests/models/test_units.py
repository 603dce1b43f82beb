"""Noise units: the same for any camera gain and offset, and a measure that sees only noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scgn.simulate.detector import filtered, gaussian_mtf
from scgn.units import noise_units, point_noise

SETTINGS = settings(deadline=None, max_examples=40, derandomize=True)
sides = st.integers(2, 70)
gains = st.floats(1e-3, 1e4)
offsets = st.floats(-1e5, 1e5)
seeds = st.integers(0, 2**32 - 1)


def white(seed: int, *shape: int, sigma: float = 1.0) -> Tensor:
    """Seeded white noise in float64."""
    return torch.from_numpy(np.random.default_rng(seed).normal(0, sigma, shape))


# ---- invariance ----


@SETTINGS
@given(seed=seeds, rows=sides, columns=sides, gain=gains, offset=offsets)
def test_noise_units_do_not_see_gain_and_offset(seed, rows, columns, gain, offset) -> None:
    frames = white(seed, 2, 1, rows, columns)
    other = gain * frames + offset
    expected = noise_units(frames).enter(frames)
    # What the offset's last digit is worth in noise units, many times over.
    tolerance = 1e-12 * (1 + abs(offset) / gain) / float(noise_units(frames).scale.min()) ** 2
    torch.testing.assert_close(
        noise_units(other).enter(other), expected, rtol=1e-6, atol=1e-9 + tolerance
    )


@SETTINGS
@given(seed=seeds, rows=sides, columns=sides, gain=gains, offset=offsets)
def test_leave_undoes_enter(seed, rows, columns, gain, offset) -> None:
    frames = gain * white(seed, 3, 1, rows, columns) + offset
    units = noise_units(frames)
    torch.testing.assert_close(
        units.leave(units.enter(frames)), frames, rtol=1e-12, atol=1e-12 * abs(offset) + 1e-9
    )


@SETTINGS
@given(seed=seeds, rows=sides, columns=sides)
def test_each_frame_has_its_own_units(seed, rows, columns) -> None:
    first, second = white(seed, 1, 1, rows, columns), 50 + 7 * white(seed + 1, 1, 1, rows, columns)
    together = noise_units(torch.cat((first, second)))
    assert together.level.shape == together.scale.shape == (2, 1, 1, 1)
    for index, frame in enumerate((first, second)):
        alone = noise_units(frame)
        torch.testing.assert_close(together.level[index], alone.level[0], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(together.scale[index], alone.scale[0])


def test_level_is_the_mean_and_scale_the_noise() -> None:
    frames = 40 + white(1, 1, 1, 256, 256, sigma=5)
    units = noise_units(frames)
    assert float(units.level) == pytest.approx(float(frames.mean()))
    assert float(units.scale) == pytest.approx(5, rel=0.03)
    assert float(units.enter(frames).std()) == pytest.approx(1, rel=0.03)


# ---- the measure of noise ----


def test_noise_of_four_pixels_by_hand() -> None:
    frame = torch.tensor([[[[1.0, 4.0], [2.0, 11.0]]]])
    assert float(point_noise(frame)) == pytest.approx(abs(11 - 2 - 4 + 1) / 2)


def test_median_of_blocks_by_hand() -> None:
    """Three blocks of 16 x 16 differences with deviations 1, 2, 30: the middle one counts."""
    rng = np.random.default_rng(0)
    frame = torch.from_numpy(rng.normal(0, 1, (1, 1, 18, 50)) * np.repeat([1, 2, 30], [16, 18, 16]))
    middle = frame[..., 16:34]
    assert float(point_noise(frame)) == pytest.approx(float(point_noise(middle)))


def test_differences_are_taken_two_pixels_apart() -> None:
    """One bright pixel is in the difference of each corner 2 px away, and in no other."""
    frame = torch.zeros(1, 1, 3, 3)
    frame[..., 2, 2] = 6.0
    assert float(point_noise(frame)) == 3.0
    between = torch.zeros(1, 1, 3, 3)
    between[..., 1, :] = between[..., :, 1] = 6.0
    assert float(point_noise(between)) == 0.0


@pytest.mark.parametrize("shape", [(256, 256), (300, 200), (512, 130)])
@pytest.mark.parametrize("sigma", [0.01, 1.0, 250.0])
def test_known_sigma_of_one_frame(shape, sigma) -> None:
    measured = float(point_noise(white(11, 1, 1, *shape, sigma=sigma)))
    assert measured == pytest.approx(sigma, rel=0.03)


@pytest.mark.parametrize("shape", [(18, 18), (34, 50), (64, 64), (66, 100)])
def test_known_sigma_on_average_over_small_frames(shape) -> None:
    measured = point_noise(white(12, 200, 1, *shape, sigma=4.0))
    assert float(measured.mean()) == pytest.approx(4.0, rel=0.03)


@pytest.mark.parametrize(("sigma_px", "lowest"), [(0.3, 0.99), (0.6, 0.9), (0.9, 0.69)])
def test_noise_of_a_blurred_camera_is_nearly_its_own(sigma_px, lowest) -> None:
    """Pixels 2 apart correlate by r = exp(-1 / sigma^2) after a Gaussian blur: 1 - r is seen."""
    mtf = gaussian_mtf(torch.full((4, 1, 1, 1), sigma_px), 256)
    noise = filtered(white(14, 4, 1, 256, 256).float(), mtf)
    share = point_noise(noise).flatten() / noise.std(dim=(1, 2, 3))
    expected = 1 - math.exp(-1 / sigma_px**2)
    torch.testing.assert_close(share, torch.full((4,), expected), rtol=0.03, atol=0)
    assert float(share.min()) > lowest


@pytest.mark.parametrize("added", ["columns", "rows", "ramp", "all three"])
def test_lines_and_slopes_do_not_count_as_noise(added) -> None:
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 1, (1, 1, 96, 130))
    parts = {
        "columns": rng.normal(0, 20, (1, 1, 1, 130)),
        "rows": rng.normal(0, 20, (1, 1, 96, 1)),
        "ramp": 3.0 * np.arange(96)[:, None] - 2.0 * np.arange(130),
    }
    extra = sum(parts.values()) if added == "all three" else parts[added]
    measured = point_noise(torch.from_numpy(noise + extra))
    torch.testing.assert_close(measured, point_noise(torch.from_numpy(noise)), rtol=1e-9, atol=0)


def test_hot_pixels_hardly_count() -> None:
    frame = white(6, 1, 1, 256, 256)
    before = float(point_noise(frame))
    rng = np.random.default_rng(7)
    hot = torch.from_numpy(rng.choice(256 * 256, 30, replace=False))
    frame.view(-1)[hot] = 10_000.0
    assert float(point_noise(frame)) == pytest.approx(before, rel=0.03)
    assert float(noise_units(frame).scale) < 1.05


@pytest.mark.parametrize("value", [0.0, 7.0, -3e4])
def test_constant_frame_has_scale_one(value) -> None:
    frames = torch.full((2, 1, 20, 33), value)
    units = noise_units(frames)
    assert units.scale.tolist() == torch.ones(2, 1, 1, 1).tolist()
    torch.testing.assert_close(units.enter(frames), torch.zeros_like(frames))
    torch.testing.assert_close(units.leave(units.enter(frames)), frames)


def test_nan_reaches_the_units() -> None:
    """The caller finds a bad frame by its units, so they must not hide it."""
    frames = white(8, 1, 1, 64, 64)
    frames[0, 0, 10, 10] = torch.nan
    units = noise_units(frames)
    assert not bool(torch.isfinite(units.level + units.scale).all())
