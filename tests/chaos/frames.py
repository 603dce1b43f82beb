"""Frames that say which they are, so that a lost, mixed or damaged one is seen."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHAPE = (32, 48)
# What a test-only processor does at a frame with this in pixel [0, 3] (faulty_service.py).
FAIL, LOSE_DEVICE, STEP_CLOCK, SLEEP = 0xE001, 0xE002, 0xE003, 0xE004

Array = NDArray[Any]
_NOISE = np.random.default_rng(1).integers(90, 130, SHAPE).astype("<u2")


def frame_of(source: str, series: str, index: int, order: int = 0) -> Array:
    """Frame `index` of a camera, (rows, columns) uint16; order: for the test-only processor."""
    frame = _NOISE.copy()
    frame[0, :4] = _mark(source, series, index, order)
    return frame


def is_whole(source: str, series: str, index: int, raw: Array | None) -> bool:
    """Whether these are the pixels of `frame_of`; True for frames that are none of ours."""
    if raw is None or raw.shape != SHAPE or raw.dtype != _NOISE.dtype:
        return True
    same = bool((raw[1:] == _NOISE[1:]).all())
    return same and tuple(raw[0, :3]) == _mark(source, series, index, 0)[:3]


def _mark(source: str, series: str, index: int, order: int) -> tuple[int, int, int, int]:
    name = zlib.crc32(f"{source}/{series}".encode()) & 0xFFFF
    return index & 0xFFFF, index >> 16 & 0xFFFF, name, order
