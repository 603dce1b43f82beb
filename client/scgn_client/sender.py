"""What a camera side calls: frames into the service."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import zmq

from scgn_client import wire
from scgn_client.diagnosis import WAITED_S, diagnose
from scgn_client.errors import ClientError, SendTimeout
from scgn_client.keys import ClientKeys
from scgn_client.messages import Array, End, Heartbeat, Ingest, Start
from scgn_client.sockets import open_socket, wait_ready

INGEST = "tcp://127.0.0.1:5555"
# The kernel holds megabytes beyond our queue: a slow service takes them long after the last send.
# Towards a service that is gone nothing is held (IMMEDIATE), so this keeps no process alive.
HAND_OVER_S = 60


class FrameSender:
    """Sends one series: `start`, frames numbered from 0, `end` with their count.

    endpoint: the service's ingest; source: the camera's name; series: a new UUID when None;
    timeout_s: how long a call waits for the service before SendTimeout; queue: messages held in
    this process beyond what the service has taken; exposure_ms, pixel_size_nm, user: told in
    `start`; keys: for a service with CURVE, `client_keys(...)`.

    With `overload = "block"` in the service, `send` waits: that is the back-pressure. A frame that
    the camera cannot hold any longer is given up with `skip()`, so that its loss is seen.
    """

    def __init__(
        self,
        endpoint: str = INGEST,
        source: str = "camera",
        series: str | None = None,
        *,
        timeout_s: float = 10.0,
        queue: int = 4,
        exposure_ms: float | None = None,
        pixel_size_nm: float | None = None,
        user: Mapping[str, Any] | None = None,
        keys: ClientKeys | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.keys = keys
        self.source = source
        self.series = series or str(uuid.uuid4())
        self.timeout_s = timeout_s
        self.queue = queue
        self.next_frame = 0
        self._ended = False
        self._taken = False  # the service took a message since `start`
        self._start = Start(source, self.series, exposure_ms, pixel_size_nm, user)
        self._context: zmq.Context[zmq.Socket[bytes]]
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
        try:
            if kind is None:
                self.end()
        finally:
            self.close()

    def start(self) -> None:
        """Connect and announce the series; SendTimeout when no service answers in time: it says
        whether nothing listens there, or our key is refused.
        """
        self._taken = False
        self._context = zmq.Context()
        self._socket = open_socket(zmq.PUSH, self._context, self.keys)
        self._socket.setsockopt(zmq.SNDHWM, self.queue)
        # Queue only towards a service that is there: otherwise a send "succeeds" into nothing.
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        try:
            self._socket.connect(self.endpoint)
            self._send_message(self._start)
        except BaseException:
            self.close()
            raise

    def send(
        self,
        frame: Array,
        *,
        t_acquired_ns: int | None = None,
        user: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Send one (rows, columns) frame and return its index.

        t_acquired_ns: Unix time of the exposure's end, now when None. Raises SendTimeout, with the
        index still free to be sent again or skipped, and WireError for what the wire cannot carry.
        """
        acquired = time.time_ns() if t_acquired_ns is None else t_acquired_ns
        message = wire.frame_header(
            frame, self.source, self.series, self.next_frame, t_acquired_ns=acquired, user=user
        )
        parts: list[wire.Buffer] = [wire.encode_ingest(message), wire.pixels(frame)]
        # Counted first: a Ctrl-C right after the send must not make `end` tell one too few.
        self.next_frame += 1
        try:
            self._send(parts, self.timeout_s if timeout_s is None else timeout_s)
        except ClientError:
            self.next_frame -= 1
            raise
        return message.frame

    def skip(self) -> int:
        """Give up one frame: its index is never sent and the service counts it as missing."""
        self.next_frame += 1
        return self.next_frame - 1

    def heartbeat(self) -> None:
        """Tell an idle service that this series is still alive."""
        self._send_message(Heartbeat(self.source, self.series))

    def end(self) -> None:
        """Say how many frames the series had, skipped ones included; once, however often called."""
        if not self._ended:
            self._send_message(End(self.source, self.series, frames=self.next_frame))
            self._ended = True

    def close(self) -> None:
        """Disconnect, once the service has taken what is queued, or after HAND_OVER_S."""
        if self._socket is not None:
            self._socket.close(linger=1000 * HAND_OVER_S)
            self._socket = None
            # A context that is not ended drops what is queued when the process exits.
            self._context.term()

    def _send_message(self, message: Ingest) -> None:
        self._send([wire.encode_ingest(message)], self.timeout_s)

    def _send(self, parts: list[wire.Buffer], timeout_s: float) -> None:
        if self._socket is None:
            raise ClientError("sender is not started: use it in a `with` block or call start()")
        begun = time.monotonic()
        if not wait_ready(self._socket, zmq.POLLOUT, timeout_s):
            waited_ms = 1000 * (time.monotonic() - begun)
            # Asked before the first message alone: later it would only cost the camera time.
            ask = not self._taken and timeout_s >= WAITED_S
            why = diagnose(self.endpoint, zmq.PUSH, self.keys) if ask else ""
            raise SendTimeout(self.endpoint, waited_ms, why)
        try:
            self._socket.send_multipart(parts, flags=zmq.DONTWAIT)
            self._taken = True
        except zmq.Again as error:  # the service went away since
            raise SendTimeout(self.endpoint, 1000 * (time.monotonic() - begun)) from error
