"""Stage `probe`: what this device can do at best, and whether TensorRT-RTX runs on it.

Convolutions and products of the deployed graph by themselves, each in a CUDA graph of many calls.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.clock import Work, clock_of, summary
from benchmarks.gpu.rows import NotHere, Row
from benchmarks.gpu.sitting import Stage, Step
from benchmarks.gpu.subjects import cuda, random_network, tell_first

if TYPE_CHECKING:
    import torch

FORMATS = {"float16": "float16", "bfloat16": "bfloat16", "tf32": "float32"}
CHANNELS_SIDES = {32: (256, 512, 1024), 64: (128, 256, 512, 1024)}
INNER, REPEATS = 20, 50
GIB = 1 << 30


def use_tf32(wanted: bool) -> None:
    """For convolutions and products in float32; sums of halves always stay in float32."""
    import torch

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = wanted
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


def call_ms(work: Work, device: torch.device, inner: int = INNER) -> dict[str, float]:
    """Median and p99 of one call among `inner` in a graph."""
    import torch

    from scgn.backends.torched import captured

    def many() -> None:
        with torch.inference_mode():
            for _ in range(inner):
                work()

    enqueue = captured(many).enqueue if device.type == "cuda" else many
    times = clock_of(device).times_ms(enqueue, REPEATS if device.type == "cuda" else 2)
    return summary([value / inner for value in times], 5)


def computed(work: Work, operations: float, device: torch.device) -> Row:
    """Time and what was reached."""
    ms = call_ms(work, device)
    return {"ms": ms, "tflop_s": round(operations / ms["median"] / 1e9, 2)}


def convolution(channels: int, side: int, precision: str, device: torch.device) -> Row:
    """3x3, as many channels out as in, channels last, batch 1."""
    import torch
    from torch.nn import functional

    use_tf32(precision == "tf32")
    torch.backends.cudnn.benchmark = True  # the best that the library has
    dtype = getattr(torch, FORMATS[precision])
    frames = torch.rand(1, channels, side, side, device=device, dtype=dtype)
    weight = torch.rand(channels, channels, 3, 3, device=device, dtype=dtype)
    x, w = (value.contiguous(memory_format=torch.channels_last) for value in (frames, weight))
    work = partial(functional.conv2d, x, w, padding=1)
    return computed(work, 2 * 9 * channels**2 * side**2, device)


def transforms(side: int, dense: bool, device: torch.device, channels: int = 32) -> Row:
    """Spectrum and back of all channels in float16, as one product an axis or as two."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from scgn.dft import Frames, Spectrum

    use_tf32(False)
    limit = side if dense else 1
    there, back = Spectrum(side, side, limit), Frames(side, side, limit)
    both = torch.nn.Sequential(there, back).to("meta")
    counter = FlopCounterMode(display=False)
    with counter:
        both(torch.rand(1, channels, side, side, device="meta", dtype=torch.float64))
    there, back = Spectrum(side, side, limit), Frames(side, side, limit)
    both = torch.nn.Sequential(there, back).to(device, torch.float16)
    frames = torch.rand(1, channels, side, side, device=device, dtype=torch.float16)
    return computed(lambda: both(frames), counter.get_total_flops(), device)


def product(side: int, device: torch.device) -> Row:
    """A large square product in float16: the ceiling of computing."""
    import torch

    use_tf32(False)
    a, b = (torch.rand(side, side, device=device, dtype=torch.float16) for _ in range(2))
    return computed(lambda: a @ b, 2 * side**3, device)


def copy_on_device(size: int, device: torch.device) -> Row:
    """Read and written: the ceiling of memory."""
    import torch

    source, target = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))
    ms = call_ms(lambda: target.copy_(source), device, 4)
    return {"ms": ms, "gb_s": round(2 * size / ms["median"] / 1e6, 1)}


def transfer(size: int, up: bool, device: torch.device) -> Row:
    """Between page-locked memory and the device."""
    import torch

    here = torch.zeros(size, dtype=torch.uint8, pin_memory=device.type == "cuda")
    there = torch.zeros(size, dtype=torch.uint8, device=device)
    target, source = (there, here) if up else (here, there)
    work = partial(target.copy_, source, non_blocking=True)
    times = clock_of(device).times_ms(work, 10 * REPEATS)
    found = {name: round(1000 * ms, 2) for name, ms in summary(times).items()}
    return {"us": found, "gb_s": round(size / found["median"] / 1e3, 2)}


def runs_at_all(name: str, device: torch.device) -> Row:
    """Build, load and run a small graph; the error is the row when the chip is not taken."""
    from scgn.backends import BACKENDS
    from scgn.backends.backend import ignore, why_not
    from scgn.checkpoint import checkpoint_of, describe
    from scgn.deploy import DeployRecipe, deploy
    from scgn.pipeline import CpuDevice, CudaDevice, Lane

    backend = BACKENDS[name]
    if reason := why_not(backend, device):
        raise NotHere(reason)
    network = random_network("tiny")
    recipe = DeployRecipe((64, 64), precision="float16" if device.type == "cuda" else "float32")
    graph = deploy(checkpoint_of(network, describe(network, "tiny-random")), recipe)
    engine = backend.load(backend.build(graph, ignore), graph, device, 1)
    where = CudaDevice(device) if device.type == "cuda" else CpuDevice()
    slot = Lane(where, engine, recipe, 1).free.get()
    tell_first(slot)
    ms = summary(clock_of(device).times_ms(slot.context.enqueue, REPEATS))
    finite = bool(slot.denoised.isfinite().all())
    return {"runs": True, "version": backend.version(), "ms": ms, "finite": finite}


def probes() -> dict[str, Callable[[torch.device], Row]]:
    """By the name of the row; ceilings first."""
    found: dict[str, Callable[[Any], Row]] = {
        "product 8192 float16": partial(product, 8192),
        "copy on the device": partial(copy_on_device, GIB),
        "rtx runs": partial(runs_at_all, "rtx"),
        "tensorrt runs": partial(runs_at_all, "tensorrt"),
    }
    for precision in FORMATS:
        for channels, sides in CHANNELS_SIDES.items():
            for side in sides:
                name = f"3x3 {channels} channels {side} {precision}"
                found[name] = partial(convolution, channels, side, precision)
    for side in (256, 512, 1024):
        for dense in (True, False):
            name = f"transforms {side} {'dense' if dense else 'split'} float16"
            found[name] = partial(transforms, side, dense)
        for size, dtype in ((2, "uint16"), (4, "float32")):
            for up in (True, False):
                name = f"{'up' if up else 'down'} {side} {dtype}"
                found[name] = partial(transfer, size * side**2, up)
    return found


def steps(out: Path) -> dict[str, Step]:
    """All on the CUDA device."""
    return {
        name: Step(lambda measure=measure: measure(cuda()))  # type: ignore[misc]
        for name, measure in probes().items()
    }


STAGE = Stage("ms, us, TFLOP/s, GB/s a call", steps)
