"""Frames out: every frame to subscribers, the newest to viewers, and signs of life in between."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray
from zmq.utils.monitor import recv_monitor_message

from scgn_client import wire
from scgn_client.sockets import SOCKET_BUFFER_BYTES, open_socket
from scgn_live.curve import VIEWERS, server_keys
from scgn_live.ledger import Ledger
from scgn_live.metrics import Metrics
from scgn_live.reports import published
from scgn_live.ring import Event, Ring, Slot
from scgn_live.run import Run
from scgn_live.settings import Settings

LOG = logging.getLogger(__name__)
WAIT_S = 0.05  # how long a new subscriber may wait for its `start`
HEARTBEAT_S = 1.0
NOTES_S = 0.02  # of subscriptions at a time: a peer that subscribes without end stops no frame
SUBSCRIBES = b"\x01"
DISPLAY_SAMPLES = 40  # a side: levels from 1,600 pixels cost a hundredth of a frame's percentile
DISPLAY_FRACTION = 0.005
QUEUE_MIN = 2  # frames: with fewer a viewer that is a little late misses every other one
SAID_BYTES_MAX = 512  # by a subscriber: a topic of 64 bytes, or CURVE's handshake, which takes more


def display_levels(frame: NDArray[Any]) -> list[float]:
    """Black and white level: the 0.5 % and 99.5 % quantiles of a regular sample of the pixels."""
    rows, columns = (max(1, n // DISPLAY_SAMPLES) for n in frame.shape)
    sample = frame[::rows, ::columns].ravel()
    low = int(DISPLAY_FRACTION * (sample.size - 1))
    high = sample.size - 1 - low
    ordered = np.partition(sample, (low, high))
    return [float(ordered[low]), float(ordered[high])]


def announced_bytes(settings: Settings) -> int:
    """Pixels of the largest of `shapes` as it is published, bytes."""
    denoised = np.dtype(settings.output_dtype).itemsize
    sizes = [
        rows * columns * (denoised + settings.publish_raw * np.dtype(dtype).itemsize)
        for (rows, columns), dtype in settings.frame_kinds
    ]
    return max(sizes, default=0)


def queue_length(settings: Settings) -> int:
    """Frames kept for one slow subscriber: as many of the largest announced kind as `subscriber_mb`
    holds, at most `subscriber_queue`.
    """
    fit = int(settings.subscriber_mb * 1e6 / max(1, announced_bytes(settings)))
    return min(settings.subscriber_queue, max(QUEUE_MIN, fit))


class FramePublisher:
    """The `frames` and `latest` sockets. `turn` sends at most one frame or event."""

    def __init__(self, settings: Settings, ring: Ring, ledger: Ledger, metrics: Metrics) -> None:
        self._settings = settings
        self._ring = ring
        self._ledger = ledger
        self._metrics = metrics
        self._frames: zmq.Socket[bytes]
        self._latest: zmq.Socket[bytes]
        self._connections: zmq.Socket[bytes]
        self._viewing: set[int] = set()  # descriptors of the connections to `latest`
        self._greeted_s = self._beat_s = 0.0
        self._largest_bytes = announced_bytes(settings)
        self.endpoints: dict[str, str] = {}

    def open(self) -> None:
        """Bind both sockets; zmq.ZMQError when an address is taken."""
        keys = server_keys(self._settings, VIEWERS)
        self._frames = open_socket(zmq.XPUB, keys=keys)
        self._frames.setsockopt(zmq.SNDHWM, queue_length(self._settings))
        # Every subscriber is announced, not only the first of a topic: each gets its `start`.
        self._frames.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._latest = open_socket(zmq.PUB, keys=keys)
        # Without it a full queue drops the newest frame and keeps the stale one (XPUB has no such
        # option, so viewers are counted by their connections).
        self._latest.setsockopt(zmq.CONFLATE, 1)
        self._latest.setsockopt(zmq.SNDBUF, SOCKET_BUFFER_BYTES)
        self._connections = self._latest.get_monitor_socket(
            zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED
        )
        places = {"frames": self._settings.frames, "latest": self._settings.latest}
        for socket, (name, endpoint) in zip(
            (self._frames, self._latest), places.items(), strict=True
        ):
            socket.setsockopt(zmq.MAXMSGSIZE, SAID_BYTES_MAX)
            try:
                socket.bind(endpoint)
            except zmq.ZMQError:
                self.close()
                raise
            self.endpoints[name] = socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def close(self) -> None:
        """Give what is queued a moment to leave, then close."""
        self._latest.disable_monitor()
        self._connections.close(0)
        for socket in (self._frames, self._latest):
            socket.close(linger=1000)

    def turn(self) -> None:
        """Wait a moment for the head of the line and send it; greet and beat in between."""
        entry = self._ring.next(WAIT_S)
        now = time.monotonic()
        if now - self._greeted_s >= WAIT_S:
            self._greeted_s = now
            self._greet()
        if isinstance(entry, Slot):
            self._slot(entry)
        elif isinstance(entry, Event):
            self._event(entry)
        if now - self._beat_s >= HEARTBEAT_S:
            self._beat_s = now
            self._beat()

    @property
    def viewers(self) -> int:
        """Connections to `latest`."""
        return len(self._viewing)

    def end_runs(self, in_line: list[Event]) -> None:
        """The service stops: say `end` for series whose end was in line, and for every open one."""
        for event in in_line:
            if event.kind == "end":
                self._end(event.run, reason="end")
        for run, _ in self._ledger.open_runs():
            self._end(run, reason="shutdown")

    def _slot(self, slot: Slot) -> None:
        if slot.failed is not None:
            self._ledger.fail(slot.run, slot.header.frame, slot.failed)
        else:
            self._send(slot, self._ledger.publish(slot.run, slot.header.frame))
            self._metrics.frame_left(slot, time.monotonic())
        self._ring.release(slot)

    def _send(self, slot: Slot, lost: dict[str, int]) -> None:
        assert slot.denoised is not None, "a frame that did not fail has a result"
        header, result = slot.header, slot.denoised
        channels = {"denoised": result}
        if self._settings.publish_raw:
            channels["raw"] = slot.raw
        content = {
            "source": header.source, "series": header.series, "frame": header.frame,
            "t_acquired_ns": header.t_acquired_ns, "user": header.user,
            "display": display_levels(result), "t_received_ns": slot.t_received_ns,
            "t_published_ns": time.time_ns(),
            "latency_ms": 1000 * (time.monotonic() - slot.received_s),
            "calibration": slot.calibration, "model": slot.model, "engine": slot.engine,
            "lost": lost, **published(slot.report),
        }  # fmt: skip
        self._warn_of(sum(array.nbytes for array in channels.values()))
        parts = wire.encode_published(content, channels)
        self._frames.send_multipart(parts, flags=zmq.SNDMORE)
        for position, array in enumerate(channels.values(), start=1):
            self._send_pixels(slot, array, zmq.SNDMORE if position < len(channels) else 0)
        if self._viewing:
            pixels = [wire.pixels(array) for array in channels.values()]
            self._latest.send(wire.join_latest([*parts, *pixels]), copy=False)

    def _warn_of(self, frame_bytes: int) -> None:
        # The queues' length is as it was at `bind`: setting SNDHWM later crashes libzmq when a
        # subscriber is just leaving.
        if frame_bytes <= self._largest_bytes:
            return
        self._largest_bytes = frame_bytes
        most_mb = queue_length(self._settings) * frame_bytes / 1e6
        if most_mb > self._settings.subscriber_mb:
            facts = {"expected_mb": self._settings.subscriber_mb, "may_take_mb": round(most_mb)}
            LOG.warning("frames larger than `shapes`: a slow subscriber takes more", extra=facts)

    def _send_pixels(self, slot: Slot, array: NDArray[Any], flags: int) -> None:
        # The camera's own message is passed on without a copy; a result is copied by ZeroMQ, so
        # that the slot is free for the next frame however slow a subscriber is.
        if array is slot.raw:
            self._frames.send(slot.message, flags, copy=False)
        else:
            self._frames.send(wire.pixels(array), flags)

    def _event(self, event: Event) -> None:
        if event.kind == "start":
            self._frames.send_multipart(_start_parts(event.run))
        else:
            self._end(event.run, reason="end")

    def _end(self, run: Run, reason: str) -> None:
        source, series = run.key
        if (buckets := self._ledger.close(run)) is None:
            return
        content = {"frames": buckets["expected"], "frame": run.last_published, "reason": reason}
        parts = wire.encode_event("end", source, series, ledger=buckets, **content)
        self._frames.send_multipart(parts)
        LOG.info("series ended", extra={"source": source, "series": series, **buckets})

    def _greet(self) -> None:
        """Send the open series' `start` to whoever joined; count the viewers of `latest`."""
        while self._connections.poll(0):
            told = recv_monitor_message(self._connections)
            # By descriptor: a connection that never shook hands is told as ended all the same.
            joined = told["event"] == zmq.EVENT_ACCEPTED
            (self._viewing.add if joined else self._viewing.discard)(told["value"])
        if topics := self._joined():
            for run, _ in self._ledger.open_runs():
                if run.start.source.encode().startswith(topics):
                    self._frames.send_multipart(_start_parts(run))

    def _joined(self) -> tuple[bytes, ...]:
        """What was subscribed to since the last call, each once however many joined: a `start` goes
        to all, and a thousand of them to a thousand would stop the frames.
        """
        topics, end_s = set(), time.monotonic() + NOTES_S
        # Time first: a note that is read and then left has nobody to send its `start`.
        while time.monotonic() < end_s and (note := _next_note(self._frames)) is not None:
            if note[:1] == SUBSCRIBES:
                topics.add(note[1:])
        return tuple(topics)

    def _beat(self) -> None:
        """Once a second: end idle series, and a heartbeat for each open one, for the last one of a
        source that has none open (its tail may have been missed), or for the service.
        """
        for run in self._ledger.idle(self._settings.series_idle_s):
            self._end(run, reason="idle")
        runs = self._ledger.beating_runs()
        for run, buckets in runs:
            source, series = run.key
            last = run.last_published
            self._frames.send_multipart(
                wire.encode_event("heartbeat", source, series, frame=last, ledger=buckets)
            )
        if not runs:
            self._frames.send_multipart(wire.encode_event("heartbeat", "", None))


def _start_parts(run: Run) -> list[bytes]:
    start = run.start
    content = {"exposure_ms": start.exposure_ms, "pixel_size_nm": start.pixel_size_nm}
    return wire.encode_event("start", start.source, start.series, user=start.user, **content)


def _next_note(socket: zmq.Socket[bytes]) -> bytes | None:
    """The next subscription (1) or its end (0), and the topic; None when there is none."""
    try:
        return socket.recv(zmq.DONTWAIT)
    except zmq.Again:
        return None
