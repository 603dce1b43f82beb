"""Uploads against the raw frames of a camera that films, and calibrations of the live stream."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import running_app, wait_for
from uploads import Http, filming, npy, sidecar, slow_npz, tif

from scgn_client.camera import SimulatedCamera
from scgn_live.calibrations import CalibrationStore
from scgn_live.running import RunningService, start_service
from scgn_live.sidecar import checker, shelf, stream_routes

CAMERA = SimulatedCamera((64, 96), seed=5, dose_e_per_px=20)
EXPOSURE_MS = 2.0
STREAM = "/calibrations/from-stream"
RIGHT = {
    "dark": npy(CAMERA.dark_reference), "gain": npy(CAMERA.gain_reference),
    "mask": npy(CAMERA.pixel_mask),
}  # fmt: skip
MULTIPLY = {"gain_convention": "multiply"}


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def service(state: Path) -> Iterator[RunningService]:
    flags = ["--state-dir", str(state), "--engine", "pass-through", "--proof-every-s", "0.01"]
    running = start_service(flags)
    yield running
    assert running.stop() == 0
    running.log.unlink()


@pytest.fixture(scope="module")
def films(service: RunningService) -> Iterator[None]:
    """The camera films while these tests run, and its last frames are there."""
    with filming(service.ingest, CAMERA, exposure_ms=EXPOSURE_MS) as sent:
        wait_for(lambda: sent() > 40, "the camera filming")
        yield


@pytest.fixture
def http(service: RunningService, films: None) -> Http:
    return Http.of(service)


@pytest.fixture
def store(state: Path) -> CalibrationStore:
    return CalibrationStore(state)


# Proof.


def test_right_references_are_proved_and_used(http: Http) -> None:
    stored = http.stored(RIGHT, **MULTIPLY, camera="cam", exposure_ms=EXPOSURE_MS)
    assert (stored["verdict"], stored["proved"], stored["active"]) == ("accepted", True, True)
    assert http.active == stored["id"]
    report = http.get(stored["report"]).json
    assert report["frames_of"]["source"] == "cam"
    assert report["frames_of"]["exposure_ms"] == EXPOSURE_MS
    assert report["proof"]["frames"] == {"count": 32, "shape": [64, 96]}
    assert report["proof"]["as_posted"]["removed"] > 0.9
    assert "removes" in stored["reasons"][0]


def test_turned_references_are_not_used_and_the_repair_is_told(http: Http) -> None:
    before = http.active
    flipped = {name: npy(np.load(io.BytesIO(content))[::-1]) for name, content in RIGHT.items()}
    problem = http.upload(flipped, **MULTIPLY).problem(422, "calibration")
    assert "got a refused one" in problem["detail"]
    assert any("orientation=flip-up-down" in reason for reason in problem["reasons"])
    assert http.active == before, "what is in use is untouched"
    report = http.get(f"/calibrations/{problem['calibration']}").json
    assert (report["verdict"], report["state"]) == ("refused", "staged")
    assert report["proof"]["best"]["orientation"] == "flip-up-down"
    for force in (False, True):
        place = f"/calibrations/{problem['calibration']}/activate"
        http.post(place, force=force).problem(422, "calibration")
    mended = http.stored(flipped, **MULTIPLY, orientation="flip-up-down")
    assert (mended["proved"], mended["active"]) == (True, True)
    with Image.open(io.BytesIO(http.get(mended["picture"]).body)) as image:
        assert image.width > 300


def test_the_wrong_convention_is_told(http: Http) -> None:
    answer = http.upload(RIGHT, gain_convention="divide")
    assert answer.status in (201, 422)
    reasons = answer.json["reasons"]
    assert any("gain_convention=multiply" in reason for reason in reasons), reasons


def test_what_is_suspicious_needs_force(http: Http) -> None:
    http.delete("/calibrations/active")
    query = {**MULTIPLY, "exposure_ms": 3 * EXPOSURE_MS}
    stored = http.stored(RIGHT, **query)
    said = "it was taken with 6 ms, the frames that come are exposed for 2 ms"
    assert (stored["verdict"], stored["active"]) == ("suspicious", False)
    assert stored["reasons"][0] == said
    problem = http.upload(RIGHT, **query, activate=True).problem(409, "calibration")
    assert "or force=true" in problem["detail"]
    place = f"/calibrations/{stored['id']}/activate"
    assert http.post(place).problem(409, "calibration")["reasons"][0] == said
    assert http.active is None
    assert http.post(place, force=True).json == {"id": stored["id"]}
    http.delete("/calibrations/active")
    assert http.stored(RIGHT, **query, force=True)["active"]


def test_references_of_another_shape_are_not_used(http: Http) -> None:
    stored = http.stored({"dark": npy(np.ones((30, 40)))})
    assert (stored["verdict"], stored["active"]) == ("suspicious", False)
    assert stored["reasons"][0] == (
        "it is for frames of 30 x 40 px, those that come are cam 64 x 96"
    )
    other = http.stored({"dark": npy(np.ones((30, 40)))}, camera="another")
    assert other["verdict"] == "accepted", "nothing is known of that camera"


def test_of_two_cameras_the_fitting_one_proves_it(service: RunningService, http: Http) -> None:
    other = SimulatedCamera((48, 40), seed=9, dose_e_per_px=20)
    with filming(service.ingest, other, "other") as sent:
        wait_for(lambda: sent() > 40, "the other camera filming")
        for source, camera in (("other", other), ("cam", CAMERA)):
            turned = {"dark": npy(np.rot90(camera.dark_reference))}
            stored = http.stored(turned, orientation="rotate-270")
            assert stored["proved"], stored["reasons"]
            report = http.get(stored["report"]).json
            assert (report["frames_of"]["source"], report["camera"]) == (source, source)
            assert "file" not in report["frames_of"]
        named = http.stored({"dark": npy(other.dark_reference)}, camera="cam")
        assert named["verdict"] == "suspicious", "it is not for that one"


def test_frames_may_be_sent_along(http: Http) -> None:
    camera = SimulatedCamera((40, 48), seed=8, dose_e_per_px=20)
    frames = tif(np.stack([camera.frame(i).raw for i in range(32)]))
    parts: dict[str, Any] = {"dark": npy(camera.dark_reference), "frames": ("f.tif", frames)}
    stored = http.stored(parts, camera="another")
    assert stored["proved"]
    report = http.get(stored["report"]).json
    assert (report["frames_of"], report["camera"]) == ({"sent_along": True}, "another")
    report = http.get(http.stored(parts)["report"]).json
    assert report["camera"] is None, "whose they are was not said"
    parts["frames"] = npy(np.full((4, 40, 48), np.nan))
    http.upload(parts).problem(422, "frames")


# Calibrations of the live stream.


def done(http: Http, job: dict[str, Any]) -> dict[str, Any]:
    """The job once it is over."""

    def over() -> dict[str, Any] | None:
        now: dict[str, Any] = http.get(f"{STREAM}/{job['id']}").json
        return now if now["state"] in ("done", "failed") else None

    found: dict[str, Any] = wait_for(over, "the job being over", 60)
    return found


def test_noise_is_measured_beside_the_references_in_use(
    http: Http, store: CalibrationStore
) -> None:
    base = http.stored(RIGHT, **MULTIPLY)["id"]
    begun = http.post(STREAM, frames=60, camera="cam", activate=True, force=True)
    assert begun.status == 202
    job = begun.json
    assert (job["state"], job["wanted"], job["camera"]) == ("collecting", 60, "cam")
    detail = http.post(STREAM).problem(409)["detail"]
    assert "another series is being collected" in detail
    job = done(http, job)
    assert (job["state"], job["frames"], job["active"]) == ("done", 60, True), job
    found, first = store.load(job["calibration"]), store.load(base)
    for name in ("dark", "gain", "mask"):
        np.testing.assert_array_equal(getattr(found, name), getattr(first, name))
    assert found.noise is not None
    assert abs(found.noise.gain_adu_per_e / CAMERA.gain_adu_per_e - 1) < 0.25
    assert abs(found.noise.line_noise_adu / (20 * CAMERA.column_noise_e) - 1) < 0.25
    assert http.active == job["calibration"]
    report = http.get(f"/calibrations/{job['calibration']}").json
    assert (report["origin"], report["state"]) == ("stream", "active")
    assert report["references"] == {"calibration": {"id": base}}
    assert report["exposure_ms"] == EXPOSURE_MS
    doubts = {doubt["reason"] for doubt in report["estimate"]["doubts"]}
    assert report["verdict"] == "accepted", report["reasons"]
    assert doubts <= {"not_integer", "clipping"}, "corrected frames are on no lattice of counts"
    with Image.open(io.BytesIO(http.get(report["picture"]).body)) as image:
        assert image.width > 300


def test_a_job_is_polled_and_cancelled(http: Http) -> None:
    job = http.post(STREAM, frames=4000).json
    wait_for(lambda: http.get(f"{STREAM}/{job['id']}").json["frames"] > 3, "frames being collected")
    assert http.delete(f"{STREAM}/{job['id']}").json["state"] == "failed"
    assert http.get(f"{STREAM}/{job['id']}").json["detail"] == "cancelled"
    again = http.post(STREAM, frames=4000)
    assert again.status == 202, "the frame process is free for another one"
    http.delete(f"{STREAM}/{again.json['id']}")
    http.get(f"{STREAM}/00000000").problem(404, "job")
    http.get(f"{STREAM}/nonsense").problem(422, "job")
    for frames in (1, 5000, "many"):
        http.post(STREAM, frames=frames).problem(422, "frames")


def test_what_a_killed_http_process_collected_is_let_go(
    service: RunningService, http: Http
) -> None:
    http.post(STREAM, frames=4000)
    os.kill(service.pid_of("http"), signal.SIGKILL)
    wait_for(lambda: answers(http), "the HTTP process coming back")
    job = http.post(STREAM, frames=16)
    assert job.status == 202
    assert done(http, job.json)["state"] == "done"


def test_a_new_frame_process_ends_what_the_old_one_collected(
    service: RunningService, http: Http
) -> None:
    job = http.post(STREAM, frames=4000).json
    os.kill(service.pid_of("frames"), signal.SIGKILL)
    over = done(http, job)
    assert over["state"] == "failed"
    assert "frame process" in over["detail"]
    wait_for(lambda: http.get("/readyz").status == 200, "the frame process coming back")


def answers(http: Http) -> bool:
    try:
        return http.get("/readyz").status == 200
    except OSError:
        return False


# With the HTTP side in this process, to have its patience short or its disk full.


def test_a_camera_that_sends_nothing_ends_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_routes, "IDLE_S", 0.5)
    with running_app(tmp_path) as app, sidecar(app) as http:
        over = done(http, http.post(STREAM, frames=20).json)
        assert over["state"] == "failed"
        said = "expected a camera that sends, got 0 of 20 frames and none for 0.5 s"
        assert over["detail"] == said
        with filming(app.ingest.endpoint, CAMERA, rate_fps=200) as sent:
            job = http.post(STREAM, frames=4000).json
            wait_for(lambda: sent() >= 30, "some frames")
        over = done(http, job)
        assert over["state"] == "done", "16 frames and more will do when a series ends"
        assert 16 <= over["frames"] < 4000


def test_cancelling_a_job_that_estimates_leaves_the_next_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_app(tmp_path) as app, sidecar(app) as http:
        with filming(app.ingest.endpoint, CAMERA, rate_fps=200):
            # The checker is busy with a large file: the job has to wait for its turn.
            slow = threading.Thread(target=http.upload, args=({"dark": slow_npz()},))
            slow.start()
            first = http.post(STREAM, frames=16).json
            place = f"{STREAM}/{first['id']}"
            wait_for(lambda: http.get(place).json["state"] == "estimating", "16 frames")
            second = http.post(STREAM, frames=40)
            assert second.status == 202
            assert http.delete(place).json["state"] == "failed"
            assert done(http, second.json)["state"] == "done"
            slow.join()


def test_too_many_at_once_are_told_to_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker, "WAITING_MAX", 1)
    with running_app(tmp_path) as app, sidecar(app) as http:
        statuses: list[int] = []

        def upload() -> None:
            statuses.append(http.upload({"dark": slow_npz()}, activate=False).status)

        threads = [threading.Thread(target=upload) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(statuses) == {201, 429}


def test_a_full_disk_is_507_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_app(tmp_path) as app, sidecar(app) as http:
        good = http.stored({"dark": npy(np.ones((4, 4)))})["id"]

        def no_room(*_: Any) -> None:
            raise OSError(28, "No space left on device", str(tmp_path))

        monkeypatch.setattr(CalibrationStore, "_written_aside", no_room)
        problem = http.upload({"dark": npy(np.full((4, 4), 2.0))}).problem(507)
        assert problem["detail"] == "not stored: No space left on device"
        assert (http.active, http.ids()) == (good, [good])


def test_without_a_frame_process_uploads_are_kept_but_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "RECENT_S", 0.3)
    monkeypatch.setattr(shelf, "ACTIVATE_S", 0.3)
    with running_app(tmp_path) as app, sidecar(app) as http:
        app.stages["work"].stop()
        stored = http.stored({"dark": npy(np.ones((4, 4)))}, activate=False)
        assert stored["state"] == "staged"
        problem = http.post(f"/calibrations/{stored['id']}/activate").problem(503)
        assert "did not answer activate" in problem["detail"]
        assert (http.active, http.ids()) == (None, [stored["id"]])
