"""`scgn-live` whose frame process fails when a frame asks for it: a test's launcher, no more.

It passes frames through, and does at one that is marked (`frames.py`): raise, lose the device,
sleep, or step the clock by an hour. Run as `python faulty_service.py serve FLAGS`.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos.frames import FAIL, LOSE_DEVICE, SHAPE, SLEEP, STEP_CLOCK
from scgn_live import processor, serve
from scgn_live.__main__ import main
from scgn_live.processor import PassThrough

STEP_S = 3600
SLEEP_S = 0.02


class DeviceLost(RuntimeError):
    """As a CUDA error that no later call survives."""

    fatal = True


class SteppedClock:
    """The wall clock, put forward or back by an hour now and then."""

    def __init__(self) -> None:
        self._real_s, self._real_ns = time.time, time.time_ns
        self._chance = random.Random(1)
        self._ahead_s = 0
        time.time, time.time_ns = self.s, self.ns

    def s(self) -> float:
        return self._real_s() + self._ahead_s

    def ns(self) -> int:
        return self._real_ns() + 10**9 * self._ahead_s

    def step(self) -> None:
        self._ahead_s += self._chance.choice((-STEP_S, STEP_S))


class Faulty(PassThrough):
    """Does what a frame's pixel [0, 3] orders."""

    model = "faulty"

    def __init__(self, clock: SteppedClock) -> None:
        self._clock = clock

    def __call__(self, raw: Any, calibration: Any) -> Any:
        order = int(raw[0, 3]) if raw.shape == SHAPE else 0
        if order == FAIL:
            raise RuntimeError("this frame asked for it")
        if order == LOSE_DEVICE:
            raise DeviceLost("this frame asked for it")
        if order == STEP_CLOCK:
            self._clock.step()
        if order == SLEEP:
            time.sleep(SLEEP_S)
        return raw


def run_frames(run_dir: Path) -> int:
    """The frame process with the processor above."""
    clock = SteppedClock()
    processor.build_processor = lambda *_: Faulty(clock)
    return serve.run_role("frames", run_dir)


def run_supervisor(words: list[str]) -> int:
    """The supervisor, which starts its frame process through this file."""
    real = subprocess.Popen

    def popen(command: list[str], **how: Any) -> Any:
        ours = [sys.executable, __file__, *command[3:]] if "_frames" in command else command
        return real(ours, **how)

    serve.subprocess.Popen = popen  # type: ignore[attr-defined]
    return main(words)


if __name__ == "__main__":
    _, verb, *rest = sys.argv
    raise SystemExit(
        run_frames(Path(rest[0])) if verb == "_frames" else run_supervisor([verb, *rest])
    )
