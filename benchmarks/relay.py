"""Two-hop relays to measure against: PULL in, PUB out.

`bare` passes every message on unseen; `wire` checks each header and writes the published one, as
the service does, with no ring, ledger or threads.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import zmq

from scgn_client import wire
from scgn_client.messages import FrameHeader


def published(header: bytes) -> list[bytes]:
    """Source and published header for a camera's header; events keep theirs."""
    message = wire.decode_ingest(header)
    if not isinstance(message, FrameHeader):
        return [message.source.encode(), header]
    rows, columns = message.shape
    content = {
        "type": "frame", "source": message.source, "series": message.series,
        "frame": message.frame, "t_acquired_ns": message.t_acquired_ns, "user": message.user,
        "display": [0.0, 1.0], "t_received_ns": time.time_ns(), "t_published_ns": time.time_ns(),
        "latency_ms": 0.0, "calibration": None, "model": "relay", "engine": "cpu", "lost": {},
        "channels": [{"name": "denoised", "dtype": message.dtype, "shape": [rows, columns]}],
    }  # fmt: skip
    return [message.source.encode(), wire.pack(content)]


def relay_one(kind: str, parts: Sequence[zmq.Frame], sink: zmq.Socket[bytes]) -> None:
    """Pass one message on; pixels are never copied."""
    head = [b"bench", parts[0]] if kind == "bare" else published(parts[0].bytes)
    sink.send_multipart([*head, *parts[1:]], copy=False)


def main(kind: str, ingest: str, frames: str) -> None:
    """Relay until killed."""
    context = zmq.Context()
    source, sink = context.socket(zmq.PULL), context.socket(zmq.PUB)
    source.setsockopt(zmq.RCVHWM, 4)
    sink.setsockopt(zmq.SNDHWM, 64)
    source.bind(ingest)
    sink.bind(frames)
    print("ready", flush=True)
    while True:
        relay_one(kind, source.recv_multipart(copy=False), sink)


if __name__ == "__main__":
    main(*sys.argv[1:])
