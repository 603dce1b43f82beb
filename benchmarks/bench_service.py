"""The whole service against a bare relay: rate, added latency, memory, copies per frame.

Camera, service and subscriber are separate processes on one machine, over loopback TCP, with
512x512 uint16 frames. Rates are compared within one run, alternating, the median of the rounds.
Latency is from the camera's clock reading to the subscriber's receipt; `added` is the service's
minus the relay's at the same rate, `inside` what the service itself measured of the same frames.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import harness
from benchmarks.loopback import relay, run
from scgn_client.admin import Admin

ROUNDS = 3
# Counted in the code: ZeroMQ's messages are passed on as they came, results are copied once.
COPIES = {"pass-through": 0, "raw channel": 0, "denoised channel": 1}


def compare(count: int, side: int) -> dict[str, Any]:
    """Flat out: relay and service in turn; then both at half of the service's rate."""
    flags = ("--engine", "pass-through", "--overload", "block", "--no-publish-raw")
    rows: dict[str, Any] = {"relay": [], "service": []}
    with relay("bare") as bare, harness.service(*flags) as served:
        ends = {"relay": bare, "service": (served.ingest, served.frames)}
        for _ in range(ROUNDS):
            for name, (ingest, frames) in ends.items():
                rows[name].append(run(ingest, frames, count, 0, side))
        rates = {name: float(np.median([row["rate_fps"] for row in rows[name]])) for name in ends}
        half = rates["service"] / 2
        at_half = {name: run(*end, count, half, side) for name, end in ends.items()}
    added = {
        key: round(at_half["service"]["latency_ms"][key] - at_half["relay"]["latency_ms"][key], 3)
        for key in ("p50", "p99")
    }
    return {
        "rate_fps": rates, "share_of_relay": round(rates["service"] / rates["relay"], 3),
        "at_half_rate": at_half, "added_latency_ms": added,
        "inside_ms": at_half["service"]["inside_ms"], "rounds": rows,
        "copies_per_frame": COPIES,
    }  # fmt: skip


def memory(count: int, side: int) -> dict[str, Any]:
    """Resident memory of the frame process at each tenth of a long series, MB."""
    flags = ("--engine", "pass-through", "--overload", "block")
    resident: list[float] = []
    with harness.service(*flags) as served:

        def watch(received: int) -> None:
            if received % (count // 10) == 0:
                resident.append(round(harness.resident_mb(served), 1))

        row = run(served.ingest, served.frames, count, 0, side, watch=watch)
        ledger = Admin(served.http).status()["series"][-1]
    return {**row, "resident_mb": resident, "ledger": ledger}


def with_network(network: str, count: int, side: int) -> dict[str, Any]:
    """Frames through SCGN on this machine, the camera held back by the service."""
    with harness.service("--network", network, "--overload", "block") as served:
        row = run(served.ingest, served.frames, count, 0, side)
        return {**row, "engine_ms": Admin(served.http).status()["engine_ms"]}


def main() -> None:
    """Run all parts and print or save one result."""
    args = harness.arguments(__doc__).parse_args()
    scale = 10 if args.quick else 1
    begun = time.monotonic()
    rows = {
        "pass_through_512": compare(4000 // scale, 512),
        "memory_512": memory(60_000 // scale, 512),
        "tiny_256": with_network("tiny-clean", 100 // scale, 256),
    }
    harness.save("bench_service", rows, time.monotonic() - begun)


if __name__ == "__main__":
    main()
