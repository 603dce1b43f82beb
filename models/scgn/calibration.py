"""What is known of one camera: references that correct its frames, named by their content.

Corrected = (raw - dark_reference) * gain_reference, defective pixels filled from their neighbours.
Nothing here needs torch, so that an HTTP process can check an upload without loading it.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float32]
GainConvention = Literal["multiply", "divide"]
FORMAT = "scgn-calibration-1"
MASKED_MAX = 0.5  # more is a mask the wrong way round
PARTS = ("dark", "gain", "mask")


class CalibrationError(ValueError):
    """A reference cannot be used; `field` names it, the message what was expected and what came."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


@dataclass(frozen=True, eq=False)
class Calibration:
    """References of one camera, all (rows, columns).

    dark: float32 counts, or None for zero; gain: float32, to MULTIPLY with, or None for one;
    mask: True where a pixel is defective; id: 12 hex digits of the content's SHA-256.
    """

    shape: tuple[int, int]
    dark: Floats | None
    gain: Floats | None
    mask: NDArray[np.bool_]
    id: str

    @property
    def masked(self) -> int:
        """Number of defective pixels."""
        return int(self.mask.sum())


def build_calibration(
    dark: Array | None = None,
    gain: Array | None = None,
    mask: Array | None = None,
    gain_convention: GainConvention | None = None,
) -> Calibration:
    """A checked calibration from whatever references there are; CalibrationError otherwise.

    gain_convention: how `gain` is meant; needed with a gain because both are in use and a wrong
    guess squares the fixed pattern. A pixel whose gain is 0 is dead and joins the mask.
    """
    given = {k: v for k, v in zip(PARTS, (dark, gain, mask), strict=True) if v is not None}
    if not given:
        raise CalibrationError("calibration", "expected at least one of dark, gain, mask, got none")
    shape = _common_shape(given)
    bad = np.zeros(shape, bool) if mask is None else _mask(mask)
    factor = None if gain is None else _gain_factor(gain, gain_convention, bad)
    level = None if dark is None else _finite("dark", dark, bad)
    if bad.mean() > MASKED_MAX:
        text = f"expected at most {MASKED_MAX:.0%} masked (1 is defective), got {bad.mean():.1%}"
        raise CalibrationError("mask", text)
    return Calibration(shape, level, factor, bad, _content_id(level, factor, bad))


def _common_shape(given: dict[str, Array]) -> tuple[int, int]:
    shapes = {name: array.shape for name, array in given.items()}
    for name, shape in shapes.items():
        if len(shape) != 2 or 0 in shape:
            raise CalibrationError(name, f"expected a frame of rows x columns, got shape {shape}")
    if len(set(shapes.values())) > 1:
        raise CalibrationError("calibration", f"expected equal shapes, got {shapes}")
    rows, columns = next(iter(shapes.values()))
    return rows, columns


def _numbers(field: str, array: Array) -> Floats:
    if array.dtype.kind not in "fiub":
        raise CalibrationError(field, f"expected real numbers, got dtype {array.dtype}")
    with np.errstate(over="ignore"):  # what overflows is found as infinite
        return array.astype(np.float32)


def _finite(field: str, array: Array, bad: NDArray[np.bool_]) -> Floats:
    values = _numbers(field, array)
    wrong = ~np.isfinite(values) & ~bad
    if wrong.any():
        raise CalibrationError(field, f"expected finite values, got {wrong.sum()} that are not")
    return np.where(bad, np.float32(0), values)


def _mask(mask: Array) -> NDArray[np.bool_]:
    if mask.dtype.kind not in "biu":
        raise CalibrationError("mask", f"expected bool or integer (NeXus), got dtype {mask.dtype}")
    return np.asarray(mask != 0)


def _gain_factor(gain: Array, convention: GainConvention | None, bad: NDArray[np.bool_]) -> Floats:
    if convention not in ("multiply", "divide"):
        got = f"expected gain_convention multiply or divide, got {convention!r}"
        raise CalibrationError("gain_convention", got)
    values = _numbers("gain", gain)
    bad |= values == 0  # a dead pixel's gain is 0 in either convention
    values = _finite("gain", values, bad)
    if (values[~bad] < 0).any():
        raise CalibrationError("gain", f"expected positive values, got {(values < 0).sum()} below")
    values[bad] = 1
    if convention == "multiply":
        return values
    with np.errstate(over="ignore"):  # what overflows is found as infinite
        return np.where(bad, np.float32(1), _finite("gain", np.float32(1) / values, bad))


def _content_id(dark: Floats | None, gain: Floats | None, mask: NDArray[np.bool_]) -> str:
    digest = hashlib.sha256(f"{FORMAT} {mask.shape}".encode())
    for name, array in zip(PARTS, (dark, gain, mask), strict=True):
        if array is not None:
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:12]


