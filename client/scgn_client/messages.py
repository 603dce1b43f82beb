"""The messages of the protocol, as values; `wire` turns them into bytes and back."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Start:
    """A series opens. `exposure_ms` in ms, `pixel_size_nm` in nm, both optional."""

    source: str
    series: str
    exposure_ms: float | None = None
    pixel_size_nm: float | None = None
    user: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What comes before the pixels of one frame; shape is rows, columns."""

    source: str
    series: str
    frame: int
    shape: tuple[int, int]
    dtype: str
    t_acquired_ns: int | None = None
    user: Mapping[str, Any] | None = None

    @property
    def payload_bytes(self) -> int:
        """Length that the pixels must have."""
        return self.shape[0] * self.shape[1] * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class End:
    """A series closes after `frames` frames. On the way out only: its `ledger`, and `frame`, the
    last published index, None when there was none.
    """

    source: str
    series: str
    frames: int | None = None
    ledger: Mapping[str, Any] | None = None
    frame: int | None = None


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Sign of life. On the way out `frame` is the last published index, None before the first."""

    source: str
    series: str
    frame: int | None = None
    ledger: Mapping[str, Any] | None = None


Ingest = Start | FrameHeader | End | Heartbeat


@dataclass(frozen=True, slots=True)
class PublishedFrame:
    """One denoised frame as a subscriber gets it.

    channels: name -> (rows, columns) array, `denoised` first and `raw` beside it when published;
    display: black and white level of channel 0; latency_ms: received to published in the service;
    lost: reason -> frames of this series lost since the last published one.

    averaged: effective frames behind this one, 1 for this frame alone; drift_px: rows, columns per
    frame, positive towards higher indices, drift_nm_s: the same in nm/s; moving: share of pixels
    where the past was refused; dose_e_per_px: of this frame; quality: how good an EARLIER frame
    was (docs/wire.md). None where the service does not know.
    """

    source: str
    series: str
    frame: int
    channels: Mapping[str, Array]
    display: tuple[float, float]
    t_received_ns: int
    t_published_ns: int
    latency_ms: float
    model: str
    engine: str
    calibration: str | None = None
    lost: Mapping[str, int] = field(default_factory=dict)
    t_acquired_ns: int | None = None
    user: Mapping[str, Any] | None = None
    averaged: float = 1.0
    drift_px: tuple[float, float] | None = None
    drift_nm_s: tuple[float, float] | None = None
    moving: float = 0.0
    quality: Mapping[str, Any] | None = None
    dose_e_per_px: float | None = None

    @property
    def denoised(self) -> Array:
        """Channel 0, (rows, columns), in counts of the corrected frame."""
        return self.channels["denoised"]

    @property
    def raw(self) -> Array | None:
        """The frame as the camera sent it, or None when the service does not publish it."""
        return self.channels.get("raw")

    def age_ms(self, now_ns: int | None = None) -> float:
        """Time since the exposure ended (or since the service received it), in ms.

        Needs clocks that agree when camera, service and viewer are different machines.
        """
        born_ns = self.t_received_ns if self.t_acquired_ns is None else self.t_acquired_ns
        return ((time.time_ns() if now_ns is None else now_ns) - born_ns) / 1e6


Published = Start | PublishedFrame | End | Heartbeat
