"""The noise in a calibration: part of its id, checked, and back from a file to the bit."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from scgn.calibration import (
    CalibrationError,
    build_calibration,
    load_calibration,
    save_calibration,
)
from scgn.noise import NoiseModel

DARK = np.arange(12, dtype=np.float32).reshape(3, 4)
LAGS = np.float32([[0.1, 0.2, 0.1], [0.3, 1, 0.3], [0.1, 0.2, 0.1]])
NOISE = NoiseModel(2.5, 1 / 3, 3.0, "row", -0.25, LAGS)


def changed(**values: object) -> NoiseModel:
    return dataclasses.replace(NOISE, **values)


def test_noise_joins_the_id() -> None:
    other_lags = NOISE.autocorrelation.copy()
    other_lags[0, 0] = 0.15
    noises = [
        None, NOISE, changed(gain_adu_per_e=2.6), changed(read_noise_adu=4.1),
        changed(line_noise_adu=0.0), changed(line_axis="column"), changed(line_correlation=0.3),
        changed(autocorrelation=other_lags),
    ]  # fmt: skip
    ids = {build_calibration(dark=DARK, noise=noise).id for noise in noises}
    assert len(ids) == len(noises)
    assert build_calibration(dark=DARK).id in ids


def test_noise_alone_has_a_shape() -> None:
    calibration = build_calibration(mask=np.zeros((3, 4), bool), noise=NOISE)
    assert (calibration.shape, calibration.masked) == ((3, 4), 0)
    assert (calibration.dark, calibration.gain) == (None, None)
    with pytest.raises(CalibrationError, match="expected at least one of dark, gain, mask"):
        build_calibration(noise=NOISE)


def test_noise_of_equal_numbers_has_one_id() -> None:
    whole = NoiseModel(2, np.float32(4), 3, "row", 0, NOISE.autocorrelation.astype(np.float64))
    floats = NoiseModel(2.0, 4.0, 3.0, "row", 0.0, NOISE.autocorrelation)
    one, other = (build_calibration(dark=DARK, noise=noise) for noise in (whole, floats))
    assert one.id == other.id
    assert one.noise.autocorrelation.dtype == np.float32


@pytest.mark.parametrize(
    "values",
    [
        {"gain_adu_per_e": -1.0},
        {"read_noise_adu": np.nan},
        {"line_noise_adu": np.inf},
        {"line_noise_adu": "3"},
        {"line_axis": "diagonal"},
        {"line_correlation": 1.5},
        {"line_correlation": None},
        {"autocorrelation": np.ones((2, 2), np.float32)},
        {"autocorrelation": np.ones((3, 5), np.float32)},
        {"autocorrelation": np.zeros((3, 3), np.float32)},
        {"autocorrelation": np.full((3, 3), np.nan, np.float32)},
        {"autocorrelation": np.ones((3, 3), complex)},
    ],
)
def test_noise_that_no_camera_has(values) -> None:
    with pytest.raises(CalibrationError, match=r"^noise: expected .+ got ") as caught:
        build_calibration(dark=DARK, noise=changed(**values))
    assert caught.value.field == "noise"


# ---- as a file ----


def test_noise_comes_back_to_the_bit(tmp_path) -> None:
    for references in ({"mask": DARK < 0}, {"dark": DARK, "mask": DARK == 1}):
        calibration = build_calibration(**references, noise=NOISE)
        save_calibration(tmp_path / "camera.npz", calibration)
        loaded = load_calibration(tmp_path / "camera.npz")
        assert (loaded.id, loaded.shape) == (calibration.id, (3, 4))
        assert loaded.noise is not None
        for name, value in vars(NOISE).items():
            np.testing.assert_array_equal(getattr(loaded.noise, name), value)


def test_files_from_before_noise_still_load(tmp_path) -> None:
    """Written by hand as they were; the id is in users' records."""
    header = json.dumps({"format": "scgn-calibration-1", "id": "1324f55ce1a5"})
    path = tmp_path / "old.npz"
    np.savez_compressed(path, header=np.array(header), mask=np.zeros((3, 4), bool), dark=DARK)
    loaded = load_calibration(path)
    assert (loaded.id, loaded.noise) == ("1324f55ce1a5", None)
    np.testing.assert_array_equal(loaded.dark, DARK)


@pytest.mark.parametrize(
    ("scalars", "message"),
    [
        ({"gain_adu_per_e": 2.6}, "does not hold what its id says"),
        ({"gain_adu_per_e": "2.5"}, "noise: expected finite numbers"),
        ({"surprise": 1}, "noise: expected a noise model"),
        ({"autocorrelation": 1}, "noise: expected a noise model"),
        (None, "noise: expected a noise model"),
    ],
)
def test_changed_noise_is_refused(tmp_path, scalars, message) -> None:
    path = tmp_path / "camera.npz"
    save_calibration(path, build_calibration(dark=DARK, noise=NOISE))
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    header = json.loads(str(arrays.pop("header")))
    header["noise"] = None if scalars is None else header["noise"] | scalars
    np.savez(path, header=np.array(json.dumps(header)), **arrays)
    with pytest.raises(CalibrationError, match=message):
        load_calibration(path)


def test_noise_without_its_lags_is_refused(tmp_path) -> None:
    path = tmp_path / "camera.npz"
    save_calibration(path, build_calibration(dark=DARK, noise=NOISE))
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files if "noise" not in name}
    np.savez(path, **arrays)
    with pytest.raises(CalibrationError, match="does not hold what its id says"):
        load_calibration(path)
