"""Health and calibrations: required, missing, damaged, of another shape, and under way."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from probes import LIVE, READY, Probes, sidecar
from support import DEADLINE_S, frame_parts, noise_frame, push, running_app, wait_for

from scgn.calibration import Calibration, build_calibration
from scgn_live.app import App
from scgn_live.calibrations import CalibrationStore
from scgn_live.processor import FrameByFrame

SHAPE = (16, 12)


class Corrects(FrameByFrame):
    """Takes the dark off."""

    model = "corrects"

    def __call__(self, raw: Any, calibration: Calibration | None) -> Any:
        return raw if calibration is None else (raw - calibration.dark).astype(np.float32)


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Calibration]:
    """Of services that correct: one calibration that fits the frames and one that does not."""
    monkeypatch.setattr("scgn_live.app.build_processor", lambda *_: Corrects())
    store = CalibrationStore(tmp_path)
    store.open()
    found = {
        "right": build_calibration(dark=np.full(SHAPE, 7.0)),
        "wrong": build_calibration(dark=np.full((8, 8), 7.0)),
    }
    for calibration in found.values():
        store.add(calibration)
    return found


def send(app: App, index: int = 0, shape: tuple[int, int] = SHAPE) -> None:
    with push(app.ingest.endpoint) as camera:
        camera.send_multipart(frame_parts(f"s{shape[0]}", index, noise_frame(index, shape)))


def activate(probes: Probes, calibration: Calibration) -> None:
    path = f"/calibrations/{calibration.id}/activate"
    assert probes.ask(path, "POST") == (200, {"id": calibration.id})


def test_a_required_calibration_must_be_there_and_fit(
    tmp_path: Path, stored: dict[str, Calibration]
) -> None:
    changes: dict[str, Any] = {"require_calibration": True, "ready_s": 1.0}
    with running_app(tmp_path, **changes) as app, sidecar(app.settings) as probes:
        probes.told("no calibration is active, and one is required")
        assert probes.live() == LIVE
        activate(probes, stored["wrong"])
        probes.becomes_ready()  # nothing speaks against it until a frame comes
        send(app)
        probes.told(f"frames have another shape than calibration {stored['wrong'].id}")
        activate(probes, stored["right"])
        probes.becomes_ready()
        send(app, 1)
        wait_for(lambda: app.ledger.totals()["published", ""] == 2, "a corrected frame")
        assert app.engine.mismatched == 1
        send(app, shape=(8, 8))
        probes.told(f"frames have another shape than calibration {stored['right'].id}")
        probes.becomes_ready()  # no such frame comes any more
        assert probes.ask("/calibrations/active", "DELETE") == (200, {"id": None})
        probes.told("no calibration is active, and one is required")


def test_pass_through_cannot_be_ready_where_a_calibration_is_required(tmp_path: Path) -> None:
    with running_app(tmp_path, require_calibration=True) as app, sidecar(app.settings) as probes:
        probes.told("a calibration is required, and this engine corrects nothing")


def test_a_damaged_calibration_is_said_and_another_one_mends_it(
    tmp_path: Path, stored: dict[str, Calibration]
) -> None:
    with running_app(tmp_path) as app, sidecar(app.settings) as probes:
        probes.becomes_ready()
        activate(probes, stored["wrong"])
    CalibrationStore(tmp_path).path(stored["wrong"].id).write_bytes(b"damage")
    with running_app(tmp_path) as app, sidecar(app.settings) as probes:
        probes.becomes_ready()  # none is required
        problem = probes.ask("/status")[1]["calibration_problem"]
        assert problem.startswith("active calibration cannot be used: ")
    with running_app(tmp_path, require_calibration=True) as app, sidecar(app.settings) as probes:
        assert str(tmp_path) not in probes.told(problem)
        activate(probes, stored["right"])
        probes.becomes_ready()
        assert probes.ask("/status")[1]["calibration_problem"] is None


def test_health_answers_while_a_calibration_is_loaded(
    tmp_path: Path, stored: dict[str, Calibration], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of 4096 x 4096 px takes seconds: frames go on meanwhile, and so does the truth of it."""
    load, loading, loaded = CalibrationStore.load, threading.Event(), threading.Event()

    def slowly(store: CalibrationStore, identity: str) -> Calibration:
        loading.set()
        assert loaded.wait(DEADLINE_S)
        return load(store, identity)

    monkeypatch.setattr(CalibrationStore, "load", slowly)
    with running_app(tmp_path, ready_s=0.5) as app, sidecar(app.settings) as probes:
        probes.becomes_ready()
        activation = threading.Thread(target=activate, args=(probes, stored["right"]))
        activation.start()
        assert loading.wait(DEADLINE_S)
        begun_s, frames = time.monotonic(), 0
        while time.monotonic() - begun_s < 3 * app.settings.ready_s:
            assert probes.ready() == READY
            assert probes.ask("/status")[1]["calibration"] is None
            send(app, frames)
            frames += 1
        wait_for(lambda: app.ledger.totals()["published", ""] == frames, "frames going on")
        loaded.set()
        activation.join(DEADLINE_S)
        assert probes.ask("/status")[1]["calibration"] == stored["right"].id
