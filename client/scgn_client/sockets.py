"""ZeroMQ sockets as this project wants them: bounded, with heartbeats, closed without surprise."""

from __future__ import annotations

import zmq

HEARTBEAT_MS = 2000  # a dead peer is noticed within three of these
SOCKET_BUFFER_BYTES = 256 * 1024  # large kernel buffers hide seconds of stale frames


def open_socket(
    kind: int, context: zmq.Context[zmq.Socket[bytes]] | None = None
) -> zmq.Socket[bytes]:
    """A socket of the shared context with ZMTP heartbeats, quick reconnects and no linger."""
    socket: zmq.Socket[bytes] = (context or zmq.Context.instance()).socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3 * HEARTBEAT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL, 50)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
    return socket


def wait_ready(socket: zmq.Socket[bytes], event: int, timeout_s: float | None) -> bool:
    """Whether `event` (POLLIN or POLLOUT) came within `timeout_s`; None waits for ever."""
    return bool(socket.poll(None if timeout_s is None else max(0, round(1000 * timeout_s)), event))
