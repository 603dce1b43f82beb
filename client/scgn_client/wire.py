"""The wire protocol, version 1: messages to bytes and back. No other module knows the keys.

docs/wire.md is the reference. Anything that breaks it raises WireError with the reason under which
the service counts it; nothing in a message can make these functions raise anything else.
"""

from __future__ import annotations

import math
import re
import reprlib
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NoReturn

import msgpack
import numpy as np

from scgn_client.errors import WireError
from scgn_client.messages import (
    Array,
    End,
    FrameHeader,
    Heartbeat,
    Ingest,
    Published,
    PublishedFrame,
    Start,
)

VERSION = 1
HEADER_BYTES_MAX = 16 * 1024
SAID_WHEN_NIL = (
    "calibration", "series", "drift_px", "drift_nm_s", "quality", "dose_e_per_px",
)  # fmt: skip
USER_BYTES_MAX = 4 * 1024
USER_LEVELS_MAX = 32  # far below what msgpack can still pack again: it goes out as it came
QUALITY_LEVELS_MAX = 8
UINT64_MAX = 2**64 - 1
DTYPES = ("|u1", "<u2", ">u2", "<i2", "<u4", "<i4", "<f4")
PUBLISHED_DTYPES = (*DTYPES, "<f2")  # a service may be set to publish half precision

# Every reason a message can be rejected for; counters and docs list the same words.
REASONS = (
    "parts", "header_size", "header_format", "version", "type", "source", "series", "frame",
    "shape", "dtype", "frame_size", "payload_size", "field", "user", "duplicate", "ended",
)  # fmt: skip

# What a viewer may count on in a published frame.
_PUBLISHED: dict[str, tuple[type, ...]] = {
    "source": (str,), "series": (str,), "frame": (int,), "channels": (list,), "display": (list,),
    "t_received_ns": (int,), "t_published_ns": (int,), "latency_ms": (int, float), "model": (str,),
    "engine": (str,), "calibration": (str, type(None)), "lost": (dict,),
    "t_acquired_ns": (int, type(None)), "user": (dict, type(None)),
    # Of a service that knows the stream; frames of one that does not lack them.
    "averaged": (int, float), "moving": (int, float), "dose_e_per_px": (int, float, type(None)),
    "drift_px": (list, type(None)), "drift_nm_s": (list, type(None)),
    "quality": (dict, type(None)),
}  # fmt: skip

Buffer = bytes | bytearray | memoryview
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_UNPACK_LIMITS = {
    "max_map_len": 4096, "max_array_len": 4096, "max_str_len": HEADER_BYTES_MAX,
    "max_bin_len": HEADER_BYTES_MAX, "max_ext_len": HEADER_BYTES_MAX,
}  # fmt: skip
_LENGTH = struct.Struct("<I")
_SHOWN = reprlib.Repr()  # repr() itself fails on maps that a sender has nested 500 times


def pack(header: Mapping[str, Any]) -> bytes:
    """A header as msgpack; keys whose value is None are left out, but for SAID_WHEN_NIL."""
    kept = {k: v for k, v in header.items() if v is not None or k in SAID_WHEN_NIL}
    packed: bytes = msgpack.packb({"v": VERSION, **kept})
    return packed


def _reject(reason: str, message: str) -> NoReturn:
    raise WireError(reason, message)


def unpack(header: Buffer) -> dict[str, Any]:
    """A header as a map with `v` checked; WireError `header_size`, `header_format`, `version`."""
    if len(header) > HEADER_BYTES_MAX:
        _reject("header_size", f"expected at most {HEADER_BYTES_MAX} bytes, got {len(header)}")
    try:
        content = msgpack.unpackb(header, **_UNPACK_LIMITS)
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        _reject("header_format", f"expected a msgpack map, got {type(error).__name__}: {error}")
    if type(content) is not dict:
        _reject("header_format", f"expected a msgpack map, got {type(content).__name__}")
    version = content.get("v")
    if type(version) is not int or version != VERSION:
        _reject("version", f"expected v = {VERSION}, got {_short(version)}")
    return content


