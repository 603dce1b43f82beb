"""The protocol of a backend: build a graph once, load it, bind it to fixed memory, enqueue it."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from scgn.deploy import Graph
from scgn.deploy.signature import Signature

Tensors = Sequence[Tensor]
Progress = Callable[[str], None]


class BackendError(RuntimeError):
    """A backend cannot be had, build or load here; the message says which and why."""


class Context(Protocol):
    """One engine bound to fixed inputs and outputs: one slot's own."""

    def enqueue(self) -> None:
        """Have the outputs made from the inputs: on the current stream, or at once on a CPU.

        On a CUDA device it neither allocates nor waits.
        """


@runtime_checkable
class Movable(Context, Protocol):
    """A context whose memory may be another for the next call, as a CPU's."""

    def bind(self, tensors: Mapping[str, Tensor]) -> None:
        """Take these, of the same shapes and dtypes, for the inputs and outputs of their names."""


class Engine(Protocol):
    """A compiled graph on its device."""

    signature: Signature

    def context(self, inputs: Tensors, outputs: Tensors) -> Context:
        """Bind to memory that stays: tensors in the order of the signature's names.

        On CUDA it warms up and captures: call it at start or aside, never between frames.
        """


class Backend(Protocol):
    """One runtime. name: in settings and on the wire; devices: where it runs; keeps: whether
    `build` makes something to keep; aside: whether its work is worth a process of its own.
    """

    name: str
    devices: tuple[str, ...]
    keeps: bool
    aside: bool

    def version(self) -> str:
        """Of the runtime; another version builds anew. BackendError when it cannot be had."""

    def build(self, graph: Graph, progress: Progress) -> bytes:
        """What `load` needs, to be kept on disk; empty where nothing can be kept."""

    def load(self, built: bytes, graph: Graph, device: torch.device, threads: int) -> Engine:
        """The engine of what `build` made of the same graph. threads: CPU threads, 0 for all."""


def runtime(backend: str, *modules: str) -> ModuleType:
    """The first of the modules that imports; BackendError says why none did.

    A runtime whose libraries are missing raises OSError as often as ImportError.
    """
    reasons = []
    for module in modules:
        try:
            return importlib.import_module(module)
        except (ImportError, OSError) as error:
            reasons.append(f"{module}: {error}")
    raise BackendError(f"backend {backend}: {'; '.join(reasons)}")


def why_not(backend: Backend, device: torch.device) -> str | None:
    """Why a backend cannot run on a device; None when it can."""
    if device.type not in backend.devices:
        return f"runs on {' or '.join(backend.devices)}, not on {device.type}"
    if device.type == "cuda" and not torch.cuda.is_available():
        return "no CUDA device on this machine"
    try:
        backend.version()
    except BackendError as error:
        return str(error)
    return None


@dataclass(frozen=True)
class Bound:
    """A context that calls `run`."""

    run: Callable[[], None]

    def enqueue(self) -> None:
        self.run()


@dataclass(frozen=True)
class Rebound(Bound):
    """One that may be moved, tensor by tensor, with `take`."""

    take: Callable[[str, Tensor], None]

    def bind(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            self.take(name, tensor)


def word_on(backend: Backend, device: torch.device, precision: str) -> str:
    """How the wire says that a frame ran: `<backend>/<version>/<precision>[/<device>]`, so that a
    recording can be run again. The device is a GPU's name; versions without what a build adds.
    """
    release = re.match(r"[\w.]+", backend.version())
    words = [backend.name, release[0] if release else "unknown", precision]
    if device.type == "cuda":
        words.append(torch.cuda.get_device_name(device))
    return "/".join(words)


def ignore(_: str) -> None:
    """Progress that nobody wants to see."""
