"""Frames into the service at a chosen rate, and back out into files.

The schedule is absolute: no drift over hours, and a frame that is late goes out at once.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

import numpy as np

from scgn_client.errors import ClientError, FileFormatError, SendTimeout
from scgn_client.files import library
from scgn_client.messages import Array, PublishedFrame
from scgn_client.sender import FrameSender

Item = TypeVar("Item")
Levels = tuple[float, float]
PREVIEW_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True, slots=True)
class SendReport:
    """What became of a replay. seconds: first send to last; rate_fps: frames sent per second;
    late_ms_max: how far behind its schedule a frame went out at worst; skipped: frames given up.
    """

    sent: int
    seconds: float
    rate_fps: float
    late_ms_max: float
    skipped: int

    def __str__(self) -> str:
        late = "" if self.late_ms_max < 1 else f", at most {self.late_ms_max:.0f} ms late"
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.sent} frames in {self.seconds:.1f} s, {self.rate_fps:.1f} fps{late}{skipped}"


class Schedule:
    """When each frame is due: number / rate_fps after the first; at once when rate_fps is None."""

    def __init__(self, rate_fps: float | None) -> None:
        if rate_fps is not None and not 0 < rate_fps < float("inf"):
            raise ClientError(f"rate: expected frames per second above 0, got {rate_fps}")
        self.rate_fps = rate_fps
        self.late_ms_max = 0.0
        self._begun: float | None = None

    def wait(self, number: int) -> None:
        """Sleep until frame `number` is due; when that is over already, note how late it is."""
        now = time.monotonic()
        self._begun = now if self._begun is None else self._begun
        if self.rate_fps is None:
            return
        early_s = self._begun + number / self.rate_fps - now
        if early_s > 0:
            time.sleep(early_s)
        else:
            self.late_ms_max = max(self.late_ms_max, -1000 * early_s)


def pace(rate_fps: float | None, frames: Iterable[Item]) -> Iterator[Item]:
    """The same items, each when it is due; late ones at once, so that the rate holds."""
    schedule = Schedule(rate_fps)
    for number, frame in enumerate(frames):
        schedule.wait(number)
        yield frame


class Chained(Generic[Item]):
    """Several sources of items as one, which starts again at each iteration as they do."""

    def __init__(self, sources: Sequence[Iterable[Item]]) -> None:
        self._sources = sources

    def __iter__(self) -> Iterator[Item]:
        return itertools.chain.from_iterable(self._sources)


def repeated(frames: Iterable[Item], loop: bool, count: int | None) -> Iterator[Item]:
    """Items once, or over and over; at most `count` of them. An empty source ends at once."""
    return itertools.islice(_loops(frames) if loop else iter(frames), count)


def _loops(frames: Iterable[Item]) -> Iterator[Item]:
    while True:
        empty = True
        for frame in frames:
            empty = False
            yield frame
        if empty:  # or an iterator, which cannot start again
            return


def send_frames(
    sender: FrameSender,
    frames: Iterable[Array],
    rate_fps: float | None = None,
    loop: bool = False,
    count: int | None = None,
    *,
    on_timeout: Literal["raise", "skip"] = "raise",
) -> SendReport:
    """Send frames through a started sender and say how it went.

    rate_fps: frames per second, as fast as the service takes them when None; loop: start again
    after the last frame; count: frames to offer, all when None. A frame that the service does not
    take within the sender's timeout raises SendTimeout, or is given up with on_timeout="skip":
    the service then counts it as missing.
    """
    schedule, sent, skipped = Schedule(rate_fps), 0, 0
    begun = time.monotonic()
    for number, frame in enumerate(repeated(frames, loop, count)):
        schedule.wait(number)
        begun = time.monotonic() if number == 0 else begun
        try:
            sender.send(frame)
            sent += 1
        except SendTimeout:
            if on_timeout == "raise":
                raise
            sender.skip()
            skipped += 1
    seconds = time.monotonic() - begun
    # n frames are n - 1 intervals: the last one's own is not waited for.
    rate = (sent - 1) / seconds if sent > 1 and seconds > 0 else 0.0
    return SendReport(sent, seconds, rate, schedule.late_ms_max, skipped)


def side_by_side(frame: PublishedFrame) -> list[tuple[Array, Levels]]:
    """Raw (when published) and denoised pixels, each with its black and white level.

    `display` is the denoised channel's. Raw shares it when no calibration lies between the two,
    and else, dark level and all, is shown by its own percentiles.
    """
    shown = [(frame.denoised, frame.display)]
    if frame.raw is not None:
        black, white = np.percentile(frame.raw, PREVIEW_PERCENTILES)
        own = (float(black), float(white))
        shown.insert(0, (frame.raw, frame.display if frame.calibration is None else own))
    return shown


def write_png(path: Path, frames: Sequence[tuple[Array, Levels]]) -> None:
    """Frames of one height side by side as an 8-bit PNG."""
    shown = [
        np.clip((np.asarray(frame, np.float32) - black) / max(white - black, 1e-12), 0, 1)
        for frame, (black, white) in frames
    ]
    grey = np.rint(255 * np.hstack(shown)).astype(np.uint8)
    library("PIL.Image", path).fromarray(grey).save(path, format="PNG")


def record_frame(folder: Path, frame: PublishedFrame) -> None:
    """Every channel as .npy, and a .png of them when Pillow is there."""
    stem = _file_name(f"{frame.source}_{frame.series}_{frame.frame:06d}")
    for name, pixels in frame.channels.items():
        np.save(folder / f"{stem}_{_file_name(name)}.npy", pixels, allow_pickle=False)
    with contextlib.suppress(FileFormatError):
        write_png(folder / f"{stem}.png", side_by_side(frame))


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", text)  # names come from the network
