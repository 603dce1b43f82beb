"""Slots of one engine, and the three streams that all engines share.

    up       raw bytes of frame k+1      copy  -> event
    compute  frame k                     wait, graph replay -> event
    down     result of frame k-1         wait, copy -> event, which the ticket waits for

Nothing is allocated and nobody waits while frames are submitted; a late copy down never delays the
next launch. One thread submits; any one thread waits for tickets, in order.

A graph that knows a stream gets and leaves the stream's state (`scgn.pipeline.state`) on `compute`
as well: calls of one stream follow each other whatever is in flight.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scgn.backends import Engine
from scgn.deploy import DeployRecipe
from scgn.deploy.references import References, references
from scgn.pipeline.device import Bytes, Device, Event, as_bytes
from scgn.pipeline.state import NO_PAST, Past, Told, carrier_on
from scgn.stream.facts import CONTROL

Facts = NDArray[np.float32]
CALLS_MAX = 2  # of one frame: a probe's, and its own


class Slot:
    """Memory of one call under way, on the device and (facts, controls) on the host, and its own
    context. shared: the lane's tensors by name.
    """

    def __init__(
        self, device: Device, engine: Engine, recipe: DeployRecipe, shared: dict[str, Tensor]
    ) -> None:
        signature, where = engine.signature, device.device
        self.raw, self.denoised, self.facts = (
            signature.blank(name, recipe, where) for name in ("raw", "denoised", "facts")
        )
        self.host_facts = device.host(self.facts.numel() * self.facts.element_size())
        named = shared | {"raw": self.raw, "denoised": self.denoised, "facts": self.facts}
        controls = torch.zeros((CALLS_MAX, len(CONTROL)), device=where)
        self.host_controls = device.host(4 * controls.numel())
        control = named["control"] = signature.blank("control", recipe, where)
        inputs = [named[name] for name in signature.inputs]
        self.context = engine.context(inputs, [named[name] for name in signature.outputs])
        self.told = Told(self.context, control, controls)


class Lane:
    """One engine with `slots` calls in flight at most. References, and the state that goes in and
    out, are shared by its slots: only the compute stream writes and reads them, so a call has
    either the old ones or the new.
    """

    def __init__(self, device: Device, engine: Engine, recipe: DeployRecipe, slots: int) -> None:
        self.recipe, self.signature = recipe, engine.signature
        self.references = references(None, recipe.shape).to(device.device, recipe.wide)
        self.shown: References | None = None  # whose content the lane's references have
        self.carrier = carrier_on(device, recipe) if self.signature.temporal else None
        self.free: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        for _ in range(slots):
            self.free.put(Slot(device, engine, recipe, self._shared()))
        device.settle()

    def _shared(self) -> dict[str, Tensor]:
        return vars(self.references) | ({} if self.carrier is None else self.carrier.named())


@dataclass
class Ticket:
    """One call under way. `wait` is to be called once."""

    lane: Lane
    slot: Slot
    done: Event
    known: References  # a copy from them may be under way
    past: Past  # from and to its state as well
    settle: Callable[[], None]

    def wait(self) -> Facts:
        """Wait for the results in the host's memory; (batch, facts) of the lane's signature.

        The slot is free afterwards, also when the device reports an error here; DeviceLost when
        that error is there to stay.
        """
        try:
            self._over()
            wide = np.float64 if self.lane.recipe.precision == "float64" else np.float32
            facts = self.slot.host_facts.view(wide).reshape(self.lane.recipe.batch, -1)
            return facts.astype(np.float32)
        finally:
            self.lane.free.put(self.slot)

    def _over(self) -> None:
        try:
            self.done.wait()
        except RuntimeError:
            self.settle()
            raise


class Pipeline:
    """The three streams of one device; lanes are made beside it and used through it."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._up, self._compute, self._down = (device.stream() for _ in range(3))

    def submit(
        self,
        lane: Lane,
        frames: Sequence[NDArray[np.generic]],
        known: References,
        results: Sequence[Bytes],
        past: Past = NO_PAST,
    ) -> Ticket:
        """Enqueue one call: `recipe.batch` frames of the lane's shape and dtype.

        known: references on the device; results: host memory of each denoised frame; past: of a
        temporal lane's stream. Frames and results must stay until the ticket was waited for. Waits
        while all slots are in flight.
        """
        slot = lane.free.get()
        try:
            done = self._enqueue(lane, slot, frames, known, results, past)
        except BaseException:
            try:
                self._device.settle()  # nothing may be writing into the slot when it is given away
            finally:
                lane.free.put(slot)
            raise
        return Ticket(lane, slot, done, known, past, self._device.settle)

    def _enqueue(
        self,
        lane: Lane,
        slot: Slot,
        frames: Sequence[NDArray[np.generic]],
        known: References,
        results: Sequence[Bytes],
        past: Past,
    ) -> Event:
        for target, frame in zip(slot.raw, frames, strict=True):
            self._up.upload(target, as_bytes(frame))
        if lane.carrier is not None:
            self._tell(slot, past)
        self._compute.after(self._up.record())
        self._show(lane, known)
        if lane.carrier is None:
            self._compute.enqueue(slot.context)
        else:
            lane.carrier.call(self._compute, slot.told, past)
        self._down.after(self._compute.record())
        for pixels, source in zip(results, slot.denoised, strict=True):
            self._down.download(pixels, source)
        self._down.download(slot.host_facts, slot.facts)
        done: Event = self._down.record()
        return done

    def _tell(self, slot: Slot, past: Past) -> None:
        """Have what each of the frame's calls is told on its way to the device."""
        words = slot.host_controls.view(np.float32).reshape(CALLS_MAX, len(CONTROL))
        for row, (control, _) in zip(words, past.calls(), strict=False):
            row[:] = control
        self._up.upload(slot.told.controls, slot.host_controls)

    def _show(self, lane: Lane, known: References) -> None:
        """Have the lane's references say what `known` says, from this call on."""
        if lane.shown is known:
            return
        lane.shown = None  # should a copy fail, the next call copies all again
        names = lane.signature.inputs
        for target, source in zip(lane.references.of(names), known.of(names), strict=True):
            self._compute.copy(target, source)
        lane.shown = known
