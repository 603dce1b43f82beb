"""Stage `engines`: every backend, network, side and precision; device time of one captured call.

dB are against the same graph in float64 on the same device and frame, peak-to-peak of that result.
A graph that takes a stream's state is given an empty one; copies of state are no part of a call
(`pipeline` has them). `denoiser` is the network as published, eager, from host array to host array.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from benchmarks.gpu import profiling
from benchmarks.gpu.clock import CpuClock, clock_of, summary
from benchmarks.gpu.probe import use_tf32
from benchmarks.gpu.reached import reached
from benchmarks.gpu.rows import NotHere, Row
from benchmarks.gpu.sitting import Stage, Step
from benchmarks.gpu.subjects import (
    SIDES_PX,
    checkpoint_named,
    cuda,
    engines_folder,
    inputs_of,
    lattice_frame,
    tell_first,
)

if TYPE_CHECKING:
    import torch

    from scgn.backends import Engine
    from scgn.deploy import DeployRecipe
    from scgn.deploy.recipe import Precision
    from scgn.pipeline.lane import Slot

NETWORKS = ("paper", "fast", "compact-clean")
BACKENDS = ("inductor", "tensorrt", "rtx", "eager")
DENOISER = "denoiser"
PRECISIONS = ("float16", "float32", "bfloat16", "tf32")
IN_TF32 = ("inductor", "eager", DENOISER)  # plans are strongly typed: their float32 is float32
REPEATS = 200
COMPILED_S, RUN_S = 120.0, 40.0


@dataclass(frozen=True)
class Case:
    """One row."""

    network: str
    side: int
    precision: str
    backend: str

    @property
    def key(self) -> str:
        """Its name."""
        return f"{self.network} {self.side} {self.precision} {self.backend}"

    @property
    def rank(self) -> tuple[Any, ...]:
        """The lower the sooner: half precision and the baseline it is compared with, then all."""
        at_goal = self.precision == "float16" or (
            self.precision == "float32" and self.backend in (DENOISER, "eager")
        )
        places = (SIDES_PX.index(self.side), PRECISIONS.index(self.precision))
        return not at_goal, NETWORKS.index(self.network), *places, self.backend == "eager"

    def recipe(self) -> DeployRecipe:
        """Of the graph; TF32 is a way to run one in float32."""
        from scgn.deploy import DeployRecipe

        named = "float32" if self.precision == "tf32" else self.precision
        return DeployRecipe((self.side, self.side), precision=cast("Precision", named))


def cases() -> list[Case]:
    """Those that mean something, the most wanted first."""
    backends = (*BACKENDS, DENOISER)
    found = itertools.starmap(Case, itertools.product(NETWORKS, SIDES_PX, PRECISIONS, backends))
    kept = [
        case for case in found
        if (case.precision != "tf32" or case.backend in IN_TF32)
        and (case.backend != DENOISER or case.precision in ("float32", "tf32"))
    ]  # fmt: skip
    return sorted(kept, key=lambda case: case.rank)


def steps(out: Path) -> dict[str, Step]:
    """All on the CUDA device."""
    return {
        case.key: Step(
            lambda case=case: measured(case, out, cuda()),  # type: ignore[misc]
            COMPILED_S if case.backend in ("inductor", "tensorrt") else RUN_S,
        )
        for case in cases()
    }


def measured(case: Case, out: Path, device: torch.device) -> Row:
    """The row of one case."""
    from scgn.backends import backend_named
    from scgn.backends.backend import why_not

    if case.backend == DENOISER:
        return published(case, out, device)
    if reason := why_not(backend_named(case.backend), device):
        raise NotHere(reason)
    use_tf32(False)
    exact = exact_result(case.network, case.side, out, device)
    begun = time.monotonic()
    slot = slot_of(engine_of(case, out, device), case, device)
    build_s = round(time.monotonic() - begun, 1)
    times = clock_of(device).times_ms(slot.context.enqueue, REPEATS if device.type == "cuda" else 3)
    kernels = len(profiling.on_device(slot.context.enqueue, device)) or None
    ms = summary(times)
    return {
        "ms": ms, "db": decibels(slot.denoised, exact), "kernels": kernels, "build_s": build_s,
        **reached(case.network, case.side, out, ms["median"], unfused(case)),
        "weights": checkpoint_named(case.network, out)[1],
    }  # fmt: skip


def unfused(case: Case) -> bool:
    """Whether every operation reads and writes memory, in float32."""
    return case.backend == "eager" and case.precision in ("float32", "tf32")


def engine_of(case: Case, out: Path, device: torch.device) -> Engine:
    """Built, or found where engines are kept, and loaded."""
    import torch

    from scgn.backends import backend_named
    from scgn.backends.cache import EngineCache
    from scgn.compile import compiled

    torch.compiler.reset()
    checkpoint, _ = checkpoint_named(case.network, out)
    cache = EngineCache(engines_folder())
    return compiled(checkpoint, case.recipe(), backend_named(case.backend), device, cache)


def slot_of(engine: Engine, case: Case, device: torch.device) -> Slot:
    """A call's memory with the frame in it, captured and warm."""
    from scgn.deploy.counts import as_raw
    from scgn.pipeline import CpuDevice, CudaDevice, Lane

    use_tf32(case.precision == "tf32")  # after loading, which sets what products may do
    where = CudaDevice(device) if device.type == "cuda" else CpuDevice()
    recipe = case.recipe()
    slot = Lane(where, engine, recipe, 1).free.get()
    slot.raw.copy_(as_raw(lattice_frame(case.side), recipe))
    tell_first(slot)
    where.settle()
    return slot


@lru_cache(maxsize=9)
def exact_result(network: str, side: int, out: Path, device: torch.device) -> torch.Tensor:
    """Of the same frame in float64."""
    import torch

    from scgn.backends.torched import on_device
    from scgn.deploy import DeployRecipe, deploy
    from scgn.deploy.counts import as_raw

    recipe = DeployRecipe((side, side), precision="float64")
    graph = on_device(deploy(checkpoint_named(network, out)[0], recipe), device)
    inputs = inputs_of(graph, as_raw(lattice_frame(side), recipe))
    with torch.inference_mode():
        denoised, *_ = graph(*(value.to(device) for value in inputs))
    return cast("torch.Tensor", denoised.cpu())


def decibels(result: torch.Tensor, exact: torch.Tensor) -> float | str:
    """PSNR, or what is wrong."""
    from scgn.metrics import psnr_db

    here = result.cpu()
    return round(psnr_db(here, exact), 1) if bool(here.isfinite().all()) else "not finite"


def published(case: Case, out: Path, device: torch.device) -> Row:
    """The network as it was trained, frame after frame; of a stream, where it knows one."""
    from scgn.denoise import Denoiser

    use_tf32(case.precision == "tf32")
    checkpoint, origin = checkpoint_named(case.network, out)
    denoiser = Denoiser(checkpoint, device)
    way = denoiser.series() if denoiser.temporal else denoiser
    work = partial(way, lattice_frame(case.side))
    times = CpuClock().times_ms(work, 50 if device.type == "cuda" else 2)
    checkpoint_named.cache_clear()  # its network has moved to the device
    return {"ms": summary(times), "host_to_host": True, "weights": origin}


STAGE = Stage("ms a call on the device", steps)