def _short(value: object) -> str:
    text = _SHOWN.repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _name(content: dict[str, Any], key: str) -> str:
    value = content.get(key)
    if type(value) is not str or not _NAME.fullmatch(value):
        _reject(key, f"expected {key} of 1..64 characters A-Za-z0-9._-, got {_short(value)}")
    return value


def _uint(content: dict[str, Any], key: str, reason: str) -> int:
    value = content.get(key)
    if type(value) is not int or not 0 <= value <= UINT64_MAX:
        _reject(reason, f"expected {key} as uint64, got {_short(value)}")
    return value


def _optional_uint(content: dict[str, Any], key: str) -> int | None:
    return None if content.get(key) is None else _uint(content, key, "field")


def _optional_positive(content: dict[str, Any], key: str) -> float | None:
    value = content.get(key)
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 < value < float("inf"):
        _reject("field", f"expected {key} as a positive number, got {_short(value)}")
    return float(value)


def _map(content: dict[str, Any], key: str, reason: str = "field") -> dict[str, Any] | None:
    value = content.get(key)
    if value is not None and type(value) is not dict:
        _reject(reason, f"expected {key} as a map, got {_short(value)}")
    return value


def _user(content: dict[str, Any]) -> dict[str, Any] | None:
    value = _map(content, "user", "user")
    if value is None:
        return None
    if _deeper(value, USER_LEVELS_MAX):
        _reject("user", f"expected user of at most {USER_LEVELS_MAX} levels, got more")
    size = len(msgpack.packb(value))
    if size > USER_BYTES_MAX:
        _reject("user", f"expected user of at most {USER_BYTES_MAX} bytes, got {size}")
    return value


def _deeper(value: object, levels: int) -> bool:
    """Whether maps and lists lie in each other more than so many times."""
    if not isinstance(value, (dict, list)):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(item, levels - 1) for item in inner)


def _shape(value: object) -> tuple[int, int]:
    if type(value) is list and len(value) == 2 and all(type(n) is int and n > 0 for n in value):
        return value[0], value[1]
    _reject("shape", f"expected shape as [rows, columns], both positive, got {_short(value)}")


def decode_ingest(header: Buffer) -> Ingest:
    """Part 0 of a camera's message as one of the four types; WireError says why it is not."""
    content = unpack(header)
    kind = content.get("type")
    if kind not in ("start", "frame", "end", "heartbeat"):
        _reject("type", f"expected start, frame, end or heartbeat, got {_short(kind)}")
    source, series = _name(content, "source"), _name(content, "series")
    if kind == "frame":
        return _frame_header(content, source, series)
    if kind == "start":
        exposure, pixel = (_optional_positive(content, k) for k in ("exposure_ms", "pixel_size_nm"))
        return Start(source, series, exposure, pixel, _user(content))
    if kind == "end":
        return End(source, series, _optional_uint(content, "frames"))
    return Heartbeat(source, series, _optional_uint(content, "frame"))


def _frame_header(content: dict[str, Any], source: str, series: str) -> FrameHeader:
    frame = _uint(content, "frame", "frame")
    if frame == UINT64_MAX:
        _reject("frame", "expected frame below 2^64 - 1, so that the count of frames is a uint64")
    shape = _shape(content.get("shape"))
    dtype = content.get("dtype")
    if type(dtype) is not str or dtype not in DTYPES:
        _reject("dtype", f"expected one of {' '.join(DTYPES)}, got {_short(dtype)}")
    acquired = _optional_uint(content, "t_acquired_ns")
    return FrameHeader(source, series, frame, shape, dtype, acquired, _user(content))


