"""Stage `pipeline`: frames from host memory to host memory with 1 to 4 calls in flight.

Frames of a network with a memory are of one stream. Its state is copied into each call and out of
it, and every eighth frame has a second call before its own, as in the service with `temporal` of
`auto`; such frames never share a call.

One thread submits, another waits. Latency ends with the result in host memory and begins when the
frame was due at a rate; flat out at its submission, which may wait for a slot.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.gpu import profiling
from benchmarks.gpu.clock import summary
from benchmarks.gpu.probe import use_tf32
from benchmarks.gpu.rows import NotHere, Row
from benchmarks.gpu.sitting import Stage, Step
from benchmarks.gpu.subjects import (
    SIDES_PX,
    checkpoint_named,
    cuda,
    engines_folder,
    is_temporal,
    lattice_frame,
)

if TYPE_CHECKING:
    import torch

    from scgn.backends import Engine
    from scgn.deploy import DeployRecipe
    from scgn.pipeline import CpuDevice, CudaDevice
    from scgn.pipeline.state import Past

NETWORKS, SLOTS = ("paper", "fast"), (3, 2, 1, 4)
SPAN_S, CALLS_MIN, CALLS_MAX = 4.0, 60, 4000  # of one run
WINDOW = 100  # calls under the profiler
SHARE, ROW_S = 0.8, 60.0  # of the rate flat out; that a call must have left
SWITCH_INTERVAL_S = 5e-4  # as the service has it
PROBE_EVERY = 8  # so does its tracker


@dataclass(frozen=True)
class Case:
    """One row."""

    network: str
    side: int
    batch: int
    slots: int

    @property
    def key(self) -> str:
        """Its name."""
        return f"{self.network} {self.side} batch {self.batch} slots {self.slots}"


def cases() -> list[Case]:
    """Three slots, which the service has, first."""
    return [
        Case(network, side, 1, slots)
        for slots in SLOTS for network in NETWORKS for side in SIDES_PX
    ]  # fmt: skip


def steps(out: Path) -> dict[str, Step]:
    """All on the CUDA device; a process builds each engine once."""
    return {
        case.key: Step(lambda case=case: measured(case, out, cuda()), ROW_S)  # type: ignore[misc]
        for case in cases()
    }


def measured(case: Case, out: Path, device: torch.device) -> Row:
    """Flat out, then at a share of that rate, then a window under the profiler."""
    if case.batch > 1 and is_temporal(case.network, out):
        raise NotHere("frames of a network with a memory never share a call")
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    use_tf32(False)
    backend, engine, recipe = engine_of(case.network, case.side, case.batch, out, device)
    runner = Runner(engine, recipe, case.slots, device)
    count = runner.count_for(SPAN_S if device.type == "cuda" else 0.05)
    flat_out = runner.run(count)
    paced = runner.run(count, SHARE * flat_out.calls_s)
    window = profiling.on_device(lambda: runner.run(WINDOW if device.type == "cuda" else 4), device)
    return {
        "fps": round(case.batch * flat_out.calls_s, 1), "latency_ms": summary(flat_out.latency_ms),
        "latency_at_80_ms": summary(paced.latency_ms), "calls": count,
        "idle_share": profiling.idle_share(window), "backend": backend,
        "precision": recipe.precision, "weights": checkpoint_named(case.network, out)[1],
    }  # fmt: skip


@lru_cache(maxsize=len(NETWORKS) * 4)  # all of a stage
def engine_of(
    network: str, side: int, batch: int, out: Path, device: torch.device
) -> tuple[str, Engine, DeployRecipe]:
    """The best backend's engine, its name and its recipe."""
    from scgn.backends import backend_named
    from scgn.backends.cache import EngineCache
    from scgn.compile import compiled, default_precision
    from scgn.deploy import DeployRecipe

    name = best_backend(network, side, out, device)
    precision = default_precision(backend_named(name), device, is_temporal(network, out))
    recipe = DeployRecipe((side, side), precision=precision, batch=batch)
    checkpoint, cache = checkpoint_named(network, out)[0], EngineCache(engines_folder())
    return name, compiled(checkpoint, recipe, backend_named(name), device, cache), recipe


