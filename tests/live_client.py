"""What tests of the live view share: its sidecar in this process, and a browser's side by hand."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import uvicorn
from support import DEADLINE_S, wait_for
from websockets.sync.client import ClientConnection, connect

from scgn_live.app import App
from scgn_live.running import free_ports
from scgn_live.sidecar.app import build_app
from scgn_live.sidecar.live.routes import WEBSOCKET_SERVER


@contextlib.contextmanager
def live_sidecar(app: App, **changes: Any) -> Iterator[str]:
    """The HTTP side of `app` on a real server in this process; yields host:port."""
    settings = app.settings.model_copy(update=changes)
    http = build_app(settings, f"ipc://{settings.state_dir}/control")
    (port,) = free_ports(1)
    options: Any = WEBSOCKET_SERVER
    config = uvicorn.Config(http, "127.0.0.1", port, log_config=None, access_log=False, **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started, "the sidecar listening")
        yield f"127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(DEADLINE_S)


@dataclass(frozen=True)
class Message:
    """A binary message taken apart as a browser does it."""

    header: dict[str, Any]
    start: int
    content: bytes

    def pixels(self, dtypes: list[str]) -> list[Any]:
        """Each channel as (rows, columns) of its dtype."""
        at, found = self.start, []
        for channel, dtype in zip(self.header["channels"], dtypes, strict=True):
            rows, columns = channel["shape"]
            flat = np.frombuffer(self.content, dtype, rows * columns, at)
            found.append(flat.reshape(rows, columns))
            at += flat.nbytes
        assert at == len(self.content)
        return found

    @property
    def counts(self) -> dict[str, Any]:
        """Each channel of a frame in counts, as the browser reads them."""
        channels = self.header["channels"]
        arrays = self.pixels(["<u2"] * len(channels))
        return {
            channel["name"]: channel["offset"] + channel["scale"] * pixels.astype(np.float64)
            for channel, pixels in zip(channels, arrays, strict=True)
        }


class Browser:
    """The page's side of the WebSocket, without a page."""

    socket: ClientConnection

    def __init__(self, host: str, origin: str | None = None) -> None:
        url = f"ws://{host}/live/frames"
        self._connecting: Any = connect(url, origin=origin, max_size=None)  # type: ignore[arg-type]

    def __enter__(self) -> Browser:
        self.socket = self._connecting.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._connecting.__exit__(*error)

    def say(self, **content: Any) -> None:
        self.socket.send(json.dumps(content))

    def want(self, what: str, **content: Any) -> None:
        self.say(want=what, **content)

    def hear(self, timeout_s: float = DEADLINE_S) -> Message | dict[str, Any]:
        """The next message; TimeoutError, ConnectionClosed."""
        got = self.socket.recv(timeout_s)
        if isinstance(got, str):
            told: dict[str, Any] = json.loads(got)
            return told
        length = int.from_bytes(got[:4], "little")
        return Message(json.loads(got[4 : 4 + length]), 4 + length, got)

    def binary(self) -> Message:
        """The next binary message, put together of its parts; words are passed over."""
        while isinstance(got := self.hear(), dict):
            pass
        parts = [got.content]
        while len(parts) < got.header["parts"]:
            if isinstance(part := self.socket.recv(DEADLINE_S), bytes):
                parts.append(part)
        content = b"".join(parts)
        assert len(content) == got.start + got.header["bytes"]
        return Message(got.header, got.start, content)

    def told(self, kind: str) -> dict[str, Any]:
        """The next text message of a type; others are passed over."""
        while True:
            got = self.hear()
            if isinstance(got, dict) and got["type"] == kind:
                return got

    def frame(self, source: str | None = None) -> Message:
        """Ask for a frame and wait for it."""
        self.want("frame", source=source)
        got = self.binary()
        assert got.header["type"] == "frame"
        return got