def encode_ingest(message: Ingest) -> bytes:
    """Part 0 of a camera's message; checked, so that a sender meets its own mistakes."""
    kinds: dict[type, str] = {
        Start: "start", FrameHeader: "frame", End: "end", Heartbeat: "heartbeat",
    }  # fmt: skip
    content = {name: getattr(message, name) for name in message.__slots__}
    header = pack({"type": kinds[type(message)], **content})
    decode_ingest(header)
    return header


def frame_header(
    frame: Array, source: str, series: str, index: int, **optional: Any
) -> FrameHeader:
    """Header of a 2-D array; WireError for a shape or dtype that the wire does not carry."""
    if frame.ndim != 2:
        _reject("shape", f"expected a 2-D frame (rows, columns), got shape {frame.shape}")
    if frame.dtype.str not in DTYPES:
        _reject("dtype", f"expected one of {' '.join(DTYPES)}, got {frame.dtype.str}")
    rows, columns = frame.shape
    return FrameHeader(source, series, index, (rows, columns), frame.dtype.str, **optional)


def pixels(frame: Array) -> memoryview:
    """The bytes of an array in C order, without a copy when it already is."""
    return np.ascontiguousarray(frame).data.cast("B")


Kind = Literal["start", "end", "heartbeat"]


def encode_event(kind: Kind, source: str, series: str | None, **content: Any) -> list[bytes]:
    """Parts of a published start, end or heartbeat; the source is the topic."""
    return [source.encode(), pack({"type": kind, "source": source, "series": series, **content})]


def encode_published(header: Mapping[str, Any], channels: Mapping[str, Array]) -> list[bytes]:
    """The first two parts of a published frame, source and header; each channel's pixels follow."""
    described = [
        {"name": name, "dtype": array.dtype.str, "shape": list(array.shape)}
        for name, array in channels.items()
    ]
    return [header["source"].encode(), pack({"type": "frame", **header, "channels": described})]


def join_latest(parts: Sequence[Buffer]) -> bytes:
    """The one-part form for `latest`: header length, header, pixels back to back."""
    return b"".join((_LENGTH.pack(len(parts[1])), *parts[1:]))


def split_latest(message: Buffer) -> tuple[memoryview, memoryview]:
    """Header and pixels of a one-part message; WireError `header_format` when it is cut short."""
    view, begin = memoryview(message), _LENGTH.size
    if len(view) < begin or len(view) < (end := begin + _LENGTH.unpack_from(view)[0]):
        _reject("header_format", f"expected length, header and pixels, got {len(view)} bytes")
    return view[begin:end], view[end:]


def decode_published(header: Buffer, pixels: Sequence[Buffer]) -> Published:
    """A message of the service; `pixels` is one buffer a channel, or one with all of them."""
    content = unpack(header)
    kind = content.get("type")
    try:
        if kind == "frame":
            return _published_frame(content, pixels)
        source, series = content["source"], content.get("series") or ""
        if type(source) is not str or type(series) is not str:
            _reject("field", f"expected names, got {_short(source)} and {_short(series)}")
        if kind == "start":
            sizes = {k: _optional_positive(content, k) for k in ("exposure_ms", "pixel_size_nm")}
            return Start(source, series, **sizes, user=_map(content, "user"))
        if kind in ("end", "heartbeat"):
            last, ledger = _optional_uint(content, "frame"), _map(content, "ledger")
            if kind == "heartbeat":
                return Heartbeat(source, series, last, ledger)
            return End(source, series, _optional_uint(content, "frames"), ledger, last)
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, WireError):
            raise
        _reject("field", f"published {_short(kind)} is malformed: {error!r}")
    _reject("type", f"expected start, frame, end or heartbeat, got {_short(kind)}")


