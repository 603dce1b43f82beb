"""Files in, frames out: every format and dtype exactly, damaged ones refused by name."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from scgn_client import FileFormatError, wire
from scgn_client.files import READERS, ConversionWarning, read_frames, wire_dtype

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no shared/data beside the checkout")


def counts(dtype: str, shape: tuple[int, ...] = (3, 4, 5), seed: int = 0) -> np.ndarray:
    """Random values over the whole range of a dtype."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return rng.normal(0, 100, shape).astype(kind)
    limits = np.iinfo(kind)
    return rng.integers(limits.min, limits.max, shape, np.int64, endpoint=True).astype(kind)


def read(path: Path | str, crop: str | None = None) -> np.ndarray:
    return np.stack(list(read_frames(path, crop)))


def write_mrc(path: Path, frames: np.ndarray) -> None:
    with mrcfile.new(path) as mrc:
        mrc.set_data(frames)


# Exact round trips


@pytest.mark.parametrize("dtype", wire.DTYPES)
@pytest.mark.parametrize("ndim", [2, 3])
def test_npy_and_npz_keep_every_wire_dtype(tmp_path: Path, dtype: str, ndim: int) -> None:
    frames = counts(dtype, (3, 4, 5)[3 - ndim :])
    np.save(tmp_path / "a.npy", frames)
    np.savez(tmp_path / "a.npz", frames)
    for name in ("a.npy", "a.npz"):
        stack = read_frames(tmp_path / name)
        assert stack.length == (3 if ndim == 3 else 1)
        back = list(stack)
        assert {frame.dtype.str for frame in back} == {dtype}
        np.testing.assert_array_equal(back, frames.reshape(-1, 4, 5))


@pytest.mark.parametrize("dtype", wire.DTYPES)
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tiff_keeps_values_and_type(
    tmp_path: Path, dtype: str, compression: Any, byteorder: Any
) -> None:
    frames = counts(dtype)
    tifffile.imwrite(
        tmp_path / "a.tif", frames, compression=compression, byteorder=byteorder,
        photometric="minisblack",
    )  # fmt: skip
    back = read(tmp_path / "a.tif")
    assert back.dtype.str in wire.DTYPES
    assert back.dtype.newbyteorder("=") == frames.dtype.newbyteorder("=")
    np.testing.assert_array_equal(back, frames)


@pytest.mark.parametrize("layout", ["imagej", "ome", "pages", "single"])
def test_tiff_of_every_layout(tmp_path: Path, layout: str) -> None:
    frames = counts("<u2", (6, 7, 8))
    path = tmp_path / ("a.ome.tif" if layout == "ome" else "a.tiff")
    if layout == "pages":
        with tifffile.TiffWriter(path) as writer:
            for frame in frames:
                writer.write(frame, contiguous=False, metadata=None)
    elif layout == "single":
        frames = frames[:1]
        tifffile.imwrite(path, frames[0])
    else:
        shaped = frames.reshape(2, 3, 7, 8)
        axes = {"axes": "TZYX"}
        tifffile.imwrite(
            path, shaped, imagej=layout == "imagej", ome=layout == "ome", metadata=axes
        )
    np.testing.assert_array_equal(read(path), frames)


def test_tiff_compressed_by_lzw(tmp_path: Path) -> None:
    """Pillow stands in where tifffile would need one more package."""
    frames = counts("<u2")
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(
        tmp_path / "a.tif", save_all=True, append_images=images[1:], compression="tiff_lzw"
    )
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), frames)


@pytest.mark.parametrize("dtype", ["|i1", "<i2", "<u2", "<f4", "<f2"])
def test_mrc_keeps_values(tmp_path: Path, dtype: str) -> None:
    frames = counts(dtype)
    write_mrc(tmp_path / "a.mrc", frames)
    back = read(tmp_path / "a.mrc")
    assert back.dtype.str == {"|i1": "<i2", "<f2": "<f4"}.get(dtype, dtype)
    np.testing.assert_array_equal(back, frames)


def test_mrc_with_an_extended_header_and_big_endian(tmp_path: Path) -> None:
    frames = counts(">i2")
    with mrcfile.new(tmp_path / "a.mrc") as mrc:
        mrc.set_extended_header(np.zeros(4, "V32"))
        mrc.set_data(frames)
    np.testing.assert_array_equal(read(tmp_path / "a.mrc"), frames)


