"""Indices that come twice, late, not at all or anew: the ledger is the one that docs/wire.md tells.

Each fault sends a series of its own on one connection, where it is known what must become of it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack

import zmq
from support import event_parts, frame_parts

from chaos.account import account, foretell
from chaos.frames import frame_of
from chaos.stage import Stage
from chaos.table import fault

CAM = "cam"
FRAMES = 120


def _send(
    camera: zmq.Socket[bytes], series: str, indices: list[int], chance: random.Random
) -> None:
    for index in indices:
        camera.send_multipart(frame_parts(series, index, frame_of(CAM, series, index)))
        if chance.random() < 0.05:
            time.sleep(chance.uniform(0, 0.005))


def _play(stage: Stage, chance: random.Random, indices: list[int]) -> None:
    """A series of these frames in this order, and its end."""
    series, total = f"order-{chance.randrange(10**9)}", max(indices) + 1 + chance.randrange(5)
    with stage.camera() as camera:
        _send(camera, series, indices, chance)
        camera.send_multipart(event_parts("end", series, frames=total))
        stage.must_be(foretell(indices, total), series, CAM)


@fault()
def duplicates(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Frames sent twice and more, at once or much later."""
    indices = []
    for index in range(FRAMES):
        indices += [index] * chance.choice((1, 1, 1, 2, 3))
        indices += [chance.randrange(index + 1)] if chance.random() < 0.2 else []
    _play(stage, chance, indices)
    yield


@fault()
def reordering(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Frames that overtake each other: the late ones are duplicates, the jumped ones missing."""
    width = chance.uniform(1, 20)
    _play(stage, chance, sorted(range(FRAMES), key=lambda index: index + chance.uniform(0, width)))
    yield


@fault()
def gaps(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Indices that are never sent, one or thousands in a row."""
    indices, index = [], 0
    for _ in range(FRAMES):
        index += 1 if chance.random() < 0.7 else chance.choice((2, 3, 10, 5000))
        indices.append(index)
    _play(stage, chance, indices)
    yield


@fault()
def series_restarts(stage: Stage, chance: random.Random) -> Iterator[None]:
    """The same series again: after a crash of the camera, after its end, and without a `start`."""
    series = f"again-{chance.randrange(10**9)}"
    first, second = (list(range(chance.randrange(1, 60))) for _ in range(2))
    late = list(range(chance.randrange(1, 90)))
    with stage.camera() as camera:
        camera.send_multipart(event_parts("start", series, exposure_ms=1.0))
        _send(camera, series, first, chance)
        camera.send_multipart(event_parts("start", series, exposure_ms=2.0))  # it has crashed
        _send(camera, series, second, chance)
        camera.send_multipart(event_parts("end", series, frames=len(second)))
        _send(camera, series, late, chance)  # nobody said `start`
        camera.send_multipart(event_parts("start", series))
        _send(camera, series, second, chance)
        camera.send_multipart(event_parts("end", series))
        stage.must_be(foretell(first), series, CAM)
        stage.must_be(foretell(second), series, CAM, run=1, rejected=len(late))
        stage.must_be(foretell(second), series, CAM, run=2)
    row = next(r for r in stage.status()["series"] if r["series"] == series and r["rejected"])
    known = min(len(late), len(second))
    expected = {"duplicate": known, "ended": len(late) - known}
    assert row["rejected"] == {k: n for k, n in expected.items() if n}
    yield


@fault()
def two_cameras(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Two more cameras with one name of a series, one of them slow: each has its own ledger."""
    series = f"both-{chance.randrange(10**9)}"
    with ExitStack() as stack:
        films = [
            stack.enter_context(stage.film(series, chance, source, pace_s=pace_s))
            for source, pace_s in (("left", 0.001), ("left2", chance.uniform(0.005, 0.02)))
        ]
        time.sleep(chance.uniform(0.3, 0.8))
        for film in films:
            film.stop()
    for film in films:
        seen = stage.watcher.ended(series, film.source)[0]
        assert seen.ledger is not None
        row = stage.note(account(film.total, film.sent, seen.frames, seen.ledger))
        assert row.missing == film.total - film.sent, f"{film.source}: {row}"
    yield
