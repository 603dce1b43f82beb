"""Reference files from anyone, by what they hold and not by what they are called.

Sizes that a file declares are held against a limit before anything is allocated for them.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgn.references import read_npy
from scgn.stacks import READERS, StackError, library
from scgn_live.checking.files import CheckError

Array = NDArray[Any]
FORMATS = (".npy", ".npz", ".tif", ".tiff", ".mrc", ".h5", ".hdf5", ".nxs", ".emd", ".dm3", ".dm4")
ALIKE = {".tiff": ".tif", ".hdf5": ".h5", ".nxs": ".h5", ".emd": ".h5", ".mrcs": ".mrc"}
ALONE = {"is_ome": False, "is_mmstack": False, "is_ndtiff": False}  # for tifffile
MRC_MAGIC = slice(208, 212)
COMPRESSED = (b"\x1f\x8b", b"BZ")
HEAD_BYTES = 1024
PAGES_MAX = 100_000
DM_EXTRA = "reading dm3 and dm4 needs the extra: pip install scgn-live[dm]"


def read_stack(path: Path, field: str, called: str, limit_bytes: float) -> Array:
    """The frames of an uploaded file, (frames, rows, columns) as stored; CheckError says whose
    fault it is: 415 for a format that is not known, 413 for too much, 422 for damage.
    """
    found = format_of(path, called)
    if found is None:
        expected = f"expected one of {' '.join(FORMATS)}"
        raise CheckError(415, field, f"{field}: {expected}, got something else")
    try:
        with warnings.catch_warnings(action="ignore"):  # an error, or of no concern
            _GUARDS[found](path, field, limit_bytes)
            array = np.asarray(_read(path, found, field))
    except (CheckError, MemoryError):
        raise
    except Exception as error:  # damaged files make the libraries raise nearly anything
        got = str(error).replace(str(path), f"a {found} file").replace(f"{field}: ", "")
        said = got if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {got}"
        text = f"{field}: expected a readable {found} file, got {said or 'damage'}"
        raise CheckError(422, field, text[:500]) from error
    return _frames(array, field)


def format_of(path: Path, called: str) -> str | None:
    """`.npy`, `.npz`, `.tif`, `.mrc`, `.h5`, `.dm3` by the first bytes; a .mrc of the old kind has
    none to show and is told by its name.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    for ending, magics in {
        ".npy": (b"\x93NUMPY",), ".npz": (b"PK\x03\x04", b"PK\x05\x06"),
        ".tif": (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"), ".h5": (b"\x89HDF\r\n\x1a\n",),
        ".dm3": (b"\x00\x00\x00\x03", b"\x00\x00\x00\x04"),
    }.items():  # fmt: skip
        if head.startswith(magics):
            return ending
    ending = Path(called).suffix.lower()
    old = ALIKE.get(ending, ending) == ".mrc" and len(head) == HEAD_BYTES
    return ".mrc" if old or head[MRC_MAGIC] == b"MAP " else None


def _frames(array: Array, field: str) -> Array:
    if array.ndim not in (2, 3) or array.size == 0:
        expected = f"{field}: expected rows x columns, or frames x rows x columns, not empty"
        raise CheckError(422, field, f"{expected}, got shape {array.shape}")
    if array.dtype.kind not in "fiub":
        raise CheckError(422, field, f"{field}: expected real numbers, got dtype {array.dtype}")
    return array if array.ndim == 3 else array[np.newaxis]


def _read(path: Path, found: str, field: str) -> Array:
    if found == ".npy":
        return read_npy(field, path.read_bytes())
    return _OWN[found](path) if found in _OWN else READERS[found](path)


def _tif(path: Path) -> Array:
    """The first series of pages, of this file alone.

    OME's XML and Micro-Manager's index name further files to read, and tifffile would: they are
    the server's. By pillow where tifffile needs a codec (LZW) that it does not bring.
    """
    with library("tifffile").TiffFile(path, **ALONE) as tiff:
        len(tiff.pages)  # sees when pages go round in a circle; `series` would go along
        series = tiff.series[0]
        if "S" in series.axes:
            raise StackError(f"colours of shape {series.shape}")
        with contextlib.suppress(ValueError, RuntimeError):
            return np.asarray(series.asarray())
    return READERS[".png"](path)


def _dm(path: Path) -> Array:
    """By RosettaSciIO, under the GPL: a program of its own that is run, not a part of this one."""
    out = path.with_name(f"{path.name}-dm.npy")
    command = [sys.executable, "-P", "-c", _DM_PROGRAM, str(path), str(out)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode == _NO_READER:
        raise StackError(DM_EXTRA)
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1:] or ["no word"]
        raise StackError(last[0])
    return np.asarray(np.load(out, allow_pickle=False))


_OWN: dict[str, Callable[[Path], Array]] = {".tif": _tif, ".dm3": _dm}
_NO_READER = 3
_DM_PROGRAM = f"""
import sys
try:
    from rsciio.digitalmicrograph import file_reader
except ImportError:
    sys.exit({_NO_READER})
import numpy
largest = max(file_reader(sys.argv[1]), key=lambda signal: signal["data"].size)["data"]
numpy.save(sys.argv[2], numpy.asarray(largest), allow_pickle=False)
"""


# What a file says of its own size.


def _fits(size: float, field: str, limit_bytes: float) -> None:
    if size > limit_bytes:
        text = (
            f"{field}: expected at most {limit_bytes / 1e6:.0f} MB of pixels, got {size / 1e6:.0f}"
        )
        raise CheckError(413, field, text)


def _file_fits(path: Path, field: str, limit_bytes: float) -> None:
    """For files that hold every pixel as it is; mrcfile would unpack others."""
    with path.open("rb") as file:
        if file.read(len(COMPRESSED[0])).startswith(COMPRESSED):
            raise CheckError(415, field, f"{field}: expected a file, got a compressed one")
    _fits(path.stat().st_size, field, limit_bytes)


def _npz_fits(path: Path, field: str, limit_bytes: float) -> None:
    with zipfile.ZipFile(path) as archive:
        _fits(sum(member.file_size for member in archive.infolist()), field, limit_bytes)


def _tif_fits(path: Path, field: str, limit_bytes: float) -> None:
    with library("tifffile").TiffFile(path, **ALONE) as tiff:
        if len(tiff.pages) > PAGES_MAX:
            raise CheckError(413, field, f"{field}: expected at most {PAGES_MAX} pages")
        first = tiff.series[0]
        _fits(float(np.prod(first.shape, dtype=float)) * first.dtype.itemsize, field, limit_bytes)


def _h5_fits(path: Path, field: str, limit_bytes: float) -> None:
    """Also refuses what reaches out of the file: it would read the server's own files."""
    h5py = library("h5py")

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise CheckError(422, field, f"{field}: expected {name} in the file, not outside")
            if item.ndim in (2, 3):
                _fits(
                    float(np.prod(item.shape, dtype=float)) * item.dtype.itemsize,
                    field,
                    limit_bytes,
                )

    with h5py.File(path, "r") as file:
        file.visititems(look)  # follows no link, so nothing outside is opened


_GUARDS: dict[str, Callable[[Path, str, float], None]] = {
    ".npy": _file_fits, ".npz": _npz_fits, ".tif": _tif_fits, ".mrc": _file_fits,
    ".h5": _h5_fits, ".dm3": _file_fits,
}  # fmt: skip
