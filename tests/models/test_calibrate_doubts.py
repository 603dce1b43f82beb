"""Each reason not to believe a calibration: raised by its cause, and by nothing else."""

from __future__ import annotations

import re

import numpy as np
import pytest
from noisy_camera import NoisyCamera, scene

from scgn.calibrate.doubts import lattice_step
from scgn.calibrate.estimate import calibrate_references, calibrate_series

CAMERA = NoisyCamera(offset=0.0, line=1.0)
SIDE = 128


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def series(camera: NoisyCamera = CAMERA, frames: int = 12, low: float = 10, high: float = 100):
    generator = rng()
    return camera.take(generator, frames, scene(generator, SIDE, low, high))


def doubts(frames: np.ndarray) -> dict[str, str]:
    _, report = calibrate_series(frames)
    assert report.trustworthy == (not report.doubts)
    return {doubt.reason: doubt.text for doubt in report.doubts}


def sharp_scene() -> np.ndarray:
    """Atoms 10 px apart on a slope, electrons per pixel."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    atoms = np.cos(2 * np.pi * rows / 10) * np.cos(2 * np.pi * columns / 10)
    return 30 + 20 * atoms + 0.3 * rows


def test_good_series_raise_none() -> None:
    counting = NoisyCamera(gain=1, read=0, line=0)
    sparse = NoisyCamera(gain=7, read=0, line=0)
    assert doubts(series()) == {}
    assert doubts(series(counting, low=0.05, high=3)) == {}, "empty pixels are no clipping"
    assert doubts(series(sparse, low=0.5, high=20)) == {}
    assert doubts(CAMERA.take(rng(), 12, sharp_scene())) == {}


def test_clipping_at_zero() -> None:
    low = series(NoisyCamera(read=8), low=0, high=40)
    text = doubts(np.clip(low - 20, 0, None))["clipping"]
    share = float(re.search(r"([\d.]+)% of the pixels are at the lowest value, 0", text)[1])
    assert share == pytest.approx(100 * np.mean(low[[0, 3, 7, 11]] <= 20), abs=0.1)


def test_dark_clipped_at_zero() -> None:
    dark = NoisyCamera(read=3, line=0).take(rng(), 16, np.zeros((64, 64)))
    _, report = calibrate_references(np.clip(dark, 0, None), [])
    assert "clipping" in [doubt.reason for doubt in report.doubts]


def test_saturation() -> None:
    found = doubts(np.clip(series(), None, 180))
    assert "at the highest value, 180" in found["saturation"]
    assert "nonlinear" in found, "clipped noise is off the line as well"


def test_values_off_a_lattice() -> None:
    frames = series().astype(np.float32)
    assert "not_integer" not in doubts(frames / 4)
    assert "not_integer" in doubts(frames * rng(1).uniform(0.9, 1.1, (SIDE, SIDE)))


@pytest.mark.parametrize("dtype", ["u1", "<u2", "<i4", "<f4", "f8"])
def test_lattice_step_of_any_dtype(dtype) -> None:
    values = rng().integers(0, 60, (3, 20, 20)).astype(dtype)
    assert lattice_step(values) == 1
    assert lattice_step(values * 4) == 4
    assert lattice_step(np.full((2, 8, 8), 7, dtype)) == (0 if "f" in dtype else 1)


def test_repeated_frames() -> None:
    frames = series()
    frames[5], frames[6] = frames[4], frames[4]
    assert doubts(frames)["repeated"] == "2 of 12 frames repeat the one before"


def test_noise_rounded_away() -> None:
    assert "below the steps of 128" in doubts(series() // 128 * 128)["quantised"]


@pytest.mark.parametrize("step_px", [0.3, 1.0])
def test_drift_says_how_far(step_px) -> None:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    frames = []
    for index in range(8):
        moved = np.cos(2 * np.pi * (rows - step_px * index) / 16) * np.cos(np.pi * columns / 8)
        frames.append(CAMERA.take(rng(index), 1, 100 + 60 * moved)[0])
    text = doubts(np.array(frames))["drift"]
    assert float(re.match(r"drift of ([\d.]+) px", text)[1]) == pytest.approx(step_px, rel=0.25)


def test_camera_that_averages_over_time() -> None:
    frames = series(frames=16)
    running = (frames[1:] + frames[:-1]) // 2
    assert "3 apart" in doubts(running[:4])["scene_change"]
    assert "4 apart" in doubts(running)["scene_change"]


def test_beam_change() -> None:
    fading = np.linspace(1, 0.9, 10)[:, None, None] * scene(rng(), SIDE, 50, 100)
    frames = np.concatenate([CAMERA.take(rng(i), 1, s) for i, s in enumerate(fading)])
    assert re.match(r"frames' means change by (10|11)\.\d%", doubts(frames)["beam_change"])


def test_flat_light_has_too_few_levels_for_a_line() -> None:
    frames = CAMERA.take(rng(), 12, np.full((SIDE, SIDE), 50.0))
    calibration, report = calibrate_series(frames)
    assert [doubt.reason for doubt in report.doubts] == ["few_levels"]
    assert calibration.noise.gain_adu_per_e == 0
    expected = float(CAMERA.point_sigma(np.array(50 * CAMERA.gain)))
    assert calibration.noise.read_noise_adu == pytest.approx(expected, rel=0.01)


def test_offset_that_no_read_noise_explains() -> None:
    text = doubts(series(NoisyCamera(offset=1000, line=0), high=300))["offset"]
    said = float(re.search(r"at least ([\d.]+) counts", text)[1])
    assert said == pytest.approx(1000, rel=0.05)


def test_variance_that_bends() -> None:
    frames = series(high=400).astype(float)
    assert "nonlinear" in doubts(np.rint(frames**2 / 500).astype(int))


def test_too_few_frames_and_flats() -> None:
    dark = CAMERA.take(rng(), 3, np.zeros((64, 64)))
    flat = CAMERA.take(rng(), 3, np.full((64, 64), 40.0))
    found = {d.reason: d.text for d in calibrate_references(dark, [flat])[1].doubts}
    assert found["few_frames"] == "3 dark frames, at least 8 are needed"
    assert "gain was not checked" in found["few_levels"]


def test_doubts_of_a_flat_name_it() -> None:
    dark = CAMERA.take(rng(), 8, np.zeros((64, 64)))
    flats = [CAMERA.take(rng(i), 8, np.full((64, 64), e)) for i, e in enumerate((20.0, 60.0))]
    flats[1] = np.clip(flats[1], None, 170)
    found = {d.reason: d.text for d in calibrate_references(dark, flats)[1].doubts}
    assert re.match(r"flat of mean 14\d.*: .+ at the highest value, 170", found["saturation"])
