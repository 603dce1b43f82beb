"""ZeroMQ sockets as this project wants them: bounded, kept alive, closed without surprise."""

from __future__ import annotations

from typing import Protocol

import zmq

# A dead peer is noticed by the kernel's probes. ZMTP heartbeats would not do: under back-pressure
# ZeroMQ stops reading, the answer to its own ping with it, and cuts a camera that only waits.
KEEPALIVE_IDLE_S, KEEPALIVE_EVERY_S, KEEPALIVE_PROBES = 10, 5, 3
HANDSHAKE_MS = 5000  # a stranger that connects and says nothing is let go
SOCKET_BUFFER_BYTES = 256 * 1024  # large kernel buffers hide seconds of stale frames


class Keys(Protocol):
    """What arms a socket with CURVE before it binds or connects."""

    def put_on(self, socket: zmq.Socket[bytes]) -> None: ...


def open_socket(
    kind: int,
    context: zmq.Context[zmq.Socket[bytes]] | None = None,
    keys: Keys | None = None,
) -> zmq.Socket[bytes]:
    """A socket of the shared context with TCP keep-alive, quick reconnects and no linger.

    keys: for CURVE, which both ends have or neither.
    """
    socket: zmq.Socket[bytes] = (context or zmq.Context.instance()).socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, KEEPALIVE_EVERY_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, KEEPALIVE_PROBES)
    socket.setsockopt(zmq.RECONNECT_IVL, 50)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    if keys is not None:
        keys.put_on(socket)
    return socket


def wait_ready(socket: zmq.Socket[bytes], event: int, timeout_s: float | None) -> bool:
    """Whether `event` (POLLIN or POLLOUT) came within `timeout_s`; None waits for ever."""
    return bool(socket.poll(None if timeout_s is None else max(0, round(1000 * timeout_s)), event))
