"""The ring keeps strict arrival order, bounds what it holds and drops only the oldest waiting."""

from __future__ import annotations

import threading
import time

import zmq
from hypothesis import given
from hypothesis import strategies as st
from support import noise_frame, wait_for

from scgn_client.messages import FrameHeader, Start
from scgn_live.ring import Event, Overload, Ring, Slot, State
from scgn_live.run import Run

RUN = Run(Start("cam", "s"))


def put(ring: Ring, index: int) -> Slot | None:
    slot = ring.claim()
    if slot is not None:
        pixels = noise_frame(index)
        header = FrameHeader("cam", "s", index, pixels.shape, pixels.dtype.str)
        slot.store(header, RUN, zmq.Frame(pixels.tobytes()), time.monotonic())
        ring.fill(slot)
    return slot


def work(ring: Ring) -> Slot | None:
    slot = ring.take(0)
    if slot is not None:
        ring.finish(slot)
    return slot


def leave(ring: Ring) -> int | str | None:
    entry = ring.next(0)
    if isinstance(entry, Event):
        return entry.kind
    if entry is not None:
        ring.release(entry)
        return entry.header.frame
    return None


def new_ring(slots: int = 3, overload: Overload = "latest") -> tuple[Ring, list[int]]:
    dropped: list[int] = []
    return Ring(slots, overload, lambda slot: dropped.append(slot.header.frame)), dropped


def test_states_of_a_slot_on_its_way() -> None:
    ring, _ = new_ring()
    slot = put(ring, 0)
    assert slot is not None
    assert slot.state is State.FILLED
    assert ring.take(0) is slot
    assert slot.state is State.BUSY
    assert ring.depths()["busy"] == 1
    ring.finish(slot)
    assert slot.state is State.DONE
    assert leave(ring) == 0
    assert slot.state is State.FREE
    assert ring.depths() == {
        "slots": 3, "free": 3, "filled": 0, "done": 0, "busy": 0, "events": 0,
    }  # fmt: skip


def test_latest_drops_the_oldest_waiting_frame_and_never_one_under_way() -> None:
    ring, dropped = new_ring(slots=3)
    put(ring, 0)
    busy = ring.take(0)
    for index in (1, 2, 3, 4):
        put(ring, index)
    assert dropped == [1, 2]
    assert busy is not None
    ring.finish(busy)
    assert [leave(ring), work(ring) and leave(ring), work(ring) and leave(ring)] == [0, 3, 4]


def test_latest_waits_when_every_frame_is_under_way() -> None:
    ring, dropped = new_ring(slots=2)
    slots = [put(ring, 0), put(ring, 1)]
    taken = [ring.take(0), ring.take(0)]
    filler = threading.Thread(target=put, args=(ring, 2))
    filler.start()
    assert taken == slots
    for slot in taken:
        assert slot is not None
        ring.finish(slot)
    assert leave(ring) == 0
    filler.join(5)
    assert not filler.is_alive()
    assert dropped == []


def test_block_waits_for_a_free_slot_and_drops_nothing() -> None:
    ring, dropped = new_ring(slots=2, overload="block")
    put(ring, 0)
    put(ring, 1)
    filler = threading.Thread(target=put, args=(ring, 2))
    filler.start()
    assert work(ring)
    assert leave(ring) == 0
    filler.join(5)
    assert not filler.is_alive()
    assert dropped == []
    assert [work(ring) and leave(ring), work(ring) and leave(ring)] == [1, 2]


def test_events_keep_their_place_among_frames() -> None:
    ring, _ = new_ring()
    ring.post(Event("start", RUN))
    put(ring, 0)
    ring.post(Event("end", RUN))
    put(ring, 1)
    slots = [ring.take(0), ring.take(0)]
    assert leave(ring) == "start"
    assert leave(ring) is None, "frame 0 is not done: nothing may overtake it"
    for slot in reversed(slots):
        assert slot is not None
        ring.finish(slot)
    assert [leave(ring) for _ in range(3)] == [0, "end", 1]


def test_frames_finished_out_of_order_leave_in_order() -> None:
    ring, _ = new_ring()
    for index in range(3):
        put(ring, index)
    slots = [ring.take(0) for _ in range(3)]
    for slot in (slots[2], slots[0], slots[1]):
        assert slot is not None
        ring.finish(slot)
    assert [leave(ring) for _ in range(3)] == [0, 1, 2]


def test_stop_frees_whoever_waits() -> None:
    ring, _ = new_ring(slots=2, overload="block")
    put(ring, 0)
    put(ring, 1)
    found: list[Slot | None] = []
    waiter = threading.Thread(target=lambda: found.append(ring.claim()))
    waiter.start()
    ring.stop()
    waiter.join(5)
    assert found == [None]
    assert not ring.drain(0)
    assert {slot.header.frame for slot in ring.abandon()[0]} == {0, 1}
    assert ring.drain(0)


def test_abandoning_while_a_frame_is_under_way() -> None:
    ring, _ = new_ring()
    put(ring, 0)
    ring.post(Event("end", RUN))
    slot = ring.take(0)
    assert slot is not None
    frames, events = ring.abandon()
    assert (frames, [event.kind for event in events]) == ([slot], ["end"])
    ring.finish(slot)  # the engine comes back late: nothing breaks


def test_slot_with_memory_of_its_own_copies_and_grows() -> None:
    ring = Ring(
        2, "block", lambda _: None, allocate=lambda size: noise_frame(0, (1, size), "|u1")[0]
    )
    for shape in ((4, 4), (32, 8), (4, 4)):
        pixels = noise_frame(1, shape)
        slot = ring.claim()
        assert slot is not None
        header = FrameHeader("cam", "s", 0, shape, "<u2")
        message = zmq.Frame(pixels.tobytes())
        slot.store(header, RUN, message, 0.0)
        assert (slot.raw == pixels).all()
        assert slot.raw.flags.writeable, "the slot's own memory, not the message's"
        ring.release(slot)


@given(st.lists(st.sampled_from(["put", "work", "leave"]), max_size=80), st.integers(2, 5))
def test_whatever_the_timing_order_holds_and_nothing_vanishes(steps: list[str], slots: int) -> None:
    ring, dropped = new_ring(slots)
    put_in, left = 0, []
    for step in steps:
        depths = ring.depths()
        if step == "put" and (depths["free"] or depths["filled"]):
            put(ring, put_in)
            put_in += 1
        elif step == "work":
            work(ring)
        elif step == "leave" and (index := leave(ring)) is not None:
            left.append(index)
    assert left == sorted(left)
    inside = [slot.header.frame for slot in ring.abandon()[0]]
    assert sorted([*left, *dropped, *inside]) == list(range(put_in))


def test_three_threads_carry_every_frame_in_order() -> None:
    ring, _ = new_ring(slots=4, overload="block")
    left: list[int] = []

    def engine() -> None:
        while len(left) < 500:
            if slot := ring.take(0.05):
                ring.finish(slot)

    def publisher() -> None:
        while len(left) < 500:
            entry = ring.next(0.05)
            if isinstance(entry, Slot):
                left.append(entry.header.frame)
                ring.release(entry)

    threads = [threading.Thread(target=part) for part in (engine, publisher)]
    for thread in threads:
        thread.start()
    for index in range(500):
        put(ring, index)
    wait_for(lambda: len(left) == 500, "all frames leaving")
    for thread in threads:
        thread.join(5)
    assert left == list(range(500))
