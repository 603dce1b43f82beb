"""The whole service against a bare relay: rate, added latency, memory, copies per frame.

Camera, service and subscriber are separate processes on one machine, over loopback TCP, with
512x512 uint16 frames. Relay and service take turns within one run; figures are medians over rounds.
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
from benchmarks.processes import pid_of, sample
from scgn_client.admin import Admin

ROUNDS = 3
LATENCY_ROUNDS = 9
# Counted in the code: ZeroMQ's messages are passed on as they came, results are copied once.
Ends = dict[str, tuple[str, str]]
COPIES = {"pass-through": 0, "raw channel": 0, "denoised channel": 1}


def rounds(
    ends: Ends, count: int, rate_fps: float, side: int, times: int
) -> dict[str, list[dict[str, Any]]]:
    """Runs of each, in turn, so that what the machine does meets both alike."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ends}
    for _ in range(times):
        for name, (ingest, frames) in ends.items():
            rows[name].append(run(ingest, frames, count, rate_fps, side))
    return rows


def median(rows: list[dict[str, Any]], *path: str) -> float:
    """Median over rounds of one figure."""
    found = []
    for row in rows:
        value: Any = row
        for key in path:
            value = value[key]
        found.append(value)
    return round(float(np.median(found)), 3)


def compare(count: int, side: int) -> dict[str, Any]:
    """Flat out: relay and service in turn; then both at half of the service's rate."""
    flags = ("--engine", "pass-through", "--overload", "block", "--no-publish-raw")
    with relay("bare") as bare, harness.service(*flags) as served:
        ends = {"relay": bare, "service": (served.ingest, served.frames)}
        flat_out = rounds(ends, count, 0, side, ROUNDS)
        rates = {name: median(rows, "rate_fps") for name, rows in flat_out.items()}
        at_half = rounds(ends, count // 5, rates["service"] / 2, side, LATENCY_ROUNDS)
    latency = {
        name: {key: median(rows, "latency_ms", key) for key in ("p50", "p99")}
        for name, rows in at_half.items()
    }
    added = {k: round(latency["service"][k] - latency["relay"][k], 3) for k in ("p50", "p99")}
    # A machine that shares its cores stalls everyone for tens of ms: the round with the least of it
    # shows what the software does, the median what was seen.
    quietest = {n: min(row["latency_ms"]["p99"] for row in rows) for n, rows in at_half.items()}
    inside = {k: median(at_half["service"], "inside_ms", k) for k in ("p50", "p99")}
    return {
        "rate_fps": rates, "share_of_relay": round(rates["service"] / rates["relay"], 3),
        "half_rate_fps": rates["service"] / 2, "latency_at_half_ms": latency,
        "added_latency_ms": added, "inside_service_ms": inside,
        "quietest_round_p99_ms": quietest,
        "quietest_added_p99_ms": round(quietest["service"] - quietest["relay"], 3),
        "copies_per_frame": COPIES,
        "rounds": {"flat_out": flat_out, "at_half": at_half},
    }  # fmt: skip


def memory(count: int, side: int) -> dict[str, Any]:
    """Resident memory of the frame process at each tenth of a long series, MB."""
    flags = ("--engine", "pass-through", "--overload", "block", "--no-publish-raw")
    resident: dict[int, float] = {}
    with harness.service(*flags) as served:

        def watch(index: int, *_: float) -> None:
            tenth = (index + 1) * 10 // count
            if tenth not in resident:
                resident[tenth] = round(sample(pid_of(served, "frames")).resident_mb, 1)

        row = run(served.ingest, served.frames, count, 0, side, watch=watch)
        ledger = Admin(served.http).status()["series"][-1]
    return {**row, "resident_mb_by_tenth": list(resident.values()), "ledger": ledger}


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
        "preview_256": with_network("preview-clean", 600 // scale, 256),
    }
    harness.save("bench_service", rows, time.monotonic() - begun)


if __name__ == "__main__":
    main()
