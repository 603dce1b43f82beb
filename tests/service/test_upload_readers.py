"""Files from anyone: read by what they hold, judged by what they say before it is believed."""

from __future__ import annotations

import gzip
import io
import pickle
import re
import struct
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image
from support import SHARED_DATA
from uploads import WRITERS, h5, mrc, npy, npz, tif

from scgn_live.checking import readers
from scgn_live.checking.files import CheckError
from scgn_live.checking.readers import format_of, read_stack

LIMIT = 1e6  # bytes
FRAME = np.arange(20 * 24, dtype=np.int16).reshape(20, 24)
STACK = np.stack([FRAME, 2 * FRAME, 3 * FRAME])


def stack_of(tmp_path: Path, content: bytes, called: str = "a", limit: float = LIMIT) -> Any:
    (tmp_path / "dark").write_bytes(content)
    return read_stack(tmp_path / "dark", "dark", called, limit)


def refused(tmp_path: Path, content: bytes, called: str = "a", limit: float = LIMIT) -> CheckError:
    """The problem of a file that must not be read; it names the field and no place."""
    with pytest.raises(CheckError) as caught:
        stack_of(tmp_path, content, called, limit)
    assert caught.value.field == "dark"
    assert str(tmp_path) not in str(caught.value)
    assert str(caught.value).startswith("dark: expected ")
    assert len(str(caught.value)) < 600
    return caught.value


# Formats.


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("array", [FRAME, STACK], ids=["frame", "stack"])
def test_every_format_is_read_as_stored(tmp_path: Path, kind: str, array: Any) -> None:
    ending, write = WRITERS[kind]
    found = stack_of(tmp_path, write(array), f"A{ending.upper()}")
    assert found.dtype.newbyteorder("=") == np.int16
    np.testing.assert_array_equal(found, array.reshape(-1, 20, 24))


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("dtype", ["<f4", "<u2", "|u1", "|i1"])
def test_counts_of_any_kind(tmp_path: Path, kind: str, dtype: str) -> None:
    ending, write = WRITERS[kind]
    array = (FRAME % 100).astype(dtype)
    np.testing.assert_array_equal(stack_of(tmp_path, write(array), f"a{ending}")[0], array)


@pytest.mark.parametrize("kind", WRITERS)
def test_what_a_file_holds_decides_not_its_name(tmp_path: Path, kind: str) -> None:
    _, write = WRITERS[kind]
    for called in ("a.txt", "", "../../../etc/passwd", "a.npy", "a.h5", "\udcff"):
        assert stack_of(tmp_path, write(FRAME), called).shape == (1, 20, 24)


def test_an_old_mrc_file_is_told_by_its_name(tmp_path: Path) -> None:
    content = bytearray(mrc(FRAME))
    content[208:216] = bytes(8)  # neither the magic nor the machine stamp
    (tmp_path / "dark").write_bytes(content)
    assert format_of(tmp_path / "dark", "a.mrc") == ".mrc"
    assert format_of(tmp_path / "dark", "a.bin") is None


@pytest.mark.parametrize(
    ("file", "shape"),
    [
        ("calibration/ceta_dark_512.emd", (1, 512, 512)),
        ("calibration/celeritas_64x64_dark.mrc", (1, 64, 64)),
        ("calibration/timepix_flatfield.tiff", (1, 516, 516)),
        ("formats/dm_stack.tif", None),
        ("formats/movie.mrc", None),
        ("hrtem/haadf_srtio3.tif", (1, 512, 512)),
    ],
)
def test_real_files_are_read(tmp_path: Path, file: str, shape: tuple[int, ...] | None) -> None:
    path = SHARED_DATA / file
    if not path.exists():
        pytest.skip("the shared real frames are not here")
    found = stack_of(tmp_path, path.read_bytes(), path.name, 1e8)
    assert found.ndim == 3
    assert shape in (None, found.shape)
    assert np.ptp(found) > 0


def test_a_real_dm3_file_is_read_by_a_program_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = SHARED_DATA / "formats" / "haadf_rebco.dm3"
    if not path.exists():
        pytest.skip("the shared real frames are not here")
    pytest.importorskip("rsciio", reason="the extra `dm` is not installed")
    found = stack_of(tmp_path, path.read_bytes(), "a.dm3")
    assert found.ndim == 3
    assert np.ptp(found) > 0
    damaged = refused(tmp_path, path.read_bytes()[:3000])
    assert damaged.status == 422
    assert "scgn-live[dm]" not in str(damaged)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert refused(tmp_path, path.read_bytes()).status == 422


