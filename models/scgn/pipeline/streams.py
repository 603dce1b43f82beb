"""What is kept of each stream between its frames: state on the device, and what the host knows.

One stream is one source at one shape. Its series, calibration and camera dtype decide how much of
the past the next frame may know; the graph does what it is told of that (`scgn.stream.facts`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from scgn.pipeline.results import Stream
from scgn.pipeline.state import Past, State
from scgn.stream.facts import PROBED, Facts
from scgn.stream.tracker import Controls, StreamReport, StreamTracker

STREAMS_MAX = 16
BYTES_MAX = 4 << 30  # of states on the device
STEPS_MAX = 8  # frames from the last one to this; beyond, the means are of another time
KEEP, FORGET_MEANS, FORGET_ALL = 0, 1, 2  # values of `reset`

Key = tuple[str, tuple[int, int]]  # source, shape
Temporal = Literal["auto", "off"] | int  # longest mean that a frame may know, frames


class StateLost(RuntimeError):
    """A call of this stream failed while later ones were under way: what they started from is
    not known.
    """


@dataclass(frozen=True)
class Kind:
    """What noise depends on: a stream whose kind changes is another stream."""

    calibration: str | None
    dtype: str


@dataclass(eq=False)
class Kept:
    """One stream. Any thread changes it, with the store's lock held; the state is the device's.

    frame: index of the last frame that was processed; given: calls so far; lost: the last of those
    that began from a state that nobody knows; doubtful: so is the state now.
    """

    state: State
    kind: Kind
    tracker: StreamTracker
    series: str | None = None
    frame: int | None = None
    given: int = 0
    lost: int = 0
    doubtful: bool = True  # as a new one is: nothing has been written into it

    def reset_of(self, stream: Stream, kind: Kind) -> tuple[int, int]:
        """`reset` and `steps` of the next frame."""
        steps = 1
        if stream.series == self.series and self.frame is not None:
            steps = stream.exposure.frame - self.frame
        follows = stream.series == self.series and 0 < steps <= STEPS_MAX
        if self.doubtful or kind != self.kind:
            return FORGET_ALL, max(1, steps)
        return (KEEP if follows else FORGET_MEANS), max(1, steps)

    def begins_anew(self, stream: Stream) -> bool:
        """Whether the frame is the first of a series, or of the same series once more."""
        again = self.frame is not None and stream.exposure.frame <= self.frame
        return stream.series != self.series or again


@dataclass(frozen=True, eq=False)
class StreamTurn:
    """One frame of a stream: what its call is told, and who is to know what came of it.

    before: index of the frame before it; number: of its call among the stream's.
    """

    kept: Kept
    tracker: StreamTracker  # the stream's own, when the frame was submitted
    stream: Stream
    controls: Controls
    past: Past
    before: int | None
    number: int
    lock: threading.Lock

    def told(self, facts: Facts, display_range: float) -> StreamReport:
        """What the stream's tracker makes of it; StateLost when the state was none."""
        with self.lock:
            if self.number <= self.kept.lost:
                raise StateLost(f"{self.stream.source}: state lost with an earlier frame")
            exposure = self.stream.exposure
            return self.tracker.told(facts, exposure, self.controls, display_range)

    def bad(self) -> None:
        """The frame is none, and the graph has left the state as it was."""
        with self.lock:
            if self.kept.frame == self.stream.exposure.frame:
                self.kept.frame = self.before

    def refused(self) -> None:
        """The call could not be submitted whole: earlier ones are not touched."""
        with self.lock:
            self.kept.doubtful = True

    def broken(self) -> None:
        """The call failed on the device: those behind it began from what it left."""
        with self.lock:
            self.kept.doubtful, self.kept.lost = True, self.kept.given


class StreamStore:
    """The streams of one network on one device, the least recently used freed beyond either bound.

    A state that is freed while a call is under way stays until that was waited for: its Past holds
    it. `turn` belongs to the submitting thread; all else to any. ValueError for a `temporal` that
    no tracker takes.
    """

    def __init__(
        self,
        temporal: Temporal = "auto",
        streams_max: int = STREAMS_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        StreamTracker(temporal)
        self._temporal, self._streams_max, self._bytes_max = temporal, streams_max, bytes_max
        self._kept: OrderedDict[Key, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def turn(
        self, stream: Stream, shape: tuple[int, int], kind: Kind, new: Callable[[], State]
    ) -> StreamTurn:
        """The next frame of a stream; new: makes the state of a new one."""
        with self._lock:
            kept = self._of((stream.source, shape), kind, new)
            reset, steps = kept.reset_of(stream, kind)
            if kind != kept.kind or kept.begins_anew(stream):
                kept.tracker = StreamTracker(self._temporal)  # frames under way have the old one
            controls = kept.tracker.controls()
            if reset != KEEP and controls.probe_longest is not None:
                controls = Controls(controls.longest, controls.show, None)  # of no past at all
            before, kept.kind, kept.series = kept.frame, kind, stream.series
            kept.frame, kept.doubtful = stream.exposure.frame, False
            kept.given += 1
            past = _past(kept.state, reset, steps, controls)
            return StreamTurn(
                kept, kept.tracker, stream, controls, past, before, kept.given, self._lock
            )

    def _of(self, key: Key, kind: Kind, new: Callable[[], State]) -> Kept:
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = Kept(new(), kind, StreamTracker(self._temporal))
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and self._over():
            self._kept.popitem(last=False)
        return kept

    def _over(self) -> bool:
        held = sum(kept.state.bytes for kept in self._kept.values())
        return len(self._kept) > self._streams_max or held > self._bytes_max

    def forget(self, source: str) -> None:
        """Free what is kept of a source; its next frame has no past."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == source]:
                del self._kept[key]

    def set_temporal(self, value: Temporal) -> None:
        """For every stream, from its next frame on; states stay, what trackers know begins anew.

        ValueError for a value that cannot be, and nothing has changed then.
        """
        StreamTracker(value)
        with self._lock:
            self._temporal = value
            for kept in self._kept.values():
                kept.tracker = StreamTracker(value)

    def status(self) -> dict[str, Any]:
        """What each source's tracker says, of the shape that came last."""
        with self._lock:
            return {source: kept.tracker.status() for (source, _), kept in self._kept.items()}


def _past(state: State, reset: int, steps: int, controls: Controls) -> Past:
    main = (reset, steps, controls.longest, controls.show)
    longest = controls.probe_longest
    probe = None if longest is None else (reset, steps, longest, PROBED)
    return Past(state, reset == FORGET_ALL, main, probe)
