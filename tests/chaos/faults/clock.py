"""The wall clock steps while frames come."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from support import event_parts, frame_parts

from chaos.account import foretell
from chaos.frames import STEP_CLOCK, frame_of
from chaos.stage import Stage
from chaos.table import fault

CAM, STEPS = "cam", 12


@fault("faulty")
def clock_steps(stage: Stage, chance: random.Random) -> Iterator[None]:
    """An hour forward or back at random frames: latencies stay latencies, and no series ends."""
    series = f"steps-{chance.randrange(10**9)}"
    with stage.camera() as camera:
        for index in range(STEPS):
            frame = frame_of(CAM, series, index, STEP_CLOCK)
            acquired = chance.choice((0, 2**64 - 1, time.time_ns()))  # the camera's clock lies too
            camera.send_multipart(frame_parts(series, index, frame, t_acquired_ns=acquired))
            time.sleep(chance.uniform(0, 0.08))
        camera.send_multipart(event_parts("end", series, frames=STEPS))
        stage.must_be(foretell(range(STEPS)), series, CAM)
    latencies = [frame.latency_ms for frame in stage.watcher.runs(series, CAM)[0].frames]
    assert all(0 <= ms < 10_000 for ms in latencies), latencies
    yield
