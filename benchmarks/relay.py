"""The bare two-hop relay that the service is measured against: PULL in, PUB out."""

from __future__ import annotations

import sys

import zmq


def main(ingest: str, frames: str) -> None:
    """Pass every message on, without looking at it, until killed."""
    context = zmq.Context()
    source, sink = context.socket(zmq.PULL), context.socket(zmq.PUB)
    source.setsockopt(zmq.RCVHWM, 4)
    sink.setsockopt(zmq.SNDHWM, 64)
    source.bind(ingest)
    sink.bind(frames)
    print("ready", flush=True)
    while True:
        header, pixels = source.recv_multipart(copy=False)
        sink.send_multipart([b"bench", header, pixels], copy=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
