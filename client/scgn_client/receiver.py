"""What a viewer calls: every frame in order, or only the newest."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import zmq

from scgn_client import wire
from scgn_client.diagnosis import WAITED_S, diagnose
from scgn_client.errors import ClientError, ReceiveTimeout, WireError
from scgn_client.keys import ClientKeys
from scgn_client.messages import End, Heartbeat, Published, PublishedFrame
from scgn_client.sockets import SOCKET_BUFFER_BYTES, open_socket, wait_ready

FRAMES = "tcp://127.0.0.1:5556"
LATEST = "tcp://127.0.0.1:5557"


@dataclass(frozen=True, slots=True)
class Gap:
    """Frames `first`..`last` of a series that did not come.

    lost: what the service says it lost there, by reason; unseen: the rest, which the service
    published but this subscriber was too slow for (or which it lost with an unseen message).
    """

    source: str
    series: str
    first: int
    last: int
    lost: Mapping[str, int]

    @property
    def unseen(self) -> int:
        return self.last - self.first + 1 - sum(self.lost.values())


class _Subscriber:
    """A SUB socket with a deadline on every receive."""

    def __init__(
        self, endpoint: str, timeout_s: float | None, keys: ClientKeys | None = None
    ) -> None:
        self.endpoint = endpoint
        self.keys = keys
        self.timeout_s = timeout_s
        self._heard = False  # something came since `start`
        self._socket: zmq.Socket[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Connect and subscribe; a service that is not there yet is waited for."""
        self._heard = False
        self._socket = open_socket(zmq.SUB, keys=self.keys)
        try:
            self._configure(self._socket)
            self._socket.connect(self.endpoint)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Disconnect; waiting messages are dropped."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _configure(self, socket: zmq.Socket[bytes]) -> None:
        raise NotImplementedError

    def _ready(self, timeout_s: float | None) -> zmq.Socket[bytes]:
        if self._socket is None:
            raise ClientError("receiver is not started: use it in a `with` block or call start()")
        begun = time.monotonic()
        if not wait_ready(self._socket, zmq.POLLIN, timeout_s):
            waited_ms = 1000 * (time.monotonic() - begun)
            ask = not self._heard and (timeout_s or 0) >= WAITED_S
            raise ReceiveTimeout(self.endpoint, waited_ms, self._why() if ask else "")
        self._heard = True
        return self._socket

    def _why(self) -> str:
        """Nothing ever came: how far a connection gets. Ours is made anew: libzmq tries no refused
        key again, and it may be on the list by now.
        """
        assert self._socket is not None
        self._socket.disconnect(self.endpoint)
        self._socket.connect(self.endpoint)
        return diagnose(self.endpoint, zmq.SUB, self.keys)


@dataclass
class _SeriesSeen:
    """What one subscriber saw of one series."""

    last: int | None = None
    ledger: Mapping[str, Any] | None = None
    gaps: list[Gap] = field(default_factory=list)


