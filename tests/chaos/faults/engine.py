"""The engine fails: on one frame, on many in a row, and for good."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import zmq
from support import event_parts, frame_parts, wait_for

from chaos.account import account
from chaos.frames import FAIL, LOSE_DEVICE, SHAPE, SLEEP, frame_of
from chaos.services import is_there
from chaos.stage import Stage
from chaos.table import fault

CAM = "cam"
IN_A_ROW = 10  # failures that the engine takes for its own end
FRAMES = 40


def _ordered(series: str, index: int, order: int) -> list[bytes]:
    return frame_parts(series, index, frame_of(CAM, series, index, order))


@fault("faulty")
def engine_exception(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Some frames raise: each is counted, told by the next good one, and costs nothing more."""
    series = f"fails-{chance.randrange(10**9)}"
    bad = {*chance.sample(range(FRAMES), 5)}
    with stage.camera() as camera:
        for index in range(FRAMES):
            camera.send_multipart(_ordered(series, index, FAIL if index in bad else 0))
        camera.send_multipart(event_parts("end", series, frames=FRAMES))
        _must_have_failed(stage, series, bad, "engine_error")
    yield


@fault("network")
def nan_frames(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Frames that hold NaN or infinity: each is counted, and the next one is good."""
    series = f"nan-{chance.randrange(10**9)}"
    bad = {*chance.sample(range(FRAMES), 5)}
    with stage.camera() as camera:
        for index in range(FRAMES):
            frame = np.full(SHAPE, 100 + index, "<f4")
            if index in bad:
                frame[chance.randrange(32), chance.randrange(48)] = chance.choice(
                    (np.nan, np.inf, -np.inf)
                )
            camera.send_multipart(frame_parts(series, index, frame))
        camera.send_multipart(event_parts("end", series, frames=FRAMES))
        _must_have_failed(stage, series, bad, "non_finite")
    yield


def _must_have_failed(stage: Stage, series: str, bad: set[int], reason: str) -> None:
    seen = stage.watcher.ended(series, CAM)[0]
    assert seen.ledger is not None
    row = stage.note(account(FRAMES, FRAMES, seen.frames, seen.ledger))
    assert [frame.frame for frame in seen.frames] == [i for i in range(FRAMES) if i not in bad]
    assert (row.failed, row.missing) == ({reason: len(bad)}, 0), row


@fault("latest", costs=("overload",))
def overload(stage: Stage, chance: random.Random) -> Iterator[None]:
    """More than the engine can do, with `overload = "latest"`: what is let go is counted and told,
    also where it went missing or failed among it.
    """
    series, total = f"much-{chance.randrange(10**9)}", chance.randrange(100, 300)
    indices = [index for index in range(total) if chance.random() < 0.9]
    with stage.camera() as camera:
        for index in indices:
            camera.send_multipart(_ordered(series, index, chance.choice((0, SLEEP, SLEEP, FAIL))))
        camera.send_multipart(event_parts("end", series, frames=total))
        seen = stage.watcher.ended(series, CAM)[0]
    assert seen.ledger is not None
    row = stage.note(account(total, len(indices), seen.frames, seen.ledger))
    assert row.missing == total - len(indices), row
    assert row.dropped.get("overload", 0) > 0, f"nothing was too much: {row}"
    yield


@fault("faulty", restarts=1, says=("process ended", "stage died"), costs=("shutdown",))
def device_lost(stage: Stage, chance: random.Random) -> Iterator[None]:
    """An error that no later call survives: the process ends by itself, and the next one serves."""
    _end_the_process(stage, chance, [LOSE_DEVICE])
    yield


@fault("faulty", restarts=1, says=("process ended", "stage died"), costs=("shutdown",))
def engine_broken(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Frames that fail in a row, with no good one between: the network is made anew."""
    _end_the_process(stage, chance, [FAIL] * 3 * IN_A_ROW)
    yield


def _end_the_process(stage: Stage, chance: random.Random, orders: list[int]) -> None:
    """Send frames with these orders until the frame process is gone."""
    pid = stage.pid()
    time.sleep(chance.uniform(0, 0.05))
    stage.struck_s = time.monotonic()
    while is_there(pid):
        with stage.camera() as camera, suppress(zmq.Again):
            camera.setsockopt(zmq.SNDTIMEO, 100)
            camera.setsockopt(zmq.LINGER, 0)
            series = f"ends-{chance.randrange(10**9)}"
            for index, order in enumerate(orders):
                camera.send_multipart(_ordered(series, index, order))
            with suppress(AssertionError):  # frames of the film came between
                wait_for(lambda: not is_there(pid), "its end", 2)
