"""What is known of one camera: references that correct its frames and its noise, named by content.

Corrected = (raw - dark_reference) * gain_reference, defective pixels filled from their neighbours.
Nothing here needs torch, so that an HTTP process can check an upload without loading it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgn.defects import neighbours_of_defects
from scgn.noise import NoiseModel
from scgn.references import (
    Array,
    CalibrationError,
    Floats,
    GainConvention,
    checked_noise,
    common_shape,
    defects_of,
    finite,
    gain_factor,
    read_npy,
)

__all__ = [
    "FORMAT",
    "Calibration",
    "CalibrationError",
    "GainConvention",
    "build_calibration",
    "load_calibration",
    "neighbours_of_defects",
    "read_npy",
    "save_calibration",
]

FORMAT = "scgn-calibration-1"
MASKED_MAX = 0.5  # more is a mask the wrong way round
PARTS = ("dark", "gain", "mask")
LAGS = "noise_autocorrelation"


@dataclass(frozen=True, eq=False)
class Calibration:
    """References of one camera, all (rows, columns), and its noise.

    dark: float32 counts, or None for zero; gain: float32, to MULTIPLY with, or None for one;
    mask: True where a pixel is defective; id: 12 hex digits of the content's SHA-256; noise: of
    frames corrected with these, or None where it was not measured.
    """

    shape: tuple[int, int]
    dark: Floats | None
    gain: Floats | None
    mask: NDArray[np.bool_]
    id: str
    noise: NoiseModel | None = None

    @property
    def masked(self) -> int:
        """Number of defective pixels."""
        return int(self.mask.sum())


def build_calibration(
    dark: Array | None = None,
    gain: Array | None = None,
    mask: Array | None = None,
    gain_convention: GainConvention | None = None,
    noise: NoiseModel | None = None,
) -> Calibration:
    """A checked calibration from whatever references there are; CalibrationError otherwise.

    gain_convention: how `gain` is meant; needed with a gain because both are in use and a wrong
    guess squares the fixed pattern. A pixel whose gain is 0 is dead and joins the mask. Noise alone
    comes with a mask of zeros, which tells the shape.
    """
    given = {k: v for k, v in zip(PARTS, (dark, gain, mask), strict=True) if v is not None}
    if not given:
        raise CalibrationError("calibration", "expected at least one of dark, gain, mask, got none")
    shape = common_shape(given)
    bad = np.zeros(shape, bool) if mask is None else defects_of(mask)
    factor = None if gain is None else gain_factor(gain, gain_convention, bad)
    level = None if dark is None else finite("dark", dark, bad)
    if bad.mean() > MASKED_MAX:
        text = f"expected at most {MASKED_MAX:.0%} masked (1 is defective), got {bad.mean():.1%}"
        raise CalibrationError("mask", text)
    known = None if noise is None else checked_noise(noise)
    return Calibration(shape, level, factor, bad, _content_id(level, factor, bad, known), known)


def _content_id(
    dark: Floats | None, gain: Floats | None, mask: NDArray[np.bool_], noise: NoiseModel | None
) -> str:
    digest = hashlib.sha256(f"{FORMAT} {mask.shape}".encode())
    for name, array in zip(PARTS, (dark, gain, mask), strict=True):
        if array is not None:
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    if noise is not None:  # ids without noise stay what they were before noise was known
        digest.update(json.dumps(_scalars(noise), sort_keys=True).encode())
        digest.update(np.ascontiguousarray(noise.autocorrelation).tobytes())
    return digest.hexdigest()[:12]


def _scalars(noise: NoiseModel) -> dict[str, Any]:
    return {k: v for k, v in vars(noise).items() if k != "autocorrelation"}


def save_calibration(path: Path, calibration: Calibration) -> None:
    """One .npz: a JSON header and the arrays, no pickle."""
    arrays: dict[str, Any] = {"mask": calibration.mask}
    arrays |= {k: v for k in ("dark", "gain") if (v := getattr(calibration, k)) is not None}
    header: dict[str, Any] = {"format": FORMAT, "id": calibration.id}
    if calibration.noise is not None:
        header["noise"] = _scalars(calibration.noise)
        arrays[LAGS] = calibration.noise.autocorrelation
    with path.open("wb") as file:
        np.savez_compressed(file, header=np.array(json.dumps(header)), **arrays)


def _words(error: Exception) -> str:
    """An error without the path that operating system errors carry."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def load_calibration(path: Path) -> Calibration:
    """Read what `save_calibration` wrote; CalibrationError when it is not what its id says."""
    header, arrays = _contents(path)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise CalibrationError("calibration", f"expected format {FORMAT}, got {header}")
    convention: GainConvention | None = "multiply" if "gain" in arrays else None
    lags = arrays.pop(LAGS, None)
    noise = None if lags is None else _noise(header.get("noise"), lags)
    calibration = build_calibration(**arrays, gain_convention=convention, noise=noise)
    if calibration.id != header.get("id"):
        raise CalibrationError("calibration", f"{path.name} does not hold what its id says")
    return calibration


def _contents(path: Path) -> tuple[Any, dict[str, Array]]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            names = [name for name in (*PARTS, LAGS) if name in file.files]
            return json.loads(str(file["header"])), {name: _array(file[name]) for name in names}
    except Exception as error:  # numpy, zipfile and zlib raise a dozen kinds on damaged bytes
        got = f"{path.name} cannot be read: {_words(error)}"
        raise CalibrationError("calibration", got) from error


def _array(member: Any) -> Array:
    if not isinstance(member, np.ndarray):  # numpy hands out what is no .npy as bytes
        raise ValueError("a part of it is no array")
    return member


def _noise(scalars: Any, lags: Array) -> NoiseModel:
    try:
        return NoiseModel(**scalars, autocorrelation=lags)
    except TypeError as error:
        raise CalibrationError("noise", f"expected a noise model, got {scalars}") from error


def load_noisy_calibration(path: Path) -> Calibration:
    """A calibration that can stand for a detector; CalibrationError when its noise or gain is not
    known: without counts per electron no scene can be exposed.
    """
    calibration = load_calibration(path)
    if calibration.noise is None:
        got = f"expected a calibration with noise, {path.name} has references alone"
        raise CalibrationError("noise", f"{got}: make one with `scgn calibrate`")
    if calibration.noise.gain_adu_per_e <= 0:
        got = f"expected a measured gain, {path.name} has none"
        raise CalibrationError("noise", f"{got}: use flats, or a series with contrast")
    return calibration
