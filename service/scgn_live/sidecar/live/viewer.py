"""One browser: what it asked for, what it gets."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect

from scgn_live.sidecar.live.board import StatusBoard
from scgn_live.sidecar.live.feed import Entry, LatestFeed

TEXT_MAX = 1024  # characters that a browser may send at once
HELD = 4  # frames sent last whose exact pixels can still be asked for, fewer of large ones
HELD_BYTES = 128 * 2**20
TOKEN_S = 5.0
BAD_MESSAGE, TRY_LATER, NO_TOKEN, WRONG_ORIGIN = 1008, 1013, 4401, 4403


class Guard(Protocol):
    """Who may look."""

    @property
    def needs_token(self) -> bool: ...
    def allows(self, token: str | None) -> bool: ...
    def origin_allowed(self, headers: Mapping[str, str]) -> bool: ...


class Refused(Exception):
    """The connection ends with this close code and these words."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


@dataclass(frozen=True)
class Wish:
    """One request for a frame: of this camera, or of any."""

    source: str | None


async def receive_map(socket: WebSocket) -> dict[str, Any]:
    """The browser's next message; Refused for anything but a small JSON map as text."""
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code") or 1005)
    text = message.get("text")
    if text is None or len(text) > TEXT_MAX:
        raise Refused(BAD_MESSAGE, f"expected JSON text of at most {TEXT_MAX} characters")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if type(content) is not dict:
        raise Refused(BAD_MESSAGE, "expected a JSON map")
    return content


async def let_in(socket: WebSocket, guard: Guard) -> None:
    """Refused unless the page is our own and its first message holds the token, if one is set."""
    if not guard.origin_allowed(socket.headers):
        raise Refused(WRONG_ORIGIN, "expected a page of this service as the origin")
    if not guard.needs_token:
        return
    try:
        async with asyncio.timeout(TOKEN_S):
            content = await receive_map(socket)
    except TimeoutError:
        raise Refused(NO_TOKEN, f"expected a token within {TOKEN_S:.0f} s") from None
    token = content.get("token")
    if not guard.allows(token if type(token) is str else None):
        raise Refused(NO_TOKEN, "expected the service's token")


class Viewer:
    """Answers one browser. Frames go out one at a time, each only when it was asked for."""

    def __init__(
        self, socket: WebSocket, feed: LatestFeed, board: StatusBoard, fps_max: float
    ) -> None:
        self._socket = socket
        self._feed = feed
        self._board = board
        self._interval_s = 1 / fps_max
        self._wish: Wish | None = None
        self._source: str | None = None
        self._last = 0  # number of the newest frame sent of `_source`
        self._held: deque[Entry] = deque()
        self._stirred = asyncio.Event()  # a new wish, or a new frame while there is one
        self._told = asyncio.Event()  # a new status
        self._sending = asyncio.Lock()  # one message at a time
        self._sending_parts = asyncio.Lock()  # words may come between the parts of a frame

    async def serve(self) -> None:
        """Until the browser goes; Refused when it says what it must not."""
        works = (self._obey, self._send_frames, self._send_status)
        tasks = [asyncio.create_task(work()) for work in works]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._sleep()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    # What it says.

    async def _obey(self) -> None:
        verbs = {
            "frame": self._want_frame, "status": self._want_status, "nothing": self._want_nothing,
            "clock": self._want_clock, "exact": self._want_exact,
        }  # fmt: skip
        while True:
            content = await receive_map(self._socket)
            if "token" in content:  # said to a service that asks for none
                continue
            verb = verbs.get(str(content.get("want")))
            if verb is None:
                raise Refused(BAD_MESSAGE, f"expected want as one of {', '.join(verbs)}")
            await verb(content)

    async def _want_frame(self, content: dict[str, Any]) -> None:
        source = content.get("source")
        if source is not None and type(source) is not str:
            raise Refused(BAD_MESSAGE, "expected source as a name or null")
        if source != self._source:
            self._source, self._last = source, 0
        self._wish = Wish(source)
        self._board.watch(self._told)
        self._stirred.set()

    async def _want_status(self, _: dict[str, Any]) -> None:
        """Paused: no frames, but how the service does."""
        self._no_frame()
        self._board.watch(self._told)

    async def _want_nothing(self, _: dict[str, Any]) -> None:
        """Hidden."""
        self._sleep()

    async def _want_clock(self, content: dict[str, Any]) -> None:
        answer = {"type": "clock", "t": content.get("t"), "server_ns": str(time.time_ns())}
        await self._send(json.dumps(answer))

    async def _want_exact(self, content: dict[str, Any]) -> None:
        asked = (content.get("source"), content.get("series"), str(content.get("frame")))
        entry = next((entry for entry in self._held if entry.key == asked), None)
        if entry is None:
            await self._send(json.dumps({"type": "exact", "held": False}))
        else:
            await self._send_parts(await entry.exact_message())

    def _no_frame(self) -> None:
        self._wish = None
        self._feed.leave(self._stirred)

    def _sleep(self) -> None:
        self._no_frame()
        self._board.leave(self._told)

    # What it gets.

    async def _send(self, text: str) -> None:
        async with self._sending:
            await self._socket.send_text(text)

    async def _send_parts(self, parts: list[bytes]) -> None:
        async with self._sending_parts:
            for part in parts:
                async with self._sending:
                    await self._socket.send_bytes(part)
                await asyncio.sleep(0)  # probes first

    async def _send_frames(self) -> None:
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            wish = self._wish
            if wish is None:
                continue
            entry = await self._feed.newest(wish.source)
            if wish is not self._wish:
                self._stirred.set()  # it changed its mind meanwhile
            elif entry is None or entry.number <= self._last:
                self._feed.watch(self._stirred)
            else:
                await self._answer(entry)

    async def _answer(self, entry: Entry) -> None:
        began_s = time.monotonic()
        self._no_frame()  # before it is sent: the next wish may come while this frame leaves
        self._last = entry.number
        self._hold(entry)
        await self._send_parts(await entry.browser_message())
        # The pause comes before the next choice, so that what is chosen then is the newest.
        await asyncio.sleep(began_s + self._interval_s - time.monotonic())

    def _hold(self, entry: Entry) -> None:
        self._held.append(entry)
        while len(self._held) > HELD or (
            len(self._held) > 2 and sum(held.held_bytes for held in self._held) > HELD_BYTES
        ):
            self._held.popleft()

    async def _send_status(self) -> None:
        while True:
            await self._told.wait()
            self._told.clear()
            await self._send(self._board.text)
