"""The newest frames of the service, read from `latest` once for all browsers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import zmq
import zmq.asyncio

from scgn_client import wire
from scgn_client.errors import WireError
from scgn_client.keys import ClientKeys
from scgn_client.messages import PublishedFrame
from scgn_client.sockets import SOCKET_BUFFER_BYTES, open_socket
from scgn_live.sidecar.live.frames import browser_message, exact_message
from scgn_live.sidecar.live.watched import WhileWatched

LOG = logging.getLogger(__name__)
POLL_MS = 200
SOURCES_MAX = 64  # cameras whose newest frame is kept
THREAD_PIXELS = 1_000_000  # above, converting would keep a health probe waiting
_ANY_HOST = re.compile(r"tcp://(\*|0\.0\.0\.0|\[::\]):")


def connectable(endpoint: str) -> str | None:
    """Where to reach what is bound to `endpoint`: on every address means on loopback too.

    None when its port was left to the system: only the one who bound it knows.
    """
    if endpoint.startswith("tcp://") and not endpoint.rpartition(":")[2].isdigit():
        return None
    return _ANY_HOST.sub("tcp://127.0.0.1:", endpoint)


class Entry:
    """One frame from `latest`; converted at most once, whoever asks."""

    def __init__(self, number: int, frame: PublishedFrame) -> None:
        self.number = number
        self.frame = frame
        self._painted: asyncio.Task[list[bytes]] | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """Source, series and index; the index as text, since a browser may say it as either."""
        return self.frame.source, self.frame.series, str(self.frame.frame)

    async def browser_message(self) -> list[bytes]:
        """The message to paint, in parts."""
        if self._painted is None:
            self._painted = asyncio.create_task(self._made(browser_message))
        return await asyncio.shield(self._painted)  # whoever began may be gone before it is done

    async def exact_message(self) -> list[bytes]:
        """The message to keep, in parts."""
        return await self._made(exact_message)

    def grow_old(self) -> None:
        """There is a newer one: nobody will begin to paint this."""
        self._painted = None

    @property
    def held_bytes(self) -> int:
        """Memory that the counts take."""
        return sum(counts.nbytes for counts in self.frame.channels.values())

    async def _made(self, make: Callable[[PublishedFrame], list[bytes]]) -> list[bytes]:
        if sum(counts.size for counts in self.frame.channels.values()) < THREAD_PIXELS:
            return make(self.frame)
        return await asyncio.to_thread(make, self.frame)


class LatestFeed(WhileWatched):
    """The newest frame of each camera; connected only while a browser waits for one.

    endpoint: of the service's `latest`; None until it is known. keys: for a service with CURVE.
    """

    def __init__(self, endpoint: str | None, keys: ClientKeys | None = None) -> None:
        super().__init__()
        self._keys = keys
        self.endpoint = endpoint
        self._socket: zmq.asyncio.Socket | None = None
        self._newest: dict[str, Entry] = {}
        self._number = 0

    async def newest(self, source: str | None) -> Entry | None:
        """The newest frame of a camera, or of all; None while none has come."""
        await self._drain()
        if source is not None:
            return self._newest.get(source)
        return max(self._newest.values(), key=lambda entry: entry.number, default=None)

    async def work(self) -> None:
        """Stay connected to where the service is now, while somebody looks."""
        endpoint = self.endpoint
        if endpoint is None:
            await asyncio.sleep(POLL_MS / 1000)
            return
        with self._connected(endpoint) as socket:
            while await self.somebody() and self.endpoint == endpoint:
                if await socket.poll(POLL_MS):
                    await self._drain()

    @contextlib.contextmanager
    def _connected(self, endpoint: str) -> Iterator[zmq.asyncio.Socket]:
        context: Any = zmq.asyncio.Context.instance()
        socket: Any = open_socket(zmq.SUB, context, self._keys)
        try:
            socket.setsockopt(zmq.CONFLATE, 1)  # safe here alone: `latest` is one part
            socket.setsockopt(zmq.RCVBUF, SOCKET_BUFFER_BYTES)
            socket.setsockopt_string(zmq.SUBSCRIBE, "")
            socket.connect(endpoint)
            self._socket = socket
            yield socket
        finally:
            self._socket = None
            self._newest.clear()  # nobody looks: nothing is kept, and nothing can be old
            socket.close()

    async def _drain(self) -> None:
        """Take what has come; the socket itself keeps only the newest."""
        with contextlib.suppress(zmq.Again):
            while self._socket is not None:
                self._take(await self._socket.recv(zmq.DONTWAIT, copy=False))

    def _take(self, message: zmq.Frame) -> None:
        try:
            header, pixels = wire.split_latest(message.buffer)
            frame = wire.decode_published(header, [pixels])
        except WireError as error:
            LOG.warning("not a frame on latest", extra={"error": str(error)})
            return
        if isinstance(frame, PublishedFrame):
            self._number += 1
            if before := self._newest.pop(frame.source, None):
                before.grow_old()
            self._newest[frame.source] = Entry(self._number, frame)
            if len(self._newest) > SOURCES_MAX:
                del self._newest[next(iter(self._newest))]
            self.tell()  # whoever drained: others wait for the same frame
