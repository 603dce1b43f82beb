"""A camera process for the benchmarks: frames at a rate or flat out, with plain pyzmq."""

from __future__ import annotations

import sys
import time

import msgpack
import numpy as np
import zmq


def main(endpoint: str, frames: int, rate_fps: float, side: int) -> None:
    """Send `frames` uint16 frames; rate 0 means as fast as the socket takes them."""
    context = zmq.Context()
    socket = context.socket(zmq.PUSH)
    socket.setsockopt(zmq.SNDHWM, 4)
    socket.connect(endpoint)
    rng = np.random.default_rng(0)
    pixels = [rng.poisson(100, (side, side)).astype("<u2").tobytes() for _ in range(8)]
    name = {"v": 1, "source": "bench", "series": f"bench-{time.time_ns()}"}
    frame = name | {"type": "frame", "shape": [side, side], "dtype": "<u2"}
    begun = time.monotonic()
    for index in range(frames):
        if rate_fps:
            time.sleep(max(0.0, begun + index / rate_fps - time.monotonic()))
        header = msgpack.packb(frame | {"frame": index, "t_acquired_ns": time.time_ns()})
        socket.send_multipart([header, pixels[index % 8]])
    end = name | {"type": "end", "frames": frames}
    socket.send_multipart([msgpack.packb(end)])
    socket.close(linger=-1)
    context.term()  # all of it, however slow the service: an exit alone would drop the rest


if __name__ == "__main__":
    where, count, rate, side_px = sys.argv[1:]
    main(where, int(count), float(rate), int(side_px))
