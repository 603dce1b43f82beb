"""Why nothing goes through: the endpoint is tried once more, and its handshake watched.

libzmq tells none of this by itself: a socket with a wrong key looks like one whose service is away,
and a key that was refused is never tried again on that connection.
"""

from __future__ import annotations

import time

import zmq
from zmq.utils.monitor import recv_monitor_message

from scgn_client.sockets import Keys, open_socket

PATIENCE_S = 1.0
WAITED_S = 1.0  # who waits less asks again soon: a diagnosis would only hold it up
WATCHED = ("tcp://", "ipc://")
_FAILED = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
}


def diagnose(endpoint: str, kind: int, keys: Keys | None, patience_s: float = PATIENCE_S) -> str:
    """Connect a socket of that kind once more and say in words how far it came.

    Takes at most `patience_s`, and milliseconds where the other side is there.
    """
    if not endpoint.startswith(WATCHED):
        return ""
    return _told(_events(endpoint, kind, keys, patience_s), keys)


def _events(endpoint: str, kind: int, keys: Keys | None, patience_s: float) -> set[int]:
    """What happened to the connection, up to the handshake's end or the time's."""
    seen: set[int] = set()
    end_s = time.monotonic() + patience_s
    final = {zmq.EVENT_HANDSHAKE_SUCCEEDED, zmq.EVENT_DISCONNECTED, *_FAILED}
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = open_socket(kind, context, keys)
    monitor = socket.get_monitor_socket()
    try:
        socket.connect(endpoint)
        while not seen & final and (left_s := end_s - time.monotonic()) > 0.001:
            if monitor.poll(round(1000 * left_s)):
                seen.add(int(recv_monitor_message(monitor)["event"]))
        return seen
    finally:
        socket.disable_monitor()
        monitor.close(0)
        socket.close(0)
        context.term()


def _told(seen: set[int], keys: Keys | None) -> str:
    if zmq.EVENT_CONNECTED not in seen:
        return "nothing listens there"
    if zmq.EVENT_HANDSHAKE_SUCCEEDED in seen:
        return "it is there and lets us in"
    if zmq.EVENT_HANDSHAKE_FAILED_AUTH in seen:
        return "it refuses this key: ask for it on the service's list"
    if seen & _FAILED and keys is None:
        return "it breaks off: it asks for keys (CURVE), and none were given"
    if seen & _FAILED:
        return "it breaks off: it takes no keys, or is not the service of that key"
    if zmq.EVENT_DISCONNECTED in seen:
        return "it breaks off: it is a socket of another kind"
    return "something is there that speaks no ZeroMQ"
