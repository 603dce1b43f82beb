"""One frame through every CPU backend beside the eager network: ms, ratio, dB, seconds to build.

Host array to host array, uint16 in and float32 out, 256x256, every core, with threads that sleep
while they wait, as the service has them; backends take turns of some calls within one run and a
figure is the median of all its calls, so that what the machine does meets all alike. The first
calls of a turn do not count: the threads of the last one's runtime may still be about.
Frames are of one stream, whose state goes into each call and comes out of it.
`reference` is the network as PyTorch runs it (`scgn.denoise`), FFT and all; dB is the agreement
with it of a stream's fourth frame (peak to peak against root mean square difference).
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # read when torch is loaded

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.harness import arguments, save
from scgn.backends import backend_named
from scgn.backends.cache import EngineCache
from scgn.checkpoint import Checkpoint, load_network
from scgn.compile import compiled
from scgn.denoise import Denoiser
from scgn.deploy import DeployRecipe
from scgn.deploy.references import references
from scgn.pipeline import CpuDevice, Lane, Pipeline
from scgn.pipeline.device import Bytes
from scgn.pipeline.state import NO_PAST, Past
from scgn.stream.state import LONGEST

SIDE_PX = 256
TURN, WARM = 10, 3  # calls of a turn, and how many of them do not count
NETWORKS = ("tiny-clean", "compact-clean", "preview-clean")
WAYS = (("eager", "float32"), ("onnxruntime", "float32"), ("openvino", "float32"),
        ("openvino", "bfloat16"))  # fmt: skip
Call = Callable[[NDArray[Any]], NDArray[Any]]


def lattice(seed: int) -> NDArray[Any]:
    """A noisy lattice at 20 e/px, uint16."""
    rows, columns = np.mgrid[:SIDE_PX, :SIDE_PX]
    expected = 20 * (1.2 + np.sin(0.6 * columns) * np.sin(0.7 * rows))
    counts: NDArray[Any] = np.random.default_rng(seed).poisson(expected).astype("<u2")
    return counts


def way(
    checkpoint: Checkpoint, backend: str, precision: str, camera: str = "<u2", alone: bool = False
) -> tuple[Call, float]:
    """A call of one backend and what its first build took, s. alone: no frame knows of another."""
    shape = (SIDE_PX, SIDE_PX)
    recipe = DeployRecipe(shape, camera, precision=precision)  # type: ignore[arg-type]
    device, begun = CpuDevice(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        engine = compiled(
            checkpoint, recipe, backend_named(backend), device.device, EngineCache(Path(folder))
        )
    seconds = time.monotonic() - begun
    pipeline, lane = Pipeline(device), Lane(device, engine, recipe, slots=1)
    known, result = references(None, recipe.shape), device.host(4 * SIDE_PX**2)
    past = NO_PAST
    if lane.carrier is not None and not alone:
        past = Past(lane.carrier.new(), True, NO_PAST.control)

    def call(frame: NDArray[Any]) -> NDArray[Any]:
        nonlocal past
        pipeline.submit(lane, [frame], known, [result], past).wait()
        if past.state is not None:
            past = Past(past.state, False, (0, 1, LONGEST, 0))
        return _frame(result)

    return call, seconds


def _frame(result: Bytes) -> NDArray[Any]:
    return result.view(np.float32).reshape(SIDE_PX, SIDE_PX)


def agreement_db(got: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Peak to peak of what is wanted against the root mean square difference, dB."""
    difference = np.square(got.astype(np.float64) - wanted).mean()
    return round(float(10 * np.log10(np.ptp(wanted.astype(np.float64)) ** 2 / difference)), 1)


def turn(call: Call) -> list[float]:
    """Times of the calls of one turn that count, ms."""
    took = []
    for index in range(TURN):
        frame = lattice(index)
        begun = time.perf_counter()
        call(frame)
        took.append(1000 * (time.perf_counter() - begun))
    return took[WARM:]


def measured(network: str, turns: int) -> dict[str, Any]:
    """Each way of running one network, in turn."""
    checkpoint = load_network(network)
    denoiser = Denoiser(checkpoint, torch.device("cpu"))
    reference = denoiser.series() if denoiser.temporal else denoiser
    ways: dict[str, tuple[Call, float]] = {"reference": (reference, 0.0)}
    ways |= {f"{name} {precision}": way(checkpoint, name, precision) for name, precision in WAYS}
    fourth = {
        name: [call(lattice(i)).copy() for i in range(4)][3] for name, (call, _) in ways.items()
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    wanted = fourth.pop("reference")
    found = {name: agreement_db(got, wanted) for name, got in fourth.items()}
    for _ in range(turns):
        for name, (call, _) in ways.items():
            times[name] += turn(call)
    medians = {name: float(np.median(values)) for name, values in times.items()}
    return {
        name: {
            "ms": round(medians[name], 2),
            "times_reference": round(medians["reference"] / medians[name], 2),
            "agreement_db": found.get(name), "build_s": round(ways[name][1], 1),
        }
        for name in ways
    }  # fmt: skip


def main() -> None:
    """Measure; --save writes results/bench_backends.json."""
    args = arguments(__doc__).parse_args()
    begun, turns = time.monotonic(), 1 if args.quick else 4
    rows = {network: measured(network, turns) for network in NETWORKS}
    save("bench_backends", {"networks": rows}, time.monotonic() - begun)


if __name__ == "__main__":
    main()
