"""Bytes on every port that are no message: random TCP, old ZMTP, handshakes and half frames."""

from __future__ import annotations

import random
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

from chaos.stage import Stage
from chaos.table import fault
from chaos.zmtp import (
    COMMAND,
    GREETING_1,
    GREETING_2,
    GREETING_3,
    MORE,
    PEER_OF,
    frame,
    frame_1,
    part,
    ready,
    say,
    shake_hands,
    strangers,
)

STRANGERS = 8  # a strike and port
FLOOD = 300  # connections a port, at a time
HELD_SHARE = 0.3  # of the strangers stay until the strike is over


def _bother(
    stage: Stage,
    chance: random.Random,
    ports: dict[str, int],
    what: list[bytes],
    connect: Callable[[str, int], socket.socket] = lambda _, port: say(port, b""),
) -> Iterator[None]:
    """Strangers on each port, each saying one of the things, some of them staying."""
    with strangers(chance) as held:
        for name, port in ports.items():
            for _ in range(STRANGERS):
                stranger = connect(name, port)
                with suppress(OSError):  # the service may hang up meanwhile
                    stranger.sendall(chance.choice(what))
                if chance.random() < HELD_SHARE:
                    held.append(stranger)
                else:
                    part(stranger, chance)
        yield


def _nobody_came(stage: Stage, before: dict[str, int]) -> None:
    """With CURVE, not a byte of a stranger's reaches the application."""
    if stage.kind == "curve":
        assert stage.rejected() == before, "a stranger's bytes came in as messages"


@fault("plain", "curve")
def garbage_tcp(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Random bytes, some behind the beginning of a true greeting."""
    before, ports = stage.rejected(), stage.ports()
    noise = [chance.randbytes(chance.randrange(1, 3000)) for _ in range(20)]
    noise += [GREETING_3[: chance.randrange(64)] + some for some in noise[:10]]
    yield from _bother(stage, chance, ports, noise)
    _nobody_came(stage, before)


@fault("plain", "curve")
def garbage_old_zmtp(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Greetings of ZMTP 1.0 and 2.0, and messages behind them: without CURVE some come in."""
    before, ports = stage.rejected(), stage.ports()
    said = []
    for _ in range(20):
        bodies = [chance.randbytes(chance.randrange(400)) for _ in range(5)]
        messages = b"".join(frame_1(body, chance.choice((0, MORE))) for body in bodies)
        kind = bytes([chance.randrange(12)])
        said += [GREETING_1 + messages, GREETING_2 + kind + b"\x00\x00" + messages]
    yield from _bother(stage, chance, ports, said)
    _nobody_came(stage, before)


@fault("plain", "curve")
def half_frames(stage: Stage, chance: random.Random) -> Iterator[None]:
    """A true handshake (or nearly), then frames that lie about their length, or never end."""
    before, ports = stage.rejected(), stage.ports()
    del ports["http"]

    def connect(name: str, port: int) -> socket.socket:
        if chance.random() < 0.8:
            return shake_hands(port, PEER_OF[name], patience_s=1)
        whole = GREETING_3 + ready(chance.choice((b"PUSH", b"SUB", b"REQ", b"NONE", b"")))
        return say(port, whole[: chance.randrange(10, len(whole) + 1)])

    said = [_half(chance) for _ in range(60)]
    yield from _bother(stage, chance, ports, said, connect)
    _nobody_came(stage, before)


@fault("plain", "curve", keeps_mb=160)
def connection_flood(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Hundreds of connections on every port that say nothing, or begin to: frames and probes go on
    beside them.
    """
    before, ports, held = stage.rejected(), stage.ports().values(), []
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    beginnings = [b"", GREETING_3[: chance.randrange(1, 64)], b"GET /li", b"\x16\x03\x01\x02"]
    try:
        for _ in range(min(FLOOD, most // 8)):
            held += [say(port, chance.choice(beginnings)) for port in ports]
        assert stage.admin.live(), "the sidecar does not answer"
        yield
    finally:
        for stranger in held:
            stranger.close()
    _nobody_came(stage, before)


def _half(chance: random.Random) -> bytes:
    """Frames that break off, or claim what they are not."""
    body = chance.randbytes(chance.randrange(1, 300))
    whole = chance.choice([
        frame(body, said=len(body) + chance.randrange(1, 100)),
        frame(body, said=chance.choice((2**20, 2**31, 2**63, 2**64 - 1))),
        frame(body, MORE) * chance.randrange(1, 50),
        frame(body, MORE) + frame(body, said=2**40),
        frame(body, COMMAND), frame(b"\x05READY" + body, COMMAND),
        frame(b"\x01" + body), frame(b"\x00" + body), frame(b""), frame(b"", MORE),
        bytes([0xFF]) + body,
    ])  # fmt: skip
    return whole[: chance.randrange(1, len(whole) + 1)]


# What uvicorn says when it would answer a peer that has broken off in the middle of its body.
@fault("plain", says=("LocalProtocolError", "ClientDisconnect"))
def garbage_http(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Requests that lie, never end, or are none."""
    port = {"http": stage.ports()["http"]}
    post = b"POST /calibrations HTTP/1.1\r\nHost: localhost\r\n"
    said = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n", post + b"Content-Length: 99999",
        b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00",
        post + b"Content-Length: 18446744073709551616\r\n\r\n",
        post + b"Content-Length: -1\r\n\r\n", post + b"\r\n",
        post + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /status HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 20_000 + b"\r\n",
        b"GET /status HTTP/9.9\r\n\r\n", b"\r\n" * 100, chance.randbytes(500),
    ]  # fmt: skip
    yield from _bother(stage, chance, port, said)
    assert stage.admin.live(), "the sidecar does not answer"
