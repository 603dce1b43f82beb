"""ONNX Runtime on a CPU: where OpenVINO has no build."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from scgn.backends.backend import Context, Rebound, Tensors
from scgn.backends.from_onnx import FromOnnx
from scgn.deploy import Graph
from scgn.deploy.signature import Signature, signature_of


class OnnxEngine:
    """A session; each context binds it to memory of its own."""

    def __init__(self, signature: Signature, session: Any) -> None:
        self.signature, self._session = signature, session

    def context(self, inputs: Tensors, outputs: Tensors) -> Context:
        session, signature = self._session, self.signature
        binding = session.io_binding()

        def take(name: str, tensor: Tensor) -> None:
            put = binding.bind_input if name in signature.inputs else binding.bind_output
            put(*_place(name, tensor))

        context = Rebound(lambda: session.run_with_iobinding(binding), take)
        names = (*signature.inputs, *signature.outputs)
        context.bind(dict(zip(names, (*inputs, *outputs), strict=True)))
        return context


def _place(name: str, tensor: Tensor) -> tuple[Any, ...]:
    """How a session is told of a tensor's memory."""
    return name, "cpu", 0, tensor.numpy().dtype, tuple(tensor.shape), tensor.data_ptr()


class OnnxRuntime(FromOnnx):
    """The CPU provider."""

    name = "onnxruntime"
    modules = ("onnxruntime",)

    def load(self, built: bytes, graph: Graph, device: torch.device, threads: int) -> OnnxEngine:
        onnxruntime = self.runtime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        session = onnxruntime.InferenceSession(built, options, providers)
        return OnnxEngine(signature_of(graph), session)
