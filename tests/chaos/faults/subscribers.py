"""Viewers that stop, crawl, die, and come and go by the thousand: nobody else notices."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import zmq
from support import wait_for

from chaos.stage import Stage
from chaos.table import FULL_LOAD_S, fault
from chaos.watcher import DEADLINE_S

VICTIMS = Path(__file__).parents[1] / "victims.py"
STOPPED_S = {True: 3.0, False: 10.0}  # by the form's shortness
COMING = 1000
SLOW = 6
Said = dict[str, dict[str, int]]


class Viewer:
    """A viewer in a process of its own, and what it said last."""

    def __init__(self, stage: Stage, said: IO[bytes]) -> None:
        words = [sys.executable, str(VICTIMS), "viewer", stage.service.frames, stage.service.latest]
        self._path = Path(said.name)
        self.process = subprocess.Popen(words, stdout=said, stderr=said)

    def said(self) -> Said:
        """Its last whole line; empty before the first. AssertionError when it died."""
        content = self._path.read_text()
        assert self.process.poll() is None, f"the viewer ended: {content[-2000:]}"
        lines = content.rpartition("\n")[0].splitlines()
        found: Said = json.loads(lines[-1]) if lines else {}
        return found


@contextmanager
def viewing(stage: Stage, series: str) -> Iterator[Viewer]:
    """A viewer that has got frames of the series."""
    with (stage.where.folder / "viewer").open("wb") as said:
        viewer = Viewer(stage, said)
        try:
            wait_for(lambda: viewer.said().get(series), "the viewer's first frames", DEADLINE_S)
            yield viewer
        finally:
            viewer.process.kill()
            viewer.process.wait(10)


@fault(pace_s=0.002)
def subscriber_stopped(stage: Stage, chance: random.Random) -> Iterator[None]:
    """SIGSTOP for seconds: what it misses it knows of, and it is the only one to."""
    series = stage.filming.series
    with viewing(stage, series) as viewer:
        os.kill(viewer.process.pid, signal.SIGSTOP)
        time.sleep(STOPPED_S[stage.short] * chance.uniform(0.9, 1.1))
        os.kill(viewer.process.pid, signal.SIGCONT)
        yield
        last = stage.watcher.last(series)
        wait_for(
            lambda: viewer.said()[series]["last"] >= last, "the stopped viewer's last frame",
            DEADLINE_S,
        )  # fmt: skip
        said = viewer.said()[series]
        assert said["received"] + said["in_gaps"] == said["last"] - said["first"] + 1, said
        assert said["disorder"] == 0, said


@fault()
def kill_subscriber(stage: Stage, chance: random.Random) -> Iterator[None]:
    """kill -9 of a viewer in the middle of its frames."""
    with viewing(stage, stage.filming.series) as viewer:
        time.sleep(chance.uniform(0, 0.3))
        os.kill(viewer.process.pid, signal.SIGKILL)
        viewer.process.wait(10)
        yield


@fault(pace_s=FULL_LOAD_S)
def slow_subscribers(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Viewers that take a frame now and then: they get old ones and gaps, the others all."""
    with zmq.Context() as context:
        slow = [_slow(context, stage) for _ in range(SLOW)]
        end_s = time.monotonic() + chance.uniform(1, 2)
        while time.monotonic() < end_s:
            for socket in slow:
                if socket.poll(0) and chance.random() < 0.2:
                    socket.recv_multipart()
            time.sleep(0.01)
        yield
        context.destroy(linger=0)


def _slow(context: zmq.Context[Any], stage: Stage) -> zmq.Socket[bytes]:
    socket: zmq.Socket[bytes] = context.socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 1)
    socket.setsockopt(zmq.RCVBUF, 4096)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    socket.connect(stage.service.frames)
    return socket


@fault(keeps_mb=160)
def subscribers_come_and_go(stage: Stage, chance: random.Random) -> Iterator[None]:
    """A thousand join, a hundred or all at a time, get something, and leave."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    batch = min(chance.choice((100, 250, 1000)), most // 4)
    for begin in range(0, COMING, batch):
        _batch(stage, chance, min(batch, COMING - begin))
    yield


def _batch(stage: Stage, chance: random.Random, count: int) -> None:
    with zmq.Context() as context:
        context.set(zmq.MAX_SOCKETS, 2 * count + 10)
        sockets = []
        for _ in range(count):
            socket: zmq.Socket[bytes] = context.socket(zmq.SUB)
            socket.setsockopt(zmq.RCVHWM, 2)
            socket.setsockopt(zmq.SUBSCRIBE, chance.choice((b"", b"", b"film", b"fi")))
            newest = chance.random() < 0.3
            socket.connect(stage.service.latest if newest else stage.service.frames)
            sockets.append((socket, newest))
        for socket, newest in sockets:
            # `latest` has no topics: who asks for one there gets nothing.
            asked = chance.random() < 0.8 and not newest
            assert not asked or socket.poll(round(1000 * DEADLINE_S)), "a viewer got nothing"
        context.destroy(linger=0)


@fault()
def subscription_flood(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Peers that subscribe without a pause and read nothing: frames go on between."""
    command = [sys.executable, str(VICTIMS), "asker"]
    times = str(chance.randrange(100_000, 400_000))
    peers = [
        subprocess.Popen([*command, endpoint, times])
        for endpoint in (stage.service.frames, stage.service.latest)
    ]
    try:
        time.sleep(chance.uniform(0.5, 1.5))
        yield
    finally:
        for peer in peers:
            peer.kill()
            peer.wait(10)