class FrameReceiver(_Subscriber):
    """Every published frame, in order, with its gaps and the service's ledger.

    endpoint: the service's frames; source: one camera, or None for all; timeout_s: ReceiveTimeout
    after that long without any message (None waits for ever); queue: frames that wait in this
    process before the service drops for us; keys: for a service with CURVE. A subscriber sees
    what is published after it joined.
    """

    def __init__(
        self,
        endpoint: str = FRAMES,
        source: str | None = None,
        *,
        timeout_s: float | None = 10.0,
        queue: int = 64,
        keys: ClientKeys | None = None,
    ) -> None:
        super().__init__(endpoint, timeout_s, keys)
        self.source = source
        self.queue = queue
        self._seen: dict[tuple[str, str], _SeriesSeen] = {}

    def _configure(self, socket: zmq.Socket[bytes]) -> None:
        socket.setsockopt(zmq.RCVHWM, self.queue)
        socket.setsockopt_string(zmq.SUBSCRIBE, self.source or "")

    def receive(self, timeout_s: float | None = None) -> Published:
        """The next message of any type; ReceiveTimeout, WireError."""
        while True:
            socket = self._ready(self.timeout_s if timeout_s is None else timeout_s)
            # Frames stay in ZeroMQ's memory: the arrays are views, nothing is copied here.
            parts = [part.buffer for part in socket.recv_multipart(copy=False)]
            if len(parts) < 2:
                raise WireError("parts", f"expected source and header, got {len(parts)} parts")
            topic, header, *pixels = parts
            # Subscriptions match prefixes: `cam1` also brings `cam10`.
            if self.source is None or bytes(topic) == self.source.encode():
                return self._note(wire.decode_published(header, pixels))

    def frames(self, until_end: bool = False) -> Iterator[PublishedFrame]:
        """Frames as they come; with `until_end`, up to the next series' end."""
        while True:
            message = self.receive()
            if isinstance(message, PublishedFrame):
                yield message
            elif until_end and isinstance(message, End):
                return

    def __iter__(self) -> Iterator[PublishedFrame]:
        return self.frames()

    def gaps(self) -> list[Gap]:
        """Every gap seen so far, all series."""
        return [gap for seen in self._seen.values() for gap in seen.gaps]

    def ledger(self, series: str) -> Mapping[str, Any] | None:
        """The service's latest word on a series (heartbeat or end), None before the first."""
        for (_, name), seen in self._seen.items():
            if name == series:
                return seen.ledger
        return None

    def _note(self, message: Published) -> Published:
        seen = self._seen.setdefault((message.source, message.series), _SeriesSeen())
        if isinstance(message, PublishedFrame):
            if seen.last is not None and message.frame > seen.last + 1:
                gap = (message.source, message.series, seen.last + 1, message.frame - 1)
                seen.gaps.append(Gap(*gap, lost=message.lost))
            seen.last = message.frame
        elif isinstance(message, (Heartbeat, End)):
            seen.ledger = message.ledger
            self._note_tail(seen, message)
        return message

    def _note_tail(self, seen: _SeriesSeen, message: Heartbeat | End) -> None:
        """Heartbeat and end name the last published frame: what lies beyond ours was lost to us."""
        last = _last_published(message)
        if seen.last is not None and last is not None and last > seen.last:
            gap = Gap(message.source, message.series, seen.last + 1, last, lost={})
            seen.gaps.append(gap)
            seen.last = last


def _last_published(message: Heartbeat | End) -> int | None:
    """The index that it names; an `end` without one still tells how many were published, and the
    last of so many has at least that index less one.
    """
    if message.frame is not None or isinstance(message, Heartbeat):
        return message.frame
    published = (message.ledger or {}).get("published")
    return published - 1 if type(published) is int else None


class LatestReceiver(_Subscriber):
    """Only the newest frame: whatever came before it is gone, so nothing shown is stale.

    endpoint: the service's latest; timeout_s: ReceiveTimeout after that long without a frame.
    """

    def __init__(
        self,
        endpoint: str = LATEST,
        *,
        timeout_s: float | None = 10.0,
        keys: ClientKeys | None = None,
    ) -> None:
        super().__init__(endpoint, timeout_s, keys)

    def _configure(self, socket: zmq.Socket[bytes]) -> None:
        # CONFLATE is safe here alone: `latest` is one part (it aborts the process on several).
        socket.setsockopt(zmq.CONFLATE, 1)
        socket.setsockopt(zmq.RCVBUF, SOCKET_BUFFER_BYTES)
        socket.setsockopt_string(zmq.SUBSCRIBE, "")

    def receive(self, timeout_s: float | None = None) -> PublishedFrame:
        """The newest frame not yet received; ReceiveTimeout, WireError."""
        socket = self._ready(self.timeout_s if timeout_s is None else timeout_s)
        header, pixels = wire.split_latest(socket.recv(copy=False).buffer)
        message = wire.decode_published(header, [pixels])
        if not isinstance(message, PublishedFrame):
            raise WireError("type", f"expected a frame on {self.endpoint}, got {message!r}")
        return message

    def __iter__(self) -> Iterator[PublishedFrame]:
        while True:
            yield self.receive()
