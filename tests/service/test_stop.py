"""A stop: what cameras have handed over by then is accounted, wherever it waits."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq
from support import (
    Subscriber,
    adds_up,
    event_parts,
    frame_parts,
    noise_frame,
    running_app,
    subscribed,
    wait_for,
)

from scgn.calibration import Calibration
from scgn_live.engine import EngineState
from scgn_live.processor import FrameByFrame
from scgn_live.running import start_service

FRAMES = 60


class Held(FrameByFrame):
    """Denoises nothing until `go` is set."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def __call__(self, raw: Any, calibration: Calibration | None) -> Any:
        self.go.wait(20)
        return raw


@contextmanager
def camera_at(endpoint: str) -> Iterator[zmq.Socket[bytes]]:
    """A PUSH socket; at the end of the block the kernel has all that was sent."""
    context = zmq.Context()
    with context.socket(zmq.PUSH) as socket:
        socket.connect(endpoint)
        yield socket
    context.term()


@pytest.mark.parametrize("overload", ["block", "latest"])
def test_a_stop_tells_what_waits_on_the_socket(overload: str, tmp_path: Path) -> None:
    changes = {"overload": overload, "ring_slots": 2, "shutdown_s": 1}
    with running_app(tmp_path, **changes) as app, subscribed(app) as sub:
        held = Held()
        app.engine._state = EngineState(held)
        with camera_at(app.ingest.endpoint) as camera:
            camera.send_multipart(frame_parts("s", 0, noise_frame(0)))
            wait_for(lambda: app.ring.depths()["busy"] == 1, "the engine being held")
            if overload == "latest":  # which leaves nothing on the socket while ingest runs
                app.stages["ingest"].stop()
            for index in range(1, FRAMES):
                camera.send_multipart(frame_parts("s", index, noise_frame(index)))
            camera.send_multipart([b"no message"])
            camera.send_multipart(frame_parts("s", 3, noise_frame(3)))
            camera.send_multipart(event_parts("end", "t", frames=7))
        app.stop()
        app.stop = lambda: None  # type: ignore[method-assign]  # the context would stop it again
        held.go.set()
        other, _ = sub.until("end", series="t")  # which was in line
        end, _ = sub.until("end", series="s")
    ledger = end["ledger"]
    waited = {"block": 2, "latest": 1}[overload]
    assert end["reason"] == "shutdown"
    assert ledger["expected"] == FRAMES
    assert ledger["failed"] == {"shutdown": waited}
    assert ledger["dropped"] == {"shutdown": FRAMES - waited}
    assert ledger["rejected"] == {"duplicate": 1}
    assert other["ledger"]["missing"] == 7, "an end that waits is an end"
    assert app.ledger.totals()["rejected", "header_format"] == 1
    assert adds_up(ledger)


def test_sigterm_tells_all_that_was_handed_over(tmp_path: Path) -> None:
    """To a network that takes far longer for them than the stop waits."""
    words = "--network tiny-clean --backend eager --threads 1 --ring-slots 2 --overload block"
    service = start_service(["--state-dir", str(tmp_path), *words.split()])
    subscriber = Subscriber(service.frames)
    subscriber.next()
    pid = service.pid_of("frames")
    with camera_at(service.ingest) as camera:
        camera.send_multipart(frame_parts("s", 0, noise_frame(0)))
        subscriber.until("frame", frame=0)
        os.kill(pid, signal.SIGSTOP)  # the signal is there before the first of these frames
        for index in range(1, 1000):
            camera.send_multipart(frame_parts("s", index, noise_frame(index)))
    service.process.send_signal(signal.SIGTERM)
    wait_for(lambda: told_to_end(pid), "the frame process being told")
    os.kill(pid, signal.SIGCONT)
    end, _ = subscriber.until("end", series="s")
    subscriber.close()
    assert service.stop() == 0
    service.log.unlink()
    assert end["ledger"]["expected"] == 1000
    assert end["ledger"]["dropped"]["shutdown"] > 0
    assert adds_up(end["ledger"])


def told_to_end(pid: int) -> bool:
    """Whether SIGTERM waits for a process that stands."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    waiting = next(line for line in lines if line.startswith("ShdPnd:")).split()[1]
    return bool(int(waiting, 16) & 1 << signal.SIGTERM - 1)
