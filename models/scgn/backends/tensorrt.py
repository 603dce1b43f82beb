"""TensorRT and TensorRT-RTX: one plan a graph, from ONNX, run raw; their Python APIs are one.

Strongly typed: precision stands in the graph, and TF32 is off, so that what the graph keeps in
float32 is float32. Everything is in ONE engine or the build fails: nothing falls back to PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from scgn.backends.backend import BackendError, Context, Progress, Tensors
from scgn.backends.from_onnx import FromOnnx
from scgn.backends.torched import captured
from scgn.deploy import Graph
from scgn.deploy.signature import Signature, signature_of

WORKSPACE_BYTES = 8 << 30


class PlanEngine:
    """A deserialised plan; each context is an execution context of its own, captured once.

    One TensorRT context must not serve two streams at a time, so slots never share one.
    """

    def __init__(self, signature: Signature, name: str, engine: Any, keep: tuple[Any, ...]) -> None:
        self.signature, self._name, self._engine, self._keep = signature, name, engine, keep

    def context(self, inputs: Tensors, outputs: Tensors) -> Context:
        context = self._engine.create_execution_context()
        if context is None:
            raise BackendError(f"backend {self._name}: no execution context (out of memory?)")
        names = (*self.signature.inputs, *self.signature.outputs)
        for name, tensor in zip(names, (*inputs, *outputs), strict=True):
            if not context.set_tensor_address(name, tensor.data_ptr()):
                raise BackendError(f"backend {self._name}: the plan has no tensor {name!r}")

        def run() -> None:
            if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
                raise BackendError(f"backend {self._name}: the plan could not be enqueued")

        return captured(run)


class Plans(FromOnnx):
    """What both have in common."""

    devices: tuple[str, ...] = ("cuda",)

    def build(self, graph: Graph, progress: Progress) -> bytes:
        content = super().build(graph, progress)
        progress("building the plan")
        return self.plan(content, progress)

    def plan(self, content: bytes, progress: Progress) -> bytes:
        """The serialised plan of an ONNX graph; BackendError with the parser's words."""
        trt = self.runtime()
        logger = trt.Logger(trt.Logger.ERROR)
        builder = trt.Builder(logger)
        probe = builder.create_network(self._flags(trt))  # its parser does not keep it alive
        progress(self._whole(trt.OnnxParser(probe, logger), content))
        network = builder.create_network(self._flags(trt))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse(content):
            raise BackendError(f"backend {self.name}: cannot parse the graph: {_errors(parser)}")
        plan = builder.build_serialized_network(network, self._config(trt, builder))
        if plan is None:
            raise BackendError(f"backend {self.name}: no plan was built; its log says why")
        return bytes(plan)

    def _whole(self, parser: Any, content: bytes) -> str:
        """How many engines the graph falls into; BackendError for more than one."""
        parser.supports_model_v2(content)
        parts = [parser.is_subgraph_supported(place) for place in range(parser.num_subgraphs)]
        nodes = sum(len(parser.get_subgraph_nodes(place)) for place in range(len(parts)))
        if parts != [True]:
            got = f"expected one engine, got {sum(parts)} and {len(parts) - sum(parts)} gaps"
            raise BackendError(f"backend {self.name}: {got}: {_errors(parser)}")
        return f"{nodes} nodes in {len(parts)} engine"

    def _flags(self, trt: Any) -> int:
        flags = trt.NetworkDefinitionCreationFlag
        return 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0

    def _config(self, trt: Any, builder: Any) -> Any:
        config = builder.create_builder_config()
        if hasattr(trt.BuilderFlag, "TF32"):
            config.clear_flag(trt.BuilderFlag.TF32)
        return config

    def load(self, built: bytes, graph: Graph, device: torch.device, threads: int) -> PlanEngine:
        trt = self.runtime()
        logger = trt.Logger(trt.Logger.ERROR)
        reader = trt.Runtime(logger)
        engine = reader.deserialize_cuda_engine(built)
        if engine is None:
            raise BackendError(f"backend {self.name}: the plan cannot be loaded on this device")
        return PlanEngine(signature_of(graph), self.name, engine, (reader, logger))


def _errors(parser: Any) -> str:
    return "; ".join(str(parser.get_error(place)) for place in range(parser.num_errors))


class TensorRt(Plans):
    """TensorRT, as torch-tensorrt brings it. Builds on the GPU that it will run on."""

    name = "tensorrt"
    modules = ("tensorrt",)

    def _config(self, trt: Any, builder: Any) -> Any:
        config = super()._config(trt, builder)
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
        return config


class TensorRtRtx(Plans):
    """TensorRT-RTX: builds without a GPU, and compiles its kernels where it is loaded.

    targets: names of compute capabilities that a plan is for; of a machine without a GPU all that
    the package knows from Ampere on.
    """

    name = "rtx"
    modules = ("tensorrt_rtx", "tensorrt_rtx_bindings")
    targets: Callable[[], tuple[str, ...]] = staticmethod(
        lambda: ("CURRENT",) if torch.cuda.is_available() else ("SM80", "SM86", "SM89", "SM120")
    )

    def _config(self, trt: Any, builder: Any) -> Any:
        config = super()._config(trt, builder)
        targets = self.targets()
        config.num_compute_capabilities = len(targets)
        for place, target in enumerate(targets):
            config.set_compute_capability(getattr(trt.ComputeCapability, target), place)
        return config
