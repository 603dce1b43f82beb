"""Frames over loopback through whatever stands between two sockets: a relay or the service.

Camera, relay and subscriber are processes of their own, joined by TCP on one machine.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import zmq

from benchmarks import harness
from scgn_client.keys import ClientKeys
from scgn_live.running import free_ports

HERE = Path(__file__).parent
Watch = Callable[[int, float, float], None]
SILENCE_S = 5  # without a frame for so long, a run is over


@dataclass(frozen=True)
class CurveKeys:
    """viewer: of the subscriber; camera: files of the service's public key and the camera's own."""

    viewer: ClientKeys
    camera: tuple[Path, Path]


@contextlib.contextmanager
def relay(kind: str) -> Iterator[tuple[str, str]]:
    """A relay process, `bare` or `wire`; its ingest and frames endpoints."""
    ends = [f"tcp://127.0.0.1:{port}" for port in free_ports(2)]
    command = [sys.executable, str(HERE / "relay.py"), kind, *ends]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield ends[0], ends[1]
    finally:
        process.kill()
        process.communicate()


def run(
    ingest: str, frames: str, count: int, rate_fps: float, side: int,
    watch: Watch = lambda *_: None, keys: CurveKeys | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Send `count` frames through and receive them; rate (frames/s) and latencies (ms).

    watch: called with index, latency and inside time of each frame received; keys: with CURVE.

    latency_ms: camera's clock reading to receipt; inside_ms: what the service says of itself.
    """
    sink: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
    if keys is not None:
        keys.viewer.put_on(sink)
    sink.setsockopt(zmq.RCVHWM, 64)
    sink.setsockopt(zmq.SUBSCRIBE, b"bench")
    sink.connect(frames)
    time.sleep(0.5)  # let the subscription arrive: what is published before is not for us
    command = [str(HERE / "camera.py"), ingest, str(count), str(rate_fps), str(side)]
    command += [] if keys is None else [str(path) for path in keys.camera]
    camera = subprocess.Popen([sys.executable, *command])
    latencies_ms, inside_ms, indices = array("d"), array("d"), array("q")
    begun = ended = 0.0
    opened = time.monotonic()
    while sink.poll(1000 * SILENCE_S):
        header = msgpack.unpackb(sink.recv_multipart(copy=False)[1].buffer)
        if header["type"] == "end":
            break
        if header["type"] != "frame":
            if time.monotonic() - (ended or opened) > SILENCE_S:
                break  # heartbeats alone: the end itself was lost
            continue
        ended = time.monotonic()
        begun = begun or ended
        latencies_ms.append((time.time_ns() - header["t_acquired_ns"]) / 1e6)
        inside_ms.append(header.get("latency_ms", 0.0))
        indices.append(header["frame"])
        watch(header["frame"], latencies_ms[-1], inside_ms[-1])
    camera.wait()
    sink.close(0)
    return {
        "sent": count, "received": len(indices), "in_order": list(indices) == sorted(indices),
        "rate_fps": round((len(indices) - 1) / (ended - begun), 1),
        "latency_ms": harness.percentiles(latencies_ms),
        "inside_ms": harness.percentiles(inside_ms),
    }  # fmt: skip
