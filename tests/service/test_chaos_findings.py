"""What the chaos suite has found, each in small: losses that nobody counted, stalls, leftovers."""

from __future__ import annotations

import errno
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import (
    ROOT,
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

from scgn.calibration import Calibration, build_calibration
from scgn_client.messages import Start
from scgn_live.calibration_control import CalibrationControl, DiskFull
from scgn_live.calibrations import Activity, CalibrationStore
from scgn_live.ledger import Ledger
from scgn_live.settings import Settings

ASKING_S = 3.0
VICTIMS = ROOT / "tests" / "chaos" / "victims.py"


def test_end_of_a_series_unheard_of_counts_its_frames_as_missing(tmp_path: Path) -> None:
    """After a crash it may be all that the new process hears of a series."""
    with running_app(tmp_path) as app, subscribed(app) as sub, push(app.ingest.endpoint) as camera:
        camera.send_multipart(event_parts("end", "lost", frames=7))
        sub.until("start", series="lost")
        end, _ = sub.until("end", series="lost")
        assert (end["ledger"]["expected"], end["ledger"]["missing"]) == (7, 7)
        assert adds_up(end["ledger"])
        for late in ({"frames": 7}, {}):
            camera.send_multipart(event_parts("end", "lost", **late))
        camera.send_multipart(event_parts("end", "empty", frames=0))
        camera.send_multipart(frame_parts("next", 0, noise_frame(1)))
        sub.until("frame", series="next")
        assert [row["series"] for row in app.ledger.snapshot()] == ["lost", "next"]


def test_end_of_a_forgotten_series_is_no_new_loss() -> None:
    ledger = Ledger(max_series=1)
    run, _ = ledger.open(Start("cam", "old"))
    assert run is not None
    ledger.arrive(run, 0)
    ledger.publish(run, 0)
    _, evicted = ledger.open(Start("cam", "new"))
    assert ledger.recall("cam", "old", 1) == [], "it is being closed"
    ledger.close(evicted[0])
    assert ledger.recall("cam", "old", 1) == [], "it was closed a moment ago"
    assert ledger.announce("cam", "old", 1) is None
    assert ("missing", "") not in ledger.totals()


def test_many_who_join_at_once_get_one_start(tmp_path: Path) -> None:
    """A start for each of them to all of them was a million messages for a thousand."""
    with running_app(tmp_path) as app, subscribed(app) as sub, push(app.ingest.endpoint) as camera:
        camera.send_multipart(frame_parts("s", 0, noise_frame(1)))
        sub.until("frame")
        many = [Subscriber(app.endpoints()["frames"]) for _ in range(60)]
        for one in many:
            one.until("start", series="s")
        starts = 0
        while sub.next()[0]["type"] == "start":
            starts += 1
        for one in many:
            one.close()
    assert 1 <= starts < 30, "about one for every 50 ms that they took to join"


@contextmanager
def asking_without_end(endpoint: str) -> Iterator[None]:
    """A peer that subscribes as fast as it can, for as long as the block runs."""
    peer = subprocess.Popen([sys.executable, str(VICTIMS), "asker", endpoint, "1000000000"])
    try:
        yield
    finally:
        peer.kill()
        peer.wait(10)


def test_peer_that_asks_without_end_stops_no_frame(tmp_path: Path) -> None:
    with running_app(tmp_path) as app, subscribed(app) as sub, push(app.ingest.endpoint) as camera:
        with asking_without_end(app.endpoints()["frames"]):
            took_s = []
            while sum(took_s) < ASKING_S:
                began_s, index = time.monotonic(), len(took_s)
                camera.send_multipart(frame_parts("s", index, noise_frame(1)))
                sub.until("frame", frame=index)
                took_s.append(time.monotonic() - began_s)
        assert max(took_s) < 1, "a frame waited for what one peer asks"
        assert app.failed_stage() is None


def calibration() -> Calibration:
    return build_calibration(dark=np.ones((4, 4)))


def no_room(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_calibration_without_room_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CalibrationStore(tmp_path)
    store.open()
    monkeypatch.setattr("scgn_live.calibrations.save_calibration", no_room)
    with pytest.raises(OSError, match="No space"):
        store.add(calibration(), {"verdict": "accepted"})
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_stored_calibration_outlives_an_upload_without_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, made = CalibrationStore(tmp_path), calibration()
    store.open()
    store.add(made, {"verdict": "accepted"})
    store.add_picture(made.id, b"picture")
    monkeypatch.setattr("scgn_live.calibrations.os.fsync", no_room)
    with pytest.raises(OSError, match="No space"):
        store.add(made, {"verdict": "suspicious"})
    assert store.has(made.id)
    assert store.report(made.id) == {"verdict": "accepted"}
    assert store.path(made.id, ".png").exists()


def test_activation_without_room_says_so_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = CalibrationControl(Settings(state_dir=tmp_path))
    monkeypatch.setattr(control.store, "note", no_room)
    with pytest.raises(DiskFull):
        control._note(Activity("0" * 12))
    wait_for(lambda: not (tmp_path / "calibrations").exists(), "nothing being written")
