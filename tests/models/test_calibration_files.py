"""Calibrations and references as bytes: what comes back, and what is refused before it costs."""

from __future__ import annotations

import io
import json
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from scgn.calibration import (
    FORMAT,
    Calibration,
    CalibrationError,
    build_calibration,
    load_calibration,
    read_npy,
    save_calibration,
)

RNG = np.random.default_rng(0)
DARK = RNG.normal(100, 3, (9, 14)).astype(np.float32)
GAIN = RNG.uniform(0.8, 1.2, (9, 14)).astype(np.float32)
GAIN[4, 4] = 0
MASK = RNG.random((9, 14)) < 0.05


@pytest.fixture
def saved(tmp_path) -> tuple[Path, Calibration]:
    calibration = build_calibration(DARK, GAIN, MASK, "divide")
    save_calibration(tmp_path / "camera.npz", calibration)
    return tmp_path / "camera.npz", calibration


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=array.dtype.hasobject)
    return stream.getvalue()


def with_header(header: str, data: bytes = b"") -> bytes:
    """A .npy file, version 1.0, of exactly this header and data."""
    text = header.encode("latin1")
    text += b" " * (63 - (len(text) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def claiming(shape: object, descr: str = "'<f4'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


# ---- our own file ----


@pytest.mark.parametrize("parts", ["dark", "gain", "mask", "dark gain", "dark gain mask"])
def test_round_trip(tmp_path, parts) -> None:
    given = {"dark": DARK, "gain": GAIN, "mask": MASK}
    arrays = {name: given[name] for name in parts.split()}
    calibration = build_calibration(**arrays, gain_convention="divide")
    save_calibration(tmp_path / "camera.npz", calibration)
    loaded = load_calibration(tmp_path / "camera.npz")
    assert (loaded.id, loaded.shape) == (calibration.id, (9, 14))
    for name in ("dark", "gain", "mask"):
        expected, got = getattr(calibration, name), getattr(loaded, name)
        assert (got is None) == (expected is None)
        if expected is not None:
            assert got.dtype == expected.dtype
            np.testing.assert_array_equal(got, expected)


def test_changed_content_is_refused(tmp_path, saved) -> None:
    path, calibration = saved
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["dark"][2, 2] += 1
    np.savez(tmp_path / "changed.npz", **arrays)
    with pytest.raises(CalibrationError, match=r"changed\.npz does not hold what its id says"):
        load_calibration(tmp_path / "changed.npz")
    assert load_calibration(path).id == calibration.id


def test_no_flipped_byte_gives_another_calibration(saved) -> None:
    """Every damage is refused, or harmless as in a time stamp; nothing else is ever raised."""
    path, calibration = saved
    whole = path.read_bytes()
    refused = 0
    for position in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[position] ^= 0x5A
        path.write_bytes(damaged)
        try:
            assert load_calibration(path).id == calibration.id
        except CalibrationError:
            refused += 1
    assert refused > len(whole) // 5 * 0.8


@pytest.mark.parametrize("kept", [0, 3, 60, -1])
def test_truncated_file_is_refused(saved, kept) -> None:
    path, _ = saved
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CalibrationError, match=r"camera\.npz cannot be read"):
        load_calibration(path)


@pytest.mark.parametrize("header", [{"format": "other"}, {}, [FORMAT], None, "text"])
def test_foreign_header_is_refused(tmp_path, header) -> None:
    path = tmp_path / "foreign.npz"
    np.savez(path, header=np.array(json.dumps(header)), dark=DARK)
    with pytest.raises(CalibrationError, match=FORMAT):
        load_calibration(path)


def test_other_files_are_refused(tmp_path) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, dark=DARK)
    with pytest.raises(CalibrationError, match="header"):
        load_calibration(path)
    for content in (npy(DARK), pickle.dumps({"dark": DARK}), b"\x89HDF\r\n\x1a\n" * 9):
        path.write_bytes(content)
        with pytest.raises(CalibrationError, match=r"other\.npz cannot be read"):
            load_calibration(path)
    with pytest.raises(CalibrationError, match="cannot be read"):
        load_calibration(tmp_path / "absent.npz")


class Creates:
    """Unpickling this makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("part", ["header", "dark"])
def test_pickle_inside_our_file_never_runs(tmp_path, part) -> None:
    marker, path = tmp_path / "executed", tmp_path / "hostile.npz"
    hostile = npy(np.array([[Creates(marker)]], dtype=object))
    header = npy(np.array(json.dumps({"format": FORMAT, "id": "0" * 12})))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.npy", hostile if part == "header" else header)
        archive.writestr("dark.npy", hostile)
    with pytest.raises(CalibrationError, match="cannot be read"):
        load_calibration(path)
    assert not marker.exists()


def test_lying_array_inside_our_file_is_refused(tmp_path) -> None:
    header = npy(np.array(json.dumps({"format": FORMAT, "id": "0" * 12})))
    with zipfile.ZipFile(tmp_path / "liar.npz", "w") as archive:
        archive.writestr("header.npy", header)
        archive.writestr("dark.npy", with_header(claiming((10**9, 10**9))))
    with pytest.raises(CalibrationError, match=r"liar\.npz cannot be read"):
        load_calibration(tmp_path / "liar.npz")


# ---- a .npy from anyone ----


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<i4", "<f4", ">f8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_read_npy_gives_the_array(dtype, order) -> None:
    array = np.asarray(np.arange(12).reshape(3, 4), dtype, order=order)
    result = read_npy("dark", npy(array))
    assert result.dtype == array.dtype
    np.testing.assert_array_equal(result, array)


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_read_npy_knows_both_versions(version) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, DARK, version=version)
    np.testing.assert_array_equal(read_npy("dark", stream.getvalue()), DARK)


@pytest.mark.parametrize(
    "header",
    [
        claiming((20_000, 20_000)),
        claiming((10**9, 10**9)),
        claiming((0, 10**30)),
        claiming((10**30,)),
        claiming((-1, -6)),
        claiming((2, 2)),
        claiming((2, 4)),
        claiming((10**12,), "'|V0'"),
        claiming((10**12,), "'<U0'"),
        claiming((2,), "('<f4', (10**9,))"),
        claiming((2,), "('<f4', (1000000000,))"),
        claiming((3, 2.0)),
        claiming("'six'"),
        claiming((3,), "'|O'"),
        claiming((6,), "'<f3'"),
        "{'descr': '<f4', 'shape': (",
        "{'descr': '<f4'}",
        "[1, 2, 3]",
        "__import__('os').getcwd()",
        "(" * 5000,
        "-" * 5000 + "1",
        "\x00",
        "",
    ],
)
def test_lying_header_is_refused_without_allocating(header) -> None:
    content = with_header(header, b"\0" * 24)
    tracemalloc.start()
    try:
        with pytest.raises(CalibrationError, match=r"expected a \.npy array") as caught:
            read_npy("gain", content)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.field == "gain"
    assert peak_bytes < 20_000_000


def test_truncated_npy_is_refused_at_any_length() -> None:
    whole = npy(DARK)
    for length in [*range(140), len(whole) - 1]:
        with pytest.raises(CalibrationError) as caught:
            read_npy("mask", whole[:length])
        assert caught.value.field == "mask"
    with pytest.raises(CalibrationError, match="has"):
        read_npy("mask", whole + b"\0")


@pytest.mark.parametrize("kind", ["object array", "pickle", "npz"])
def test_pickles_and_archives_are_refused(tmp_path, kind) -> None:
    marker = tmp_path / "executed"
    if kind == "object array":
        content = npy(np.array([[Creates(marker)]], dtype=object))
    elif kind == "pickle":
        content = pickle.dumps(Creates(marker))
    else:
        stream = io.BytesIO()
        np.savez(stream, dark=DARK)
        content = stream.getvalue()
    with pytest.raises(CalibrationError, match=r"dark: expected a \.npy array"):
        read_npy("dark", content)
    assert not marker.exists()
