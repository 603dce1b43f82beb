"""What tests share: a service inside the test process, plain sockets, and waits with deadlines."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import zmq

from scgn_live.app import App
from scgn_live.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"
DEADLINE_S = 20.0


def wait_for(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """The first true value of `condition`; AssertionError naming `what` after the deadline."""
    end_s = time.monotonic() + deadline_s
    while time.monotonic() < end_s:
        if value := condition():
            return value
        time.sleep(0.002)
    raise AssertionError(f"{what} did not happen within {deadline_s:.0f} s")


def settings(state_dir: Path, **changes: Any) -> Settings:
    """Settings of a pass-through service on free loopback ports."""
    anywhere = "tcp://127.0.0.1:*"
    values: dict[str, Any] = {
        "ingest": anywhere, "frames": anywhere, "latest": anywhere, "state_dir": state_dir,
        "engine": "pass-through", "overload": "block", **changes,
    }  # fmt: skip
    return Settings(**values)


@contextlib.contextmanager
def running_app(state_dir: Path, **changes: Any) -> Iterator[App]:
    """The frame process' content, started in this process: real threads, real sockets."""
    app = App(settings(state_dir, **changes), f"ipc://{state_dir}/control")
    with app:
        yield app


def frame_parts(series: str, index: int, pixels: Any, **header: Any) -> list[bytes]:
    """A camera's message, made without the client: header overrides can lie."""
    content = {
        "v": 1, "type": "frame", "source": "cam", "series": series, "frame": index,
        "shape": list(pixels.shape), "dtype": pixels.dtype.str, **header,
    }  # fmt: skip
    return [msgpack.packb(content), pixels.tobytes()]


def event_parts(kind: str, series: str, **header: Any) -> list[bytes]:
    """A camera's start, end or heartbeat."""
    content = {"v": 1, "type": kind, "source": "cam", "series": series, **header}
    return [msgpack.packb(content)]


@contextlib.contextmanager
def push(endpoint: str) -> Iterator[zmq.Socket[bytes]]:
    """A plain PUSH socket towards the ingest."""
    with zmq.Context.instance().socket(zmq.PUSH) as socket:
        socket.setsockopt(zmq.LINGER, 2000)
        socket.connect(endpoint)
        yield socket


class Subscriber:
    """A plain SUB socket that waits for what it is asked for."""

    def __init__(self, endpoint: str, topic: bytes = b"", queue: int = 0) -> None:
        self.socket = zmq.Context.instance().socket(zmq.SUB)
        self.socket.setsockopt(zmq.RCVHWM, queue)
        self.socket.setsockopt(zmq.SUBSCRIBE, topic)
        self.socket.connect(endpoint)

    def close(self) -> None:
        self.socket.close(0)

    def next(self, deadline_s: float = DEADLINE_S) -> tuple[dict[str, Any], list[bytes]]:
        """Header and pixels of the next message of any type."""
        assert self.socket.poll(round(1000 * deadline_s)), f"nothing came within {deadline_s} s"
        _, header, *pixels = self.socket.recv_multipart()
        return msgpack.unpackb(header), pixels

    def until(self, kind: str, **match: Any) -> tuple[dict[str, Any], list[bytes]]:
        """The next message of that type whose header has these values; others are passed over."""
        end_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < end_s:
            header, pixels = self.next()
            if header["type"] == kind and all(header.get(k) == v for k, v in match.items()):
                return header, pixels
        raise AssertionError(f"no {kind} with {match} came within {DEADLINE_S:.0f} s")

    def series(self, name: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Every frame header of a series and its `end`."""
        frames = []
        while True:
            header, _ = self.next()
            if header.get("series") != name:
                continue
            if header["type"] == "frame":
                frames.append(header)
            if header["type"] == "end":
                return frames, header


@contextlib.contextmanager
def subscribed(app: App, topic: bytes = b"", queue: int = 0) -> Iterator[Subscriber]:
    """A subscriber whose subscription the service has seen."""
    subscriber = Subscriber(app.endpoints()["frames"], topic, queue)
    try:
        # An idle service beats once a second: the first beat shows that the subscription holds.
        subscriber.next()
        yield subscriber
    finally:
        subscriber.close()


def noise_frame(seed: int, shape: tuple[int, int] = (16, 12), dtype: str = "<u2") -> Any:
    """A small random frame."""
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


def adds_up(buckets: dict[str, Any]) -> bool:
    """The ledger's promise."""
    return bool(
        buckets["expected"]
        == buckets["published"] + buckets["missing"] + buckets["in_flight"]
        + sum(buckets["dropped"].values()) + sum(buckets["failed"].values())
    )  # fmt: skip
