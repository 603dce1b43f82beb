"""What a reference must be: arrays from anyone, checked, with errors that name the field."""

from __future__ import annotations

import io
from numbers import Real
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from scgn.noise import NoiseModel

Array = NDArray[Any]
Floats = NDArray[np.float32]
GainConvention = Literal["multiply", "divide"]


class CalibrationError(ValueError):
    """A reference cannot be used; `field` names it, the message what was expected and what came."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


def common_shape(given: dict[str, Array]) -> tuple[int, int]:
    """Rows and columns that all of the named arrays have; CalibrationError when they differ."""
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


def finite(field: str, array: Array, bad: NDArray[np.bool_]) -> Floats:
    """Values as float32, 0 where `bad`; CalibrationError when others are not finite."""
    values = _numbers(field, array)
    wrong = ~np.isfinite(values) & ~bad
    if wrong.any():
        raise CalibrationError(field, f"expected finite values, got {wrong.sum()} that are not")
    return np.where(bad, np.float32(0), values)


def defects_of(mask: Array) -> NDArray[np.bool_]:
    """True where a mask, bool or NeXus bits, marks a defect; CalibrationError for other dtypes."""
    if mask.dtype.kind not in "biu":
        raise CalibrationError("mask", f"expected bool or integer (NeXus), got dtype {mask.dtype}")
    return np.asarray(mask != 0)


def gain_factor(gain: Array, convention: GainConvention | None, bad: NDArray[np.bool_]) -> Floats:
    """What to multiply with, float32; pixels of gain 0 are added to `bad`, in place."""
    if convention not in ("multiply", "divide"):
        got = f"expected gain_convention multiply or divide, got {convention!r}"
        raise CalibrationError("gain_convention", got)
    values = _numbers("gain", gain)
    bad |= values == 0  # a dead pixel's gain is 0 in either convention
    values = finite("gain", values, bad)
    if (values[~bad] < 0).any():
        raise CalibrationError("gain", f"expected positive values, got {(values < 0).sum()} below")
    values[bad] = 1
    if convention == "multiply":
        return values
    with np.errstate(over="ignore"):  # what overflows is found as infinite
        return np.where(bad, np.float32(1), finite("gain", np.float32(1) / values, bad))


def checked_noise(noise: NoiseModel) -> NoiseModel:
    """The same noise in floats; CalibrationError `noise` when it is none that a camera can have."""
    scalars = (noise.gain_adu_per_e, noise.read_noise_adu, noise.line_noise_adu)
    if not all(isinstance(x, Real) and 0 <= x < np.inf for x in scalars):
        raise CalibrationError("noise", f"expected finite numbers, 0 or more, got {scalars}")
    correlation, axis = noise.line_correlation, noise.line_axis
    if not (isinstance(correlation, Real) and -1 <= correlation <= 1):
        got = f"expected a line correlation of -1 to 1, got {correlation!r}"
        raise CalibrationError("noise", got)
    if axis not in ("column", "row"):
        raise CalibrationError("noise", f"expected axis column or row, got {axis!r}")
    gain, read, line = (float(x) for x in scalars)
    return NoiseModel(gain, read, line, axis, float(correlation), _lags(noise.autocorrelation))


def _lags(lags: Array) -> Floats:
    values = _numbers("noise", lags)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or values.shape[0] % 2 == 0:
        raise CalibrationError("noise", f"expected an odd square of lags, got {values.shape}")
    middle = values[values.shape[0] // 2, values.shape[0] // 2]
    if not np.isfinite(values).all() or middle != 1:
        raise CalibrationError("noise", f"expected finite lags, 1 in the middle, got {middle}")
    return np.ascontiguousarray(values)


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
        shape, _, dtype = _NPY_HEADERS[version](stream)
        needed = int(np.prod([int(n) for n in shape], dtype=object)) * dtype.itemsize
        if dtype.hasobject or needed != len(content) - stream.tell():
            raise ValueError(f"{dtype} {shape} needs {needed} bytes, file has {len(content)}")
        return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))
    except Exception as error:  # numpy's header parser raises a dozen kinds on damaged bytes
        raise CalibrationError(field, f"expected a .npy array, got {error}") from error
