"""ZMTP by hand (RFC 23, and its forebears), for peers that break it half-way."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from collections.abc import Iterator

GREETING_3 = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
GREETING_1 = b"\x01\x00"  # no identity
GREETING_2 = b"\xff" + bytes(8) + b"\x7f\x01"
MORE, LONG, COMMAND = 1, 2, 4
PEER_OF = {"ingest": b"PUSH", "frames": b"SUB", "latest": b"SUB"}


def ready(kind: bytes) -> bytes:
    """The handshake's command of a socket of that type."""
    name, value = b"Socket-Type", struct.pack(">I", len(kind)) + kind
    body = b"\x05READY" + bytes([len(name)]) + name + value
    return bytes([COMMAND, len(body)]) + body


def frame(body: bytes, flags: int = 0, said: int | None = None) -> bytes:
    """A ZMTP 3 frame; said: the length it claims."""
    length = len(body) if said is None else said
    if length < 256:
        return bytes([flags, length]) + body
    return bytes([flags | LONG]) + struct.pack(">Q", length) + body


def frame_1(body: bytes, flags: int = 0) -> bytes:
    """A ZMTP 1.0 frame: length with flags, flags, body."""
    if len(body) < 254:
        return bytes([len(body) + 1, flags]) + body
    return b"\xff" + struct.pack(">Q", len(body) + 1) + bytes([flags]) + body


def say(port: int, content: bytes, patience_s: float = 5.0) -> socket.socket:
    """Connect to a port and send; the other side may hang up meanwhile."""
    stranger = socket.create_connection(("127.0.0.1", port), timeout=patience_s)
    with contextlib.suppress(OSError):
        stranger.sendall(content)
    return stranger


def shake_hands(port: int, kind: bytes, patience_s: float = 5.0) -> socket.socket:
    """Connect as a socket of that type, up to the other side's READY: what is said before it comes
    counts as a broken handshake. A side that wants CURVE hangs up instead.
    """
    stranger = say(port, GREETING_3 + ready(kind), patience_s)
    heard = b""
    with contextlib.suppress(OSError):
        while b"READY" not in heard and (more := stranger.recv(4096)):
            heard += more
    return stranger


def part(stranger: socket.socket, chance: random.Random) -> None:
    """End a connection in one of the ways there are."""
    with contextlib.suppress(OSError):
        if chance.random() < 0.4:  # reset instead of a proper end
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif chance.random() < 0.5:
            stranger.shutdown(socket.SHUT_WR)
            stranger.settimeout(0.05)
            stranger.recv(4096)
    stranger.close()


@contextlib.contextmanager
def strangers(chance: random.Random) -> Iterator[list[socket.socket]]:
    """Connections that stay open as long as the block runs; put them into the list."""
    held: list[socket.socket] = []
    try:
        yield held
    finally:
        for stranger in held:
            part(stranger, chance)