@pytest.mark.parametrize("dtype", ["|u1", "<u2", "bool"])
def test_png_keeps_grey_of_8_and_16_bits(tmp_path: Path, dtype: str) -> None:
    frame = np.eye(5, dtype=bool) if dtype == "bool" else counts(dtype, (4, 5))
    Image.fromarray(frame).save(tmp_path / "a.png")
    back = read(tmp_path / "a.png")
    assert back.dtype.str == ("|u1" if dtype == "bool" else dtype)
    np.testing.assert_array_equal(back[0], frame)


def test_gif_gives_every_frame(tmp_path: Path) -> None:
    frames = counts("|u1", (5, 16, 24))
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], optimize=False)
    stack = read_frames(tmp_path / "a.gif")
    assert stack.length == 5
    np.testing.assert_array_equal(np.stack(list(stack)), frames)


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from(
            ["|b1", "|i1", "<i8", "<u8", ">i4", ">u4", ">i2", "<f2", ">f4", *wire.DTYPES]
        ),
        hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6),
    )
)
def test_conversion_keeps_every_value_or_refuses(array: np.ndarray) -> None:
    try:
        dtype = wire_dtype(array)
    except FileFormatError:
        assert array.dtype.itemsize == 8
        assert array.min() < -(2**31) or array.max() > 2**31 - 1
    else:
        assert dtype.str in wire.DTYPES
        np.testing.assert_array_equal(array.astype(dtype), array)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 255], "|u1"), ([-1, 5], "<i2"), ([0, 40000], "<u2"), ([-1, 40000], "<i4"),
     ([0, 2**32 - 1], "<u4")],
)  # fmt: skip
def test_int64_takes_the_narrowest_that_fits(
    tmp_path: Path, values: list[int], expected: str
) -> None:
    np.save(tmp_path / "a.npy", np.array([values], np.int64))
    back = read(tmp_path / "a.npy")
    assert back.dtype.str == expected
    assert back[0].tolist() == [values]


# What is said, and what is refused


def test_float64_is_narrowed_with_a_note(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((2, 3), 0.1))
    with pytest.warns(ConversionWarning, match=r"a\.npy: float64 is read as float32"):
        stack = read_frames(tmp_path / "a.npy")
    assert next(iter(stack)).dtype.str == "<f4"


@pytest.mark.parametrize("planar", [False, True])
def test_colour_becomes_luminance_with_a_note(tmp_path: Path, planar: bool) -> None:
    rgb = counts("|u1", (6, 7, 3))
    grey = np.rint(rgb @ [0.299, 0.587, 0.114])
    Image.fromarray(rgb).save(tmp_path / "a.png")
    stored = np.moveaxis(rgb, 2, 0) if planar else rgb
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=2 if planar else 1)
    for name in ("a.png", "a.tif"):
        with pytest.warns(ConversionWarning, match="luminance"):
            back = read(tmp_path / name)
        assert back.dtype == np.uint8
        assert np.abs(back[0] - grey).max() <= 1


def test_grey_stored_as_colour_stays_exact_and_silent(tmp_path: Path) -> None:
    grey = counts("|u1", (6, 7))
    Image.fromarray(np.dstack([grey] * 3)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png")[0], grey)


@pytest.mark.parametrize(
    ("array", "got"),
    [
        (np.ones((2, 3), complex), "complex128"),
        (np.full((2, 3), 2**40), "1099511627776"),
        (np.zeros(3), r"\(3,\)"),
        (np.zeros((1, 1, 2, 2)), r"\(1, 1, 2, 2\)"),
        (np.zeros((0, 2, 2)), r"0, 2, 2|empty"),
        (np.array([["a"]]), "U1"),
        (np.array([[None]]), "Python objects"),
    ],
)
def test_what_the_wire_cannot_carry_is_refused(tmp_path: Path, array: Any, got: str) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(FileFormatError, match=rf"a\.npy.*expected.*({got})"):
        read_frames(tmp_path / "a.npy")


def test_float64_beyond_float32_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((2, 2), 1e300))
    with pytest.warns(ConversionWarning):
        stack = read_frames(tmp_path / "a.npy")
    with pytest.raises(FileFormatError, match=r"a\.npy.*within float32"):
        next(iter(stack))


