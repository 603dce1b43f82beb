"""The ring as a state machine: any order of calls keeps the line, and every frame is somewhere."""

from __future__ import annotations

import time
from collections import Counter

import zmq
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from scgn_client.messages import FrameHeader, Start
from scgn_live.ring import Event, Overload, Ring, Slot, State
from scgn_live.run import Run

RUN = Run(Start("cam", "s"))
SHAPES = ((4, 4), (4, 6))


class RingMachine(RuleBasedStateMachine):
    """Three stages that take turns in any order, beside a model of what the line must be."""

    @initialize(slots=st.integers(2, 5), overload=st.sampled_from(["latest", "block"]))
    def made(self, slots: int, overload: Overload) -> None:
        self.dropped: list[int] = []
        self.ring = Ring(slots, overload, lambda slot: self.dropped.append(slot.header.frame))
        self.slots, self.overload = slots, overload
        self.line: list[Slot | Event] = []
        self.held: list[Slot] = []  # the publisher's, on its way out
        self.number = 0
        self.left: list[int] = []
        self.stopped = False

    # What is where, by the model.

    def waiting(self) -> list[Slot]:
        return [e for e in self.line if isinstance(e, Slot) and e.state is State.FILLED]

    def under_way(self) -> list[Slot]:
        return [e for e in self.line if isinstance(e, Slot) and e.state is State.BUSY]

    def free(self) -> int:
        return self.slots - len(self.held) - sum(isinstance(e, Slot) for e in self.line)

    def to_be_dropped(self) -> Slot:
        """The oldest of the camera with most frames waiting; of two alike, the first in line."""
        waiting = self.waiting()
        counts = Counter(slot.header.source for slot in waiting)
        return next(s for s in waiting if counts[s.header.source] == max(counts.values()))

    # The ingest.

    @precondition(lambda self: not self.stopped)
    @rule(source=st.sampled_from("ab"), shape=st.sampled_from(SHAPES))
    def frame(self, source: str, shape: tuple[int, int]) -> None:
        full = self.free() == 0
        if full and (self.overload == "block" or not self.waiting()):
            return  # it would wait
        dropped = self.to_be_dropped() if full else None
        number = dropped.header.frame if dropped is not None else None
        slot = self.ring.claim()
        assert slot is not None
        assert (slot is dropped) is full
        if dropped is not None:
            assert self.dropped[-1] == number
            self.line.remove(dropped)
        header = FrameHeader(source, "s", self.number, shape, "|u1")
        slot.store(header, RUN, zmq.Frame(bytes(shape[0] * shape[1])), time.monotonic())
        self.ring.fill(slot)
        self.line.append(slot)
        self.number += 1

    @precondition(lambda self: not self.stopped)
    @rule(kind=st.sampled_from(["start", "end"]))
    def event(self, kind: str) -> None:
        event = Event(kind, RUN)  # type: ignore[arg-type]
        self.ring.post(event)
        self.line.append(event)

    # The engine.

    @rule()
    def take(self) -> None:
        waiting = self.waiting()
        assert self.ring.take(0) is (waiting[0] if waiting else None)

    @rule(count=st.integers(1, 3))
    def take_more(self, count: int) -> None:
        waiting, busy = self.waiting(), self.under_way()
        if not busy:
            return
        alike = [s for s in waiting[:count] if s.header.shape == busy[0].header.shape]
        expected = waiting[:count] if len(alike) == count else []
        assert self.ring.take_like(busy[0], count) == expected

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        if busy := self.under_way():
            self.ring.finish(data.draw(st.sampled_from(busy)))

    # The publisher.

    @rule()
    def publish(self) -> None:
        head = self.line[0] if self.line else None
        leaves = isinstance(head, Event) or (head is not None and head.state is State.DONE)
        assert self.ring.next(0) is (head if leaves else None)
        if leaves:
            self.line.pop(0)
        if leaves and isinstance(head, Slot):
            self.held.append(head)
            self.left.append(head.header.frame)

    @rule()
    def release(self) -> None:
        if self.held:
            self.ring.release(self.held.pop(0))

    # The end.

    @rule()
    def stop(self) -> None:
        self.ring.stop()
        self.stopped = True
        assert self.ring.claim() is None

    @precondition(lambda self: self.stopped)
    @rule()
    def abandon(self) -> None:
        late = self.under_way()
        frames, events = self.ring.abandon()
        assert [*frames, *events] == sorted(self.line, key=lambda e: isinstance(e, Event))
        self.slots -= len(frames)  # they are nobody's any more: the process ends
        self.left += [slot.header.frame for slot in frames]
        self.line = []
        for slot in late:
            self.ring.finish(slot)  # the engine comes back late
        assert self.ring.drain(0)

    # Always.

    @invariant()
    def every_slot_is_somewhere(self) -> None:
        depths = self.ring.depths()
        done = sum(isinstance(e, Slot) and e.state is State.DONE for e in self.line)
        assert depths["filled"] == len(self.waiting())
        assert depths["busy"] == len(self.under_way()) or self.stopped
        assert depths["done"] == done
        assert depths["free"] == self.free()

    @invariant()
    def frames_leave_in_order_and_none_vanishes(self) -> None:
        inside = [entry.header.frame for entry in self.line if isinstance(entry, Slot)]
        assert self.left == sorted(self.left)
        assert inside == sorted(inside)
        assert sorted([*self.left, *self.dropped, *inside]) == list(range(self.number))
        assert not self.dropped or self.overload == "latest"

    @invariant()
    def a_line_that_is_not_empty_is_told(self) -> None:
        assert self.ring.drain(0) is (not self.line)


TestRingMachine = RingMachine.TestCase
