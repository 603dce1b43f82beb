"""PyTorch itself: `eager`, operation by operation, and `inductor`, compiled by torch.compile."""

from __future__ import annotations

import copy
import threading
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scgn.backends.backend import Context, Progress, Rebound, Tensors
from scgn.deploy import Graph
from scgn.deploy.signature import Signature, signature_of

WARM_CALLS = 3  # before a capture: libraries pick their kernels and take their workspaces

# Held while a graph is captured and while a thread waits for the whole device: CUDA allows neither
# two captures of PyTorch's at a time, nor such a wait beside one, not even of another thread.
CAPTURING = threading.Lock()


class TorchEngine:
    """A callable of tensors; on CUDA every context is one captured graph (unless told not to)."""

    def __init__(
        self, signature: Signature, call: Callable[..., tuple[Tensor, ...]], device: torch.device,
        captures: bool = True,
    ) -> None:  # fmt: skip
        self.signature = signature
        self._call, self._captures = call, captures and device.type == "cuda"

    def context(self, inputs: Tensors, outputs: Tensors) -> Context:
        names = (*self.signature.inputs, *self.signature.outputs)
        named = dict(zip(names, (*inputs, *outputs), strict=True))

        def run() -> None:
            given = [named[name] for name in self.signature.inputs]
            with torch.inference_mode():
                for name, value in zip(self.signature.outputs, self._call(*given), strict=True):
                    named[name].copy_(value)

        return captured(run) if self._captures else Rebound(run, named.__setitem__)


@dataclass(frozen=True)
class Captured:
    """A CUDA graph, and what it was captured from: that holds the weights, constants and workspaces
    whose addresses stand in the graph.
    """

    graph: torch.cuda.CUDAGraph
    run: Callable[[], None]

    def enqueue(self) -> None:
        self.graph.replay()


def captured(run: Callable[[], None]) -> Context:
    """`run` as a CUDA graph of its own, replayed without Python, allocation or waiting.

    Captured on a side stream, in a mode that lets other threads of the process go on. The kernels
    keep that stream's priority: frames come before whatever else runs on the device, and streams of
    this priority are nobody else's.
    """
    stream = torch.cuda.Stream(priority=-1)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_CALLS):
            run()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with CAPTURING:
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            run()
    stream.synchronize()
    return Captured(graph, run)


def own_forward(graph: Graph) -> Callable[..., tuple[Tensor, ...]]:
    """The graph's forward as code of its own: of one code PyTorch compiles eight forms (shapes,
    precisions, weights) and refuses the ninth.
    """
    shared = type(graph).forward
    words = shared.__globals__, shared.__name__, shared.__defaults__, shared.__closure__
    own = types.FunctionType(shared.__code__.replace(), *words)
    return types.MethodType(own, graph)


def on_device(graph: Graph, device: torch.device) -> Graph:
    """A copy of the graph's weights and constants on a device, convolutions channels last."""
    moved = copy.deepcopy(graph).to(device)
    moved.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if device.type == "cuda":
        # Sums of half products in float32; what is to be float32 without TF32, which convolutions
        # have unless told otherwise.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True  # tried before the capture, so it costs no frame
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    return moved


class Torch:
    """What both have in common: PyTorch's version, and no build of ours to keep."""

    devices: tuple[str, ...] = ("cpu", "cuda")
    keeps = False

    def version(self) -> str:
        return torch.__version__

    def build(self, graph: Graph, progress: Progress) -> bytes:
        return b""


class Eager(Torch):
    """The graph as it stands: no build, so it runs while another backend builds; the reference.

    captures: make CUDA graphs; without, a context is there at once and every call costs more.
    """

    name = "eager"
    aside = False

    def __init__(self, captures: bool = True) -> None:
        self._captures = captures

    def load(self, built: bytes, graph: Graph, device: torch.device, threads: int) -> TorchEngine:
        return TorchEngine(signature_of(graph), on_device(graph, device), device, self._captures)


class Inductor(Torch):
    """torch.compile: kernels in Triton, or C++ on a CPU (minutes a shape there).

    What it compiles it keeps in a cache of its own; nothing of it is loaded from ours. Its own
    CUDA graphs assert when another thread calls than the one that warmed them (pytorch #123177).
    """

    name = "inductor"
    aside = True

    def load(self, built: bytes, graph: Graph, device: torch.device, threads: int) -> TorchEngine:
        options: dict[str, Any] = {"fullgraph": True, "dynamic": False}
        if device.type == "cuda":
            options["mode"] = "max-autotune-no-cudagraphs"
        call = torch.compile(own_forward(on_device(graph, device)), **options)
        return TorchEngine(signature_of(graph), call, device)
