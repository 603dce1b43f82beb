"""A camera at twice what the service can do: fresh with `latest`, whole with `block`."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path
from typing import Any

from support import (
    adds_up,
    event_parts,
    frame_parts,
    noise_frame,
    push,
    running_app,
    subscribed,
    wait_for,
)

from scgn_live.app import App
from scgn_live.engine import EngineState
from scgn_live.processor import FrameByFrame

FRAME = noise_frame(0)
SERVICE_S = 0.02
SLOTS = 4
FRAMES = 150
HAND_OVER_MS = 60  # between threads, on a machine that has other work


class Slow(FrameByFrame):
    """A network that takes its time; `longest_s` is what one frame really took at most."""

    model, corrects = "slow", False

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._done_s = float("inf")

    def __call__(self, raw: Any, calibration: Any) -> Any:
        begun_s = min(self._done_s, time.monotonic())  # since the one before, however it was late
        time.sleep(SERVICE_S)
        self._done_s = time.monotonic()
        self.longest_s = max(self.longest_s, self._done_s - begun_s)
        return raw


def film(app: App, series: str, period_s: float) -> None:
    """FRAMES frames at a rate, or as fast as the service lets them in."""
    with push(app.ingest.endpoint) as camera:
        begun_s = time.monotonic()
        for index in range(FRAMES):
            time.sleep(max(0.0, begun_s + index * period_s - time.monotonic()))
            camera.send_multipart(frame_parts(series, index, FRAME))
        camera.send_multipart(event_parts("end", series, frames=FRAMES))


def overloaded(tmp_path: Path, overload: str) -> tuple[list[dict[str, Any]], dict[str, Any], float]:
    """Frame headers, `end`, and the longest time that the network took, s."""
    with (
        running_app(tmp_path, overload=overload, ring_slots=SLOTS) as app,
        subscribed(app) as viewer,
    ):
        slow = Slow()
        app.engine._state = EngineState(slow)
        camera = threading.Thread(target=film, args=(app, "s", SERVICE_S / 2))
        camera.start()
        frames, end = viewer.series("s")
        camera.join(20)
        wait_for(lambda: app.ring.depths()["free"] == SLOTS, "every slot being free again")
    return frames, end, slow.longest_s


def test_latest_keeps_the_age_below_the_ring_and_counts_what_it_drops(tmp_path: Path) -> None:
    frames, end, longest_s = overloaded(tmp_path, "latest")
    ledger = end["ledger"]
    assert adds_up(ledger)
    assert (ledger["expected"], ledger["missing"], ledger["failed"]) == (FRAMES, 0, {})
    assert ledger["dropped"] == {"overload": FRAMES - len(frames)}
    assert FRAMES / 4 < len(frames) < FRAMES * 3 / 4, "about half of what came"
    oldest_ms = max(frame["latency_ms"] for frame in frames)
    assert oldest_ms < 1000 * SLOTS * longest_s + HAND_OVER_MS
    for before, after in itertools.pairwise(frames):
        assert sum(after["lost"].values()) == after["frame"] - before["frame"] - 1


def test_block_loses_nothing(tmp_path: Path) -> None:
    frames, end, _ = overloaded(tmp_path, "block")
    assert [frame["frame"] for frame in frames] == list(range(FRAMES))
    assert end["ledger"]["published"] == end["ledger"]["expected"] == FRAMES
    assert end["ledger"]["dropped"] == end["ledger"]["failed"] == {}
    assert not any(frame["lost"] for frame in frames)
