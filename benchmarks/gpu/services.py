"""Stage `service`: camera, service and subscriber as processes on one machine, over loopback TCP.

Latency is from the camera's clock reading to the subscriber's receipt; `added` is the service's
minus a bare relay's at the same rate.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.gpu.pipelines import best_backend
from benchmarks.gpu.rows import NotHere, Row
from benchmarks.gpu.sitting import Stage, Step
from benchmarks.gpu.subjects import cuda, engines_folder, network_path

NETWORKS, SIDES_PX, SHARE = ("paper", "fast"), (256, 512), 0.8
# Package by the module that shows that it is there.
NEEDED = {
    "zmq": "pyzmq", "msgpack": "msgpack", "fastapi": "fastapi", "uvicorn": "uvicorn",
    "python_multipart": "python-multipart", "pydantic": "pydantic",
    "pydantic_settings": "pydantic-settings", "prometheus_client": "prometheus-client",
    "PIL": "pillow",
}  # fmt: skip
READY_S = 350.0  # an engine may have to be built
SPAN_S, FRAMES_FIRST, ROW_S = 8.0, 200, 150.0


def missing() -> list[str]:
    """Packages that the service needs and this machine lacks."""
    lacking = []
    for module, package in NEEDED.items():
        try:
            importlib.import_module(module)
        except ImportError:
            lacking.append(package)
    return lacking


def steps(out: Path) -> dict[str, Step]:
    """The network as it is published first."""
    return {
        f"{network} {side}": Step(
            lambda network=network, side=side: measured(network, side, out),  # type: ignore[misc]
            ROW_S,
        )
        for network in NETWORKS
        for side in SIDES_PX
    }


def measured(network: str, side: int, out: Path) -> Row:
    """On the CUDA device, with the backend that was fastest."""
    if lacking := missing():
        raise NotHere(f"the service needs {', '.join(lacking)}")
    backend = best_backend(network, side, out, cuda())
    path, origin = network_path(network, out)
    flags = ("--network", path, "--backend", backend, "--device", "cuda")
    return {**served(side, flags), "backend": backend, "weights": origin}


def served(side: int, flags: tuple[str, ...], seconds: float = SPAN_S) -> Row:
    """Flat out, then at a share of that rate beside a bare relay."""
    from benchmarks import harness
    from benchmarks.loopback import relay, run

    environment_for_processes()
    common = ("--overload", "block", "--no-publish-raw", "--shapes", f"{side}x{side}")
    kept = ("--engine-cache", str(engines_folder()))
    with (
        relay("bare") as bare,
        harness.service(*common, *kept, *flags, ready_s=READY_S) as service,
    ):
        ends = (service.ingest, service.frames)
        first = run(*ends, FRAMES_FIRST, 0, side)
        flat_out = run(*ends, frames_in(seconds, first["rate_fps"]), 0, side)
        rate = SHARE * flat_out["rate_fps"]
        paced, alone = (run(*e, frames_in(seconds, rate), rate, side) for e in (ends, bare))
        sums = ledger(service.http)
    added = {k: round(paced["latency_ms"][k] - alone["latency_ms"][k], 3) for k in ("p50", "p99")}
    return {
        "fps": flat_out["rate_fps"], "latency_at_80_ms": pair(paced["latency_ms"]),
        "relay_ms": pair(alone["latency_ms"]), "added_ms": added,
        "inside_ms": pair(paced["inside_ms"]), **sums,
    }  # fmt: skip


def pair(found: dict[str, float]) -> dict[str, float]:
    """p50 and p99."""
    return {name: found[name] for name in ("p50", "p99")}


def frames_in(seconds: float, rate_fps: float) -> int:
    """How many a run sends; at least so many that a p99 means something."""
    return max(FRAMES_FIRST, int(seconds * rate_fps))


def ledger(http: str) -> Row:
    """Whether every frame that came is accounted for, and how."""
    from scgn_client.admin import Admin

    series: list[dict[str, Any]] = Admin(http).status()["series"]
    return {"ledger_adds_up": all(adds_up(one) for one in series), "published": total(series)}


def total(series: list[dict[str, Any]]) -> str:
    """Published of expected, over all series."""
    counted = (sum(one[name] for one in series) for name in ("published", "expected"))
    return " of ".join(str(number) for number in counted)


def adds_up(one: dict[str, Any]) -> bool:
    """A series' promise."""
    gone = sum(one["dropped"].values()) + sum(one["failed"].values())
    there = one["published"] + one["missing"] + one["in_flight"]
    return bool(one["expected"] == there + gone)


def environment_for_processes() -> None:
    """Processes find our packages in a bare checkout."""
    root = Path(__file__).resolve().parents[2]
    folders = [str(root / name) for name in ("client", "models", "service", ".")]
    os.environ["PYTHONPATH"] = os.pathsep.join(folders)
    sys.path[:0] = [folder for folder in folders if folder not in sys.path]


STAGE = Stage("frames/s and ms, camera to subscriber", steps)
