"""Corrections worked out by hand, what makes an id, and references that cannot be used."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from scgn.calibration import (
    Calibration,
    CalibrationError,
    build_calibration,
    neighbours_of_defects,
)
from scgn.denoise import Correction

DARK = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]], np.float32)
GAIN = np.array([[1, 2, 4, 1], [0.5, 1, 2, 1], [1, 1, 0.25, 8]], np.float32)
RAW = np.array([[11, 22, 33, 44], [55, 66, 77, 88], [99, 110, 121, 132]], np.float32)


def corrected(calibration: Calibration, raw: np.ndarray = RAW) -> np.ndarray:
    return Correction(calibration, torch.device("cpu"))(torch.from_numpy(raw)).numpy()


def masked(shape: tuple[int, int], *pixels: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for pixel in pixels:
        mask[pixel] = True
    return mask


# ---- correction ----


def test_dark_is_subtracted() -> None:
    np.testing.assert_array_equal(corrected(build_calibration(dark=DARK)), RAW - DARK)


def test_gain_multiplies_after_the_dark() -> None:
    calibration = build_calibration(DARK, GAIN, gain_convention="multiply")
    expected = [[10, 40, 120, 40], [25, 60, 140, 80], [90, 100, 27.5, 960]]
    np.testing.assert_array_equal(corrected(calibration), np.float32(expected))


def test_gain_divides_after_the_dark() -> None:
    calibration = build_calibration(DARK, GAIN, gain_convention="divide")
    expected = [[10, 10, 7.5, 40], [100, 60, 35, 80], [90, 100, 440, 15]]
    np.testing.assert_array_equal(corrected(calibration), np.float32(expected))


def test_conventions_are_each_others_inverse() -> None:
    multiply = build_calibration(gain=GAIN, gain_convention="multiply")
    divide = build_calibration(gain=1 / GAIN, gain_convention="divide")
    np.testing.assert_array_equal(corrected(multiply), corrected(divide))
    assert multiply.id == divide.id
    assert multiply.id != build_calibration(gain=GAIN, gain_convention="divide").id


@pytest.mark.parametrize("convention", ["multiply", "divide"])
def test_zero_gain_joins_the_mask(convention) -> None:
    gain = np.ones((3, 4), np.float32)
    gain[1, 1] = 0
    given = masked((3, 4), (0, 3))
    calibration = build_calibration(gain=gain, mask=given, gain_convention=convention)
    assert calibration.masked == 2
    assert calibration.mask[1, 1]
    assert calibration.mask[0, 3]
    assert not given[1, 1], "the caller's mask must stay as it was"
    result = corrected(calibration)
    around = [RAW[i, j] for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    assert result[1, 1] == pytest.approx(np.mean(around))


def test_values_under_the_mask_may_be_anything() -> None:
    mask = masked((3, 4), (2, 2))
    dark, gain = DARK.copy(), GAIN.copy()
    dark[2, 2], gain[2, 2] = np.nan, -np.inf
    calibration = build_calibration(dark, gain, mask, "multiply")
    assert np.isfinite(corrected(calibration)).all()
    assert calibration.id == build_calibration(DARK, GAIN, mask, "multiply").id


def test_frame_of_another_shape_is_refused() -> None:
    """A reference of one row would otherwise broadcast over the frame without a word."""
    calibration = build_calibration(dark=DARK[:1])
    with pytest.raises(ValueError, match=re.escape("is for (1, 4), frame is (3, 4)")):
        corrected(calibration)


# ---- filling defects ----


def test_single_defect_takes_the_mean_of_eight() -> None:
    result = corrected(build_calibration(mask=masked((3, 4), (1, 2))))
    around = [RAW[i, j] for i in range(3) for j in range(1, 4) if (i, j) != (1, 2)]
    assert result[1, 2] == pytest.approx(np.mean(around))
    untouched = ~masked((3, 4), (1, 2))
    np.testing.assert_array_equal(result[untouched], RAW[untouched])


def test_corner_takes_the_mean_of_three() -> None:
    result = corrected(build_calibration(mask=masked((3, 4), (0, 0))))
    assert result[0, 0] == pytest.approx((22 + 55 + 66) / 3)


def test_cluster_is_filled_from_good_pixels_only() -> None:
    """3x3 cluster in 7x7: the middle reaches for the 5x5 ring, the others for their 3x3 window."""
    raw = np.random.default_rng(0).uniform(10, 20, (7, 7)).astype(np.float32)
    mask = np.zeros((7, 7), bool)
    mask[2:5, 2:5] = True
    spoiled = np.where(mask, np.float32(1e6), raw)
    result = corrected(build_calibration(mask=mask), spoiled)
    ring = ~mask
    ring[[0, -1], :] = ring[:, [0, -1]] = False
    assert result[3, 3] == pytest.approx(raw[ring].mean(), rel=1e-6)
    assert result[2, 2] == pytest.approx(np.mean([*raw[1, 1:4], raw[2, 1], raw[3, 1]]), rel=1e-6)
    assert result.max() < 20


def test_window_without_a_good_pixel_takes_the_nearest() -> None:
    mask = np.ones((15, 20), bool)
    mask[0, 19] = mask[14, 0] = False
    for flat, index, weight in zip(*neighbours_of_defects(mask), strict=True):
        i, j = divmod(int(flat), 20)
        to_first, to_second = i**2 + (j - 19) ** 2, (i - 14) ** 2 + j**2
        assert to_first != to_second
        assert index[weight > 0].tolist() == [19 if to_first < to_second else 14 * 20]


def test_a_mask_the_wrong_way_round_is_refused_with_a_hint() -> None:
    good = np.ones((20, 20), np.uint8)
    good[3, 3] = 0
    with pytest.raises(CalibrationError, match=r"at most 50% masked \(1 is defective\), got 99.8%"):
        build_calibration(mask=good)
    assert build_calibration(mask=1 - good).masked == 1


def test_neighbours_are_the_nearest_good_ones_in_any_mask() -> None:
    """Against brute force: the smallest window with good pixels, or else a nearest pixel."""
    rng = np.random.default_rng(2)
    for _ in range(20):
        mask = rng.random(rng.integers(2, 25, 2)) < rng.choice([0.1, 0.5, 0.97])
        mask[0, 0], mask[-1, -1] = False, True
        for flat, index, weight in zip(*neighbours_of_defects(mask, reach=2), strict=True):
            assert not mask.flat[index].any(), "also those of weight 0: 0 * NaN is NaN"
            assert weight.sum() == pytest.approx(1)
            row, column = divmod(int(flat), mask.shape[1])
            rows, columns = np.divmod(np.flatnonzero(~mask), mask.shape[1])
            flats = rows * mask.shape[1] + columns
            rings = np.maximum(abs(rows - row), abs(columns - column))
            distance2 = (rows - row) ** 2 + (columns - column) ** 2
            used = set(index[weight > 0].tolist())
            if rings.min() <= 2:
                assert used == set(flats[rings == rings.min()].tolist())
            else:
                assert len(used) == 1
                assert used <= set(flats[distance2 == distance2.min()].tolist())


def test_nan_under_the_mask_spoils_no_other_pixel() -> None:
    """Detectors mark bad pixels with NaN; the first pixel pads every list of neighbours."""
    mask = masked((6, 6), (0, 0), (0, 5), (3, 3))
    raw = np.where(mask, np.nan, 7).astype(np.float32)
    np.testing.assert_allclose(corrected(build_calibration(mask=mask), raw), 7, rtol=1e-6)


# ---- identity ----


def test_id_is_stable() -> None:
    """Pinned: ids are in users' records, so the same references must keep theirs."""
    mask = masked((3, 4), (0, 0))
    assert build_calibration(DARK, GAIN, mask, "multiply").id == "2dccb875d0b0"