def whole_file(folder: Path, suffix: str) -> Path:
    """A good file of more than one frame where the format has them."""
    path, frames = folder / f"a{suffix}", counts("|u1", (4, 64, 64))
    images = [Image.fromarray(frame) for frame in frames]
    if suffix == ".npy":
        np.save(path, frames)
    elif suffix == ".npz":
        np.savez(path, frames)
    elif suffix == ".tif":
        tifffile.imwrite(path, frames, photometric="minisblack", compression="zlib")
    elif suffix == ".mrc":
        write_mrc(path, frames.astype("<i2"))
    elif suffix == ".png":
        images[0].save(path)
    else:
        images[0].save(path, save_all=True, append_images=images[1:])
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".tif", ".png", ".gif", ".mrc"])
@pytest.mark.parametrize("damage", ["empty", "start", "half", "foreign", "text"])
def test_damaged_files_are_refused_by_name(tmp_path: Path, suffix: str, damage: str) -> None:
    path = whole_file(tmp_path, suffix)
    content = path.read_bytes()
    foreign = b"PK\x03\x04 not a zip" * 99 if suffix == ".npy" else b"\x93NUMPY\x01\x00" * 99
    path.write_bytes(
        {"empty": b"", "start": content[:20], "half": content[: len(content) // 2],
         "foreign": foreign, "text": b"no frames here, only words\n" * 99}[damage]
    )  # fmt: skip
    if (suffix, damage) == (".mrc", "half"):
        with pytest.warns(ConversionWarning, match="declares 4 sections, the 1 that"):
            assert read_frames(path).length == 1
        return
    with pytest.raises(FileFormatError, match=rf"a\{suffix}: expected"):
        read_frames(path)


def test_a_tiff_that_lost_its_last_pages_is_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for frame in counts("<u2", (4, 32, 32)):
            writer.write(frame, contiguous=False, metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        third = tiff.pages[2].offset
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:third])
    with pytest.raises(FileFormatError, match=r"a\.tif: expected a whole file"):
        read_frames(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("none.npy", "no such file"), ("notes.txt", r"expected one of .*got '\.txt'"),
     ("a.npy::x", r"expected a \.npz before ::x"), ("a.npz::x", "x is not a file")],
)  # fmt: skip
def test_wrong_paths_are_refused(tmp_path: Path, name: str, complaint: str) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    np.save(tmp_path / "a.npy", counts("|u1"))
    np.savez(tmp_path / "a.npz", y=counts("|u1"))
    with pytest.raises(FileFormatError, match=complaint):
        read_frames(f"{tmp_path}/{name}")


# Members, folders, parts


def test_npz_members(tmp_path: Path) -> None:
    first, second = counts("<u2", (2, 4, 5)), counts("<u2", (4, 5), seed=1)
    np.savez(tmp_path / "a.npz", first=first, second=second, scale=np.float64(2))
    assert read_frames(tmp_path / "a.npz").length == 3
    np.testing.assert_array_equal(read(tmp_path / "a.npz"), [*first, second])
    np.testing.assert_array_equal(read(f"{tmp_path / 'a.npz'}::second"), [second])


