"""The control socket: how the HTTP sidecar asks the frame process, one msgpack map each way."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import zmq
import zmq.asyncio

from scgn_client.sockets import open_socket

LOG = logging.getLogger(__name__)
POLL_MS = 100
REQUEST_BYTES_MAX = 64 * 1024

Handler = Callable[[dict[str, Any]], dict[str, Any]]


class ControlError(Exception):
    """The frame process refused a request; `kind` is the name of the error it met there."""

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


class ControlTimeout(ControlError):
    """The frame process did not answer in time."""


def control_endpoint(run_dir: Path) -> str:
    """Address of the control socket of a service that runs in `run_dir`."""
    return f"ipc://{run_dir / 'control'}"


def run_dir_of(endpoint: str) -> Path:
    """The folder of a service whose control socket is there."""
    return Path(endpoint.removeprefix("ipc://")).parent


class ControlServer:
    """Answers requests `{"do": verb, ...}` in the frame process; `turn` answers at most one."""

    def __init__(self, endpoint: str, handlers: dict[str, Handler]) -> None:
        self._endpoint = endpoint
        self._handlers = handlers
        self._socket: zmq.Socket[bytes]

    def open(self) -> None:
        """Bind; zmq.ZMQError when the address is taken."""
        self._socket = open_socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.MAXMSGSIZE, REQUEST_BYTES_MAX)
        self._socket.bind(self._endpoint)

    def close(self) -> None:
        """Answer nothing more."""
        self._socket.close(linger=200)

    def turn(self) -> None:
        """Wait a moment for a request and answer it."""
        if self._socket.poll(POLL_MS):
            *peer, request = self._socket.recv_multipart()
            self._socket.send_multipart([*peer, self._answer(request)])

    def _answer(self, request: bytes) -> bytes:
        try:
            asked = msgpack.unpackb(request)
            answer: bytes = msgpack.packb({"ok": True, **self._handlers[asked["do"]](asked)})
        except Exception as error:
            # Whatever a request does, the frame loop goes on and the asker learns why; without
            # the path that operating system errors carry.
            LOG.warning("request failed", extra={"error": repr(error)})
            words = (isinstance(error, OSError) and error.strerror) or str(error)
            answer = msgpack.packb({"ok": False, "error": words, "kind": type(error).__name__})
        return answer


async def request(endpoint: str, timeout_s: float, **asked: Any) -> dict[str, Any]:
    """One request to the frame process, on a socket of its own so that none can block another.

    Raises ControlTimeout without an answer in time, ControlError when it was refused.
    """
    with zmq.asyncio.Context.instance().socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(endpoint)
        await socket.send(msgpack.packb(asked))
        if not await socket.poll(round(1000 * timeout_s)):
            raise ControlTimeout(f"frame process did not answer {asked['do']} in {timeout_s:.1f} s")
        answer: dict[str, Any] = msgpack.unpackb(await socket.recv())
    if not answer.pop("ok"):
        raise ControlError(answer["error"], answer["kind"])
    return answer
