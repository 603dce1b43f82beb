"""Stage `holding`: swaps of networks and calibrations under load, minutes at 80 % of the capacity.

The same measurements as `benchmarks/bench_swaps.py` and `bench_soak.py`, on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.gpu.rows import NotHere, Row
from benchmarks.gpu.services import environment_for_processes, missing
from benchmarks.gpu.sitting import Stage, Step
from benchmarks.gpu.subjects import cuda, engines_folder

NETWORKS, SIDE_PX, MINUTES = ("preview-clean", "compact-clean"), 512, 4.0
SWAPS_S, SOAK_S = 420.0, 420.0  # engines may have to be built


def steps(out: Path) -> dict[str, Step]:
    """Swaps first: they tell whether the second network's build disturbs the first one's frames."""
    return {
        f"swaps {' '.join(NETWORKS)} {SIDE_PX}": Step(lambda: on_the_device(swaps), SWAPS_S),
        f"soak {NETWORKS[0]} {SIDE_PX}": Step(lambda: on_the_device(soak), SOAK_S),
    }


def on_the_device(measure: Callable[[list[str]], Row]) -> Row:
    """Where there is one, and the service's packages are."""
    cuda()
    if lacking := missing():
        raise NotHere(f"the service needs {', '.join(lacking)}")
    flags = ["--flag=--device=cuda", f"--flag=--engine-cache={engines_folder()}"]
    return measure(flags)


def swaps(
    flags: list[str], networks: tuple[str, ...] = NETWORKS, side: int = SIDE_PX,
    calibrations: int = 100, models: int = 20,
) -> Row:  # fmt: skip
    """Worst extra latency of a frame in frame times, and what was lost or mixed."""
    from benchmarks import bench_swaps

    environment_for_processes()
    words = ["--networks", *networks, "--side", str(side), *flags]
    words += ["--calibration-swaps", str(calibrations), "--model-swaps", str(models)]
    found = bench_swaps.measured(bench_swaps.parsed(words))
    kinds = ("calibrations", "models")
    return {
        "frame_ms": found["frame_ms"],
        **{f"worst_extra_of_{k}": found[k]["worst_extra_frame_times"] for k in kinds},
        **{f"{k}_took_ms": found[k]["took_ms"]["p50"] for k in kinds},
        "frames": found["frames"], "nothing_lost": found["nothing_lost"],
        "mixed": len(found["mixed_frames"]),
    }  # fmt: skip


def soak(
    flags: list[str], network: str = NETWORKS[0], side: int = SIDE_PX, minutes: float = MINUTES
) -> Row:
    """Growth, descriptors and drift at 80 % of what the service takes."""
    from benchmarks import bench_soak

    environment_for_processes()
    words = ["--network", network, "--side", str(side), "--minutes", str(minutes)]
    args = bench_soak.parsed([*words, *flags])
    capacity = bench_soak.capacity_fps(args)
    found = bench_soak.soak(args, args.load * capacity)
    held, ends = found["processes"]["frames"], found["ends"]
    return {
        "capacity_fps": round(capacity, 1), "rate_fps": found["rate_asked_fps"],
        "growth": held["growth"], "descriptors": held["descriptors"],
        "first_p99_ms": ends["first_latency_ms"]["p99"],
        "last_p99_ms": ends["last_latency_ms"]["p99"], "holds": found["holds"],
    }  # fmt: skip


STAGE = Stage("frame times, ms and shares, each named", steps)