def test_a_folder_is_one_series_in_natural_order(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        np.save(tmp_path / f"frame{number}.npy", np.full((3, 4), number, np.uint8))
    Image.fromarray(np.full((3, 4), 2, np.uint8)).save(tmp_path / "frame2.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    (tmp_path / ".hidden.npy").write_bytes(b"")
    stack = read_frames(tmp_path)
    assert stack.length is None
    assert [int(frame[0, 0]) for frame in stack] == [1, 2, 9, 10]
    assert len(list(stack)) == 4, "a stack can be read again"


def test_a_folder_says_when_shapes_differ(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", counts("|u1", (3, 4)))
    np.save(tmp_path / "b.npy", counts("|u1", (5, 4)))
    with pytest.warns(ConversionWarning, match="first one's shape"):
        assert len(list(read_frames(tmp_path))) == 2


def test_a_folder_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="found none"):
        read_frames(tmp_path)


@pytest.mark.parametrize(
    ("crop", "rows", "columns"),
    [("left", slice(None), slice(0, 3)), ("right", slice(None), slice(4, 7)),
     ("1:3,2:5", slice(1, 3), slice(2, 5)), (":2,", None, None),
     ("1:,:4", slice(1, None), slice(4)), ("9:,0:2", None, None), ("1:2", None, None),
     ("a:b,c:d", None, None)],
)  # fmt: skip
def test_crop(tmp_path: Path, crop: str, rows: Any, columns: Any) -> None:
    frames = counts("<u2", (2, 5, 7))
    np.save(tmp_path / "a.npy", frames)
    if rows is None:
        with pytest.raises(FileFormatError, match="crop"):
            read(tmp_path / "a.npy", crop)
        return
    cropped = list(read_frames(tmp_path / "a.npy", crop))
    np.testing.assert_array_equal(cropped, frames[:, rows, columns])
    assert all(frame.flags.c_contiguous and frame.flags.owndata for frame in cropped)


def test_frames_are_the_callers_own(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", counts("<u2"))
    stack = read_frames(tmp_path / "a.npy")
    next(iter(stack))[:] = 0
    np.testing.assert_array_equal(np.stack(list(stack)), counts("<u2"))


# Imports


def run_python(code: str) -> str:
    paths = [str(ROOT / "client")]
    start = f"import sys; sys.path[:0] = {paths!r}\n"
    done = subprocess.run([sys.executable, "-c", start + code], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_no_reader_is_imported_before_it_is_needed() -> None:
    heavy = "{'tifffile', 'mrcfile', 'PIL', 'torch', 'fastapi', 'scgn', 'scgn_live'}"
    code = f"import scgn_client.cli; print({heavy} & {{m.split('.')[0] for m in sys.modules}})"
    assert run_python(code).strip() == "set()"


@pytest.mark.parametrize(
    ("suffix", "module"), [(".tif", "tifffile"), (".mrc", "mrcfile"), (".gif", "PIL")]
)
def test_a_missing_reader_says_what_to_install(tmp_path: Path, suffix: str, module: str) -> None:
    path = whole_file(tmp_path, suffix)
    code = f"""
sys.modules[{module!r}] = None  # what an import finds when the package is not installed
from scgn_client import FileFormatError
from scgn_client.files import read_frames
try:
    read_frames({str(path)!r})
except FileFormatError as error:
    print(error)
"""
    said = run_python(code)
    assert f"needs {module}: pip install scgn-live[files]" in said
    assert str(path) in said


# Real files


@needs_data
@pytest.mark.parametrize(
    ("name", "crop", "length", "shape", "dtype"),
    [
        ("movies/pt_ceo2_41x100.gif", None, 41, (100, 200), "|u1"),
        ("movies/pt_ceo2_41x100.gif", "left", 41, (100, 100), "|u1"),
        ("movies/lctem_exposure_1.tif", None, 1, (512, 512), "<u2"),
        ("movies/lctem_exposure_2.tif", None, 1, (512, 512), "<u2"),
        ("hrtem/graphene_defect_raw.tif", None, 1, (512, 512), "<f4"),
        ("hrtem/haadf_srtio3.tif", None, 1, (512, 512), ">u2"),
        ("hrtem/au_nanoparticles_0.png", None, 1, (512, 512), "|u1"),
        ("formats/movie.mrc", None, 348, (16, 16), "<u2"),
        ("formats/dm_stack.tif", None, 2, (68, 68), "<f4"),
        ("calibration/tia_64x64x5_preview.npy", None, 5, (64, 64), "<f4"),
    ],
)
def test_real_files(
    name: str, crop: str | None, length: int, shape: tuple[int, int], dtype: str
) -> None:
    stack = read_frames(DATA / name, crop)
    frames = list(stack)
    assert (stack.length, len(frames)) == (length, length)
    assert all(frame.shape == shape and frame.dtype.str == dtype for frame in frames)
    assert all(frame.std() > 0 for frame in frames)


@needs_data
def test_the_noisy_half_of_the_gif_is_the_left_one() -> None:
    left, right = (read(DATA / "movies/pt_ceo2_41x100.gif", half) for half in ("left", "right"))
    roughness = [np.diff(half.astype(float), axis=2).std() for half in (left, right)]
    assert roughness[0] > 5 * roughness[1]


@needs_data
def test_low_dose_exposures_are_read_as_they_are() -> None:
    frames = [read(DATA / f"movies/lctem_exposure_{k}.tif")[0] for k in (1, 2)]
    for frame in frames:
        assert 0.12 < np.mean(frame == 0) < 0.17, "13-16 % of the pixels are clipped at 0"
    assert not np.array_equal(*frames)


@needs_data
def test_a_header_that_counts_summed_frames_is_read_with_a_note() -> None:
    with pytest.warns(ConversionWarning, match="declares 32766 sections, the 1 that"):
        dark = read(DATA / "calibration/celeritas_64x64_dark.mrc")
    assert dark.shape == (1, 64, 64)
    assert 200 < dark.min() < dark.max() < 500


@needs_data
def test_every_real_file_is_read_or_refused_with_its_name() -> None:
    for path in sorted(DATA.glob("*/*.*")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConversionWarning)
            if path.suffix in READERS and path.suffix != ".npz":
                assert all(frame.ndim == 2 for frame in read_frames(path))
                continue
            with pytest.raises(FileFormatError, match=re.escape(path.name)):
                read_frames(path)
