"""ONNX Runtime on a CPU: where OpenVINO has no build."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from scgn.backends.backend import Bound, Context, Tensors
from scgn.backends.from_onnx import FromOnnx
from scgn.deploy import Graph
from scgn.deploy.signature import Signature, signature_of


class OnnxEngine:
    """A session; each context binds it to memory of its own."""

    def __init__(self, signature: Signature, session: Any) -> None:
        self.signature, self._session = signature, session

    def context(self, inputs: Tensors, outputs: Tensors) -> Context:
        binding = self._session.io_binding()
        for name, tensor in zip(self.signature.inputs, inputs, strict=True):
            binding.bind_input(*_place(name, tensor))
        for name, tensor in zip(self.signature.outputs, outputs, strict=True):
            binding.bind_output(*_place(name, tensor))
        session = self._session
        return Bound(lambda: session.run_with_iobinding(binding))


def _place(name: str, tensor: Tensor) -> tuple[Any, ...]:
    """How a session is told of a tensor's memory."""
    return name, "cpu", 0, tensor.numpy().dtype, tuple(tensor.shape), tensor.data_ptr()


class OnnxRuntime(FromOnnx):
    """The CPU provider."""

    name = "onnxruntime"
    modules = ("onnxruntime",)

    def load(
        self, built: bytes, graph: Graph, device: torch.device, threads: int
    ) -> OnnxEngine:
        onnxruntime = self.runtime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        session = onnxruntime.InferenceSession(built, options, providers)
        return OnnxEngine(signature_of(graph), session)
