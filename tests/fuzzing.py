"""Malformed uploads made of valid ones, the same for the same seed."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from uploads import WRITERS, npy, npz

from scgn.calibration import build_calibration, save_calibration
from scgn.noise import NoiseModel

SHAPE = (20, 24)
PARTS = ("dark", "gain", "mask", "noise", "calibration", "frames")
EXTREMES = (0, 1, -1, 2**31 - 1, -(2**31), 2**15, 2**30, 0x7FFF, 0xFF)

File = tuple[str, str, bytes]  # part, name, content
Mutation = Callable[[random.Random, bytes], bytes]


@dataclass(frozen=True)
class Upload:
    """A form, and in words how it came about."""

    how: str
    files: list[File]
    query: dict[str, Any] = field(default_factory=dict)


@cache
def valid() -> dict[str, File]:
    """Files that are accepted, by format; `noise` and `whole` beside."""
    rng = np.random.default_rng(5)
    stack = rng.normal(100, 3, (5, *SHAPE)).round().astype(np.uint16)
    found = {
        f"{name} {kind}": (name, f"{name}{ending}", write(array))
        for kind, (ending, write) in WRITERS.items()
        for name, array in {
            "dark": stack, "gain": rng.uniform(0.9, 1.1, SHAPE).astype(np.float32),
            "mask": (rng.random(SHAPE) < 0.01).astype(np.int16),
        }.items()
    }  # fmt: skip
    noise = {"gain_adu_per_e": 2.0, "read_noise_adu": 3.0, "autocorrelation": [[1.0]]}
    found["noise"] = ("noise", "noise.json", json.dumps(noise).encode())
    with TemporaryDirectory() as folder:
        made = build_calibration(stack[0], noise=NoiseModel(2.0, 3.0))
        save_calibration(path := Path(folder) / "c.npz", made)
        found["whole"] = ("calibration", "c.npz", path.read_bytes())
    return found


# Bytes.


def flipped(rng: random.Random, content: bytes) -> bytes:
    """Some bits, mostly near the beginning, where headers are."""
    changed = bytearray(content)
    end = len(changed) if rng.random() < 0.3 else min(len(changed), 700)
    for _ in range(rng.choice((1, 4, 16, 64))):
        changed[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncated(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def overwritten(rng: random.Random, content: bytes) -> bytes:
    """Numbers of a header that become extreme."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 2, 5))):
        size = rng.choice((2, 4))
        place = rng.randrange(0, max(1, min(len(changed), 1024) - size), 2)
        value = rng.choice(EXTREMES) & (2 ** (8 * size) - 1)
        changed[place : place + size] = value.to_bytes(size, rng.choice(("little", "big")))
    return bytes(changed)


def from_the_end(rng: random.Random, content: bytes) -> bytes:
    """Where zip and HDF5 keep their directories."""
    return overwritten(rng, content[::-1])[::-1]


def doubled(rng: random.Random, content: bytes) -> bytes:
    """A piece comes twice."""
    first, last = sorted(rng.randrange(len(content)) for _ in range(2))
    return content[:last] + content[first:]


def blanked(rng: random.Random, content: bytes) -> bytes:
    """A piece is 0, or all ones."""
    first, last = sorted(rng.randrange(len(content)) for _ in range(2))
    return content[:first] + rng.choice((b"\0", b"\xff")) * (last - first) + content[last:]


def digits(rng: random.Random, content: bytes) -> bytes:
    """Numbers that are written in words become others."""
    changed = bytearray(content)
    places = [place for place, byte in enumerate(changed[:400]) if chr(byte).isdigit()]
    for place in rng.sample(places, min(len(places), 2)):
        changed[place] = rng.choice(b"0123456789-.e")
    return bytes(changed)


MUTATIONS: tuple[Mutation, ...] = (
    flipped, truncated, overwritten, from_the_end, doubled, blanked, digits,
)  # fmt: skip


# Whole forms.


def uploads(seed: int) -> Iterator[Upload]:
    """Malformed forms without end: damaged files, wrong numbers in whole files, wrong forms.

    Some are none after all: where a bit of a pixel is flipped, it is another valid pixel.
    """
    rng = random.Random(seed)
    kinds = [_damaged] * 7 + [_wrong_numbers] * 2 + [_wrong_form]
    while True:
        yield rng.choice(kinds)(rng)


def _damaged(rng: random.Random) -> Upload:
    name = rng.choice(list(valid()))
    part, called, content = valid()[name]
    mutation = rng.choice(MUTATIONS)
    changed = mutation(rng, content)
    if changed == content:
        changed = truncated(rng, content)
    return Upload(f"{name}, {mutation.__name__}", [(part, called, changed)], _query(part))


def _query(part: str) -> dict[str, Any]:
    return {"gain_convention": "multiply"} if part == "gain" else {}


def _wrong_numbers(rng: random.Random) -> Upload:
    """A whole file of a frame that is none."""
    name, array = rng.choice(list(_wrong_arrays().items()))
    kind = rng.choice(("npy", "npz", "tif", "h5"))
    ending, write = WRITERS[kind]
    try:
        content = write(array)
    except (ValueError, TypeError, LookupError, struct.error):
        kind, content = "npy", npy(array)
    part = rng.choice(("dark", "gain"))
    return Upload(f"{part} {kind}, {name}", [(part, f"a{ending}", content)], _query(part))


@cache
def _wrong_arrays() -> dict[str, Any]:
    one, nan = np.ones(SHAPE, np.float32), np.ones(SHAPE, np.float32)
    nan[3, 4] = np.nan
    return {
        "one NaN": nan, "infinite": one * np.inf, "all NaN": one * np.nan, "long": np.ones(9),
        "deep": np.ones((2, 2, 3, 4)), "wide": np.ones((1, 9000), np.uint8),
        "complex": one.astype(complex), "words": np.full(SHAPE, "a"), "one number": np.array(3),
        "beyond float32": one.astype(np.float64) * 1e300, "times": one.astype("M8[s]"),
    }  # fmt: skip


def _wrong_form(rng: random.Random) -> Upload:
    files = [valid()[name] for name in rng.sample(list(valid()), 2)]
    part, called, content = files[0]
    return rng.choice((
        Upload("the same part twice", [(part, called, content)] * 2, _query("gain")),
        Upload("a part with another's name", [("gain", "a", valid()["noise"][2])], _query("gain")),
        Upload("an unknown part", [("flat", called, content)]),
        Upload("no part", []),
        Upload("an empty file", [(part, called, b"")], _query("gain")),
        Upload("a gain without its convention", [valid()["gain npy"]]),
        Upload("a wrong query", [valid()["dark npy"]], {"orientation": "rotate-45"}),
        Upload("an unknown query", [valid()["dark npy"]], {"orientated": "as-is"}),
        Upload("two shapes", [valid()["dark tif"], ("mask", "m", npy(np.zeros((9, 9), bool)))]),
        Upload("half masked", [("mask", "m", npz(m=np.arange(480).reshape(SHAPE) > 3))]),
        Upload("whole and part", [valid()["whole"], valid()["dark mrc"]]),
        Upload("a name that climbs", [("../dark", "../../a.npy", content)]),
    ))  # fmt: skip