def test_id_follows_the_content() -> None:
    one = DARK.copy()
    one[2, 3] = np.nextafter(one[2, 3], np.float32(99))
    ids = {
        build_calibration(dark=DARK).id,
        build_calibration(dark=one).id,
        build_calibration(dark=DARK.reshape(4, 3)).id,
        build_calibration(dark=DARK.reshape(2, 6)).id,
        build_calibration(gain=DARK, gain_convention="multiply").id,
        build_calibration(DARK, GAIN, gain_convention="multiply").id,
        build_calibration(GAIN, DARK, gain_convention="multiply").id,
        build_calibration(dark=DARK, mask=masked((3, 4), (0, 0))).id,
        build_calibration(mask=masked((3, 4), (0, 0))).id,
        build_calibration(mask=masked((3, 4), (0, 1))).id,
    }
    assert len(ids) == 10
    assert all(re.fullmatch("[0-9a-f]{12}", identity) for identity in ids)


@pytest.mark.parametrize("dtype", ["u1", ">u2", "<i4", ">f4", "f8", "f2"])
def test_id_does_not_depend_on_how_equal_values_are_stored(dtype) -> None:
    expected = build_calibration(dark=DARK, mask=masked((3, 4), (1, 1)))
    dark = np.asfortranarray(DARK.astype(dtype))
    mask = masked((3, 4), (1, 1)).astype("u4") * 16  # NeXus: any bit set is a defect
    again = build_calibration(dark=dark, mask=mask)
    assert again.id == expected.id
    assert again.dark is not None
    assert again.dark.dtype == np.float32
    np.testing.assert_array_equal(corrected(again), corrected(expected))