def best_backend(network: str, side: int, out: Path, device: torch.device) -> str:
    """The fastest that `engines` measured in float16, else the service's own choice."""
    from scgn.backends import BACKENDS, choose

    path = out / "engines.json"
    rows: dict[str, Row] = json.loads(path.read_text())["rows"] if path.exists() else {}
    names = [name for name in BACKENDS if device.type in BACKENDS[name].devices]
    found = {name: rows.get(f"{network} {side} float16 {name}", {}) for name in names}
    times = {name: row["ms"]["median"] for name, row in found.items() if "ms" in row}
    return min(times, key=times.__getitem__) if times else choose("auto", device).backend.name


@dataclass(frozen=True)
class Run:
    """What one run gave."""

    calls_s: float
    latency_ms: list[float]


class Runner:
    """A lane with frames to send through it, memory for what comes back, and the stream's past."""

    def __init__(
        self, engine: Engine, recipe: DeployRecipe, slots: int, device: torch.device
    ) -> None:
        from scgn.pipeline import CpuDevice, CudaDevice, Lane, Pipeline

        where: Any = CudaDevice(device) if device.type == "cuda" else CpuDevice()
        self._lane, self._pipeline = Lane(where, engine, recipe, slots), Pipeline(where)
        self._frames = [host_frames(where, recipe, seed) for seed in range(slots + 2)]
        self._results = [result_memory(where, recipe) for _ in range(slots + 2)]
        carrier = self._lane.carrier
        self._state = None if carrier is None else carrier.new()
        self._fresh = True  # nothing has been written into the state

    def count_for(self, seconds: float) -> int:
        """How many calls take so long; the first ones only warm up."""
        self.run(10)
        return int(min(CALLS_MAX, max(CALLS_MIN, seconds * self.run(20).calls_s)))

    def run(self, count: int, rate: float = 0.0) -> Run:
        """So many calls, flat out or at `rate` calls/s."""
        under_way: queue.SimpleQueue[Any] = queue.SimpleQueue()
        ended: list[tuple[float, float]] = []
        waiter = threading.Thread(target=wait_for_all, args=(under_way, ended))
        waiter.start()
        begun = time.perf_counter()
        try:
            for index in range(count):
                due = begun + index / rate if rate else time.perf_counter()
                time.sleep(max(0.0, due - time.perf_counter()))
                under_way.put((due, self._submit(index)))
        finally:
            under_way.put(None)
            waiter.join()
        if len(ended) < count:
            raise RuntimeError(f"expected {count} results, got {len(ended)}")
        return Run(count / (ended[-1][1] - begun), [1000 * (end - due) for due, end in ended])

    def _submit(self, index: int) -> Any:
        place, lane = index % len(self._frames), self._lane
        frames, results = self._frames[place], self._results[place]
        return self._pipeline.submit(lane, frames, lane.references, results, self._past(index))

    def _past(self, index: int) -> Past:
        """What the frame's calls are told; all runs are of one stream."""
        from scgn.pipeline.state import NO_PAST, Past
        from scgn.stream.facts import PROBED
        from scgn.stream.state import LONGEST

        if self._state is None:
            return NO_PAST
        fresh, self._fresh = self._fresh, False
        probe = (0, 1, 1, PROBED) if index % PROBE_EVERY == PROBE_EVERY - 1 else None
        return Past(self._state, fresh, (2 if fresh else 0, 1, LONGEST, 0), probe)


def wait_for_all(under_way: queue.SimpleQueue[Any], ended: list[tuple[float, float]]) -> None:
    """The completing thread: when each call was due and when its result was there."""
    while (call := under_way.get()) is not None:
        call[1].wait()
        ended.append((call[0], time.perf_counter()))


def host_frames(where: CpuDevice | CudaDevice, recipe: DeployRecipe, seed: int) -> list[Any]:
    """A call's frames in memory that the device copies from by itself."""
    frames = []
    for place in range(recipe.batch):
        pixels = lattice_frame(recipe.shape[0], seed * recipe.batch + place)
        memory = where.host(pixels.nbytes).view(pixels.dtype).reshape(pixels.shape)
        np.copyto(memory, pixels)
        frames.append(memory)
    return frames


def result_memory(where: CpuDevice | CudaDevice, recipe: DeployRecipe) -> list[Any]:
    """For a call's results, float32."""
    return [where.host(4 * recipe.shape[0] * recipe.shape[1]) for _ in range(recipe.batch)]


STAGE = Stage("frames/s and ms, host to host", steps)
