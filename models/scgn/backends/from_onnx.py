"""What the backends that take ONNX have in common."""

from __future__ import annotations

from typing import Any

from scgn.backends.backend import Progress, runtime
from scgn.deploy import Graph
from scgn.deploy.export import onnx_bytes


class FromOnnx:
    """A runtime that is given the graph in ONNX. modules: names that its Python package goes by."""

    name: str
    modules: tuple[str, ...]
    devices: tuple[str, ...] = ("cpu",)
    keeps = True
    aside = True

    def runtime(self) -> Any:
        """The package; BackendError when it cannot be had."""
        return runtime(self.name, *self.modules)

    def version(self) -> str:
        return str(self.runtime().__version__)

    def build(self, graph: Graph, progress: Progress) -> bytes:
        self.version()  # no export for a runtime that is not there
        progress("exporting to ONNX")
        return onnx_bytes(graph)
