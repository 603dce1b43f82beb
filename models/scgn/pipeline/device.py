"""Where a pipeline runs: CUDA's streams and events, or a CPU, where everything is done at once."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scgn.backends import Context
from scgn.backends.torched import CAPTURING

Bytes = NDArray[np.uint8]


class DeviceLost(RuntimeError):
    """The device answers nothing any more: only a new process gets it back."""

    fatal = True


class Event(Protocol):
    """A point of a stream."""

    def wait(self) -> None:
        """Have the calling thread wait until the stream has passed it."""


class Stream(Protocol):
    """Work that is done in order, beside that of other streams."""

    def after(self, event: Any) -> None:
        """What follows waits for the event of another stream."""

    def upload(self, target: Tensor, pixels: Bytes) -> None:
        """Host bytes into a device tensor of as many."""

    def download(self, pixels: Bytes, source: Tensor) -> None:
        """A device tensor into host bytes of as many."""

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Between device tensors."""

    def enqueue(self, context: Context) -> None:
        """One call of an engine."""

    def record(self) -> Any:
        """An event behind all work so far."""


class Device(Protocol):
    """What memory and streams come from. inline: work is done before its call returns."""

    device: torch.device
    inline: bool

    def stream(self) -> Stream:
        """A new stream."""

    def host(self, size: int) -> Bytes:
        """Host memory, bytes: page-locked where copies to a device want it."""

    def settle(self) -> None:
        """Wait for all work; DeviceLost when the device has failed for good."""


def as_bytes(array: NDArray[Any]) -> Bytes:
    """The bytes of a contiguous array; no copy."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def tensor_bytes(tensor: Tensor) -> Tensor:
    """The bytes of a contiguous tensor; no copy."""
    return tensor.view(-1).view(torch.uint8)


class Done:
    """An event that is always over."""

    def wait(self) -> None:
        """Not at all."""


class InlineStream:
    """A CPU's: each piece of work is done before the next line runs."""

    def after(self, event: Any) -> None:
        """It is over."""

    def upload(self, target: Tensor, pixels: Bytes) -> None:
        np.copyto(tensor_bytes(target).numpy(), pixels)

    def download(self, pixels: Bytes, source: Tensor) -> None:
        np.copyto(pixels, tensor_bytes(source).numpy())

    def copy(self, target: Tensor, source: Tensor) -> None:
        target.copy_(source)

    def enqueue(self, context: Context) -> None:
        context.enqueue()

    def record(self) -> Done:
        return Done()


class CpuDevice:
    """The CPU; the engine's own threads are its parallelism."""

    device, inline = torch.device("cpu"), True

    def stream(self) -> InlineStream:
        return InlineStream()

    def host(self, size: int) -> Bytes:
        return np.empty(size, np.uint8)

    def settle(self) -> None:
        """Nothing is under way."""


class CudaEvent:
    """Waited for without spinning: the interpreter lock and the core go to other threads."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self.event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self.event.record(stream)

    def wait(self) -> None:
        self.event.synchronize()


class CudaStream:
    """One CUDA stream. Host bytes are page-locked, so copies go beside everything else.

    Of another priority than the streams that graphs are captured on: PyTorch has 32 streams of each
    and gives them out in turn, so that one of this pipeline's could be under capture otherwise.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def after(self, event: CudaEvent) -> None:
        self._stream.wait_event(event.event)

    def upload(self, target: Tensor, pixels: Bytes) -> None:
        with torch.cuda.stream(self._stream):
            tensor_bytes(target).copy_(torch.from_numpy(pixels), non_blocking=True)

    def download(self, pixels: Bytes, source: Tensor) -> None:
        with torch.cuda.stream(self._stream):
            torch.from_numpy(pixels).copy_(tensor_bytes(source), non_blocking=True)

    def copy(self, target: Tensor, source: Tensor) -> None:
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)

    def enqueue(self, context: Context) -> None:
        with torch.cuda.stream(self._stream):
            context.enqueue()

    def record(self) -> CudaEvent:
        return CudaEvent(self._stream)


class CudaDevice:
    """One CUDA device."""

    inline = False

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def stream(self) -> CudaStream:
        return CudaStream(self.device)

    def host(self, size: int) -> Bytes:
        # Allocated once and kept: page-locking takes longer than many a frame.
        pinned = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        return np.asarray(pinned.numpy())

    def settle(self) -> None:
        try:
            with CAPTURING:
                torch.cuda.synchronize(self.device)
        except RuntimeError as error:  # an error of the past, still there: no call will work again
            raise DeviceLost(f"{self.device}: {error}") from error


def device_named(name: str) -> CpuDevice | CudaDevice:
    """`cpu`, `cuda`, or `auto`: CUDA where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return CpuDevice() if name == "cpu" else CudaDevice(torch.device(name))
