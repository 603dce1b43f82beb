"""Stacks of frames from files, (frames, rows, columns), values exactly as stored.

.npy .npz .tif .tiff .mrc .emd .h5 .hdf5 .gif .png; libraries are imported only when a file needs
them. The client has readers of its own, because it must stay without this package and converts to
the dtypes of the wire; here nothing is converted, since noise is measured on what was stored.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
BIG_ENDIAN = 0x11
MRC_FIELDS = ("nz", "ny", "nx", "nsymbt", "mode")
EXTRAS = {"matplotlib": "plots"}  # the others come with `files`


class StackError(ValueError):
    """A file gives no stack of frames; the message names the file, what was expected and came."""


def read_stack(path: Path) -> Array:
    """The frames of one file, (frames, rows, columns), a single frame as a stack of one.

    Raises StackError for a missing library, an unknown or damaged file, colour or complex values.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise StackError(f"{path.name}: expected one of {' '.join(READERS)}")
    try:
        with warnings.catch_warnings(action="ignore"):  # an error, or of no concern
            array = np.asarray(reader(path))
    except StackError:
        raise
    except Exception as error:  # damaged files make the libraries raise nearly anything
        got = f"{type(error).__name__}: {error}".replace(str(path), path.name)
        raise StackError(
            f"{path.name}: expected a readable {path.suffix} file, got {got}"
        ) from error
    return _stack(array, path)


def read_series(paths: Sequence[Path]) -> Array:
    """The frames of several files in the order given, as one stack; StackError as read_stack."""
    stacks = [read_stack(path) for path in paths]
    shapes = {stack.shape[1:] for stack in stacks}
    if len(shapes) > 1:
        got = ", ".join(f"{p.name} {s.shape[1:]}" for p, s in zip(paths, stacks, strict=True))
        raise StackError(f"expected frames of one shape, got {got}")
    return stacks[0] if len(stacks) == 1 else np.concatenate(stacks)


def library(module: str) -> Any:
    """An optional module; StackError says which extra brings it when it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = {"PIL": "pillow"}.get(root := module.partition(".")[0], root)
        extra = EXTRAS.get(name, "files")
        raise StackError(f"{name} is not installed: pip install scgn-live[{extra}]") from error


def _stack(array: Array, path: Path) -> Array:
    if array.ndim not in (2, 3) or array.size == 0:
        expected = f"{path.name}: expected (rows, columns) or (frames, rows, columns), not empty"
        raise StackError(f"{expected}, got shape {array.shape}")
    if array.dtype.kind not in "fiub":
        raise StackError(f"{path.name}: expected real numbers, got dtype {array.dtype}")
    wrong = array.size - int(np.isfinite(array).sum())
    if wrong:
        raise StackError(f"{path.name}: expected finite values, got {wrong} that are not")
    return array if array.ndim == 3 else array[np.newaxis]


def _npy(path: Path) -> Array:
    return np.asarray(np.load(path, allow_pickle=False))


def _npz(path: Path) -> Array:
    with np.load(path, allow_pickle=False) as file:
        if len(file.files) != 1:
            raise StackError(f"{path.name}: expected one array, got {', '.join(file.files)}")
        return np.asarray(file[file.files[0]])


def _tiff(path: Path) -> Array:
    """By tifffile; by pillow where that needs a codec (LZW) which it does not bring."""
    try:
        return np.asarray(library("tifffile").imread(path))
    except (ValueError, RuntimeError):
        return _pillow(path)


def _pillow(path: Path) -> Array:
    image = library("PIL.Image")
    with image.open(path) as file:
        frames = [_grey(frame, path) for frame in library("PIL.ImageSequence").Iterator(file)]
    return np.stack(frames)


def _grey(frame: Any, path: Path) -> Array:
    """Pixels of one frame; a palette of greys is looked up."""
    if frame.mode == "P":
        frame = frame.convert("RGB")
    pixels = np.asarray(frame)
    if pixels.ndim == 3 and (pixels[..., :3] == pixels[..., :1]).all():
        return pixels[..., 0]
    if pixels.ndim != 2:
        raise StackError(f"{path.name}: expected greys, got colours of shape {pixels.shape}")
    return pixels


def _mrc(path: Path) -> Array:
    """Sections that are there: cameras write the number of summed frames where theirs belongs."""
    mrcfile = library("mrcfile")
    # Not by its open(): that allocates whatever extended header a damaged file claims to have.
    header = np.fromfile(path, mrcfile.dtypes.HEADER_DTYPE, count=1)
    if header["machst"][0, 0] == BIG_ENDIAN:
        header = header.view(header.dtype.newbyteorder())
    declared, rows, columns, more, mode = (int(header[name][0]) for name in MRC_FIELDS)
    dtype = mrcfile.utils.dtype_from_mode(mode).newbyteorder(header["mode"].dtype.byteorder)
    offset = header.nbytes + more
    held = (path.stat().st_size - offset) // (rows * columns * dtype.itemsize)
    if min(held, declared) < 1 or more < 0:
        raise StackError(f"{path.name}: expected as many bytes as its header says")
    shape = (min(held, declared), rows, columns)
    return np.array(np.memmap(path, dtype, "r", offset, shape))


def _hdf5(path: Path) -> Array:
    """The largest set of frames in the file; Velox's keep the frame's number in the last axis."""
    found: dict[str, Any] = {}
    h5py = library("h5py")

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim in (2, 3) and item.dtype.kind in "fiu":
            found[name] = item

    with h5py.File(path, "r") as file:
        file.visititems(note)
        velox = {n: d for n, d in found.items() if n.startswith("Data/Image/") and d.ndim == 3}
        if velox:
            return np.moveaxis(max(velox.values(), key=lambda d: d.size)[...], -1, 0)
        if not found:
            raise StackError(f"{path.name}: expected a dataset of 2 or 3 dimensions, got none")
        return np.asarray(max(found.values(), key=lambda d: d.size)[...])


READERS: dict[str, Callable[[Path], Array]] = {
    ".npy": _npy, ".npz": _npz, ".tif": _tiff, ".tiff": _tiff, ".mrc": _mrc, ".emd": _hdf5,
    ".h5": _hdf5, ".hdf5": _hdf5, ".gif": _pillow, ".png": _pillow,
}  # fmt: skip
