"""Ten thousand frames through everything that goes wrong at once: the ledger adds up all along."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from support import (
    Subscriber,
    adds_up,
    event_parts,
    frame_parts,
    noise_frame,
    push,
    running_app,
    subscribed,
    wait_for,
)

from scgn.denoise import FrameError
from scgn_live.app import App
from scgn_live.engine import EngineState
from scgn_live.processor import FrameByFrame

FRAMES = 10_000
FRAME = noise_frame(0, (24, 16))


class Moody(FrameByFrame):
    """A processor that pauses, refuses and breaks now and then, from a seed."""

    model, corrects = "moody", False

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def __call__(self, raw: Any, calibration: Any) -> Any:
        mood = self._random.random()
        if mood < 0.01:
            time.sleep(self._random.uniform(0, 0.02))
        elif mood < 0.02:
            raise FrameError("non_finite", "frame holds NaN")
        elif mood < 0.03:
            raise RuntimeError("something else")
        return raw


@contextmanager
def asked_all_the_time(app: App) -> Iterator[list[dict[str, Any]]]:
    """Status calls from another thread for as long as the block runs; the rows they gave."""
    rows: list[dict[str, Any]] = []
    done = threading.Event()

    def ask() -> None:
        while not done.wait(0.002):
            rows.extend(app._status({})["series"])

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield rows
    finally:
        done.set()
        thread.join(10)


def storm(camera: zmq.Socket[bytes], chance: random.Random) -> dict[str, int]:
    """Send about FRAMES frames in series that end, die, repeat and skip; returns what was done."""
    done = dict.fromkeys(("frames", "duplicates", "skipped", "garbage", "series", "unended"), 0)
    while done["frames"] < FRAMES:
        series = f"s{done['series']}"
        done["series"] += 1
        if chance.random() < 0.5:
            camera.send_multipart(event_parts("start", series))
        index = one_series(camera, chance, series, done)
        if chance.random() < 0.7:
            camera.send_multipart(event_parts("end", series, frames=index))
        else:
            done["unended"] += 1  # the sender died
    return done


def one_series(
    camera: zmq.Socket[bytes], chance: random.Random, series: str, done: dict[str, int]
) -> int:
    """Frames of one series; returns how many its camera believes to have sent."""
    index = 0
    for _ in range(chance.randrange(1, 1500)):
        luck = chance.random()
        if luck < 0.01:
            camera.send_multipart(garbage(chance, series))
            done["garbage"] += 1
        elif luck < 0.02 and index:
            camera.send_multipart(frame_parts(series, chance.randrange(index), FRAME))
            done["duplicates"] += 1
        elif luck < 0.03:
            skipped = chance.randrange(1, 9)
            index += skipped
            done["skipped"] += skipped
        elif luck < 0.035:
            time.sleep(chance.uniform(0, 0.01))
        camera.send_multipart(frame_parts(series, index, FRAME))
        index += 1
        done["frames"] += 1
    return index


def garbage(chance: random.Random, series: str) -> list[bytes]:
    """Bytes that are no message, or nearly one."""
    good, pixels = frame_parts(series, 0, FRAME)
    noise = chance.randbytes(chance.randrange(200))
    return chance.choice([
        [noise], [noise, noise], [good], [good, noise], [good[:-3], pixels], [good, pixels, noise],
        [b""], frame_parts(series, 0, FRAME, dtype="<f8"),
    ])  # fmt: skip


@pytest.mark.parametrize("overload", ["latest", "block"])
def test_the_ledger_adds_up_at_every_status_call(overload: str, tmp_path: Path) -> None:
    chance = random.Random(f"storm {overload}")
    with (
        running_app(tmp_path, overload=overload, subscriber_queue=8) as app,
        push(app.ingest.endpoint) as camera,
        subscribed(app) as quick,
    ):
        app.engine._state = EngineState(Moody(1))
        slow = Subscriber(app.endpoints()["frames"], queue=1)  # never reads: HWMs fill, it misses
        with asked_all_the_time(app) as rows:
            done = storm(camera, chance)
            seen = drain(quick, camera)
        slow.close()
        wait_for(lambda: not any(r["in_flight"] for r in app.ledger.snapshot()), "frames in flight")
        final = {row["series"]: row for row in app.ledger.snapshot()}
        totals = app.ledger.totals()

    assert len(rows) > 100
    assert all(adds_up(row) for row in rows), "some status call did not add up"
    assert sum(row["expected"] for row in final.values()) >= FRAMES
    assert totals.get(("rejected", "duplicate"), 0) == done["duplicates"]
    rejected = sum(n for (bucket, _), n in totals.items() if bucket == "rejected")
    assert rejected == done["duplicates"] + done["garbage"]
    # Skips right before a sender's death are never announced: they cannot be known.
    assert 0 < totals["missing", ""] <= done["skipped"]
    assert totals["failed", "non_finite"] > 0
    assert totals["failed", "engine_error"] > 0
    if overload == "block":
        assert not any(bucket == "dropped" for bucket, _ in totals)
    check_order(seen)


def drain(subscriber: Subscriber, camera: zmq.Socket[bytes]) -> dict[str, list[dict[str, Any]]]:
    """Frame headers by series, in the order they came, up to a frame of the series `last`."""
    seen: dict[str, list[dict[str, Any]]] = {}
    sent = itertools.count()
    camera.send_multipart(frame_parts("last", next(sent), FRAME))
    while "last" not in seen:
        header, _ = subscriber.next()
        if header["type"] == "frame":
            seen.setdefault(header["series"], []).append(header)
        elif header["type"] == "heartbeat":  # the queue was full when the last one went out
            camera.send_multipart(frame_parts("last", next(sent), FRAME))
    return seen


def check_order(seen: dict[str, list[dict[str, Any]]]) -> None:
    """Arrival order within each series, and what is lost never exceeds the gap it is told in."""
    for headers in seen.values():
        indices = [header["frame"] for header in headers]
        assert indices == sorted(set(indices))
        for before, after in itertools.pairwise(headers):
            gap = after["frame"] - before["frame"] - 1
            assert sum(after["lost"].values()) <= gap


def test_after_a_camera_dies_mid_message_the_next_one_is_served(tmp_path: Path) -> None:
    with running_app(tmp_path) as app, subscribed(app) as sub:
        for attempt in range(20):
            with zmq.Context() as context, context.socket(zmq.PUSH) as camera:
                camera.setsockopt(zmq.LINGER, 0)
                camera.connect(app.ingest.endpoint)
                big = np.zeros((1000, 1000), "<u2")
                camera.send_multipart(frame_parts(f"dies{attempt}", 0, big))
        with push(app.ingest.endpoint) as camera:
            camera.send_multipart(frame_parts("good", 0, FRAME))
            sub.until("frame", series="good")


def test_raw_tcp_bytes_do_not_stop_the_service(tmp_path: Path) -> None:
    import socket

    chance = random.Random(5)
    with running_app(tmp_path) as app, subscribed(app) as sub:
        for endpoint in app.endpoints().values():
            port = int(endpoint.rpartition(":")[2])
            for _ in range(20):
                with socket.create_connection(("127.0.0.1", port), timeout=5) as stranger:
                    stranger.sendall(chance.randbytes(chance.randrange(1, 300)))
        with push(app.ingest.endpoint) as camera:
            camera.send_multipart(frame_parts("good", 0, FRAME))
            sub.until("frame", series="good")
        wait_for(lambda: app.publisher.viewers == 0, "strangers not counted as viewers")