def test_without_the_reader_of_dm_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rsciio").mkdir()
    (tmp_path / "rsciio" / "__init__.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    problem = refused(tmp_path, b"\x00\x00\x00\x03" + bytes(2000))
    assert problem.status == 422
    assert "scgn-live[dm]" in str(problem)


# What is no reference.


@pytest.mark.parametrize(
    "content",
    [b"", b"dark", b"\xff\xd8\xff\xe0" + bytes(2000), b"%PDF-1.7", pickle.dumps(FRAME), bytes(5000),
     b"<svg/>", gzip.compress(npy(FRAME)), b"\x93NUMP"],
    ids=["empty", "text", "jpeg", "pdf", "pickle", "zeros", "svg", "gzip", "cut magic"],
)  # fmt: skip
def test_other_files_are_415(tmp_path: Path, content: bytes) -> None:
    problem = refused(tmp_path, content, "a.npy")
    assert problem.status == 415
    assert ".npy .npz .tif" in str(problem)


@pytest.mark.parametrize("pack", [gzip.compress, lambda content: b"BZh9" + content])
def test_compressed_mrc_files_are_not_unpacked(tmp_path: Path, pack: Any) -> None:
    content = pack(np.random.default_rng(1).bytes(3000))
    assert refused(tmp_path, content, "a.mrc").status == 415


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (npy(np.ones((3, 4), complex)), "real numbers, got dtype complex128"),
        (npy(np.array([["a"]])), "real numbers, got dtype <U1"),
        (npy(np.zeros((3, 3), [("a", "f4")])), "real numbers"),
        (npy(np.ones(5)), "rows x columns, .*got shape \\(5,\\)"),
        (npy(np.ones((2, 2, 2, 2))), "got shape \\(2, 2, 2, 2\\)"),
        (npy(np.ones((0, 4))), "not empty, got shape \\(0, 4\\)"),
        (npy(np.float64(3)), "got shape \\(\\)"),
        (npz(a=FRAME, b=FRAME), "one array, got a, b"),
        (npz(), "one array"),
        (tif(np.zeros((20, 24, 3), np.uint8), photometric="rgb"), "colours"),
        (h5(a=np.arange(5)), "a dataset of 2 or 3 dimensions, got none"),
        (h5(), "got none"),
    ],
)
def test_other_arrays_are_422_that_say_what_they_are(
    tmp_path: Path, content: bytes, said: str
) -> None:
    problem = refused(tmp_path, content)
    assert problem.status == 422
    assert re.search(said, str(problem)), str(problem)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "pwned",))

    header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    content = header.ljust(127) + b"\n" + pickle.dumps(np.array([Evil()], object))
    assert refused(tmp_path, content).status == 422
    packed = tmp_path / "a.npz"
    np.savez(packed, frame=np.array([Evil()], object))
    assert refused(tmp_path, packed.read_bytes()).status == 422
    assert not (tmp_path / "pwned").exists()


# What a file says of its size.


def test_a_file_larger_than_the_limit_is_413(tmp_path: Path) -> None:
    large = np.zeros((600, 900), np.float32)
    for kind in ("npy", "tif", "mrc", "h5"):
        problem = refused(tmp_path, WRITERS[kind][1](large))
        assert problem.status == 413, kind
        assert "at most 1 MB of pixels, got 2" in str(problem)


@pytest.mark.parametrize("kind", ["npz", "deflated", "h5 deflated"])
def test_a_bomb_is_413_before_it_is_unpacked(tmp_path: Path, kind: str) -> None:
    zeros = np.zeros((4, 4096, 4096), np.uint16)
    if kind == "h5 deflated":
        path = tmp_path / "bomb.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("a", data=zeros, compression="gzip", chunks=(1, 4096, 4096))
        content = path.read_bytes()
    else:
        content = WRITERS[kind][1](zeros)
    assert len(content) < 0.01 * zeros.nbytes
    problem = refused(tmp_path, content)
    assert problem.status == 413
    assert "got 134" in str(problem)


def test_npy_headers_that_lie_are_422(tmp_path: Path) -> None:
    for shape in ("(1000000, 1000000)", "(20, 25)", "(-20, 24)", "(20, 10**9)", "()", "(9,)*9"):
        text = f"{{'descr': '<i2', 'fortran_order': False, 'shape': {shape}, }}".encode()
        content = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + text.ljust(117) + b"\n"
        assert refused(tmp_path, content + FRAME.tobytes()).status == 422, shape


def test_npz_sizes_that_lie_are_no_way_round(tmp_path: Path) -> None:
    """The directory says 100 bytes, the stream holds 34 MB."""
    content = bytearray(npz(frame=np.zeros((4096, 4096), np.uint16)))
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 100)
    problem = refused(tmp_path, bytes(content))
    assert problem.status == 422


def test_mrc_headers_that_lie_are_4xx(tmp_path: Path) -> None:
    for offset, value in ((0, 2**31 - 1), (0, -5), (8, 0), (12, 99), (92, 2**30), (92, -1)):
        content = bytearray(mrc(FRAME))
        content[offset : offset + 4] = struct.pack("<i", value)
        assert refused(tmp_path, bytes(content)).status in (413, 422), (offset, value)


