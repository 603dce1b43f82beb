"""A device that needs none: streams in virtual time, and what the service puts on top of it.

Work is done when somebody waits for it, not when it is submitted, and in any order that streams and
events allow. A slot reused too early, or memory that changes while a copy is under way, shows as
wrong pixels; how much overlapped is read off the record.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scgn.backends.backend import Bound, Context, Tensors
from scgn.calibration import Calibration, build_calibration
from scgn.deploy import DeployRecipe
from scgn.deploy.counts import counts_of, pixels_of
from scgn.deploy.graph import INPUTS, OUTPUTS
from scgn.deploy.references import References, references
from scgn.deploy.signature import Signature
from scgn.pipeline import DeviceLost, Lane, Pipeline, Ticket
from scgn.pipeline.device import Bytes, tensor_bytes

Array = Any
Shape = tuple[int, int]
Range = tuple[float, float]
NEVER = 1 << 60
FAVOUR = 0.8  # chance that the stream which went last goes on: it runs far ahead of the others


def nothing() -> None:
    """Waits and events take no time and do nothing."""


@dataclass
class FakeEvent:
    """A point of a stream; end: in virtual time, once passed; failed: so did the work before it."""

    device: FakeDevice
    passed: bool = False
    end: float = 0.0
    failed: str | None = None

    def wait(self) -> None:
        self.device.wait(self)


@dataclass
class Work:
    """One piece of a stream: work, a wait for an event (`after`) or an event of its own."""

    kind: str
    submitted: float
    action: Callable[[], None] = nothing
    after: FakeEvent | None = None
    event: FakeEvent | None = None


@dataclass(frozen=True)
class Done:
    """A line of the record; times are virtual."""

    stream: int
    kind: str
    start: float
    end: float


@dataclass
class FakeStream:
    """A queue of work. failed: a call in it broke, and the next event has to say so."""

    device: FakeDevice
    number: int
    queue: deque[Work] = field(default_factory=deque)
    clock: float = 0.0
    failed: str | None = None

    def after(self, event: FakeEvent) -> None:
        self.device.submit(self, "after", after=event)

    def upload(self, target: Tensor, pixels: Bytes) -> None:
        self.device.submit(self, "upload", lambda: np.copyto(tensor_bytes(target).numpy(), pixels))

    def download(self, pixels: Bytes, source: Tensor) -> None:
        self.device.submit(
            self, "download", lambda: np.copyto(pixels, tensor_bytes(source).numpy())
        )

    def copy(self, target: Tensor, source: Tensor) -> None:
        self.device.submit(self, "copy", lambda: copied(target, source))

    def enqueue(self, context: Context) -> None:
        self.device.submit(self, "compute", self.device.call(context))

    def record(self) -> FakeEvent:
        event = FakeEvent(self.device)
        self.device.submit(self, "record", event=event)
        return event

    @property
    def ready(self) -> bool:
        """Whether its next piece of work may be done."""
        if not self.queue:
            return False
        awaited = self.queue[0].after
        return awaited is None or awaited.passed


def copied(target: Tensor, source: Tensor) -> None:
    target.copy_(source)


class FakeDevice:
    """A device of virtual time.

    takes: how long a piece of each kind takes, drawn between the two; fails: numbers of the calls
    of engines that break, each for itself; lost_from: the call at which the device is gone.
    """

    device, inline = torch.device("cpu"), False

    def __init__(
        self,
        seed: int = 0,
        takes: dict[str, Range] | None = None,
        fails: Sequence[int] = (),
        lost_from: int = NEVER,
    ) -> None:
        self._random = random.Random(seed)
        self._takes = takes or {}
        self._fails, self._lost_from = frozenset(fails), lost_from
        self._lock = threading.RLock()
        self._streams: list[FakeStream] = []
        self._calls = 0
        self._last: FakeStream | None = None
        self._running = threading.Event()
        self._running.set()
        self.lost = False
        self.now = 0.0  # the host's clock: it stands but for waits
        self.record: list[Done] = []

    # The protocol.

    def stream(self) -> FakeStream:
        self._streams.append(FakeStream(self, len(self._streams)))
        return self._streams[-1]

    def host(self, size: int) -> Bytes:
        return np.full(size, 0xA5, np.uint8)

    def settle(self) -> None:
        self._running.wait()
        with self._lock:
            while any(stream.queue for stream in self._streams):
                self._go_on_or_fail()
            self.now = max([self.now, *(stream.clock for stream in self._streams)])
            if self.lost:
                raise DeviceLost("fake device: gone")

    # Tests'.

    def hold(self) -> None:
        """Whoever waits from now on waits until `go_on`."""
        self._running.clear()

    def go_on(self) -> None:
        self._running.set()

    def done(self, kind: str) -> list[Done]:
        """The record of one kind, by start."""
        return sorted((d for d in self.record if d.kind == kind), key=lambda d: d.start)

    # Streams' and events'.

    def submit(
        self,
        stream: FakeStream,
        kind: str,
        action: Callable[[], None] = nothing,
        after: FakeEvent | None = None,
        event: FakeEvent | None = None,
    ) -> None:
        with self._lock:
            if self.lost:
                raise RuntimeError("fake device: submitted to a device that is gone")
            stream.queue.append(Work(kind, self.now, action, after, event))
            if self._running.is_set() and self._random.random() < 0.1:
                self._step()

    def call(self, context: Context) -> Callable[[], None]:
        """The next call of an engine, which may be one that breaks."""
        number = self._calls
        self._calls += 1

        def run() -> None:
            self.lost = self.lost or number >= self._lost_from
            if self.lost or number in self._fails:
                raise RuntimeError(f"fake device: call {number} failed")
            context.enqueue()

        return run

    def wait(self, event: FakeEvent) -> None:
        self._running.wait()
        with self._lock:
            while not event.passed:
                self._go_on_or_fail()
            self.now = max(self.now, event.end)
            if self.lost:
                raise RuntimeError("fake device: waited for a device that is gone")
            if event.failed is not None:
                raise RuntimeError(event.failed)

    def _go_on_or_fail(self) -> None:
        if not self._step():
            raise AssertionError("streams wait for each other")

    def _step(self) -> bool:
        """Do one piece of work of any stream whose turn it may be; False when there is none."""
        ready = [stream for stream in self._streams if stream.ready]
        if not ready:
            return False
        if self._last not in ready or self._random.random() > FAVOUR:
            self._last = self._random.choice(ready)
        stream = self._last
        assert stream is not None
        self._do(stream, stream.queue.popleft())
        return True

    def _do(self, stream: FakeStream, work: Work) -> None:
        if work.after is not None:
            stream.clock = max(stream.clock, work.after.end)
            stream.failed = stream.failed or work.after.failed
        elif work.event is not None:
            work.event.end, work.event.failed, work.event.passed = stream.clock, stream.failed, True
            stream.failed = None
        else:
            start = max(stream.clock, work.submitted)
            stream.clock = start + self._random.uniform(*self._takes.get(work.kind, (0.0, 0.0)))
            self.record.append(Done(stream.number, work.kind, start, stream.clock))
            self._act(stream, work)

    def _act(self, stream: FakeStream, work: Work) -> None:
        if self.lost:
            return
        try:
            work.action()
        except RuntimeError as error:  # told by the event behind it, as a real one does
            stream.failed = str(error)


# ---- What it computes ----


class FakeEngine:
    """denoised = (counts - dark) * gain; facts: its least, its range, its mean."""

    signature = Signature(INPUTS, OUTPUTS)

    def __init__(self, recipe: DeployRecipe) -> None:
        self._recipe = recipe

    def context(self, inputs: Tensors, outputs: Tensors) -> Context:
        return Bound(lambda: self._run(inputs, outputs))

    def _run(self, inputs: Tensors, outputs: Tensors) -> None:
        raw, dark, gain, *_ = inputs
        counts = counts_of(raw, self._recipe.camera_dtype, torch.float64)
        shown = (counts - dark) * gain
        outputs[0].copy_(pixels_of(shown, self._recipe.output_dtype))
        low, high = shown.amin((1, 2)), shown.amax((1, 2))
        outputs[1].copy_(torch.stack((low, high - low, shown.mean((1, 2))), 1))


def expected(raw: Array, calibration: Calibration | None) -> tuple[Array, Array]:
    """What a FakeEngine makes of one frame: the denoised frame and its facts, both float32."""
    shown = raw.astype(np.float64)
    if calibration is not None:
        assert calibration.dark is not None
        assert calibration.gain is not None
        shown = (shown - calibration.dark) * np.where(calibration.mask, 0, calibration.gain)
    facts = np.array([shown.min(), np.ptp(shown), shown.mean()])
    return shown.astype(np.float32), facts.astype(np.float32)


def any_calibration(seed: int, shape: Shape) -> Calibration:
    """Random references of whole numbers, so that results are exact."""
    rng = np.random.default_rng((seed, *shape))
    dark, gain = rng.integers(0, 50, shape), rng.integers(1, 4, shape)
    return build_calibration(dark.astype(float), gain.astype(float), None, "multiply")


def lane_on(device: FakeDevice, shape: Shape, dtype: Any, batch: int, slots: int) -> Lane:
    """A lane that computes what `expected` says."""
    recipe = DeployRecipe(shape, dtype, batch=batch)
    return Lane(device, FakeEngine(recipe), recipe, slots)


# ---- A processor of the service ----


@dataclass
class Call:
    """Frames of one call under way."""

    ticket: Ticket
    results: Sequence[Bytes]
    word: str = "cpu"
    ready: bool = False
    reports: Sequence[None] = ()

    def wait(self) -> list[Array]:
        self.ticket.wait()
        shape = self.ticket.lane.recipe.shape
        return [pixels.view(np.float32).reshape(shape) for pixels in self.results]


class OnFakeDevice:
    """The service's Processor on a pipeline of a fake device; sizes: frames of every call."""

    model, word, corrects = "fake", "cpu", True

    def __init__(self, device: FakeDevice, in_flight: int = 4, batch: int = 1) -> None:
        self.in_flight, self._batch, self._device = in_flight, batch, device
        self.host: Callable[[int], Bytes] | None = device.host
        self._pipeline = Pipeline(device)
        self._lanes: dict[tuple[Shape, str, int], Lane] = {}
        self._known: dict[tuple[str | None, Shape], References] = {}
        self.sizes: list[int] = []

    def prepare(self, calibration: Calibration) -> None:
        self._references(calibration, calibration.shape)

    def have_lane(self, shape: Shape, dtype: str, batch: int) -> Lane:
        """The lane of that kind, made if need be."""
        key = shape, dtype, batch
        if key not in self._lanes:
            self._lanes[key] = lane_on(self._device, shape, dtype, batch, self.in_flight)
        return self._lanes[key]

    def slots_free(self) -> bool:
        """Whether no slot of any lane is in flight."""
        return all(lane.free.qsize() == self.in_flight for lane in self._lanes.values())

    def _references(self, calibration: Calibration | None, shape: Shape) -> References:
        key = None if calibration is None else calibration.id, shape
        if key not in self._known:
            self._known[key] = references(calibration, shape)
        return self._known[key]

    def batch_of(self, raw: Array) -> int:
        return self._batch

    def result_bytes(self, raw: Array) -> int:
        return 4 * raw.size

    def submit(
        self,
        raws: Sequence[Array],
        results: Sequence[Bytes],
        calibration: Calibration | None,
        slots: Sequence[Any] = (),
    ) -> Call:
        self.sizes.append(len(raws))
        shape = raws[0].shape
        lane = self.have_lane(shape, raws[0].dtype.str, len(raws))
        known = self._references(calibration, shape)
        return Call(self._pipeline.submit(lane, raws, known, results), results)

    def set_temporal(self, value: Any) -> None:
        """Each frame is alone."""

    def status(self) -> dict[str, Any]:
        return {"name": self.model, "why": "for tests", "lanes": []}

    def close(self) -> None:
        """Nothing runs beside."""
