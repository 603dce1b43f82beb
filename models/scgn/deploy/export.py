"""The graph as programs: PyTorch's own, checked against a list of operations, and ONNX."""

from __future__ import annotations

import contextlib
import importlib
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from scgn.deploy.make import Graph
from scgn.deploy.recipe import DeployError
from scgn.deploy.references import NAMES, references
from scgn.deploy.signature import signature_of

OPSET = 20  # the first that may reflect-pad and pool every dtype we use
SMALL = 64  # numbers: constants up to there are folded

# What a graph may be made of: each is one layer, or folded away, in every compiler that we build
# for. No complex number, nothing in place, no shape that depends on data.
ALLOWED = frozenset(
    f"aten.{name}"
    for name in (
        "_assert_tensor_metadata.default", "_to_copy.default", "abs.default", "add.Tensor",
        "add.Scalar", "alias.default", "amax.default", "amin.default", "avg_pool2d.default",
        "bitwise_and.Tensor", "bmm.default", "cat.default", "clamp.default", "clone.default",
        "constant_pad_nd.default", "convolution.default", "cos.default", "div.Tensor",
        "eq.Scalar", "exp.default", "expand.default", "flip.default", "floor.default",
        "full_like.default", "ge.Scalar", "ge.Tensor", "gt.Scalar", "gt.Tensor",
        "index_select.default", "le.Scalar", "le.Tensor", "log.default", "lt.Scalar", "lt.Tensor",
        "max_pool2d_with_indices.default", "maximum.default", "mean.dim", "minimum.default",
        "mm.default", "mul.Scalar", "mul.Tensor", "neg.default", "permute.default",
        "pixel_shuffle.default", "pixel_unshuffle.default", "pow.Tensor_Scalar",
        "reciprocal.default", "reflection_pad2d.default",
        "relu.default", "round.default", "rsqrt.default", "select.int", "sigmoid.default",
        "sin.default", "slice.Tensor", "split_with_sizes.default", "sqrt.default", "squeeze.dims",
        "sub.Tensor", "sum.dim_IntList", "topk.default", "transpose.int", "unsqueeze.default",
        "view.default", "where.self",
    )
)  # fmt: skip
GETITEM = "<built-in function getitem>"


def sample(graph: Graph) -> tuple[Tensor, ...]:
    """Inputs of the right shapes and dtypes, in the graph's order: a frame of zeros, references
    that change nothing, a state that knows nothing.
    """
    recipe, signature = graph.recipe, signature_of(graph)
    known = references(None, recipe.shape).to(torch.device("cpu"), recipe.wide)
    return tuple(
        getattr(known, name) if name in NAMES else signature.blank(name, recipe)
        for name in graph.inputs
    )


def program(graph: Graph) -> ExportedProgram:
    """The graph as PyTorch exports it, decomposed; DeployError when it holds what it may not."""
    with quiet():
        exported = torch.export.export(graph, sample(graph), strict=False)
        lowered: ExportedProgram = exported.run_decompositions(decompositions())
    if odd := sorted(set(operations(lowered)) - ALLOWED):
        raise DeployError(f"graph: expected only {len(ALLOWED)} known operations, got {odd}")
    if found := complex_nodes(lowered):
        raise DeployError(f"graph: expected real numbers alone, got complex {found}")
    return lowered


def decompositions() -> dict[Any, Any]:
    """PyTorch's core table without what compilers rather have whole."""
    whole = ("pixel_shuffle", "pixel_unshuffle", "reflection_pad2d", "avg_pool2d")
    kept = {getattr(torch.ops.aten, name).default for name in whole}
    table: Any = torch.export.default_decompositions()
    return {target: rule for target, rule in table.items() if target not in kept}


def operations(exported: ExportedProgram) -> Counter[str]:
    """How often each operation stands in a program."""
    targets = (str(n.target) for n in exported.graph.nodes if n.op == "call_function")
    return Counter(target for target in targets if target != GETITEM)


def complex_nodes(exported: ExportedProgram) -> list[str]:
    """Names of what is complex in a program."""
    values = ((node.name, node.meta.get("val")) for node in exported.graph.nodes)
    return [name for name, value in values if isinstance(value, Tensor) and value.is_complex()]


def onnx_bytes(graph: Graph) -> bytes:
    """The graph in ONNX, weights inside; what goes in and out has the graph's own names.

    Of the exporter's own optimisation only what tells: shapes and axes as constants, where TensorRT
    looks for them, and what is the same once. The rest takes three times as long as the export
    itself, and no engine is faster for it: they all fold constants.
    """
    with quiet():
        exported = torch.onnx.export(
            graph, sample(graph), dynamo=True, opset_version=OPSET, verbose=False,
            input_names=list(graph.inputs), output_names=list(graph.outputs), optimize=False,
        )  # fmt: skip
    assert exported is not None
    tidied(exported.model)
    importlib.import_module("onnxscript.optimizer").fold_constants(
        exported.model, onnx_shape_inference=False, input_size_limit=SMALL, output_size_limit=SMALL
    )
    tidied(exported.model)
    content: bytes = exported.model_proto.SerializeToString()
    return content


def tidied(model: Any) -> None:
    """Constants as initialisers, and everything once; in place."""
    passes = importlib.import_module("onnx_ir.passes.common")
    for change in (
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.RemoveUnusedNodesPass(),
    ):
        change(model)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages that we do not use."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
