"""Half precision on a CPU as tensor cores do it: every operation in float32, its result rounded.

For proofs without a GPU: that a float16 graph loses little, and that no feature leaves its range.
Around the network's body every graph is in float32 anyway.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map

from scgn.deploy.export import decompositions, quiet
from scgn.deploy.make import Graph
from scgn.deploy.recipe import DeployError

HALF = torch.float16


@dataclass(frozen=True)
class Extremes:
    """The largest absolute half value met, infinite after an overflow (or NaN), and the node that
    gave it first.
    """

    largest: float
    node: str


class HalfInterpreter(fx.Interpreter):
    """Runs an exported graph; values that the export has in float16 are float16 between nodes."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.extremes = Extremes(0.0, "")

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """In float32, where anything is computed."""
        if _computes_nothing(target):
            return super().call_function(target, args, kwargs)
        wide_args, wide_kwargs = tree_map(_wide, (args, kwargs))
        return super().call_function(target, wide_args, wide_kwargs)

    def run_node(self, n: fx.Node) -> Any:
        result, known = super().run_node(n), n.meta.get("val")
        if not isinstance(result, Tensor) or not isinstance(known, Tensor):
            return result
        if known.dtype == HALF and not _computes_nothing(n.target):
            self._note(n.name, result.float())
        return result.to(known.dtype)  # rounds to float16 where the export has that

    def _note(self, name: str, value: Tensor) -> None:
        """What is largest once rounded, which keeps the order."""
        ends = torch.stack(value.aminmax()).to(HALF).float().abs()
        largest = math.inf if ends.isnan().any() else float(ends.max())
        if largest > self.extremes.largest:
            self.extremes = Extremes(largest, name)


def _computes_nothing(target: Any) -> bool:
    """Of an operation: a view, or an assertion about dtypes, which must see them as they are."""
    asserts = torch.ops.aten._assert_tensor_metadata.default
    return target is asserts or getattr(target, "is_view", False)


def _wide(value: Any) -> Any:
    """A half tensor in float32, anything else as it is."""
    return value.float() if isinstance(value, Tensor) and value.dtype == HALF else value


@torch.no_grad()
def emulated(graph: Graph, inputs: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], Extremes]:
    """What a float16 graph gives for its inputs, and the largest half value on the way.

    Raises DeployError for a graph of another precision.
    """
    if graph.recipe.precision != "float16":
        raise DeployError(f"precision: expected 'float16' to emulate, got {graph.recipe!r}")
    body = HalfBody(graph.body)
    # A copy of the graph alone, whose body is another: its weights are nobody's to write to.
    twin = copy.copy(graph)
    twin._modules = graph._modules | {"body": body}
    outputs: tuple[Tensor, ...] = tuple(twin(*inputs))
    return outputs, body.extremes


class HalfBody(nn.Module):
    """A graph's body, run in emulated half precision."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self._whole = [body]  # in a list: no module of this one
        self.extremes = Extremes(0.0, "")

    def forward(self, given: Tensor) -> Tensor:
        with quiet():
            exported = torch.export.export(self._whole[0], (given,), strict=False)
            module = exported.run_decompositions(decompositions()).module(check_guards=False)
        assert isinstance(module, fx.GraphModule)
        interpreter = HalfInterpreter(module)
        result: Tensor = interpreter.run(given)
        self.extremes = interpreter.extremes
        return result
