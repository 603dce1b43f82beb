"""Frames in: the ingest socket, every check, and the way into the ring."""

from __future__ import annotations

import logging
import time

import zmq

from scgn_client import wire
from scgn_client.errors import WireError
from scgn_client.messages import End, FrameHeader, Heartbeat, Ingest, Start
from scgn_client.sockets import open_socket
from scgn_live.curve import CAMERAS, camera_client_keys, server_keys
from scgn_live.ledger import Arrival, Ledger
from scgn_live.logs import OncePerSecond
from scgn_live.ring import Event, Ring
from scgn_live.run import Run
from scgn_live.settings import Settings

LOG = logging.getLogger(__name__)
QUEUE = 4  # frames ZeroMQ may hold before the ring: what waits there cannot be dropped as oldest
POLL_MS = 100
QUIET_MS = 50  # without a message: cameras have handed over no more


class FrameIngest:
    """The ingest socket. `turn` handles at most one message; `open` binds, `close` unbinds, and
    `drain` comes before it.
    """

    def __init__(self, settings: Settings, ring: Ring, ledger: Ledger) -> None:
        self._settings = settings
        self._ring = ring
        self._ledger = ledger
        self._warn = OncePerSecond(LOG)
        self._socket: zmq.Socket[bytes]
        self.endpoint = ""

    def open(self) -> None:
        """Bind, or connect to the camera, as the settings say; zmq.ZMQError when it cannot."""
        role = self._settings.ingest_role
        binds = role == "pull-bind"
        keys = server_keys(self._settings, CAMERAS) if binds else camera_client_keys(self._settings)
        socket = open_socket(zmq.SUB if role == "sub-connect" else zmq.PULL, keys=keys)
        socket.setsockopt(zmq.RCVHWM, QUEUE)
        # Far above what is accepted: a camera that is a little too large is told so in the counts,
        # where ZeroMQ would only drop its connection.
        socket.setsockopt(zmq.MAXMSGSIZE, 8 * self._settings.max_frame_bytes)
        if role == "sub-connect":
            socket.setsockopt_string(zmq.SUBSCRIBE, "")
        try:
            (socket.bind if binds else socket.connect)(self._settings.ingest)
        except zmq.ZMQError:
            socket.close()
            raise
        self.endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._socket = socket

    def close(self) -> None:
        """Take nothing more."""
        self._socket.close()

    def turn(self) -> None:
        """Wait a moment for a message and deal with it; nothing in it can raise."""
        if self._socket.poll(POLL_MS):
            self._receive()

    def drain(self, within_s: float) -> None:
        """Deal with what cameras have handed over, until it is quiet or the time is over. For the
        thread that has stopped the stage, and the ring: frames are then dropped as `shutdown`.

        The socket stays bound: to unbind it cuts the connections, and with them whatever they hold.
        """
        end_s = time.monotonic() + within_s
        while time.monotonic() < end_s and self._socket.poll(QUIET_MS):
            self._receive()

    def _receive(self) -> None:
        parts = self._socket.recv_multipart(copy=False)
        received_s = time.monotonic()
        try:
            message = self._checked(parts)
            if isinstance(message, FrameHeader):
                self._frame(message, parts[1], received_s)
            else:
                self._event(message)
        except WireError as error:
            self._ledger.reject(error.reason)
            self._warn.warn(error.reason, f"message rejected: {error}")

    def _checked(self, parts: list[zmq.Frame]) -> Ingest:
        if len(parts) > 2:
            raise WireError("parts", f"expected at most 2 parts, got {len(parts)}")
        message = wire.decode_ingest(parts[0].buffer)
        expected = 2 if isinstance(message, FrameHeader) else 1
        if len(parts) != expected:
            raise WireError("parts", f"expected {expected} parts, got {len(parts)}")
        if isinstance(message, FrameHeader):
            self._check_size(message, len(parts[1]))
        return message

    def _check_size(self, header: FrameHeader, got: int) -> None:
        rows, columns = header.shape
        limit = self._settings.max_rows, self._settings.max_columns
        if rows > limit[0] or columns > limit[1]:
            raise WireError("frame_size", f"expected at most {limit} px, got {header.shape}")
        if got != header.payload_bytes:
            what = f"{rows} x {columns} {header.dtype}"
            raise WireError(
                "payload_size", f"expected {header.payload_bytes} bytes for {what}, got {got}"
            )

    def _frame(self, header: FrameHeader, message: zmq.Frame, received_s: float) -> None:
        run, before = self._ledger.run_of(header.source, header.series, header.frame)
        self._finish(before)
        self._announce(run)
        word = self._ledger.arrive(run, header.frame)
        if word != Arrival.ACCEPTED:
            text = f"frame {header.frame} of {header.series} rejected"
            self._warn.warn(word, text, expected_from=run.expected)
            return
        if (slot := self._ring.claim()) is None:
            self._ledger.drop(run, header.frame, "shutdown")
            return
        slot.store(header, run, message, received_s)
        self._ring.fill(slot)

    def _finish(self, runs: list[Run]) -> None:
        """Put the `end` of each run in line."""
        for run in runs:
            self._ring.post(Event("end", run))

    def _announce(self, run: Run) -> None:
        """Put the run's `start` in line, once, before its first frame."""
        if not run.announced:
            run.announced = True
            self._ring.post(Event("start", run))

    def _event(self, message: Start | End | Heartbeat) -> None:
        if isinstance(message, Start):
            run, before = self._ledger.open(message)
            self._finish(before)
            if run is not None:
                self._announce(run)
        elif isinstance(message, End):
            self._finish(self._ledger.recall(message.source, message.series, message.frames))
            if ended := self._ledger.announce(message.source, message.series, message.frames):
                self._announce(ended)
                self._ring.post(Event("end", ended))
            else:
                self._warn.warn("end", f"end of unknown series {message.series}")
        else:
            self._ledger.touch(message.source, message.series)
