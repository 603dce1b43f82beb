"""A stream's state in memory, and how a call gets it and leaves it.

A device whose calls are bound to fixed memory has it copied in before and out after (`Copied`); a
CPU, where a call may have any memory, reads one copy and writes another (`Swapped`): at 256x256 px
either copy is 3.6 MiB through the caches, a tenth of a small network's time for both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from scgn.backends.backend import Context, Movable
from scgn.deploy import DeployRecipe
from scgn.deploy.signature import NEW
from scgn.pipeline.device import Device, Stream
from scgn.stream.state import LONGEST, PROBE, STATE, state_shapes

ALIGNED = 64  # elements that each part begins at a multiple of: 256 bytes and more
Control = tuple[float, float, float, float]  # in the order of CONTROL


class State(Protocol):
    """One stream's; written and read on the compute stream alone."""

    @property
    def parts(self) -> dict[str, Tensor]:
        """By the names of STATE."""

    @property
    def bytes(self) -> int:
        """Memory that it takes."""


class Block:
    """In one piece of memory: one copy moves it all. whole: (elements,), what is in it not said;
    parts: views of it.
    """

    def __init__(self, recipe: DeployRecipe, device: torch.device) -> None:
        shapes = state_shapes(recipe.shape, recipe.batch)
        starts = [0]
        for name in STATE:
            starts.append(starts[-1] + -(-math.prod(shapes[name]) // ALIGNED) * ALIGNED)
        self.whole = torch.empty(starts[-1], dtype=recipe.wide, device=device)
        self.parts: dict[str, Tensor] = {
            name: self.whole[start : start + math.prod(shapes[name])].view(shapes[name])
            for name, start in zip(STATE, starts, strict=False)
        }

    @property
    def bytes(self) -> int:
        return self.whole.numel() * self.whole.element_size()


class Pair:
    """On a CPU: parts is what a call reads, made what it writes."""

    def __init__(self, recipe: DeployRecipe, device: torch.device) -> None:
        both = [Block(recipe, device) for _ in range(2)]
        self.parts, self.made = (block.parts for block in both)
        self.bytes = sum(block.bytes for block in both)

    def clear(self) -> None:
        """Know nothing."""
        for part in self.parts.values():
            part.zero_()

    def keep(self, names: Iterable[str]) -> None:
        """These parts are from now on what the last call made of them."""
        for name in names:
            self.parts[name], self.made[name] = self.made[name], self.parts[name]

    def named(self) -> dict[str, Tensor]:
        """What a context is bound to."""
        return self.parts | {NEW + name: part for name, part in self.made.items()}


@dataclass(frozen=True)
class Past:
    """What a call knows of its stream.

    state: replaced by what the call makes of it, or None when that is let go; fresh: begin from an
    empty state, whatever `state` holds, as without one; control: of the call; probe: of one before
    it on the same frame, of which PROBE alone is kept.
    """

    state: State | None
    fresh: bool
    control: Control
    probe: Control | None = None

    def calls(self) -> list[tuple[Control, tuple[str, ...]]]:
        """What each call is told, and which parts are kept of the state that it makes."""
        last = self.control, STATE
        return [last] if self.probe is None else [(self.probe, PROBE), last]


NO_PAST = Past(None, True, (2, 1, LONGEST, 0))  # a frame that belongs to no stream


@dataclass(frozen=True)
class Told:
    """A slot's context and what its calls are told. control: (1,4), its input; controls: a row for
    each call of a frame.
    """

    context: Context
    control: Tensor
    controls: Tensor


class Carrier(Protocol):
    """A temporal lane's way to bring state into calls and out of them."""

    def named(self) -> dict[str, Tensor]:
        """What each slot's context is bound to at first."""

    def new(self) -> State:
        """Memory for a stream's state, with anything in it."""

    def call(self, stream: Stream, told: Told, past: Past) -> None:
        """The calls of one frame, each from the state that the one before left."""


class Copied:
    """Contexts are bound to the lane's own memory. empty: a state that knows nothing, all of it one
    zero.
    """

    def __init__(self, recipe: DeployRecipe, device: torch.device) -> None:
        self._recipe, self._device = recipe, device
        self._given, self._made = self.new(), self.new()
        self._given.whole.zero_()
        self._made.whole.zero_()
        zero = torch.zeros(1, dtype=recipe.wide, device=device)
        self._empty = zero.expand_as(self._given.whole)

    def named(self) -> dict[str, Tensor]:
        return self._given.parts | {NEW + name: part for name, part in self._made.parts.items()}

    def new(self) -> Block:
        return Block(self._recipe, self._device)

    def call(self, stream: Stream, told: Told, past: Past) -> None:
        assert past.state is None or isinstance(past.state, Block)
        state, made = past.state, self._made
        before = self._empty if state is None or past.fresh else state.whole
        for place, (_, kept) in enumerate(past.calls()):
            stream.copy(told.control, told.controls[place : place + 1])
            stream.copy(self._given.whole, before)
            stream.enqueue(told.context)
            if state is not None and kept is STATE:
                stream.copy(state.whole, made.whole)
            elif state is not None:
                for name in kept:
                    stream.copy(state.parts[name], made.parts[name])


class Swapped:
    """Contexts take whatever memory the stream has: nothing is copied, and a call that fails leaves
    the state as it was.
    """

    def __init__(self, recipe: DeployRecipe, device: torch.device) -> None:
        self._recipe, self._device = recipe, device
        self._own = self.new()  # of frames without a stream
        self._own.clear()

    def named(self) -> dict[str, Tensor]:
        return self._own.named()

    def new(self) -> Pair:
        return Pair(self._recipe, self._device)

    def call(self, stream: Stream, told: Told, past: Past) -> None:
        pair = self._own if past.state is None else past.state
        assert isinstance(pair, Pair)
        assert isinstance(told.context, Movable)
        if past.fresh:
            pair.clear()
        for place, (_, kept) in enumerate(past.calls()):
            stream.copy(told.control, told.controls[place : place + 1])
            told.context.bind(pair.named())
            stream.enqueue(told.context)
            pair.keep(kept)


def carrier_on(device: Device, recipe: DeployRecipe) -> Carrier:
    """The way of that device; it may still be at it."""
    return (Swapped if device.inline else Copied)(recipe, device.device)