def test_tif_headers_that_lie_are_4xx(tmp_path: Path) -> None:
    whole = tif(FRAME)
    with tifffile.TiffFile(io.BytesIO(whole)) as file:
        tags = {tag.name: tag.valueoffset for tag in file.pages[0].tags}
    for name, value in {
        "ImageWidth": 10**9, "ImageLength": 2**31, "StripOffsets": 2**31, "BitsPerSample": 9,
        "StripByteCounts": 5, "Compression": 7, "SampleFormat": 6, "RowsPerStrip": 0,
    }.items():  # fmt: skip
        content = bytearray(whole)
        size = 4 if name in ("ImageWidth", "ImageLength", "StripOffsets") else 2
        content[tags[name] : tags[name] + size] = value.to_bytes(size, "little")
        (tmp_path / "dark").write_bytes(content)
        try:
            found = read_stack(tmp_path / "dark", "dark", "a.tif", LIMIT)
        except CheckError as problem:
            assert problem.status in (413, 422), name
        else:
            assert found.nbytes <= LIMIT, name


def test_endless_pages_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "PAGES_MAX", 2)
    assert refused(tmp_path, tif(STACK, photometric="minisblack", metadata=None)).status == 413
    # A directory that points at itself.
    content = bytearray(tif(FRAME, metadata=None))
    ifd = struct.unpack("<I", content[4:8])[0]
    entries = struct.unpack("<H", content[ifd : ifd + 2])[0]
    link = ifd + 2 + 12 * entries
    content[link : link + 4] = struct.pack("<I", ifd)
    (tmp_path / "dark").write_bytes(content)
    assert len(read_stack(tmp_path / "dark", "dark", "a.tif", LIMIT)) == 1


# What a file says of other files.


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the server's, of the same shape and dtype."""
    path = tmp_path / "of the server"
    path.write_bytes(np.full((20, 24), 4242, "<i2").tobytes())
    return path


def test_hdf5_datasets_outside_the_file_are_refused(tmp_path: Path, secret: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        outside = [(str(secret), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("a", (20, 24), "<i2", external=outside)
    problem = refused(tmp_path, path.read_bytes())
    assert "expected a in the file, not outside" in str(problem)


@pytest.mark.parametrize("depth", ["", "deep/down/"])
def test_hdf5_virtual_datasets_are_refused(tmp_path: Path, depth: str) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["a"] = np.full((20, 24), 4242, "<i2")
    layout = h5py.VirtualLayout((20, 24), "<i2")
    layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "a", (20, 24))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset(f"{depth}a", layout)
    problem = refused(tmp_path, (tmp_path / "a.h5").read_bytes())
    assert "not outside" in str(problem)


@pytest.mark.parametrize("inside", [False, True], ids=["links alone", "a dataset beside them"])
def test_hdf5_links_are_not_followed(tmp_path: Path, inside: bool) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["a"] = np.full((99, 99), 4242, "<i2")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["Data/Image/x/Data"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "a")
        file["b"] = h5py.ExternalLink("../secret.h5", "/")
        file["c"] = h5py.SoftLink("/b/a")
        if inside:
            file["d"] = FRAME
    content = (tmp_path / "a.h5").read_bytes()
    if inside:
        np.testing.assert_array_equal(stack_of(tmp_path, content)[0], FRAME)
    else:
        assert "got none" in str(refused(tmp_path, content))


OME = """<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1">
<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="int16" SizeX="24" SizeY="20"
SizeC="1" SizeZ="2" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>
<TiffData FirstZ="0" IFD="0" PlaneCount="1"><UUID FileName="dark">urn:uuid:1</UUID></TiffData>
<TiffData FirstZ="1" IFD="0" PlaneCount="1"><UUID FileName="{}">urn:uuid:2</UUID></TiffData>
</Pixels></Image></OME>"""


@pytest.mark.parametrize("absolute", [True, False])
def test_other_files_that_ome_names_are_not_read(tmp_path: Path, absolute: bool) -> None:
    folder = tmp_path / "check"
    folder.mkdir()
    tifffile.imwrite(tmp_path / "secret.tif", np.full((20, 24), 4242, np.int16), metadata=None)
    name = str(tmp_path / "secret.tif") if absolute else "../secret.tif"
    content = tif(FRAME, description=OME.format(name), metadata=None)
    (folder / "dark").write_bytes(content)
    with tifffile.TiffFile(folder / "dark") as file:
        assert file.asarray().max() == 4242, "the attack does not work: this test proves nothing"
    np.testing.assert_array_equal(read_stack(folder / "dark", "dark", "a", LIMIT)[0], FRAME)
    np.testing.assert_array_equal(stack_of(tmp_path, content), FRAME[None])


def test_lzw_is_read_by_pillow(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(FRAME.astype(np.uint16)).save(path, compression="tiff_lzw")
    np.testing.assert_array_equal(stack_of(tmp_path, path.read_bytes())[0], FRAME)
