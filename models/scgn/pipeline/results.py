"""What goes into one call and what comes of it, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scgn.denoise import FrameError
from scgn.deploy.signature import FRAME_FACTS
from scgn.pipeline.device import Bytes, Done
from scgn.pipeline.lane import Ticket
from scgn.stream.facts import Facts
from scgn.stream.tracker import Exposure, StreamReport

Array = NDArray[Any]
RANGE_SAMPLES = 40  # a side


@dataclass(frozen=True)
class Stream:
    """Where a frame comes from: its camera, its series, its index and when it was taken."""

    source: str
    series: str
    exposure: Exposure


@dataclass(frozen=True)
class Frames:
    """One call: frames of one shape and dtype, and the host memory of each result, bytes; streams:
    of each frame, None (or nothing) for one without a past.
    """

    raws: Sequence[Array]
    results: Sequence[Bytes]
    streams: Sequence[Stream | None] = ()


class Turn(Protocol):
    """One frame of a stream, under way: told once what came of it."""

    def told(self, facts: Facts, display_range: float) -> StreamReport:
        """What is to be said of it; display_range: white less black of its result, counts."""

    def bad(self) -> None:
        """The frame is none: its stream is as it was."""

    def broken(self) -> None:
        """The call failed when it was waited for, and what it left behind is not known."""


@dataclass
class Results:
    """A call under way. `wait` is to be called once; word: how it ran, as the wire says it; turn:
    of its one frame, if that has a past; reports: of each frame, None without a past or a result,
    once it was waited for.
    """

    ticket: Ticket
    frames: Frames
    dtype: str
    word: str
    turn: Turn | None = None
    reports: list[StreamReport | None] = field(default_factory=list, init=False)

    @property
    def ready(self) -> bool:
        """Whether there is nothing to wait for: a CPU's work is done on submission."""
        return isinstance(self.ticket.done, Done)

    def wait(self) -> list[Array | FrameError]:
        """For each frame (rows, columns) in its result's memory, or why there is none."""
        facts = self._facts()
        shape = self.ticket.lane.recipe.shape
        rows = zip(self.frames.results, facts, strict=True)
        results = [_checked(pixels.view(self.dtype).reshape(shape), row) for pixels, row in rows]
        self.reports = [None] * len(results)
        if self.turn is not None:
            self.reports = [self._report(self.turn, results[0], facts[0])]
        return results

    def _facts(self) -> NDArray[np.float32]:
        try:
            return self.ticket.wait()
        except BaseException:
            if self.turn is not None:
                self.turn.broken()
            raise

    def _report(
        self, turn: Turn, result: Array | FrameError, facts: NDArray[np.float32]
    ) -> StreamReport | None:
        if not isinstance(result, FrameError):
            return turn.told(Facts(*facts.tolist()), display_range(result))
        turn.bad()
        return None


def display_range(frame: Array) -> float:
    """What a viewer sees of a frame, counts: the span of all but the darkest and brightest
    hundredth of a regular sample of its pixels.
    """
    rows, columns = (max(1, side // RANGE_SAMPLES) for side in frame.shape)
    sample = np.sort(frame[::rows, ::columns], axis=None)
    cut = sample.size // 200
    return float(sample[sample.size - 1 - cut]) - float(sample[cut])


def _checked(denoised: Array, facts: NDArray[np.float32]) -> Array | FrameError:
    level, scale, mean = (float(value) for value in facts[:FRAME_FACTS])
    if not np.isfinite(level + scale):
        return FrameError("non_finite", "frame holds NaN or infinite values")
    if not np.isfinite(mean):
        return FrameError("non_finite", "network gave NaN or infinite values")
    return denoised
