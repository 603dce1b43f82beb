"""Frames through the network: submitted by one thread, completed in order by another.

One state (network and calibration) is read once per frame and replaced between two frames.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from scgn.calibration import Calibration
from scgn_live.ledger import Ledger
from scgn_live.logs import OncePerSecond
from scgn_live.processor import Pending, Processor, failed
from scgn_live.ring import Ring, Slot
from scgn_live.settings import Temporal

LOG = logging.getLogger(__name__)
TAKE_S = 0.2
BROKEN_MAX = 10
TRIAL_MAX = 3  # failures in a row that a new network may begin with

Array = NDArray[Any]


class EngineBroken(RuntimeError):
    """The network is beyond repair: the process must be made anew."""


@dataclass(frozen=True)
class EngineState:
    """Network and calibration of one frame; never changed, only replaced."""

    processor: Processor
    calibration: Calibration | None = None


@dataclass(frozen=True)
class UnderWay:
    """Frames of one call, in order, and what they were submitted with."""

    slots: list[Slot]
    pending: Pending
    calibration: str | None
    model: str


class Engine:
    """Takes frames from the ring and gives them back denoised or failed.

    `turn` submits, `complete` waits; each belongs to a thread of its own. At most `in_flight` calls
    are between the two. What is ready on submission, as on a CPU, is handed on at once.
    """

    def __init__(
        self,
        ring: Ring,
        ledger: Ledger,
        state: EngineState,
        seen: Sequence[Callable[[Slot], None]] = (),
        temporal: Temporal = "auto",
    ) -> None:
        self._ring = ring
        self._ledger = ledger
        self._state = state
        self._seen = seen  # shown every frame before it is submitted
        self._warn = OncePerSecond(LOG)
        self._broken = 0
        self._changing = threading.Lock()  # of the state; frames only read it
        self._fallback: Processor | None = None  # of a processor that is still on trial
        self.temporal = temporal  # what every processor is told
        self._room = threading.Semaphore(state.processor.in_flight)
        self._counting = threading.Lock()
        self._outstanding = 0  # calls in the queue, or being completed
        self._under_way: queue.SimpleQueue[UnderWay] = queue.SimpleQueue()
        self.taken_back: str | None = None  # the last network that failed its trial
        self.mismatched = 0  # frames that the active calibration does not fit
        self.mismatched_s: float | None = None  # when the last of them was (monotonic)

    @property
    def state(self) -> EngineState:
        return self._state

    def prepare(self, calibration: Calibration | None) -> None:
        """Do aside what the first frame would wait for; may raise, and nothing has changed then."""
        if calibration is not None:
            self._state.processor.prepare(calibration)

    def use_processor(self, processor: Processor) -> None:
        """Every frame taken from now on goes through this; frames under way are not touched.

        What ran before is kept until the new one has given a good frame: when its first frames all
        fail, they were its last. May raise, and nothing has changed then.
        """
        with self._changing:
            calibration = self._state.calibration
            if calibration is not None:
                processor.prepare(calibration)
            processor.set_temporal(self.temporal)  # another one than when it was built, maybe
            before, self._fallback = self._fallback, self._state.processor
            self._broken = 0
            self._state = EngineState(processor, calibration)
        if before is not None:
            before.close()

    def use_calibration(self, calibration: Calibration | None) -> None:
        """Every frame taken from now on is corrected with this; frames under way are not."""
        with self._changing:
            self._state = replace(self._state, calibration=calibration)

    def use_temporal(self, value: Temporal) -> None:
        """So many frames of a camera may be seen together from the next one on, by this network and
        by every later one.
        """
        with self._changing:
            if value == self.temporal:
                return  # a network may begin its memory anew when it is told
            for processor in filter(None, (self._state.processor, self._fallback)):
                processor.set_temporal(value)
            self.temporal = value

    # The submitting thread's.

    def turn(self) -> None:
        """Wait a moment for a frame and submit it; a bad frame is counted, not raised."""
        if not self._room.acquire(timeout=TAKE_S):
            return
        slot = self._ring.take(TAKE_S)
        if slot is None:
            self._room.release()
            return
        state = self._state
        slots = [slot, *self._more_like(slot, state.processor)]
        for show in self._seen:
            for each in slots:
                show(each)
        calibration = self._fitting(state, slots)
        pending = self._submitted(state.processor, slots, calibration)
        identity = None if calibration is None else calibration.id
        call = UnderWay(slots, pending, identity, state.processor.model)
        if pending.ready and self._outstanding == 0:
            # Nothing to wait for and nothing before it: the other thread would only cost a switch.
            self._hand_on(call)
        else:
            with self._counting:
                self._outstanding += 1
            self._under_way.put(call)

    def _more_like(self, slot: Slot, processor: Processor) -> list[Slot]:
        """Frames that may go with this one: only those that wait already, and only full batches."""
        batch = processor.batch_of(slot.raw)
        return self._ring.take_like(slot, batch - 1) if batch > 1 else []

    def _fitting(self, state: EngineState, slots: list[Slot]) -> Calibration | None:
        """The state's calibration where it is for frames of this shape."""
        calibration = state.calibration if state.processor.corrects else None
        if calibration is None or calibration.shape == slots[0].header.shape:
            return calibration
        self.mismatched += len(slots)
        self.mismatched_s = time.monotonic()
        expected, got = calibration.shape, slots[0].header.shape
        text = f"calibration {calibration.id} is for {expected}, frame is {got}: not corrected"
        self._warn.warn("calibration_shape", text)
        return None

    def _submitted(
        self, processor: Processor, slots: list[Slot], calibration: Calibration | None
    ) -> Pending:
        raws = [slot.raw for slot in slots]
        try:
            size = processor.result_bytes(raws[0])
            results = [slot.result_memory(size) for slot in slots]
            return processor.submit(raws, results, calibration, slots)
        except Exception as error:
            return failed(error, len(slots))

    # The completing thread's.

    def complete(self) -> None:
        """Wait a moment for the oldest call under way and hand its frames on."""
        try:
            call = self._under_way.get(timeout=TAKE_S)
        except queue.Empty:
            return
        try:
            self._hand_on(call)
        finally:
            with self._counting:
                self._outstanding -= 1

    def _hand_on(self, call: UnderWay) -> None:
        """Finish the frames of a call, in whichever thread has the oldest one."""
        results = self._results(call)
        reports = call.pending.reports or [None] * len(call.slots)
        for slot, result, report in zip(call.slots, results, reports, strict=True):
            slot.report = report
            self._finish(slot, result, call)
        self._room.release()
        for result in results:
            if isinstance(result, Exception) and getattr(result, "fatal", False):
                raise result  # the device will answer nothing more
        if self._broken >= BROKEN_MAX:
            raise EngineBroken(f"{BROKEN_MAX} frames in a row failed for no fault of their own")

    def _results(self, call: UnderWay) -> Sequence[Array | Exception]:
        try:
            return call.pending.wait()
        except Exception as error:
            return [error] * len(call.slots)

    def _finish(self, slot: Slot, result: Array | Exception, call: UnderWay) -> None:
        if isinstance(result, Exception):
            slot.failed = str(getattr(result, "reason", "engine_error"))
            self._warn.warn(slot.failed, f"frame {slot.header.frame} failed: {result!r}")
        else:
            slot.denoised = result
        slot.calibration, slot.model = call.calibration, call.model
        slot.engine = call.pending.word
        self._broken = self._broken + 1 if slot.failed == "engine_error" else 0
        self._try(call, good=slot.failed is None)
        self._ring.finish(slot)

    def _try(self, call: UnderWay, good: bool) -> None:
        """A processor on trial: the first good frame ends it, a few failures in a row do too."""
        if self._fallback is None or not (good or self._broken >= TRIAL_MAX):
            return
        with self._changing:
            fallback, failed = self._fallback, self._state.processor
            if fallback is None or call.model != failed.model:
                return
            self._fallback = None
            if not good:
                self._broken = 0
                self._state = replace(self._state, processor=fallback)
                self.taken_back = failed.model
                LOG.error("network taken back", extra={"model": failed.model})
        (fallback if good else failed).close()
