"""A camera process for the benchmarks: frames at a rate or flat out, with plain pyzmq.

SIGTERM ends the series early, and in order.
"""

from __future__ import annotations

import signal
import sys
import time
from typing import Any

import msgpack
import numpy as np
import zmq
from zmq.auth import load_certificate


def scenes(side: int) -> list[Any]:
    """The frames that it sends, in turn: uint16, (side, side)."""
    rng = np.random.default_rng(0)
    return [rng.poisson(100, (side, side)).astype("<u2") for _ in range(8)]


def main(endpoint: str, frames: int, rate_fps: float, side: int, *keys: str) -> None:
    """Send `frames` uint16 frames; rate 0 means as fast as the socket takes them.

    keys: for CURVE, files of the service's public key and of the camera's own pair.
    """
    context = zmq.Context()
    socket = context.socket(zmq.PUSH)
    if keys:
        socket.curve_serverkey = load_certificate(keys[0])[0]
        socket.curve_publickey, socket.curve_secretkey = load_certificate(keys[1])
    socket.setsockopt(zmq.SNDHWM, 4)
    socket.connect(endpoint)
    pixels = [frame.tobytes() for frame in scenes(side)]
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    name = {"v": 1, "source": "bench", "series": f"bench-{time.time_ns()}"}
    frame = name | {"type": "frame", "shape": [side, side], "dtype": "<u2"}
    begun, sent = time.monotonic(), 0
    for index in range(frames):
        if rate_fps:
            time.sleep(max(0.0, begun + index / rate_fps - time.monotonic()))
        header = msgpack.packb(frame | {"frame": index, "t_acquired_ns": time.time_ns()})
        socket.send_multipart([header, pixels[index % 8]])
        sent += 1
        if stopped:
            break
    end = name | {"type": "end", "frames": sent}
    socket.send_multipart([msgpack.packb(end)])
    socket.close(linger=-1)
    context.term()  # all of it, however slow the service: an exit alone would drop the rest


if __name__ == "__main__":
    where, count, rate, side_px, *files = sys.argv[1:]
    main(where, int(count), float(rate), int(side_px), *files)