def neighbours_of_defects(mask: NDArray[np.bool_], reach: int = 3) -> tuple[Array, Array, Floats]:
    """How to fill defects: (K,) flat indices, (K,M) neighbours' flat indices, (K,M) weights.

    Good pixels of the smallest window (3x3, 5x5, ... up to `reach`) that has any, equally
    weighted; where there is none, the nearest good pixel alone.
    """
    bad = np.flatnonzero(mask)
    index = np.zeros((len(bad), (2 * reach + 1) ** 2), np.int64)
    weight = np.zeros(index.shape, np.float32)
    todo = np.arange(len(bad))
    for radius in range(1, reach + 1):
        left = [_fill_window(mask, bad, part, radius, index, weight) for part in _parts(todo)]
        todo = np.concatenate([*left, todo[:0]])
    for row in todo:
        line, column = divmod(int(bad[row]), mask.shape[1])
        index[row] = _nearest_good(mask, line, column, reach)
        weight[row, 0] = 1
    used = max(1, int((weight > 0).sum(axis=1).max(initial=1)))
    return bad, index[:, :used], weight[:, :used]


def _parts(rows: Array) -> list[Array]:
    """Few enough at a time that the windows of a large mask do not fill the memory."""
    return np.array_split(rows, max(1, math.ceil(len(rows) / 65536)))


def _fill_window(
    mask: NDArray[np.bool_], bad: Array, part: Array, radius: int, index: Array, weight: Floats
) -> Array:
    """Write the good pixels of each window of `radius`; returns the rows that had none."""
    steps = np.arange(-radius, radius + 1)
    rows = (bad[part] // mask.shape[1])[:, None, None] + steps[:, None]
    columns = (bad[part] % mask.shape[1])[:, None, None] + steps
    inside = (rows >= 0) & (rows < mask.shape[0]) & (columns >= 0) & (columns < mask.shape[1])
    flat = np.where(inside, rows * mask.shape[1] + columns, 0).reshape(len(part), len(steps) ** 2)
    good = inside.reshape(flat.shape) & ~mask.ravel()[flat]
    found = good.any(axis=1)
    order = np.argsort(~good[found], axis=1, kind="stable")  # the good ones first
    chosen = np.take_along_axis(flat[found], order, axis=1)
    use = np.take_along_axis(good[found], order, axis=1)
    index[part[found]] = chosen[:, :1]  # weight 0 repeats a good pixel: 0 * NaN is NaN
    index[part[found], : flat.shape[1]] = np.where(use, chosen, chosen[:, :1])
    weight[part[found], : flat.shape[1]] = use / use.sum(axis=1, keepdims=True)
    return np.asarray(part[~found])


def _nearest_good(mask: NDArray[np.bool_], row: int, column: int, radius: int) -> int:
    """Looked for in windows of doubling size; the whole frame per defect would take hours."""
    while True:
        top, left = max(0, row - radius), max(0, column - radius)
        rows, columns = np.nonzero(~mask[top : row + radius + 1, left : column + radius + 1])
        distance2 = (rows + top - row) ** 2 + (columns + left - column) ** 2
        if radius >= max(mask.shape) or (len(rows) and distance2.min() <= radius**2):
            best = np.argmin(distance2)
            return int((rows[best] + top) * mask.shape[1] + columns[best] + left)
        radius *= 2


def save_calibration(path: Path, calibration: Calibration) -> None:
    """One .npz: a JSON header and the arrays, no pickle."""
    arrays: dict[str, Array] = {"mask": calibration.mask}
    arrays |= {k: v for k in ("dark", "gain") if (v := getattr(calibration, k)) is not None}
    header = json.dumps({"format": FORMAT, "id": calibration.id})
    with path.open("wb") as file:
        np.savez_compressed(file, header=np.array(header), allow_pickle=False, **arrays)


def _words(error: Exception) -> str:
    """An error without the path that operating system errors carry."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def load_calibration(path: Path) -> Calibration:
    """Read what `save_calibration` wrote; CalibrationError when it is not what its id says."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            header = json.loads(str(file["header"]))
            arrays = {name: file[name] for name in PARTS if name in file.files}
    except Exception as error:  # numpy, zipfile and zlib raise a dozen kinds on damaged bytes
        raise CalibrationError(
            "calibration", f"{path.name} cannot be read: {_words(error)}"
        ) from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise CalibrationError("calibration", f"expected format {FORMAT}, got {header}")
    convention: GainConvention | None = "multiply" if "gain" in arrays else None
    calibration = build_calibration(**arrays, gain_convention=convention)
    if calibration.id != header.get("id"):
        raise CalibrationError("calibration", f"{path.name} does not hold what its id says")
    return calibration


_NPY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npy(field: str, content: bytes) -> Array:
    """An array from the bytes of a .npy file, no pickle; CalibrationError names `field`.

    The header's size is checked against the bytes before anything is allocated for it.
    """
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, _, dtype = read[version](stream)
        needed = int(np.prod([int(n) for n in shape], dtype=object)) * dtype.itemsize
        if dtype.hasobject or needed != len(content) - stream.tell():
            raise ValueError(f"{dtype} {shape} needs {needed} bytes, file has {len(content)}")
        return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))
    except Exception as error:  # numpy's header parser raises a dozen kinds on damaged bytes
        raise CalibrationError(field, f"expected a .npy array, got {error}") from error
