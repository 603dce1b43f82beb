"""The whole service against a bare relay: rate, added latency, memory, copies per frame.

Camera, service and subscriber are separate processes on one machine, over loopback TCP, with
512x512 uint16 frames. Rates are compared within one run, alternating, the median of the rounds.
Latency is from the camera's clock reading to the subscriber's receipt; `added` is the service's
minus the relay's at the same rate.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import zmq

from benchmarks import harness
from scgn_client.admin import Admin

HERE = Path(__file__).parent
ROUNDS = 3
# Counted in the code: ZeroMQ's messages are passed on as they came, results are copied once.
COPIES = {"pass-through": 0, "raw channel": 0, "denoised channel": 1}


@contextlib.contextmanager
def relay() -> Iterator[tuple[str, str]]:
    """A bare relay process; its ingest and frames endpoints."""
    ends = [f"tcp://127.0.0.1:{harness.free_port()}" for _ in range(2)]
    command = [sys.executable, str(HERE / "relay.py"), *ends]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield ends[0], ends[1]
    finally:
        process.kill()
        process.wait()


def run(
    ingest: str, frames: str, count: int, rate_fps: float, side: int, bare: bool = False,
    watch: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:  # fmt: skip
    """Send `count` frames through and receive them; rate (frames/s) and latencies (ms)."""
    sink = zmq.Context.instance().socket(zmq.SUB)
    sink.setsockopt(zmq.RCVHWM, 64)
    sink.setsockopt(zmq.SUBSCRIBE, b"bench")
    sink.connect(frames)
    time.sleep(0.5)  # let the subscription arrive: what is published before is not for us
    command = [str(HERE / "camera.py"), ingest, str(count), str(rate_fps), str(side)]
    camera = subprocess.Popen([sys.executable, *command, *(["bare"] if bare else [])])
    latencies_ms: list[float] = []
    indices: list[int] = []
    begun = ended = 0.0
    while sink.poll(5000):
        header = msgpack.unpackb(sink.recv_multipart(copy=False)[1].buffer)
        if header["type"] == "end":
            break
        if header["type"] != "frame":
            continue
        ended = time.monotonic()
        begun = begun or ended
        latencies_ms.append((time.time_ns() - header["t_acquired_ns"]) / 1e6)
        indices.append(header["frame"])
        watch(len(indices))
    camera.wait()
    sink.close(0)
    return {
        "sent": count, "received": len(indices), "in_order": indices == sorted(indices),
        "rate_fps": round((len(indices) - 1) / (ended - begun), 1),
        "latency_ms": harness.percentiles(latencies_ms),
    }  # fmt: skip


def compare(count: int, side: int) -> dict[str, Any]:
    """Flat out: relay and service in turn; then both at half of the service's rate."""
    flags = ("--engine", "pass-through", "--overload", "block", "--no-publish-raw")
    rows: dict[str, Any] = {"relay": [], "service": []}
    with relay() as bare, harness.service(*flags) as served:
        ends = {"relay": bare, "service": (served.ingest, served.frames)}
        for _ in range(ROUNDS):
            for name, (ingest, frames) in ends.items():
                rows[name].append(run(ingest, frames, count, 0, side, name == "relay"))
        rates = {name: float(np.median([row["rate_fps"] for row in rows[name]])) for name in ends}
        half = rates["service"] / 2
        at_half = {
            name: run(*end, count, half, side, name == "relay") for name, end in ends.items()
        }
    added = {
        key: round(at_half["service"]["latency_ms"][key] - at_half["relay"]["latency_ms"][key], 3)
        for key in ("p50", "p99")
    }
    return {
        "rate_fps": rates, "share_of_relay": round(rates["service"] / rates["relay"], 3),
        "at_half_rate": at_half, "added_latency_ms": added, "rounds": rows,
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
    sys.path.insert(0, str(HERE.parent))
    main()
