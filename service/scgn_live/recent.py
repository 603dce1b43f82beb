"""Raw frames kept in the frame process: the last of each camera, to prove a calibration on, and one
series at a time, to make a calibration of.

The engine's thread offers every frame; anyone may ask. Frames are copies: slots are used again.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgn_live.ring import Slot

Array = NDArray[Any]
MB = 1e6


class CollectionError(Exception):
    """A series cannot be collected; the message says why."""


Kind = tuple[str, tuple[int, ...], str, float | None]


def kind_of(slot: Slot) -> Kind:
    """Camera, shape, dtype and exposure (ms): only frames alike in these are one stack."""
    return slot.header.source, slot.raw.shape, slot.raw.dtype.str, slot.run.start.exposure_ms


@dataclass
class Kept:
    """Frames of one camera, oldest first, and when each was kept (monotonic, s)."""

    kind: Kind
    frames: deque[Array] = field(default_factory=deque)
    kept_s: deque[float] = field(default_factory=deque)

    @property
    def nbytes(self) -> int:
        return len(self.frames) * self.frames[0].nbytes if self.frames else 0

    def forget_oldest(self) -> int:
        """How many bytes are free now."""
        self.kept_s.popleft()
        return int(self.frames.popleft().nbytes)


class RecentFrames:
    """The last `frames` frames of each camera, one every `every_s`, within `limit_mb` in all.

    Of `cameras` cameras at most: the one that was silent longest goes first, so that a source that
    changes its name with every frame costs no memory and no time.
    """

    def __init__(self, frames: int, every_s: float, limit_mb: float, cameras: int = 64) -> None:
        self._frames, self._every_s, self._limit = frames, every_s, limit_mb * MB
        self._most = cameras
        self._lock = threading.Lock()
        self._cameras: OrderedDict[str, Kept] = OrderedDict()  # the longest silent one first
        self._bytes = 0  # of them all

    def offer(self, slot: Slot) -> None:
        """Keep a copy of the frame if it is time for one of its camera."""
        kind, now = kind_of(slot), time.monotonic()
        if self._frames == 0 or not self._due(kind, now) or slot.raw.nbytes > self._limit:
            return
        copy = np.array(slot.raw)  # outside the lock: a large one takes a while
        with self._lock:
            self._keep(kind, copy, now)
            self._shrink()

    def _due(self, kind: Kind, now: float) -> bool:
        """Whether it is time for a frame of this kind; its camera is not silent."""
        with self._lock:
            kept = self._cameras.get(kind[0])
            if kept is None:
                return True
            self._cameras.move_to_end(kind[0])
            return kept.kind != kind or now >= kept.kept_s[-1] + self._every_s

    def _keep(self, kind: Kind, frame: Array, now: float) -> None:
        kept = self._cameras.get(kind[0])
        if kept is None or kept.kind != kind:
            self._forget(kind[0])
            kept = self._cameras[kind[0]] = Kept(kind)
        kept.frames.append(frame)
        kept.kept_s.append(now)
        self._bytes += frame.nbytes
        while len(kept.frames) > self._frames:
            self._bytes -= kept.forget_oldest()

    def _forget(self, source: str) -> None:
        if (kept := self._cameras.pop(source, None)) is not None:
            self._bytes -= kept.nbytes

    def _shrink(self) -> None:
        """Within the limits again: the largest camera gives first; one frame each stays longest."""
        while len(self._cameras) > self._most:
            self._forget(next(iter(self._cameras)))
        while self._bytes > self._limit:
            largest = max(self._cameras.values(), key=lambda kept: kept.nbytes)
            self._bytes -= largest.forget_oldest()
            if not largest.frames:
                del self._cameras[largest.kind[0]]

    def cameras(self) -> list[dict[str, Any]]:
        """What is there: source, shape, dtype, frames and age of the newest (s), newest first."""
        now = time.monotonic()
        with self._lock:
            rows = [
                {
                    "source": kept.kind[0], "shape": list(kept.kind[1]), "dtype": kept.kind[2],
                    "exposure_ms": kept.kind[3], "frames": len(kept.frames),
                    "age_s": round(now - kept.kept_s[-1], 3),
                }
                for kept in self._cameras.values()
            ]  # fmt: skip
        return sorted(rows, key=lambda row: float(row["age_s"]))

    def save(self, path: Path, source: str) -> int:
        """Write the frames of a camera as one .npy stack; how many. OSError when it cannot be."""
        with self._lock:
            kept = self._cameras.get(source)
            frames = [] if kept is None else list(kept.frames)
        if frames:
            save_stack(path, frames)
        return len(frames)


def save_stack(path: Path, frames: list[Array]) -> None:
    """Frames of one shape and dtype as a .npy of (frames, rows, columns), never twice in memory."""
    first = frames[0]
    header = {
        "descr": first.dtype.str, "fortran_order": False, "shape": (len(frames), *first.shape),
    }  # fmt: skip
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for frame in frames:
            file.write(np.ascontiguousarray(frame).data)


@dataclass
class _Series:
    """A collection: what it waits for, and what came."""

    wanted: int
    source: str | None
    began_s: float = field(default_factory=time.monotonic)
    kind: Kind | None = None
    series: str | None = None
    frames: list[Array] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    last_s: float = field(default_factory=time.monotonic)
    full: bool = False

    def takes(self, slot: Slot) -> bool:
        """Whether the frame belongs: of the camera asked for, and like the first one taken."""
        if self.kind is None:
            return self.source in (None, slot.header.source)
        return self.kind == kind_of(slot) and self.series == slot.header.series


class Collector:
    """Collects the next frames of one series, at most `limit_mb` of them; one at a time."""

    def __init__(self, limit_mb: float) -> None:
        self._limit = limit_mb * MB
        self._lock = threading.Lock()
        self._now: _Series | None = None

    def begin(self, frames: int, source: str | None) -> None:
        """Collect from the next frame on; CollectionError while another one is being collected."""
        with self._lock:
            if self._now is not None:
                raise CollectionError("another series is being collected: wait for it or cancel it")
            self._now = _Series(frames, source)

    def offer(self, slot: Slot) -> None:
        """Take a copy of the frame if it is one of those that are waited for."""
        with self._lock:
            now = self._now
            if now is None or now.full or not now.takes(slot):
                return
            if now.kind is None:
                now.kind, now.series = kind_of(slot), slot.header.series
            now.frames.append(np.array(slot.raw))
            now.indices.append(slot.header.frame)
            now.last_s = time.monotonic()
            beyond = slot.raw.nbytes * (len(now.frames) + 1) > self._limit
            now.full = beyond or len(now.frames) >= now.wanted

    def state(self) -> dict[str, Any]:
        """Frames wanted and there, of which camera and series, indices that were skipped, s since
        the last one came; `full` when no more will be taken. Empty when nothing is collected.
        """
        with self._lock:
            now = self._now
            if now is None:
                return {}
            source, shape, dtype, exposure_ms = now.kind or (now.source, (), "", None)
            span = now.indices[-1] - now.indices[0] + 1 if now.indices else 0
            return {
                "wanted": now.wanted, "frames": len(now.frames), "full": now.full,
                "source": source, "series": now.series, "shape": list(shape), "dtype": dtype,
                "exposure_ms": exposure_ms, "skipped": span - len(now.frames),
                "idle_s": round(time.monotonic() - now.last_s, 3),
            }  # fmt: skip

    def finish(self, path: Path | None) -> int:
        """Write what came as one .npy stack (None: throw it away) and be free; how many frames."""
        with self._lock:
            now, self._now = self._now, None
        frames = [] if now is None else now.frames
        if path is not None and frames:
            save_stack(path, frames)
        return len(frames)
