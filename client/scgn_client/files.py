"""Frames from files: .npy .npz .tif .tiff .png .gif .mrc, or a folder of them as one series.

Readers beyond numpy's are imported only when a file needs them (`pip install scgn-live[files]`).
Frames come in a dtype of the wire with every value kept; what cannot be kept is either said in a
ConversionWarning (colour, float64) or refused with FileFormatError.
"""

from __future__ import annotations

import importlib
import logging.handlers
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from scgn_client.errors import FileFormatError
from scgn_client.messages import Array
from scgn_client.wire import DTYPES

Note = Callable[[str], None]
Crop = Callable[[tuple[int, ...]], tuple[slice, slice]]
Blocks = list[tuple[Array, np.dtype[Any]]]  # (frames, rows, columns) as stored; the wire's dtype

NARROWEST_FIRST = ("|u1", "<i2", "<u2", "<i4", "<u4")
LUMINANCE_PER_MILLE = (299, 587, 114)  # red, green, blue: ITU-R BT.601
MRC_FIELDS = ("nz", "ny", "nx", "nsymbt", "mode")


class ConversionWarning(UserWarning):
    """Frames were read, but not with every bit that the file holds."""


@dataclass(frozen=True)
class FrameStack:
    """The frames of one path in order; every iteration starts again from the first.

    length: number of frames, None where only reading them all tells (a folder). Iterating yields
    (rows, columns) arrays in a wire dtype, and raises FileFormatError for a damaged file.
    """

    path: str
    length: int | None
    _files: Sequence[Callable[[], Blocks]] = field(repr=False)
    _crop: Crop | None = field(repr=False)
    _note: Note = field(repr=False)

    def __iter__(self) -> Iterator[Array]:
        shape: tuple[int, ...] | None = None
        for load in self._files:
            for block, dtype in load():
                for stored in block:
                    frame = _converted(self._cropped(stored), dtype, self.path)
                    shape = shape or frame.shape
                    if frame.shape != shape:
                        self._note(f"not every frame has the first one's shape {shape}")
                    yield frame

    def _cropped(self, frame: Array) -> Array:
        cropped = frame if self._crop is None else frame[self._crop(frame.shape)]
        if cropped.size == 0:
            raise FileFormatError(f"{self.path}: nothing is left of {frame.shape} after cropping")
        return cropped


def read_frames(path: str | Path, crop: str | None = None) -> FrameStack:
    """Frames of a file, of one array of it (`movie.npz::name`), or of a folder's files together.

    crop: `left` or `right` half, or rows and columns as `0:100,20:80`. A folder is taken in natural
    order (frame2 before frame10); files of other kinds in it are left out. Raises FileFormatError.
    """
    crop_of = None if crop is None else parse_crop(crop)
    name, _, member = str(path).partition("::")
    note = _note_once(str(path))
    if Path(name).is_dir():
        files = [partial(_load, file, None, note) for file in _readable_files(Path(name))]
        return FrameStack(str(path), None, files, crop_of, note)
    blocks = _load(Path(name), member or None, note)
    return FrameStack(str(path), sum(len(b) for b, _ in blocks), [lambda: blocks], crop_of, note)


