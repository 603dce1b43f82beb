"""The engine: one state per frame, swapped between two; a bad frame costs only itself."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import (
    adds_up,
    event_parts,
    frame_parts,
    noise_frame,
    push,
    running_app,
    settings,
    subscribed,
    wait_for,
)

from scgn.calibration import Calibration, build_calibration
from scgn.pipeline import DeviceLost
from scgn_client import FrameSender
from scgn_live.app import EXIT_DEVICE_LOST, EXIT_STAGE_DIED, App
from scgn_live.control import ControlError, request
from scgn_live.engine import BROKEN_MAX, EngineState
from scgn_live.processor import FrameByFrame, PassThrough
from scgn_live.settings import Settings


class Subtracts(FrameByFrame):
    """Corrects with the dark alone: which calibration a frame met can be read off its pixels."""

    model = "subtracts"

    def __call__(self, raw: Any, calibration: Calibration | None) -> Any:
        dark = 0 if calibration is None or calibration.dark is None else calibration.dark
        return (raw - dark).astype(np.float32)


def dark(level: float, shape: tuple[int, int] = (16, 12)) -> Calibration:
    return build_calibration(dark=np.full(shape, level))


def use(app: App, processor: Any) -> None:
    app.engine._state = EngineState(processor)


def test_swaps_under_load_never_mix(tmp_path: Path) -> None:
    frame = np.full((16, 12), 1000, "<u2")
    calibrations = [dark(level) for level in range(1, 6)]
    levels = {c.id: float(c.dark[0, 0]) for c in calibrations if c.dark is not None}
    with running_app(tmp_path) as app, subscribed(app) as sub, push(app.ingest.endpoint) as camera:
        use(app, Subtracts())
        done = threading.Event()

        def swap() -> None:
            number = 0
            while not done.is_set():
                app.engine.use_calibration(calibrations[number % 5])
                number += 1

        swapper = threading.Thread(target=swap)
        swapper.start()
        for index in range(400):
            camera.send_multipart(frame_parts("s", index, frame))
        met = set()
        for _ in range(400):
            header, pixels = sub.until("frame")
            values = np.frombuffer(pixels[0], "<f4")
            expected = 1000 - levels.get(header["calibration"], 0.0)
            assert (values == expected).all(), "a frame met two calibrations, or names another"
            met.add(header["calibration"])
        done.set()
        swapper.join(5)
    assert len(met) > 2, "the swaps did not happen under load"


def test_a_calibration_of_another_shape_is_not_applied_and_said(tmp_path: Path) -> None:
    with running_app(tmp_path) as app, subscribed(app) as sub, push(app.ingest.endpoint) as camera:
        use(app, Subtracts())
        app.engine.use_calibration(dark(5, (8, 8)))
        camera.send_multipart(frame_parts("s", 0, noise_frame(1)))
        camera.send_multipart(frame_parts("t", 0, noise_frame(1, (8, 8))))
        first, second = sub.until("frame")[0], sub.until("frame")[0]
        assert app._status({})["calibration_mismatched_frames"] == 1
    assert first["calibration"] is None
    assert second["calibration"] == dark(5, (8, 8)).id


def test_nan_frames_fail_and_the_next_is_served(tmp_path: Path) -> None:
    good = np.random.default_rng(0).normal(100, 10, (32, 32)).astype("<f4")
    bad = good.copy()
    bad[3, 4] = np.nan
    small = np.ones((2, 40), "<f4")
    with running_app(tmp_path, engine="scgn", device="cpu", threads=1) as app:
        with subscribed(app) as sub, push(app.ingest.endpoint) as camera:
            for index, frame in enumerate((bad, small, good)):
                camera.send_multipart(frame_parts("s", index, frame))
            camera.send_multipart(event_parts("end", "s", frames=3))
            frames, end = sub.series("s")
    assert [(f["frame"], f["lost"]) for f in frames] == [(2, {"non_finite": 1, "too_small": 1})]
    assert end["ledger"]["failed"] == {"non_finite": 1, "too_small": 1}
    assert frames[0]["model"].startswith("scgn-preview-clean-")
    assert frames[0]["channels"][0] == {"name": "denoised", "dtype": "<f4", "shape": [32, 32]}


class Broken(Subtracts):
    """Fails for no fault of the frame, as a lost device does."""

    def __call__(self, raw: Any, calibration: Calibration | None) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


def test_an_engine_that_fails_for_good_ends_the_process(tmp_path: Path) -> None:
    with running_app(tmp_path) as app, push(app.ingest.endpoint) as camera:
        use(app, Broken())
        for index in range(BROKEN_MAX):
            assert not app.ended.is_set()
            camera.send_multipart(frame_parts("s", index, noise_frame(1)))
        assert app.ended.wait(5)
        assert app.failed_stage() == "engine"
    assert app.exit_status() == EXIT_STAGE_DIED


def test_a_lost_device_ends_the_process_with_a_status_of_its_own(tmp_path: Path) -> None:
    class Lost(Subtracts):
        def __call__(self, raw: Any, calibration: Calibration | None) -> Any:
            raise DeviceLost("cuda:0: an illegal memory access was encountered")

    with running_app(tmp_path) as app, push(app.ingest.endpoint) as camera:
        use(app, Lost())
        camera.send_multipart(frame_parts("s", 0, noise_frame(1)))
        assert app.ended.wait(5), "the first such error did not end the process"
        assert "DeviceLost" in app.reasons_not_ready()[0]
    assert app.exit_status() == EXIT_DEVICE_LOST


def test_a_camera_that_waits_long_is_not_cut_off(tmp_path: Path) -> None:
    """Ten seconds of back-pressure: longer than any heartbeat would have patience for."""

    class Slow(Subtracts):
        def __call__(self, raw: Any, calibration: Calibration | None) -> Any:
            time.sleep(0.25)  # the work itself, not a wait for something
            return raw

    with running_app(tmp_path, ring_slots=2) as app, subscribed(app) as sub:
        use(app, Slow())
        with FrameSender(app.ingest.endpoint, "cam", "s", timeout_s=20) as sender:
            for index in range(40):
                sender.send(noise_frame(index, (400, 400)))
        frames, end = sub.series("s")
    assert [frame["frame"] for frame in frames] == list(range(40))
    assert end["ledger"]["published"] == 40


def states(app: App) -> list[str]:
    return [str(row["state"]) for row in app.ledger.snapshot()]


def test_end_in_line_at_shutdown_still_goes_out(tmp_path: Path) -> None:
    release = threading.Event()

    class Slow(Subtracts):
        def __call__(self, raw: Any, calibration: Calibration | None) -> Any:
            release.wait(20)
            return raw

    with running_app(tmp_path, shutdown_s=0.2) as app, subscribed(app) as sub:
        use(app, Slow())
        with push(app.ingest.endpoint) as camera:
            for index in range(2):
                camera.send_multipart(frame_parts("s", index, noise_frame(1)))
            camera.send_multipart(event_parts("end", "s", frames=2))
            wait_for(lambda: "ended" in states(app), "the end having come")
            wait_for(lambda: app.ring.depths()["events"] == 1, "the end alone being in line")
        app.stop()
        app.stop = lambda: None  # type: ignore[method-assign]
        release.set()
        end, _ = sub.until("end", series="s")
    assert end["reason"] == "end"
    assert end["ledger"]["failed"] == {"shutdown": 2}
    assert adds_up(end["ledger"])


def test_a_dead_stage_is_seen_and_ends_the_process(tmp_path: Path) -> None:
    with running_app(tmp_path) as app:

        def broken() -> None:
            raise MemoryError("device lost")

        app.stages["engine"]._turn = broken
        assert app.ended.wait(5), "the process was not told to end"
        assert app.failed_stage() == "engine"
        assert app.reasons_not_ready() == ["stage engine died: MemoryError('device lost')"]


def test_a_standing_stage_makes_the_service_not_ready(tmp_path: Path) -> None:
    with running_app(tmp_path, ready_s=0.2) as app:
        held, release = threading.Event(), threading.Event()
        turn = app.stages["engine"]._turn

        def stands() -> None:
            held.set()
            release.wait(20)
            app.stages["engine"]._turn = turn

        app.stages["engine"]._turn = stands
        assert held.wait(5)
        assert not threading.Event().wait(0.5)
        reasons = app.reasons_not_ready()
        release.set()
        assert len(reasons) == 1
        assert reasons[0].startswith("stage engine has stood for 0.")


def test_unknown_network_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no network 'absent'.*tiny-clean"):
        with running_app(tmp_path, engine="scgn", network="absent"):
            pass


def test_health_says_what_a_long_start_is_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    def slowly(settings: Settings, stopping: threading.Event, progress: Any) -> PassThrough:
        progress("scgn compile: 512x512: building the plan")
        assert release.wait(20)
        return PassThrough()

    monkeypatch.setattr("scgn_live.app.build_processor", slowly)
    app = App(settings(tmp_path), f"ipc://{tmp_path}/control")
    starting = threading.Thread(target=app.start)
    starting.start()

    def health() -> Any:
        return asyncio.run(request(f"ipc://{tmp_path}/control", 5, do="health"))

    try:
        at = ["starting: scgn compile: 512x512: building the plan"]
        assert wait_for(lambda: health()["reasons"] == at, "health telling of the build")
        with pytest.raises(ControlError, match="starting: scgn compile"):
            asyncio.run(request(f"ipc://{tmp_path}/control", 5, do="status"))
    finally:
        release.set()
        starting.join(20)
    assert health()["reasons"] == []
    app.stop()
