"""A published frame as a browser gets it: 16-bit pixels to look at, exact ones to keep.

A binary message is a 4-byte little-endian header length, the header as JSON padded with spaces so
that the pixels start at a multiple of 8, then each channel's pixels back to back. Above PART_BYTES
of pixels it comes in `parts`: the header with the first of them, then messages of pixels alone.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgn_client.messages import Array, PublishedFrame

U16_MAX = 65535
PART_BYTES = 4 * 2**20  # one write of more would keep a health probe waiting
EXACT_INTEGER_MAX = 2**53 - 1  # what a browser's numbers hold
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Pixels16:
    """One channel in 16 bits: count = offset + scale * pixel.

    pixels: (rows, columns) little-endian uint16; saturated: pixels at the original dtype's largest
    value, None for dtypes that have none; nonfinite: NaN and infinite ones, which are 0 here.
    """

    pixels: NDArray[np.uint16]
    scale: float = 1.0
    offset: float = 0.0
    saturated: int | None = None
    nonfinite: int = 0


def to_16_bit(counts: Array) -> Pixels16:
    """A channel of any dtype of the wire in 16 bits.

    Whole numbers that span at most 65,535 keep every count (uint8 and uint16 with offset 0); all
    else is linear between the frame's own finite extremes, rounded to the nearest step.
    """
    if counts.dtype.kind not in "iu":
        return _floats(counts)
    saturated = int(np.count_nonzero(counts == np.iinfo(counts.dtype).max))
    if counts.dtype.kind == "u" and counts.dtype.itemsize <= 2:
        return Pixels16(counts.astype("<u2", copy=False), saturated=saturated)
    low, high = int(counts.min()), int(counts.max())
    if high - low <= U16_MAX:
        pixels = (counts.astype(np.int64) - low).astype("<u2")
        return Pixels16(pixels, 1.0, float(low), saturated)
    scale = (high - low) / U16_MAX
    return Pixels16(_steps(counts.astype(np.float64), low, scale), scale, float(low), saturated)


def _floats(counts: Array) -> Pixels16:
    values = counts if counts.dtype.itemsize >= 4 else counts.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    nonfinite = 0
    if not (math.isfinite(low) and math.isfinite(high)):
        finite = np.isfinite(values)
        nonfinite = int(finite.size - np.count_nonzero(finite))
        low = float(values.min(where=finite, initial=np.inf)) if finite.any() else 0.0
        high = float(values.max(where=finite, initial=-np.inf)) if finite.any() else 0.0
        values = np.where(finite, values, values.dtype.type(low))
    if low == high:
        return Pixels16(np.zeros(counts.shape, "<u2"), 1.0, low, None, nonfinite)
    scale = (high - low) / U16_MAX
    if not 1e-30 < scale < 1e30:  # beyond what single precision can divide by
        values = values.astype(np.float64)
    pixels = _steps(values, low, scale)
    if nonfinite:
        pixels[~finite] = 0
    return Pixels16(pixels, scale, low, None, nonfinite)


def _steps(values: Array, low: float, scale: float) -> NDArray[np.uint16]:
    """Rounded (values - low) / scale, in one array of the values' own precision."""
    steps = values - values.dtype.type(low)
    steps *= values.dtype.type(1 / scale)
    steps += values.dtype.type(0.5)
    np.minimum(steps, U16_MAX, out=steps)
    pixels: NDArray[np.uint16] = steps.astype("<u2")
    return pixels


def browser_message(frame: PublishedFrame) -> list[bytes]:
    """What is painted: every channel in 16 bits."""
    channels = {name: to_16_bit(counts) for name, counts in frame.channels.items()}
    described = [
        {
            **_described(name, frame.channels[name]),
            "scale": channel.scale, "offset": channel.offset,
            "saturated": channel.saturated, "nonfinite": channel.nonfinite,
        }
        for name, channel in channels.items()
    ]  # fmt: skip
    header = {"type": "frame", **_told(frame), "channels": described}
    return _message(header, [channel.pixels for channel in channels.values()])


def exact_message(frame: PublishedFrame) -> list[bytes]:
    """What is kept: every channel with the dtype and the bytes it was published with."""
    described = [_described(name, counts) for name, counts in frame.channels.items()]
    header = {"type": "exact", **_told(frame), "channels": described}
    return _message(header, list(frame.channels.values()))


def _described(name: str, counts: Array) -> dict[str, Any]:
    return {"name": name, "dtype": counts.dtype.str, "shape": list(counts.shape)}


def _told(frame: PublishedFrame) -> dict[str, Any]:
    """The published header but for `user`; nanoseconds as text, which no browser rounds."""
    return {
        "source": frame.source, "series": frame.series, "frame": number(frame.frame),
        "display": [level if math.isfinite(level) else None for level in frame.display],
        "t_acquired_ns": None if frame.t_acquired_ns is None else str(frame.t_acquired_ns),
        "t_received_ns": str(frame.t_received_ns), "t_published_ns": str(frame.t_published_ns),
        "latency_ms": frame.latency_ms, "calibration": frame.calibration, "model": frame.model,
        "engine": frame.engine, "lost": dict(frame.lost), "averaged": frame.averaged,
        "drift_px": frame.drift_px, "drift_nm_s": frame.drift_nm_s, "moving": frame.moving,
        "quality": None if frame.quality is None else _quality(frame.quality),
        "dose_e_per_px": frame.dose_e_per_px,
    }  # fmt: skip


def _quality(quality: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that the page shows: others may hold what JSON does not carry."""
    keys = ("shown", "gain", "gain_error", "upsnr_db", "error_db")
    return {"frame": number(quality["frame"]), **{key: quality.get(key) for key in keys}}


def number(value: int) -> int | str:
    """A uint64 for JSON: as text where a browser would round it."""
    return value if value <= EXACT_INTEGER_MAX else str(value)


def _message(header: Mapping[str, Any], arrays: Sequence[Array]) -> list[bytes]:
    views = [np.ascontiguousarray(array).data.cast("B") for array in arrays]
    size = sum(map(len, views))
    pieces = [b"".join(views)] if size <= PART_BYTES else [p for view in views for p in _cut(view)]
    sizes = {"parts": len(pieces), "bytes": size}
    text = json.dumps({**header, **sizes}, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-(_LENGTH.size + len(text)) % 8)
    return [b"".join((_LENGTH.pack(len(text)), text, pieces[0])), *pieces[1:]]


def _cut(view: memoryview) -> list[bytes]:
    return [bytes(view[at : at + PART_BYTES]) for at in range(0, len(view), PART_BYTES)]
