"""One run of a series: its buckets, and the losses that no header has told yet."""

from __future__ import annotations

import bisect
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from scgn_client.messages import Start

LOSSES_KEPT = 256  # losses not yet told, before neighbours are told as one


@dataclass(eq=False)
class Run:
    """One series from its start to its end; all counts in frames.

    Only the ledger changes it, but for `announced`: the ingest has put its `start` in line.
    """

    start: Start
    expected: int = 0
    published: int = 0
    missing: int = 0
    in_flight: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    last_published: int | None = None
    announced: bool = False
    ended: bool = False
    resumable: bool = False  # ended by the service, not by its camera: it may go on
    fell_silent: bool = False  # the service ended it for that
    closed: bool = False  # its `end` is out
    overtaken: int = 0  # ends in line that are not to go out: it went on before they left
    restart: Start | None = None
    touched_s: float = field(default_factory=time.monotonic)
    # (last index, reason, frames), by index: told in the header of the next published frame.
    losses: list[tuple[int, str, int]] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str]:
        """Source and series."""
        return self.start.source, self.start.series

    def buckets(self) -> dict[str, Any]:
        """The map that `end` and heartbeats carry."""
        return {
            "expected": self.expected, "published": self.published, "missing": self.missing,
            "in_flight": self.in_flight, "dropped": dict(self.dropped),
            "failed": dict(self.failed), "rejected": dict(self.rejected),
        }  # fmt: skip

    def row(self) -> dict[str, Any]:
        """What the status says of it."""
        return {
            "source": self.start.source, "series": self.start.series,
            "state": "ended" if self.ended else "open",
            "exposure_ms": self.start.exposure_ms, "pixel_size_nm": self.start.pixel_size_nm,
            "last_published": self.last_published, **self.buckets(),
        }  # fmt: skip

    def end(self, resumable: bool = False) -> None:
        """No frame comes any more; with `resumable`, unless the camera goes on all the same."""
        self.ended, self.resumable = True, resumable

    def resume(self) -> None:
        """The camera goes on: the same run with its buckets, announced once more."""
        if not self.closed:
            self.overtaken += 1
        self.ended = self.resumable = self.fell_silent = self.closed = self.announced = False
        self.touched_s = time.monotonic()

    def leave(self) -> None:
        """One frame in flight meets its outcome."""
        assert self.in_flight > 0, f"no frame of {self.key} is in flight"
        self.in_flight -= 1

    def lose(self, bucket: str, index: int, frames: int, reason: str) -> None:
        """`frames` up to `index` go into the bucket, to be told by the next published frame."""
        if bucket == "missing":
            self.missing += frames
        else:
            getattr(self, bucket)[reason] += frames
        self._remember(index, reason or bucket, frames)
        if len(self.losses) > LOSSES_KEPT:
            self._merge_oldest()

    def tell(self, index: int) -> dict[str, int]:
        """What was lost before `index` and not told yet, by reason; it counts as told."""
        told = bisect.bisect_left(self.losses, (index, "", 0))
        lost: Counter[str] = Counter()
        for _, reason, frames in self.losses[:told]:
            lost[reason] += frames
        del self.losses[:told]
        return dict(lost)

    def _remember(self, last: int, reason: str, frames: int) -> None:
        """Note frames up to `last`; runs of neighbours lost for one reason are one entry."""
        place = bisect.bisect_left(self.losses, (last, "", 0))
        if place:
            before, its_reason, its_frames = self.losses[place - 1]
            if its_reason == reason and before == last - frames:
                self.losses[place - 1] = (last, reason, its_frames + frames)
                return
        self.losses.insert(place, (last, reason, frames))

    def _merge_oldest(self) -> None:
        """Losses of changing reasons and nothing published: tell the oldest of each as one."""
        half = LOSSES_KEPT // 2
        merged: dict[str, tuple[int, int]] = {}
        for index, reason, frames in self.losses[:half]:
            merged[reason] = (index, merged.get(reason, (0, 0))[1] + frames)
        self.losses[:half] = sorted((i, reason, n) for reason, (i, n) in merged.items())
