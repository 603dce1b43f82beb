"""Wire messages for the fuzzer: seeds, lies in their fields, and changed bytes.

A seed file holds a message's parts one after the other, each after its length (uint16, little
endian): any bytes whatever are then some message, which is what a coverage-guided fuzzer needs.
"""

from __future__ import annotations

import copy
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack

from .mutation import mutated

CORPUS = Path(__file__).parent / "corpus" / "wire"
KINDS = ("ingest", "published", "latest")
PARTS_MAX = 8
PLACE = "<here>"  # of a value that msgpack would not pack
KEYS = (
    "v", "type", "source", "series", "frame", "shape", "dtype", "t_acquired_ns", "exposure_ms",
    "pixel_size_nm", "frames", "user", "channels", "display", "t_received_ns", "t_published_ns",
    "latency_ms", "calibration", "model", "engine", "lost", "ledger", "reason", "name", "averaged",
    "drift_px", "drift_nm_s", "moving", "quality", "dose_e_per_px",
)  # fmt: skip
LIES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 3, 63, 64, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1,
    -(2**63), 0.0, -0.0, 1.5, 1e308, 5e-324, float("nan"), float("inf"), float("-inf"), "", "1",
    "cam", "a" * 64, "a" * 65, "é", "\x00", "../..", "%s%n{0}", b"", b"cam", b"\xff" * 70, "start",
    "frame", "end", "heartbeat", "<u2", "|u1", ">u2", "<f4", "<f8", "|O8", "<M8[ns]", "u1,u1", [],
    {}, [1], [1, 1], [2, 3], [3, 2], [0, 0], [-1, 4], [1.0, 2.0], [True, True], [2**32, 2**32],
    [2**63, 2**63], [2**64 - 1, 1], [4, 4, 4], [[1, 1]], {"a": 1}, {"a": {"b": [None] * 40}},
    {"frame": 1, "shown": "single", "gain": 0.5, "gain_error": 1, "others": {"mean": [1, None]}},
    {"x": "y" * 4100}, [{}], [{"name": "denoised"}], [[0.0, 1.0]], "x" * 20_000,
    msgpack.ExtType(5, b"abc"), msgpack.Timestamp(0, 1),
)  # fmt: skip


def parts_of(content: bytes) -> list[bytes]:
    """The parts that a seed file's bytes stand for; never none."""
    parts, at = [], 0
    while at + 2 <= len(content) and len(parts) < PARTS_MAX:
        (length,) = struct.unpack_from("<H", content, at)
        parts.append(content[at + 2 : at + 2 + length])
        at += 2 + length
    return parts or [content]


def content_of(parts: list[bytes]) -> bytes:
    """A seed file's bytes for these parts."""
    return b"".join(struct.pack("<H", len(part)) + part for part in parts)


def seeds(kind: str) -> list[list[bytes]]:
    """Messages of one kind that are right, from the corpus."""
    return [parts_of(path.read_bytes()) for path in sorted((CORPUS / kind).glob("*.bin"))]


