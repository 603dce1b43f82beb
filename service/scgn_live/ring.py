"""The ring: a fixed set of slots that carry frames through the service in strict arrival order.

FREE -> FILLED -> BUSY -> DONE -> FREE. Starts and ends of series travel in the same line, so they
never overtake a frame. Only the ring is shared between the stages.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zmq
from numpy.typing import NDArray

from scgn_client.messages import FrameHeader
from scgn_live.run import Run

if TYPE_CHECKING:
    from scgn.stream.tracker import StreamReport

EVENTS_MAX = 256  # starts and ends that may wait; beyond, the ingest waits

Array = NDArray[Any]
Allocate = Callable[[int], NDArray[np.uint8]]


class State(Enum):
    """Where a slot is on its way."""

    FREE = "free"
    FILLED = "filled"
    BUSY = "busy"
    DONE = "done"


class Slot:
    """One frame on its way. Only the stage that holds the slot may touch it.

    Without `allocate` the pixels stay in the message that brought them (no copy); with it they are
    copied into memory of the slot's own, page-locked for a device. Results lie in memory of the
    slot's own either way.
    """

    def __init__(self, allocate: Allocate | None) -> None:
        self.allocate = allocate
        self._memory = self._results = np.empty(0, np.uint8)
        self.state = State.FREE
        self.header: FrameHeader
        self.run: Run
        self.raw: Array  # (rows, columns), camera dtype
        self.message: zmq.Frame
        self.t_received_ns = 0
        self.received_s = 0.0
        self.taken_s = 0.0
        self.done_s = 0.0
        self.failed: str | None = None
        self.denoised: Array | None = None
        self.calibration: str | None = None
        self.model = ""
        self.engine = ""
        self.report: StreamReport | None = None  # what the frame's stream says, where it has a past

    def store(self, header: FrameHeader, run: Run, message: zmq.Frame, received_s: float) -> None:
        """Take in one frame; its length was checked before."""
        pixels = np.frombuffer(message.buffer, np.uint8)
        if self.allocate is not None:
            if len(self._memory) < len(pixels):
                self._memory = self.allocate(len(pixels))
            np.copyto(self._memory[: len(pixels)], pixels)
            pixels = self._memory[: len(pixels)]
        self.raw = pixels.view(header.dtype).reshape(header.shape)
        self.message, self.header, self.run = message, header, run
        self.t_received_ns = time.time_ns()
        self.received_s = received_s
        self.failed = self.denoised = self.calibration = self.report = None

    def result_memory(self, size: int) -> NDArray[np.uint8]:
        """Memory of the slot for its denoised frame, bytes; kept until a larger one is needed."""
        if len(self._results) < size:
            self._results = (self.allocate or _unlocked)(size)
        return self._results[:size]


def _unlocked(size: int) -> NDArray[np.uint8]:
    return np.empty(size, np.uint8)


@dataclass(frozen=True)
class Event:
    """A start or an end of a series, in line with the frames."""

    kind: Literal["start", "end"]
    run: Run


Overload = Literal["latest", "block"]


class Ring:
    """Slots and the line they wait in. Three threads: one fills, one works, one publishes.

    slots: how many frames are held at most; overload: what `claim` does when none is free;
    on_drop: told of each frame let go. Waits end early, with None, once `stop` was called.
    """

    def __init__(
        self,
        slots: int,
        overload: Overload,
        on_drop: Callable[[Slot], None],
        allocate: Allocate | None = None,
    ) -> None:
        self._lock = threading.Lock()
        self._freed = threading.Condition(self._lock)
        self._filled = threading.Condition(self._lock)
        self._done = threading.Condition(self._lock)
        self._emptied = threading.Condition(self._lock)
        self._overload = overload
        self._on_drop = on_drop
        self._slots = slots
        self._free = [Slot(allocate) for _ in range(slots)]
        self._line: deque[Slot | Event] = deque()
        self._waiting: deque[Slot] = deque()  # the FILLED ones of the line
        self._events = 0
        self._stopped = False

    def keep_in(self, allocate: Allocate | None) -> None:
        """What frames and results are kept in from now on; called before any frame came."""
        for slot in self._free:
            slot.allocate = allocate

    # The ingest's side.

    def claim(self) -> Slot | None:
        """An empty slot; waits for one, or lets the oldest waiting frame go (`latest`)."""
        with self._lock:
            while not self._free:
                if self._stopped:
                    return None
                if self._overload == "latest" and self._waiting:
                    return self._let_oldest_go()
                self._freed.wait()
            return None if self._stopped else self._free.pop()

    def _let_oldest_go(self) -> Slot:
        """The oldest of whichever camera has most frames waiting: a fast one cannot push out the
        frames of a slow one.
        """
        waiting = Counter(slot.header.source for slot in self._waiting)
        most = max(waiting.values())
        slot = next(s for s in self._waiting if waiting[s.header.source] == most)
        self._waiting.remove(slot)
        self._line.remove(slot)
        slot.state = State.FREE
        self._on_drop(slot)
        return slot

    def fill(self, slot: Slot) -> None:
        """The slot now holds a frame: it joins the line."""
        with self._lock:
            slot.state = State.FILLED
            self._line.append(slot)
            self._waiting.append(slot)
            self._filled.notify()

    def post(self, event: Event) -> None:
        """A start or end joins the line behind every frame that came before it."""
        with self._lock:
            while self._events >= EVENTS_MAX and not self._stopped:
                self._freed.wait()
            self._events += 1
            self._line.append(event)
            self._done.notify()

    # The engine's side.

    def take(self, timeout_s: float) -> Slot | None:
        """The oldest waiting frame, now BUSY; None when none came in time."""
        with self._lock:
            if not self._waiting:
                self._filled.wait(timeout_s)
            if not self._waiting:
                return None
            return self._busy()

    def _busy(self) -> Slot:
        slot = self._waiting.popleft()
        slot.state = State.BUSY
        slot.taken_s = time.monotonic()
        return slot

    def take_like(self, slot: Slot, count: int) -> list[Slot]:
        """The next `count` waiting frames, now BUSY, if all are of the slot's shape and dtype;
        else none: order is never changed, and nothing waits for a batch to fill.
        """
        with self._lock:
            following = list(itertools.islice(self._waiting, count))
            kind = slot.header.shape, slot.header.dtype
            alike = all((s.header.shape, s.header.dtype) == kind for s in following)
            if len(following) < count or not alike:
                return []
            return [self._busy() for _ in following]

    def finish(self, slot: Slot) -> None:
        """The frame is denoised (or `slot.failed` says why not): it may leave in its turn."""
        with self._lock:
            slot.done_s = time.monotonic()
            slot.state = State.DONE
            if self._line and self._line[0] is slot:  # else abandoned meanwhile
                self._done.notify()

    # The publisher's side.

    def next(self, timeout_s: float) -> Slot | Event | None:
        """The head of the line once it may leave; None when it did not in time."""
        with self._lock:
            if not self._ready():
                self._done.wait(timeout_s)
            if not self._ready():
                return None
            head = self._line.popleft()
            if isinstance(head, Event):
                self._events -= 1
                self._freed.notify()
            if not self._line:
                self._emptied.notify_all()
            return head

    def _ready(self) -> bool:
        if not self._line:
            return False
        head = self._line[0]
        return isinstance(head, Event) or head.state is State.DONE

    def release(self, slot: Slot) -> None:
        """The frame is out: its slot is free again."""
        with self._lock:
            slot.state = State.FREE
            self._free.append(slot)
            self._freed.notify()

    # Anyone's.

    def stop(self) -> None:
        """No more claims; what is in line may still be taken and published."""
        with self._lock:
            self._stopped = True
            for condition in (self._freed, self._filled, self._done):
                condition.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Wait until nothing is in line; False when something still is after `timeout_s`."""
        with self._lock:
            return self._emptied.wait_for(lambda: not self._line, timeout_s)

    def abandon(self) -> tuple[list[Slot], list[Event]]:
        """Empty the line; returns the frames and events that will not leave any more."""
        with self._lock:
            slots = [entry for entry in self._line if isinstance(entry, Slot)]
            events = [entry for entry in self._line if isinstance(entry, Event)]
            self._line.clear()
            self._waiting.clear()
            return slots, events

    def depths(self) -> dict[str, int]:
        """How many slots are in each state, and events in line."""
        with self._lock:
            waiting, in_line = len(self._waiting), len(self._line) - self._events
            done = sum(1 for e in self._line if isinstance(e, Slot) and e.state is State.DONE)
            return {
                "slots": self._slots, "free": len(self._free), "filled": waiting, "done": done,
                "busy": in_line - waiting - done, "events": self._events,
            }  # fmt: skip