def _published_frame(content: dict[str, Any], pixels: Sequence[Buffer]) -> PublishedFrame:
    fields = {k: content[k] for k in PublishedFrame.__slots__ if k in content}
    for key, value in fields.items():
        if type(value) not in _PUBLISHED[key]:
            _reject("field", f"expected {key} of another type, got {_short(value)}")
    _uint(content, "frame", "frame")
    black, white = map(float, content["display"])
    fields |= {"channels": _channels(content["channels"], pixels), "display": (black, white)}
    counts, latency = fields.get("lost", {}).values(), content["latency_ms"]
    if any(type(n) is not int or n < 0 for n in counts) or not abs(latency) < float("inf"):
        _reject("field", f"expected counts and a time, got {_short([*counts])} and {latency}")
    return PublishedFrame(**fields | _of_the_stream(content))


def _of_the_stream(content: dict[str, Any]) -> dict[str, Any]:
    """What a published frame says of the frames before it, each key checked where it is there."""
    told: dict[str, Any] = {}
    for key, least, most in (
        ("averaged", 0.0, math.inf), ("moving", 0.0, 1.0), ("dose_e_per_px", 0.0, math.inf),
    ):  # fmt: skip
        if content.get(key) is not None:
            told[key] = _finite(content, key, least, most)
    for key in ("drift_px", "drift_nm_s"):
        if content.get(key) is not None:
            told[key] = _pair(content, key)
    if content.get("quality") is not None:
        told["quality"] = _quality(content["quality"])
    return told


def _finite(
    content: dict[str, Any], key: str, least: float = -math.inf, most: float = math.inf
) -> float:
    value: Any = content.get(key)
    if type(value) not in (int, float) or not math.isfinite(value) or not least <= value <= most:
        limits = "" if least == -math.inf else f" of at least {least:g}"
        limits += "" if most == math.inf else f" and at most {most:g}"
        _reject("field", f"expected {key} as a finite number{limits}, got {_short(value)}")
    return float(value)


def _pair(content: dict[str, Any], key: str) -> tuple[float, float]:
    value = content.get(key)
    if type(value) is not list or len(value) != 2:
        _reject("field", f"expected {key} as two numbers, got {_short(value)}")
    named = {f"first of {key}": value[0], f"second of {key}": value[1]}
    first, second = (_finite(named, name) for name in named)
    return first, second


def _quality(content: dict[str, Any]) -> dict[str, Any]:
    """The map as it came, every number in it a finite one; keys that are not known stay."""
    if _deeper(content, QUALITY_LEVELS_MAX):
        _reject("field", f"expected quality of at most {QUALITY_LEVELS_MAX} levels, got more")
    _uint(content, "frame", "field")
    if type(content.get("shown")) is not str:
        _reject("field", f"expected shown as text, got {_short(content.get('shown'))}")
    for key in ("gain", "gain_error"):
        _finite(content, key)
    for key in ("upsnr_db", "error_db"):
        if content.get(key) is not None:
            _finite(content, key)
    others = _map(content, "others") or {}
    for name, gain in others.items():
        if type(name) is not str:
            _reject("field", f"expected names in others, got {_short(name)}")
        _pair({"others": gain}, "others")
    return content


def _channels(described: Sequence[Mapping[str, Any]], pixels: Sequence[Buffer]) -> dict[str, Array]:
    """Arrays over the received bytes, without a copy."""
    joined = len(pixels) == 1 and len(described) > 1
    channels: dict[str, Array] = {}
    offset = 0
    for position, channel in enumerate(described):
        rows, columns = _shape(channel["shape"])
        if channel["dtype"] not in PUBLISHED_DTYPES:
            expected, got = " ".join(PUBLISHED_DTYPES), _short(channel["dtype"])
            _reject("dtype", f"expected one of {expected}, got {got}")
        dtype = np.dtype(channel["dtype"])
        source = pixels[0 if joined else position]
        if not joined:
            offset = 0
        flat = np.frombuffer(source, dtype, rows * columns, offset)
        channels[channel["name"]] = flat.reshape(rows, columns)
        offset += flat.nbytes
    if "denoised" not in channels:
        _reject("field", f"expected a channel named denoised, got {_short(list(channels))}")
    return channels
