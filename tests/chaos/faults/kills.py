"""kill -9 of camera, sidecar and frame process at random instants."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgpack
from support import event_parts, frame_parts, wait_for

from chaos.account import foretell
from chaos.frames import frame_of
from chaos.services import is_there
from chaos.stage import Stage
from chaos.table import fault
from chaos.victims import VICTIM

VICTIMS = Path(__file__).parents[1] / "victims.py"
ENDED = ("process ended",)  # what the supervisor says of a death
HELD_BY_CAMERA = 40  # frames that die with a camera: its queue of 4, and what ZeroMQ had in hand


@fault()
def kill_camera(stage: Stage, chance: random.Random) -> Iterator[None]:
    """A camera dies with frames in its hands: what it had sent is served, and its series can be
    ended by anyone with what it had claimed.
    """
    series, claims = f"dies-{chance.randrange(10**9)}", stage.where.folder / "claims"
    claims.write_bytes(bytes(8))
    words = [sys.executable, str(VICTIMS), "camera", stage.service.ingest, series, str(claims)]
    process = subprocess.Popen(words)
    try:
        stage.watcher.wait(lambda: stage.watcher.last(series, VICTIM) >= 0, "its first frame")
        time.sleep(chance.uniform(0, 0.3))
    finally:
        process.kill()
        process.wait(10)
    claimed = 1 + struct.unpack("<q", claims.read_bytes())[0]
    yield
    end = {"v": 1, "type": "end", "source": VICTIM, "series": series, "frames": claimed}
    with stage.camera() as camera:
        camera.send_multipart([msgpack.packb(end)])
        seen = stage.watcher.ended(series, VICTIM)[0]
    indices = [frame.frame for frame in seen.frames]
    assert indices == list(range(len(indices))), "the dead camera's frames have gaps"
    stage.must_be(foretell(indices, claimed), series, VICTIM)
    assert claimed - len(indices) <= HELD_BY_CAMERA, f"{claimed} claimed, {len(indices)} came"


@fault(says=ENDED)
def kill_sidecar(stage: Stage, chance: random.Random) -> Iterator[None]:
    """HTTP dies alone: not a frame is late for it, and it comes back."""
    os.kill(stage.pid("http"), signal.SIGKILL)
    yield


@fault("plain", "network", "curve", restarts=1, says=ENDED)
def kill_frame_process(stage: Stage, chance: random.Random) -> Iterator[None]:
    """The frame process dies: the next one takes the camera up again."""
    pid = stage.pid()
    stage.struck_s = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    _until_gone(pid)
    yield


@fault(restarts=2, says=ENDED)
def kill_while_it_starts(stage: Stage, chance: random.Random) -> Iterator[None]:
    """The frame process dies, and the next one before it serves, or shortly after."""
    stage.struck_s = time.monotonic()
    for wait_s in (0.0, chance.uniform(0, 1.5)):
        time.sleep(wait_s)
        pid = stage.pid()
        os.kill(pid, signal.SIGKILL)
        _until_gone(pid)
    yield


@fault(restarts=1, says=ENDED)
def kill_before_the_end(stage: Stage, chance: random.Random) -> Iterator[None]:
    """All that the new frame process hears of a series is its `end`: its frames are counted."""
    series, count = f"tail-{chance.randrange(10**9)}", chance.randrange(1, 50)
    with stage.camera() as camera:
        for index in range(count):
            camera.send_multipart(frame_parts(series, index, frame_of("cam", series, index)))
        # Some may still be on their way when the process dies.
        reached = chance.randrange(count)
        stage.watcher.wait(lambda: stage.watcher.last(series, "cam") >= reached, "its frames")
        killed, stage.struck_s = stage.pid(), time.monotonic()
        os.kill(killed, signal.SIGKILL)
        _until_gone(killed)
        film, again = stage.filming.series, stage.filming.total
        stage.watcher.wait(lambda: stage.watcher.last(film) >= again, "the viewer being back")
        camera.send_multipart(event_parts("end", series, frames=count))
        ledger = stage.watcher.ended(series, "cam")[0].ledger
    assert ledger is not None
    assert ledger["expected"] == count, f"{count} frames, and the service knows of {ledger}"
    yield


def _until_gone(pid: int) -> None:
    wait_for(lambda: not is_there(pid), f"the end of process {pid}")