class Messages:
    """Endless messages of a kind, `ingest`, `published` or `latest`, from a seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self._seeds = {kind: seeds(kind) for kind in KINDS}
        self._next = dict.fromkeys("abcde", 0)  # series -> index of its next frame
        self._ways: tuple[Callable[[list[bytes]], list[bytes]], ...] = (
            self._lying, self._lying, self._bytes, self._bytes, self._parts, self._hostile,
            self._deep,
        )  # fmt: skip

    def next(self, kind: str) -> list[bytes]:
        """One message: one in eight is right, so that there is a state to change."""
        seed = self.chance.choice(self._seeds[kind])
        if kind == "latest":
            return [self._one_part(seed[0])]
        if self.chance.random() < 0.125:
            return self._sound(seed)
        return self.chance.choice(self._ways)(list(seed))

    def _sound(self, seed: list[bytes]) -> list[bytes]:
        """A right message that goes on with one of a few series."""
        header = msgpack.unpackb(seed[0])
        header["series"] = series = self.chance.choice("abcde")
        if header["type"] == "frame":
            header["frame"] = self._next[series]
            self._next[series] += self.chance.choice((1, 1, 1, 2, 0))
        if header["type"] in ("start", "end"):
            self._next[series] = 0
        return [msgpack.packb(header), *seed[1:]]

    def _lying(self, parts: list[bytes]) -> list[bytes]:
        """Right msgpack with wrong values, keys that are gone, and keys that nobody asked for."""
        header = msgpack.unpackb(parts[0])
        for _ in range(1 + self.chance.randrange(3)):
            place = header
            channels = header.get("channels")
            if isinstance(channels, list) and channels and self.chance.random() < 0.4:
                place = self.chance.choice(channels)
            if not isinstance(place, dict):
                continue
            key = self.chance.choice(KEYS)
            if self.chance.random() < 0.2:
                place.pop(key, None)
            else:
                place[key] = copy.deepcopy(self.chance.choice(LIES))  # the next lie may go inside
        return [msgpack.packb(header), *parts[1:]]

    def _deep(self, parts: list[bytes]) -> list[bytes]:
        """A value that is nested: more than repr bears, or msgpack packs, or msgpack unpacks."""
        header = msgpack.unpackb(parts[0])
        header[self.chance.choice(KEYS)] = PLACE
        levels = self.chance.choice((5, 31, 32, 33, 300, 505, 511, 512, 700, 1020, 1030))
        opening = self.chance.choice((b"\x91", b"\x81\xa1v"))
        deep = opening * levels + self.chance.choice((b"\xc0", b"\x01", b"\x90", b""))
        return [msgpack.packb(header).replace(msgpack.packb(PLACE), deep), *parts[1:]]

    def _bytes(self, parts: list[bytes]) -> list[bytes]:
        """Changed bytes in one part."""
        at = 0 if self.chance.random() < 0.8 else self.chance.randrange(len(parts))
        other = self.chance.choice(self._seeds["published"])[0]
        parts[at] = mutated(self.chance, parts[at], other)
        return parts

    def _parts(self, parts: list[bytes]) -> list[bytes]:
        """Parts that are missing, too many, too long, too short or in another order."""
        way = self.chance.randrange(6)
        last = parts[-1]
        if way == 0:
            return parts[:-1] or [b""]
        if way == 1:
            return [*parts, self.chance.randbytes(self.chance.randrange(40))]
        if way == 2:
            return [*parts[:-1], last[: self.chance.randrange(len(last) + 1)]]
        if way == 3:
            return [*parts[:-1], last + b"\0"]
        if way == 4:
            return parts[::-1]
        return [b"", *parts]

    def _hostile(self, parts: list[bytes]) -> list[bytes]:
        """Headers that were made to hurt."""
        return [self.chance.choice(HOSTILE)(self.chance), *parts[1:]]

    def _one_part(self, seed: bytes) -> bytes:
        """A message of `latest`: changed bytes, or a changed header that is told the right way."""
        if self.chance.random() < 0.5:
            return mutated(self.chance, seed, seed)
        (length,) = struct.unpack_from("<I", seed)
        header, pixels = seed[4 : 4 + length], seed[4 + length :]
        ways = (self._lying, self._bytes, self._hostile, self._deep)
        header = self.chance.choice(ways)([header])[0]
        return struct.pack("<I", len(header)) + header + pixels


def _nested(opening: bytes) -> Callable[[random.Random], bytes]:
    return lambda chance: opening * chance.choice((10, 500, 1024, 5000, 16_000)) + b"\xc0"


def _keys(chance: random.Random) -> bytes:
    """Thousands of keys."""
    count = chance.choice((100, 4096, 4097, 10_000))
    packed: bytes = msgpack.packb({"v": 1, **{f"{n:x}": 0 for n in range(count)}})
    return packed


def _claim(chance: random.Random) -> bytes:
    """Claims to go on for gigabytes."""
    heads = (b"\xdf", b"\xdd", b"\xdb", b"\xc6", b"\xc9")
    return chance.choice(heads) + b"\xff\xff\xff\xff" + chance.randbytes(chance.randrange(20))


def _twice(chance: random.Random) -> bytes:
    """A map with the same key again and again, or keys that are no text."""
    key = chance.choice((b"\xa1v", b"\x01", b"\xc0", b"\xc4\x01v", b"\x91\x01", b"\xa2\xff\xfe"))
    return bytes([0x80 + 15]) + 15 * (key + b"\x01")


def _long(chance: random.Random) -> bytes:
    """On both sides of the longest header that is taken."""
    header: bytes = msgpack.packb({"v": 1, "type": "frame", "user": {"x": ""}})
    return header + bytes(16_384 - len(header) + chance.randrange(-3, 4))


HOSTILE: tuple[Callable[[random.Random], bytes], ...] = (
    _nested(b"\x91"), _nested(b"\x81\xa1v"), _nested(b"\x81\xa1v\x91"), _keys, _claim, _twice,
    _long, lambda chance: chance.randbytes(chance.randrange(300)),
)  # fmt: skip
