"""OpenVINO on a CPU: the fastest of those measured (`benchmarks/bench_backends.py`)."""

from __future__ import annotations

import functools
import sys
from typing import Any

import torch
from torch import Tensor

from scgn.backends.backend import Context, Rebound, Tensors
from scgn.backends.from_onnx import FromOnnx
from scgn.deploy import Graph
from scgn.deploy.signature import Signature, signature_of

# OpenVINO reports its use over the network when it finds the package for it; an instrument's
# computer tells nobody what it does. Without the package it goes on silently.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


@functools.cache
def core(openvino: Any) -> Any:
    """The process' one ov::Core, for as long as the process lives.

    Its CPU plugin gives the thread that makes it a stack for signal handlers, and frees that stack
    in whichever thread drops the plugin last: the next signal then ended the process (SIGSEGV).
    """
    return openvino.Core()


class OpenVinoEngine:
    """A compiled model; each context is an inference request of its own on the caller's memory."""

    def __init__(self, signature: Signature, openvino: Any, model: Any) -> None:
        self.signature, self._openvino, self._model = signature, openvino, model

    def _shared(self, tensor: Tensor) -> Any:
        return self._openvino.Tensor(tensor.numpy(), shared_memory=True)

    def context(self, inputs: Tensors, outputs: Tensors) -> Context:
        request = self._model.create_infer_request()

        def take(name: str, tensor: Tensor) -> None:
            request.set_tensor(name, self._shared(tensor))

        names = (*self.signature.inputs, *self.signature.outputs)
        context = Rebound(request.infer, take)
        context.bind(dict(zip(names, (*inputs, *outputs), strict=True)))
        return context


class OpenVino(FromOnnx):
    """Convolutions of a `bfloat16` graph run in bfloat16 where the CPU has it."""

    name = "openvino"
    modules = ("openvino",)

    def version(self) -> str:
        return str(self.runtime().get_version())

    def has_bfloat16(self) -> bool:
        """Whether this CPU multiplies in bfloat16; elsewhere it would only round."""
        return "BF16" in core(self.runtime()).get_property("CPU", "OPTIMIZATION_CAPABILITIES")

    def load(
        self, built: bytes, graph: Graph, device: torch.device, threads: int
    ) -> OpenVinoEngine:
        openvino = self.runtime()
        settings = {
            "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": HINTS[graph.recipe.precision],
            "PERFORMANCE_HINT": "LATENCY",
        }
        plugin = core(openvino)
        model = plugin.compile_model(plugin.read_model(built), "CPU", settings)
        return OpenVinoEngine(signature_of(graph), openvino, model)
