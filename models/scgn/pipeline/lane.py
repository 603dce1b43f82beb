"""Slots of one engine, and the three streams that all engines share.

    up       raw bytes of frame k+1      copy  -> event
    compute  frame k                     wait, graph replay -> event
    down     result of frame k-1         wait, copy -> event, which the ticket waits for

Nothing is allocated and nobody waits while frames are submitted; a late copy down never delays the
next launch. One thread submits; any one thread waits for tickets, in order.
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
from scgn.deploy.counts import OUT_DTYPES, RAW_DTYPES, out_shape, raw_shape
from scgn.deploy.graph import FACTS
from scgn.deploy.references import References, references
from scgn.pipeline.device import Bytes, Device, Event, as_bytes

Facts = NDArray[np.float32]


class Slot:
    """Memory of one call under way, on the device and (facts) on the host, and its own context."""

    def __init__(
        self, device: Device, engine: Engine, recipe: DeployRecipe, known: References
    ) -> None:
        where = device.device
        self.raw = torch.zeros(
            raw_shape(recipe), dtype=RAW_DTYPES[recipe.camera_dtype], device=where
        )
        self.denoised = torch.zeros(
            out_shape(recipe), dtype=OUT_DTYPES[recipe.output_dtype], device=where
        )
        self.facts = torch.zeros((recipe.batch, len(FACTS)), dtype=recipe.wide, device=where)
        self.host_facts = device.host(self.facts.numel() * self.facts.element_size())
        self.context = engine.context((self.raw, *known.tensors()), (self.denoised, self.facts))


class Lane:
    """One engine with `slots` calls in flight at most. References are shared by its slots: only the
    compute stream writes and reads them, so a call has either the old ones or the new.
    """

    def __init__(self, device: Device, engine: Engine, recipe: DeployRecipe, slots: int) -> None:
        self.recipe = recipe
        blank = references(None, recipe.shape)
        moved = [_on(tensor, device, recipe) for tensor in blank.tensors()]
        self.references = References(*moved)
        self.shown: References | None = None  # whose content the lane's references have
        self.free: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        for _ in range(slots):
            self.free.put(Slot(device, engine, recipe, self.references))
        device.settle()


def _on(tensor: Tensor, device: Device, recipe: DeployRecipe) -> Tensor:
    wide = recipe.wide if tensor.is_floating_point() else tensor.dtype
    return tensor.to(device.device, wide, copy=True)


@dataclass
class Ticket:
    """One call under way. `wait` is to be called once."""

    lane: Lane
    slot: Slot
    done: Event
    known: References  # a copy from them may be under way
    settle: Callable[[], None]

    def wait(self) -> Facts:
        """Wait for the results in the host's memory; (batch, 3), `scgn.deploy.graph.FACTS`.

        The slot is free afterwards, also when the device reports an error here; DeviceLost when
        that error is there to stay.
        """
        try:
            self._over()
            wide = np.float64 if self.lane.recipe.precision == "float64" else np.float32
            facts = self.slot.host_facts.view(wide).reshape(self.lane.recipe.batch, len(FACTS))
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
    ) -> Ticket:
        """Enqueue one call: `recipe.batch` frames of the lane's shape and dtype.

        known: references on the device; results: host memory of each denoised frame. Frames and
        results must stay until the ticket was waited for. Waits while all slots are in flight.
        """
        slot = lane.free.get()
        try:
            done = self._enqueue(lane, slot, frames, known, results)
        except BaseException:
            try:
                self._device.settle()  # nothing may be writing into the slot when it is given away
            finally:
                lane.free.put(slot)
            raise
        return Ticket(lane, slot, done, known, self._device.settle)

    def _enqueue(
        self,
        lane: Lane,
        slot: Slot,
        frames: Sequence[NDArray[np.generic]],
        known: References,
        results: Sequence[Bytes],
    ) -> Event:
        for target, frame in zip(slot.raw, frames, strict=True):
            self._up.upload(target, as_bytes(frame))
        self._compute.after(self._up.record())
        self._show(lane, known)
        self._compute.enqueue(slot.context)
        self._down.after(self._compute.record())
        for pixels, source in zip(results, slot.denoised, strict=True):
            self._down.download(pixels, source)
        self._down.download(slot.host_facts, slot.facts)
        done: Event = self._down.record()
        return done

    def _show(self, lane: Lane, known: References) -> None:
        """Have the lane's references say what `known` says, from this call on."""
        if lane.shown is known:
            return
        lane.shown = None  # should a copy fail, the next call copies all again
        for target, source in zip(lane.references.tensors(), known.tensors(), strict=True):
            self._compute.copy(target, source)
        lane.shown = known