def parse_crop(text: str) -> Crop:
    """The part of a (rows, columns) frame that `text` names, as a function of its shape."""
    match = re.fullmatch(r"(\d*):(\d*),(\d*):(\d*)", text.replace(" ", ""))
    if text == "left":
        return lambda shape: (slice(None), slice(0, shape[1] // 2))
    if text == "right":
        return lambda shape: (slice(None), slice(shape[1] - shape[1] // 2, None))
    if match is None:
        raise FileFormatError(f"crop: expected left, right or ROWS:ROWS,COLS:COLS, got {text!r}")
    top, bottom, first, last = (int(number) if number else None for number in match.groups())
    return lambda _: (slice(top, bottom), slice(first, last))


def library(module: str, path: str | Path) -> Any:
    """An optional module; FileFormatError says what to install for this path when it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        needed = f"needs {module.partition('.')[0]}: pip install scgn-live[files]"
        raise FileFormatError(f"{path}: {needed}") from error


def _note_once(path: str) -> Note:
    said: set[str] = set()

    def note(text: str) -> None:
        if text not in said:
            said.add(text)
            warnings.warn(f"{path}: {text}", ConversionWarning, stacklevel=2)

    return note


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key under which frame2 comes before frame10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", path.name.lower())
    return [(int(part), "") if part[0] in "0123456789" else (-1, part) for part in parts]


def _readable_files(folder: Path) -> list[Path]:
    named = (p for p in folder.iterdir() if p.suffix.lower() in READERS and p.name[0] != ".")
    files = sorted((p for p in named if p.is_file()), key=_natural)
    if not files:
        raise FileFormatError(f"{folder}: expected files of {' '.join(READERS)}, found none")
    return files


def _load(path: Path, member: str | None, note: Note) -> Blocks:
    """All frames of one file, or of one array in it."""
    suffix = path.suffix.lower()
    if not path.is_file():
        raise FileFormatError(f"{path}: no such file or folder")
    if suffix not in READERS:
        raise FileFormatError(f"{path}: expected one of {' '.join(READERS)}, got {suffix!r}")
    if member is not None and suffix != ".npz":
        raise FileFormatError(f"{path}: expected a .npz before ::{member}, got {suffix!r}")
    notes: list[str] = []
    try:
        with warnings.catch_warnings(action="ignore"):  # an error, or of no concern
            arrays = READERS[suffix](path, member, notes.append)
    except FileFormatError:
        raise
    except Exception as error:  # damaged files make the libraries raise nearly anything
        advice = "allow_pickle" in str(error)  # numpy's, for what it does not know: not ours
        got = "something else or objects" if advice else f"{type(error).__name__}: {error}"
        raise FileFormatError(f"{path}: expected a readable {suffix} file, got {got}") from error
    if not arrays:
        raise FileFormatError(f"{path}: expected an array of 2 or 3 dimensions, got none")
    for text in notes:
        note(text)
    return [_block(array, path, note) for array in arrays]


def _block(array: Array, path: Path, note: Note) -> tuple[Array, np.dtype[Any]]:
    if array.ndim not in (2, 3) or array.size == 0:
        expected = f"{path}: expected (rows, columns) or (frames, rows, columns), not empty"
        raise FileFormatError(f"{expected}, got shape {array.shape}")
    if array.dtype.kind == "f" and array.dtype.itemsize > 4:
        note(f"{array.dtype.name} is read as float32, to 24 bits of precision")
    return (array if array.ndim == 3 else array[np.newaxis]), wire_dtype(array, path)


def _converted(frame: Array, dtype: np.dtype[Any], path: str) -> Array:
    """A frame as an array of its own: nobody keeps a whole file alive, or writes into it."""
    with np.errstate(over="ignore"):
        converted = np.array(frame, dtype, copy=True, order="C", subok=False)
    if dtype.kind == "f" and np.isinf(converted).sum() > np.isinf(frame).sum():
        raise FileFormatError(f"{path}: expected values within float32, got larger {frame.dtype}")
    return converted


def wire_dtype(array: Array, path: str | Path = "array") -> np.dtype[Any]:
    """The wire dtype that holds an array's values; FileFormatError when none does.

    64-bit integers take the narrowest that fits what is there, float64 takes float32.
    """
    kind, size = array.dtype.kind, array.dtype.itemsize
    if array.dtype.str in DTYPES:
        return array.dtype
    if kind in "iu" and size == 8:
        lowest, highest = int(array.min()), int(array.max())
        for code in NARROWEST_FIRST:
            if np.iinfo(code).min <= lowest and highest <= np.iinfo(code).max:
                return np.dtype(code)
        raise FileFormatError(f"{path}: expected counts of 32 bits, got {lowest} to {highest}")
    if kind in "iu" and size > 1:
        return array.dtype.newbyteorder("<")
    if kind not in "ifb":
        raise FileFormatError(f"{path}: expected whole or real numbers, got {array.dtype}")
    return np.dtype({"i": "<i2", "f": "<f4", "b": "|u1"}[kind])


def _read_npy(path: Path, *_: Any) -> list[Array]:
    return [np.lib.format.open_memmap(path, mode="r")]  # maps numbers alone, never pickles


def _read_npz(path: Path, member: str | None, _: Note) -> list[Array]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        if member is not None:
            return [archive[member]]
        return [array for array in archive.values() if array.ndim in (2, 3)]


def _read_tiff(path: Path, _: str | None, note: Note) -> list[Array]:
    complaints = logging.handlers.BufferingHandler(capacity=10**6)
    logging.getLogger("tifffile").addHandler(complaints)
    try:
        pages, axes = _tiff_pages(path, note)
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        return _read_pillow(path, None, note)  # knows LZW and the like by itself
    finally:
        logging.getLogger("tifffile").removeHandler(complaints)
    # tifffile fills what is missing with zeros or leaves pages out, and only logs it.
    for line in (record.getMessage() for record in complaints.buffer):
        if "TiffPages" in line or "segments" in line:
            raise FileFormatError(f"{path}: expected a whole file, got {line}")
    if "S" in axes:
        pages = _luminance(np.moveaxis(pages, axes.index("S"), -1), note)
    return [pages.reshape(-1, *pages.shape[-2:])]


def _tiff_pages(path: Path, note: Note) -> tuple[Array, str]:
    """The first series of pages and its axes, `S` for samples of colour."""
    tifffile = library("tifffile", path)
    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        if len(tiff.series) > 1:
            note(f"only the first of {len(tiff.series)} series of pages is read")
        if series.keyframe.photometric == tifffile.PHOTOMETRIC.PALETTE:
            note("the colour table is left out, its indices are the values")
        if series.dataoffset is None:
            return tiff.asarray(series=0), series.axes
        dtype = series.dtype.newbyteorder(tiff.byteorder)
        return np.memmap(path, dtype, "r", series.dataoffset, series.shape), series.axes


def _luminance(colour: Array, note: Note) -> Array:
    """(..., samples) to (...): grey as it is, colour weighted, transparency left out."""
    samples = colour.shape[-1]
    if samples in (2, 4) and np.ptp(colour[..., -1]) > 0:
        note("transparency is left out")
    if samples < 3 or all(np.array_equal(colour[..., 0], colour[..., k]) for k in (1, 2)):
        return colour[..., 0]
    note("colour is read as luminance, 0.299 R + 0.587 G + 0.114 B")
    whole = colour.dtype.kind in "iu"
    wide = np.int64 if whole else np.float64
    weighted = colour[..., :3].astype(wide) @ np.array(LUMINANCE_PER_MILLE, wide)
    grey: Array = ((weighted + 500) // 1000 if whole else weighted / 1000).astype(colour.dtype)
    return grey


def _read_pillow(path: Path, _: str | None, note: Note) -> list[Array]:
    with library("PIL.Image", path).open(path, formats=["PNG", "GIF", "TIFF"]) as image:
        frames = []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            frames.append(_pillow_grey(image, note))
    start = path.read_bytes()[:26]
    if start[:4] == b"\x89PNG" and start[24] == 16 and start[25] != 0:
        note("16-bit colour is read at 8 bits")  # Pillow does so without a word
    return [np.stack(frames)]


def _pillow_grey(image: Any, note: Note) -> Array:
    if image.mode == "P":
        image = image.convert("RGB")
    pixels = np.array(image)
    return pixels if pixels.ndim == 2 else _luminance(pixels, note)


def _read_mrc(path: Path, _: str | None, note: Note) -> list[Array]:
    """Sections in the order and orientation of the file (MRC counts rows from the bottom)."""
    mrcfile = library("mrcfile", path)
    # Not by its open(): that allocates whatever extended header a damaged file claims to have.
    header = np.fromfile(path, mrcfile.dtypes.HEADER_DTYPE, count=1)
    if header["machst"][0, 0] == 0x11:  # big-endian
        header = header.view(header.dtype.newbyteorder())
    declared, rows, columns, more, mode = (int(header[k][0]) for k in MRC_FIELDS)
    dtype = mrcfile.utils.dtype_from_mode(mode).newbyteorder(header["mode"].dtype.byteorder)
    offset = header.nbytes + more
    held = (path.stat().st_size - offset) // (rows * columns * dtype.itemsize)
    if held < declared:
        # Cameras write the number of summed frames there, and recordings are cut short.
        note(f"the header declares {declared} sections, the {held} that are there are read")
    return [np.memmap(path, dtype, "r", offset, (min(held, declared), rows, columns))]


READERS: dict[str, Callable[[Path, str | None, Note], list[Array]]] = {
    ".npy": _read_npy, ".npz": _read_npz, ".tif": _read_tiff, ".tiff": _read_tiff,
    ".png": _read_pillow, ".gif": _read_pillow, ".mrc": _read_mrc,
}  # fmt: skip
