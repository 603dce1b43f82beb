"""From trained weights to an engine that is ready to run, and `scgn compile`, which keeps it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch

from scgn.backends import BACKENDS, Backend, Engine, backend_named, choose
from scgn.backends.backend import Progress, ignore
from scgn.backends.cache import EngineCache, default_folder, key_of
from scgn.backends.openvino import OpenVino
from scgn.checkpoint import Checkpoint, load_network
from scgn.deploy import DeployError, DeployRecipe, Graph, deploy
from scgn.deploy.export import onnx_bytes, sample
from scgn.deploy.recipe import CameraDtype, OutputDtype, Precision
from scgn.deploy.signature import signature_of

MIB = 2**20


@dataclass(frozen=True)
class Built:
    """What a backend made of a graph, not loaded yet; found: it was in the cache."""

    graph: Graph
    content: bytes
    found: bool


def built(
    checkpoint: Checkpoint,
    recipe: DeployRecipe,
    backend: Backend,
    device: torch.device,
    cache: EngineCache,
    progress: Progress = ignore,
) -> Built:
    """Build, or find in the cache. Seconds to minutes: never between two frames.

    DeployError for a network that the compilers do not take; BackendError from the backend.
    """
    graph = deploy(checkpoint, recipe)
    key = key_of(checkpoint, recipe, backend, device)
    content, found = cache.get(key, lambda: backend.build(graph, progress))
    return Built(graph, content, found)


def compiled(
    checkpoint: Checkpoint,
    recipe: DeployRecipe,
    backend: Backend,
    device: torch.device,
    cache: EngineCache,
    threads: int = 0,
    progress: Progress = ignore,
) -> Engine:
    """An engine on its device, ready for contexts; raises what `built` raises."""
    made = built(checkpoint, recipe, backend, device, cache, progress)
    progress("loading")
    return backend.load(made.content, made.graph, device, threads)


def shape_of(text: str) -> tuple[int, int]:
    """`512x512` (rows x columns, px) -> (512, 512); ArgumentTypeError otherwise."""
    rows, _, columns = text.lower().partition("x")
    if not (rows.isdigit() and columns.isdigit()):
        raise argparse.ArgumentTypeError(f"expected ROWSxCOLUMNS, got {text!r}")
    return int(rows), int(columns)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the verb."""
    parser.add_argument("--network", default="compact-clean", help="name or path")
    parser.add_argument("--backend", choices=["auto", *BACKENDS], default="auto")
    parser.add_argument("--size", type=shape_of, nargs="+", required=True, help="ROWSxCOLUMNS, px")
    parser.add_argument("--camera-dtype", choices=get_args(CameraDtype), default="<u2")
    parser.add_argument("--output-dtype", choices=get_args(OutputDtype), default="float32")
    parser.add_argument(
        "--precision", choices=get_args(Precision)[1:], help="default: the device's"
    )
    parser.add_argument("--batch", type=int, default=1, help="frames a call")
    parser.add_argument("--cache", type=Path, default=default_folder(), help="folder of engines")
    here = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=["cpu", "cuda"], default=here)
    parser.add_argument("--onnx", type=Path, help="also write the graph here, as ONNX")


def run(args: argparse.Namespace) -> int:
    """Compile each shape and say what came of it."""
    device = torch.device(args.device)
    # TensorRT-RTX builds without a GPU; only running needs one.
    apart = args.backend == "rtx" and device.type == "cpu"
    backend = backend_named("rtx") if apart else choose(args.backend, device).backend
    checkpoint = load_network(args.network)
    temporal = checkpoint.network.design.residual == "stream"
    precision = args.precision or default_precision(backend, device, temporal)
    for shape in args.size:
        recipe = DeployRecipe(shape, args.camera_dtype, args.output_dtype, precision, args.batch)
        if args.onnx is not None:
            write_onnx(args.onnx, checkpoint, recipe)
        begun = time.monotonic()
        made = built(checkpoint, recipe, backend, device, EngineCache(args.cache), _say(recipe))
        if not apart:
            run_once(backend.load(made.content, made.graph, device, 0), made.graph, device)
        ran = "not run (no GPU here)" if apart else "run once"
        print(line(checkpoint, made, backend, ran, time.monotonic() - begun), flush=True)
    return 0


def line(checkpoint: Checkpoint, made: Built, backend: Backend, ran: str, seconds: float) -> str:
    """What came of one shape."""
    recipe = made.graph.recipe
    return (
        f"{checkpoint.id} {recipe.shape[0]}x{recipe.shape[1]} {recipe.precision}: "
        f"{backend.name} {backend.version()}, {len(made.content) / MIB:.1f} MiB, "
        f"{'found' if made.found else 'built'} and {ran} in {seconds:.1f} s"
    )


def default_precision(backend: Backend, device: torch.device, temporal: bool = False) -> Precision:
    """The fastest that costs no visible digit: float16 on a GPU; on a CPU bfloat16 where OpenVINO
    and the CPU have it (`benchmarks/results/bench_precision.json`), else float32.

    temporal: OpenVINO takes all of a graph to bfloat16, running means included, which have three
    digits less there than a bright specimen has contrast: those stay in float32.
    """
    if temporal and isinstance(backend, OpenVino):
        return "float32"
    if device.type == "cuda" or "cpu" not in backend.devices:
        return "float16"
    return "bfloat16" if isinstance(backend, OpenVino) and backend.has_bfloat16() else "float32"


def write_onnx(path: Path, checkpoint: Checkpoint, recipe: DeployRecipe) -> None:
    """The graph as a file for other tools; DeployError when it cannot be written."""
    content = onnx_bytes(deploy(checkpoint, recipe))
    try:
        path.write_bytes(content)
    except OSError as error:
        raise DeployError(f"onnx: {path} cannot be written: {error.strerror}") from error


def run_once(engine: Engine, graph: Graph, device: torch.device) -> None:
    """One call on a frame of zeros: that it runs at all; Inductor compiles only then."""
    inputs = [tensor.to(device) for tensor in sample(graph)]
    outputs = signature_of(graph).blank_outputs(graph.recipe, device)
    engine.context(inputs, outputs).enqueue()
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _say(recipe: DeployRecipe) -> Callable[[str], None]:
    """Progress, a line each."""
    shape = f"{recipe.shape[0]}x{recipe.shape[1]}"
    return lambda text: print(f"scgn compile: {shape}: {text}", flush=True)
