"""Noise found by calibration against noise that was put in: white, blurred, stacks and live."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from noisy_camera import NoisyCamera, scene

from scgn.calibrate.estimate import calibrate_references, calibrate_series
from scgn.calibrate.fixed_pattern import corrected
from scgn.calibrate.statistics import (
    box_mean,
    differences,
    lagged,
    line_noise,
    statistics,
    without_hits,
)
from scgn.calibrate.transfer import Points, fit_transfer
from scgn.references import CalibrationError

SIGNALS = np.array([50.0, 150, 400])
WHITE = NoisyCamera()
BLURRED = NoisyCamera(blur_px=0.8, line_correlation=0.4, axis="row")


def checked_noise(camera: NoisyCamera, noise, report, blur_tolerance: float) -> None:
    """The acceptance of the noise model: sigma_p 2 %, sigma_c 5 %, gain 2 %."""
    truth = camera.point_sigma(SIGNALS)
    np.testing.assert_allclose(noise.point_sigma(SIGNALS), truth, rtol=0.02)
    assert noise.gain_adu_per_e == pytest.approx(camera.variance_per_count, rel=0.02)
    assert noise.read_noise_adu == pytest.approx(camera.read, rel=0.1)
    assert noise.line_noise_adu == pytest.approx(camera.line, rel=0.05)
    assert noise.line_axis == camera.axis
    assert noise.line_correlation == pytest.approx(camera.line_correlation, abs=0.05)
    blurless = report.gain_without_blur_adu_per_e.value
    assert blurless == pytest.approx(camera.gain, rel=blur_tolerance)
    assert report.r_squared > 0.98
    assert report.chi2_per_dof < 2


@pytest.mark.parametrize("camera", [WHITE, BLURRED], ids=["white", "blurred"])
@pytest.mark.parametrize("seed", [0, 1])
def test_live_series_tells_the_noise(camera, seed) -> None:
    rng = np.random.default_rng(seed)
    series = camera.take(rng, 32, scene(rng, 256, 5, 200))
    calibration, report = calibrate_series(series)
    checked_noise(camera, calibration.noise, report, 0.05)
    assert report.trustworthy, report.words()
    assert calibration.dark is None
    assert calibration.gain is None
    assert (calibration.shape, calibration.masked) == ((256, 256), 0)


@pytest.mark.parametrize("camera", [WHITE, BLURRED], ids=["white", "blurred"])
def test_two_frames_tell_the_noise_roughly(camera) -> None:
    """16 pairs make it precise; one pair must be right within its own errors."""
    rng = np.random.default_rng(4)
    calibration, report = calibrate_series(camera.take(rng, 2, scene(rng, 256, 5, 200)))
    found = report.gain_adu_per_e
    assert abs(found.value - camera.variance_per_count) < 4 * found.error
    assert found.error < 0.1 * found.value
    assert calibration.noise.line_axis == camera.axis
    assert calibration.noise.line_noise_adu == pytest.approx(camera.line, rel=0.2)


class FixedPattern:
    """A camera with a fixed pattern and defects: stacks of even light, and the truth."""

    def __init__(self, camera: NoisyCamera, side: int = 160) -> None:
        self.rng = np.random.default_rng(5)
        self.camera, shape = camera, (side, side)
        self.dark = 100 + self.rng.normal(0, 3, shape)
        self.response = 1 + 0.02 * self.rng.normal(size=shape)
        self.hot, self.noisy, self.dead = (self.rng.random(shape) < 0.001 for _ in range(3))

    def stack(self, frames: int, electrons: float) -> np.ndarray:
        light = np.full(self.dark.shape, electrons)
        counts = self.camera.take(self.rng, frames, light) * self.response * ~self.dead
        counts += self.rng.normal(0, 6 * self.camera.read, counts.shape) * self.noisy
        return np.rint(counts + self.dark + 300 * self.hot).astype(np.int32)


@pytest.mark.parametrize("camera", [WHITE, BLURRED], ids=["white", "blurred"])
def test_reference_stacks_tell_noise_pattern_and_defects(camera) -> None:
    truth = FixedPattern(camera)
    flats = [truth.stack(16, electrons) for electrons in (10, 30, 80, 200)]
    calibration, report = calibrate_references(truth.stack(32, 0), flats)
    checked_noise(camera, calibration.noise, report, 0.05)
    assert report.trustworthy, report.words()
    np.testing.assert_array_equal(calibration.mask, truth.hot | truth.noisy | truth.dead)
    assert report.defects == {
        "hot": truth.hot.sum(), "noisy": truth.noisy.sum(), "dead": truth.dead.sum()
    }  # fmt: skip
    good = ~calibration.mask
    assert np.std((calibration.dark - truth.dark)[good]) < 1.1 * np.hypot(4, 3) / np.sqrt(32)
    product = (calibration.gain * truth.response)[good]
    assert np.std(product) < 0.2 * np.sqrt(2) * 0.1, "photon noise of 16 frames at 200 e/px"
    assert product.mean() == pytest.approx(1, abs=0.005)


def test_dark_stack_alone_tells_read_and_line_noise() -> None:
    calibration, report = calibrate_references(FixedPattern(WHITE).stack(32, 0), [])
    assert calibration.gain is None
    assert calibration.noise.gain_adu_per_e == 0
    assert calibration.noise.read_noise_adu == pytest.approx(4, rel=0.02)
    assert calibration.noise.line_noise_adu == pytest.approx(3, rel=0.05)
    assert [doubt.reason for doubt in report.doubts] == ["few_levels"]


def test_one_dark_frame_is_no_reference_of_its_own_noise() -> None:
    dark = WHITE.take(np.random.default_rng(6), 1, np.zeros((256, 256)))
    calibration, report = calibrate_references(dark, [])
    assert calibration.dark.std() < 0.3, "its background, not its noise"
    assert calibration.noise.line_noise_adu == pytest.approx(3, rel=0.1)
    assert calibration.noise.read_noise_adu == pytest.approx(4, rel=0.02)
    assert "few_frames" in [doubt.reason for doubt in report.doubts]


def test_autocorrelation_is_that_of_the_blur() -> None:
    """A Gaussian of deviation b px makes exp(-lag^2 / (4 b^2)) of white noise."""
    camera = NoisyCamera(read=0, line=0, blur_px=0.8)
    rng = np.random.default_rng(7)
    calibration, _ = calibrate_series(camera.take(rng, 12, scene(rng, 192, 100, 300)))
    lags = np.arange(-3, 4)
    expected = np.exp(-(lags[:, None] ** 2 + lags**2) / (4 * 0.8**2))
    np.testing.assert_allclose(calibration.noise.autocorrelation, expected, atol=0.015)
    assert calibration.noise.autocorrelation[3, 3] == 1


def test_scaling_the_counts_scales_the_noise_and_transposing_swaps_the_axis() -> None:
    rng = np.random.default_rng(8)
    series = WHITE.take(rng, 6, scene(rng, 96, 5, 100))
    one = calibrate_series(series)[0].noise
    tripled = calibrate_series(3 * series)[0].noise
    turned = calibrate_series(series.transpose(0, 2, 1))[0].noise
    for name in ("gain_adu_per_e", "read_noise_adu", "line_noise_adu"):
        assert getattr(tripled, name) == pytest.approx(3 * getattr(one, name), rel=1e-4)
        assert getattr(turned, name) == pytest.approx(getattr(one, name), rel=1e-4)
    np.testing.assert_allclose(tripled.autocorrelation, one.autocorrelation, atol=1e-5)
    np.testing.assert_allclose(turned.autocorrelation.T, one.autocorrelation, atol=1e-5)
    assert (one.line_axis, turned.line_axis) == ("column", "row")


def test_no_line_noise_is_found_where_there_is_none() -> None:
    camera = NoisyCamera(line=0, blur_px=0.8)
    rng = np.random.default_rng(9)
    for _ in range(10):
        noise = statistics([camera.take(rng, 4, np.full((64, 64), 50.0))])
        assert not line_noise(noise, "column").found
        assert not line_noise(noise, "row").found


def test_hits_are_no_noise() -> None:
    """X-rays strike single pixels with thousands of counts; one would double the variance."""
    rng = np.random.default_rng(10)
    series = WHITE.take(rng, 8, scene(rng, 128, 5, 100))
    hit = series.copy()
    hit[3, 40, 50] += 20000
    clean, struck = (calibrate_series(s)[0].noise for s in (series, hit))
    assert struck.gain_adu_per_e == pytest.approx(clean.gain_adu_per_e, rel=0.002)
    assert struck.line_noise_adu == pytest.approx(clean.line_noise_adu, rel=0.002)


def test_hits_are_replaced_in_any_frame() -> None:
    frames = np.random.default_rng(11).normal(100, 3, (4, 64, 64))
    assert without_hits(frames) is frames
    for index in range(4):
        hit = frames.copy()
        hit[index, 20, 30] += 5000
        clean = without_hits(hit)
        assert clean[index, 20, 30] == hit[max(index - 1, 0) if index else 1, 20, 30]
        assert (clean != hit).sum() == 1


# ---- parts ----


def test_differences_cancel_a_still_scene_and_keep_the_variance() -> None:
    still = np.tile(np.random.default_rng(0).normal(size=(20, 24)), (3, 1, 1))
    assert all((change == 0).all() for change in differences(still))
    noise = np.random.default_rng(1).normal(0, 2, (9, 64, 64))
    variances = [change.var() for change in differences(noise)]
    assert len(variances) == 8
    assert np.mean(variances) == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize(("height", "width"), [(3, 3), (7, 1), (5, 9)])
def test_box_mean_is_the_mean_of_a_window(height, width) -> None:
    frame = np.random.default_rng(2).normal(size=(12, 15))
    up, left = height // 2, width // 2
    padded = np.pad(frame, ((up, up), (left, left)), mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width))
    np.testing.assert_allclose(box_mean(frame, height, width), windows.mean((2, 3)), atol=1e-6)


def test_lagged_products_by_brute_force() -> None:
    frame = np.random.default_rng(3).normal(size=(11, 9)).astype(np.float32)
    result = lagged(frame)
    for down, right in [(0, 0), (1, -2), (-1, 2), (3, 3), (0, -3), (-2, 0)]:
        pairs = [
            frame[i, j] * frame[i + down, j + right]
            for i in range(11) for j in range(9)
            if 0 <= i + down < 11 and 0 <= j + right < 9
        ]  # fmt: skip
        assert result[3 + down, 3 + right] == pytest.approx(np.mean(pairs), rel=1e-5)


def test_means_of_lines_take_nothing_along() -> None:
    """In 24 px frames they take 8 % of the variance of white noise, and give it back."""
    noise = np.random.default_rng(4).normal(0, 3, (400, 24, 24))
    found = statistics([noise[i : i + 2] for i in range(0, 400, 2)])
    assert found.raw[3, 3] == pytest.approx(9 * (1 - 1 / 24) ** 2, rel=0.01)
    assert found.covariance[3, 3] == pytest.approx(9, rel=0.01)
    assert np.abs(np.delete(found.covariance.ravel(), 24)).max() < 0.15


def test_straight_line_is_found_exactly() -> None:
    signal = np.array([0.0, 10, 50, 200])
    points = Points(signal, 16 + 2.5 * signal, np.array([1e5, 1e4, 1e4, 1e3]))
    line = fit_transfer(points)
    assert (line.gain, line.offset) == (pytest.approx(2.5), pytest.approx(16))
    assert line.r_squared == pytest.approx(1)
    assert line.chi2_per_dof == pytest.approx(0, abs=1e-12)


def test_errors_of_the_line_are_those_of_repetition() -> None:
    rng, signal = np.random.default_rng(5), np.linspace(10, 300, 12)
    samples, truth = np.full(12, 2000.0), 16 + 2.5 * signal
    noise = np.sqrt(2 / samples) * truth
    lines = [fit_transfer(Points(signal, rng.normal(truth, noise), samples)) for _ in range(300)]
    assert np.mean([line.gain for line in lines]) == pytest.approx(2.5, rel=0.005)
    spread, said = (
        np.std([line.gain for line in lines]),
        np.mean([line.gain_error for line in lines]),
    )
    assert spread == pytest.approx(said, rel=0.25)
    assert np.mean([line.chi2_per_dof for line in lines]) == pytest.approx(1, abs=0.1)


def test_defects_of_a_turned_stack_are_filled_too() -> None:
    stack = np.random.default_rng(0).poisson(50, (3, 20, 24)).astype("<u2")
    stack[:, 4, 7] = 60_000
    mask = stack[0] == 60_000
    turned = stack.transpose(0, 2, 1)
    found = corrected(turned, np.zeros((24, 20), np.float32), None, mask.T)
    assert found.max() < 200
    np.testing.assert_array_equal(
        found.transpose(0, 2, 1), corrected(stack, np.zeros((20, 24), np.float32), None, mask)
    )


def test_report_is_plain_json() -> None:
    _, report = calibrate_series(WHITE.take(np.random.default_rng(0), 3, np.full((48, 48), 9.0)))
    told = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert told["trustworthy"] is False
    assert told["frames"] == [3]
    assert sum(told["point_histogram"]["counts"]) > 0.99 * 2 * 48 * 48
    for doubt in report.doubts:
        assert f"DOUBT        {doubt.reason}: {doubt.text}" in report.words()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: calibrate_series(np.zeros((1, 32, 32))),
            "series: expected 2 frames or more, got 1",
        ),
        (lambda: calibrate_series(np.zeros((32, 32))), r"series: .+ got float64 \(32, 32\)"),
        (lambda: calibrate_series(np.zeros((4, 32, 8))), "16 px a side or more, got"),
        (lambda: calibrate_series(np.zeros((4, 32, 32), complex)), "expected real .+ got complex"),
        (
            lambda: calibrate_references(np.zeros((4, 32, 32)), [np.zeros((4, 32, 33))]),
            r"flat: expected frames of the dark's \(32, 32\), got \(32, 33\)",
        ),
        (
            lambda: calibrate_references(np.ones((4, 32, 32)), [np.zeros((4, 32, 32))]),
            "flat: expected flats brighter than the dark, got -1 counts more",
        ),
    ],
)
def test_stacks_that_cannot_be_used(call, message) -> None:
    with pytest.raises(CalibrationError, match=message):
        call()


def test_calibration_needs_no_torch() -> None:
    code = (
        "import sys, scgn.calibration, scgn.noise, scgn.calibrate.command;"
        "print({'torch', 'matplotlib', 'h5py', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("set()\n", "")