def test_absent_mask_is_an_empty_one() -> None:
    empty = build_calibration(dark=DARK, mask=masked((3, 4)))
    assert build_calibration(dark=DARK).id == empty.id


# ---- references that cannot be used ----

_WITH_NAN, _WITH_INF, _NEGATIVE = GAIN.copy(), GAIN.copy(), GAIN.copy()
_WITH_NAN[0, 1], _WITH_INF[0, 1], _NEGATIVE[0, 1] = np.nan, np.inf, -1


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("calibration", {}),
        ("calibration", {"dark": DARK, "gain": GAIN[:, :2], "gain_convention": "multiply"}),
        ("calibration", {"dark": DARK, "mask": masked((4, 3))}),
        ("dark", {"dark": _WITH_NAN}),
        ("dark", {"dark": _WITH_INF}),
        ("dark", {"dark": DARK.astype(np.float64) * 1e300}),
        ("dark", {"dark": DARK.astype(complex)}),
        ("dark", {"dark": DARK.astype(object)}),
        ("dark", {"dark": DARK.astype(str)}),
        ("dark", {"dark": np.zeros(5)}),
        ("dark", {"dark": np.zeros(())}),
        ("dark", {"dark": np.zeros((2, 3, 4))}),
        ("dark", {"dark": np.zeros((0, 4))}),
        ("gain", {"gain": _WITH_NAN, "gain_convention": "multiply"}),
        ("gain", {"gain": _WITH_INF, "gain_convention": "divide"}),
        ("gain", {"gain": _NEGATIVE, "gain_convention": "divide"}),
        ("gain", {"gain": _NEGATIVE, "gain_convention": "multiply"}),
        ("gain", {"gain": GAIN.astype(complex), "gain_convention": "multiply"}),
        ("gain", {"gain": np.ones((1, 3, 4)), "gain_convention": "multiply"}),
        ("gain", {"gain": np.full((3, 4), 1e-40), "gain_convention": "divide"}),
        ("gain_convention", {"gain": GAIN}),
        ("gain_convention", {"gain": GAIN, "gain_convention": "Multiply"}),
        ("gain_convention", {"gain": GAIN, "gain_convention": ""}),
        ("mask", {"mask": DARK}),
        ("mask", {"mask": masked((3, 4)).astype(complex)}),
        ("mask", {"mask": np.ones((3, 4), bool)}),
        ("mask", {"gain": np.zeros((3, 4)), "gain_convention": "multiply"}),
        ("mask", {"mask": np.zeros(4, bool)}),
    ],
)
def test_error_names_the_field(field, arguments) -> None:
    with pytest.raises(CalibrationError) as caught:
        build_calibration(**arguments)
    assert caught.value.field == field
    assert re.match(rf"{field}: expected .+ got ", str(caught.value))
