"""The real service as its users start it: processes, HTTP, calibrations, kills and restarts."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import SHARED_DATA, Subscriber, event_parts, frame_parts, noise_frame, push, wait_for

from scgn.calibration import build_calibration
from scgn_client.admin import Admin
from scgn_client.errors import ServiceError
from scgn_live import serve
from scgn_live.running import NotStarted, RunningService, free_ports, start_service
from scgn_live.settings import EXIT_CONFIG, Settings

SHAPE = (32, 48)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    flags = ["--state-dir", str(tmp_path), "--threads", "1", "--overload", "block"]
    running = start_service(flags)
    yield running
    running.stop()
    running.log.unlink()


def ready(service: RunningService) -> bool:
    try:
        return Admin(service.http, timeout_s=1).ready().ready
    except ServiceError:
        return False


def test_supervisor_tries_again_when_the_system_had_no_room(service: RunningService) -> None:
    words = Path(f"/proc/{service.pid_of('frames')}/cmdline").read_text().split("\0")
    settings = Path(words[words.index("_frames") + 1]) / "settings.json"
    settings.unlink()
    settings.mkdir()  # as a full disk would: it cannot be written
    os.kill(service.pid_of("frames"), signal.SIGKILL)
    wait_for(lambda: '"no process"' in service.log.read_text(), "the supervisor saying so")
    assert service.process.poll() is None
    settings.rmdir()
    wait_for(lambda: ready(service), "the frame process being back", 40)


def test_settings_that_fail_later_do_not_end_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only at the very first start are they to blame: a port may be taken for a moment."""
    monkeypatch.setattr(serve, "BACKOFF_S", (0.0,))
    monkeypatch.setattr(serve, "STEADY_S", -1.0)  # each lived for long
    given_up, statuses = threading.Event(), iter([70, EXIT_CONFIG, EXIT_CONFIG])
    child = serve.Child("frames", Settings(), tmp_path, given_up)

    def run() -> int:
        status = next(statuses, None)
        if status is None:
            child._stopping.set()
        return status or 0

    monkeypatch.setattr(child, "_run", run)
    child._keep()
    assert not given_up.is_set()
    monkeypatch.setattr(serve.Child, "_run", lambda _: EXIT_CONFIG)
    wrong = serve.Child("frames", Settings(), tmp_path, given_up)
    wrong._keep()
    assert given_up.is_set()
    assert wrong.status == EXIT_CONFIG


def denoise_one(service: RunningService, series: str, frame: Any) -> tuple[dict[str, Any], Any]:
    """Send one frame and wait for it; header and denoised pixels."""
    subscriber = Subscriber(service.frames)
    try:
        subscriber.next()
        with push(service.ingest) as camera:
            camera.send_multipart(frame_parts(series, 0, frame))
            header, pixels = subscriber.until("frame", series=series)
    finally:
        subscriber.close()
    return header, np.frombuffer(pixels[0], "<f4").reshape(frame.shape)


def test_health_status_metrics_and_docs(service: RunningService) -> None:
    admin = Admin(service.http)
    assert admin.live()
    assert admin.ready().ready
    denoise_one(service, "s", noise_frame(1, SHAPE))
    wait_for(lambda: admin.status()["frames_measured"] == 1, "the frame being measured")
    status = admin.status()
    assert status["model"].startswith("scgn-preview-clean-")
    assert status["series"][0]["published"] == 1
    assert status["latency_ms"]["p99"] >= status["engine_ms"]["p50"] > 0
    assert set(status["versions"]) == {"python", "scgn-live", "numpy", "pyzmq", "torch"}
    text = admin.metrics()
    assert 'scgn_published_total{reason=""} 1.0' in text
    assert 'scgn_stage_seconds_count{stage="engine"} 1.0' in text
    assert 'scgn_ring_slots{state="free"} 4.0' in text
    for path in ("/livez", "/readyz", "/openapi.json", "/docs"):
        assert admin._ask("GET", path).status == 200


def test_a_posted_calibration_corrects_and_names_every_later_frame(
    service: RunningService, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    scene, dark = rng.poisson(50, SHAPE), rng.integers(90, 110, SHAPE)
    gain, mask = rng.uniform(0.9, 1.1, SHAPE), np.zeros(SHAPE, bool)
    mask[5, 5] = True
    raw = (scene / gain + dark).astype("<f4")
    raw[5, 5] = 60_000
    before, uncorrected = denoise_one(service, "before", raw)
    posted = Admin(service.http).post_calibration(dark, gain, mask, "multiply")
    after, corrected = denoise_one(service, "after", raw)
    expected = build_calibration(dark, gain, mask, "multiply")
    told = {"id": expected.id, "active": True, "shape": list(SHAPE), "masked": 1}
    assert {key: posted[key] for key in told} == told
    assert (before["calibration"], after["calibration"]) == (None, expected.id)
    assert abs(corrected.mean() - 50) < 3
    assert uncorrected.mean() > 100
    assert Admin(service.http)._ask("DELETE", "/calibrations/active").status == 200
    assert denoise_one(service, "none", raw)[0]["calibration"] is None
    assert [path.name for path in (tmp_path / "calibrations").glob("*.npz")] == [
        f"{posted['id']}.npz"
    ]


def test_bad_uploads_are_4xx_that_name_the_field_and_change_nothing(
    service: RunningService,
) -> None:
    admin = Admin(service.http)
    good = admin.post_calibration(dark=np.ones(SHAPE))["id"]
    nan = np.full(SHAPE, np.nan)
    cases: list[tuple[str, dict[str, Any]]] = [
        ("dark", {"dark": nan}),
        ("calibration", {"dark": np.ones(SHAPE), "mask": np.ones((3, 3), bool)}),
        ("gain", {"gain": -np.ones(SHAPE), "gain_convention": "divide"}),
        ("mask", {"mask": np.ones(SHAPE, bool)}),
    ]
    for field, parts in cases:
        with pytest.raises(ServiceError, match=field) as caught:
            admin.post_calibration(**parts)
        assert caught.value.status == 422
    for body in (b"not numpy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8'", npy(np.ones(5))):
        answer = post_part(service, "dark", body)
        assert answer["status"] == (415 if body == b"not numpy" else 422)
        assert answer["field"] == "dark"
    assert post_part(service, "unknown", b"x")["status"] == 422
    assert post_part(service, "gain", npy(np.ones(SHAPE)))["field"] == "gain_convention"
    assert admin.status()["calibration"] == good


def npy(array: Any) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def post_part(service: RunningService, name: str, body: bytes) -> dict[str, Any]:
    """POST one multipart part by hand; the problem that comes back."""
    import urllib.error
    import urllib.request

    content = (
        f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="a.npy"\r\n\r\n'.encode()
        + body + b"\r\n--x--\r\n"
    )  # fmt: skip
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    request = urllib.request.Request(f"{service.http}/calibrations", content, headers)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=10)
    with caught.value as answer:
        assert answer.headers["content-type"] == "application/problem+json"
        found: dict[str, Any] = json.load(answer)
        return found


def chunked_upload(service: RunningService, size: int) -> http.client.HTTPResponse:
    """POST a body whose length is not announced."""
    host = service.http.removeprefix("http://")
    with contextlib.closing(http.client.HTTPConnection(host, timeout=10)) as connection:
        head = b'--x\r\nContent-Disposition: form-data; name="dark"; filename="a"\r\n\r\n'
        body = (piece for piece in (head, b"0" * size, b"\r\n--x--\r\n"))
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        headers["Transfer-Encoding"] = "chunked"
        connection.request("POST", "/calibrations", body, headers, encode_chunked=True)
        return connection.getresponse()


def test_too_large_an_upload_is_refused(tmp_path: Path) -> None:
    flags = ["--state-dir", str(tmp_path), "--engine", "pass-through", "--max-upload-mb", "0.01"]
    service = start_service(flags)
    try:
        with pytest.raises(ServiceError) as caught:
            Admin(service.http).post_calibration(dark=np.ones((100, 100)))
        assert caught.value.status == 413
        assert chunked_upload(service, 100_000).status == 413, "no length said, too much sent"
        assert ready(service)
    finally:
        service.stop()


def test_killing_the_sidecar_loses_no_frame_and_it_comes_back(service: RunningService) -> None:
    subscriber = Subscriber(service.frames)
    subscriber.next()
    with push(service.ingest) as camera:
        for index in range(60):
            if index == 20:
                os.kill(service.pid_of("http"), signal.SIGKILL)
            camera.send_multipart(frame_parts("s", index, noise_frame(index, SHAPE)))
        camera.send_multipart(event_parts("end", "s", frames=60))
        frames, end = subscriber.series("s")
    subscriber.close()
    assert [frame["frame"] for frame in frames] == list(range(60))
    assert end["ledger"]["published"] == 60
    wait_for(lambda: ready(service), "the sidecar coming back")


def test_killing_the_frame_process_is_seen_and_mended(service: RunningService) -> None:
    posted = Admin(service.http).post_calibration(dark=np.ones(SHAPE))["id"]
    os.kill(service.pid_of("frames"), signal.SIGKILL)
    killed_s = time.monotonic()
    wait_for(lambda: not ready(service), "503 after the kill", deadline_s=2)
    assert time.monotonic() - killed_s < 2
    readiness = Admin(service.http).ready()
    # Dead, or back already and at its start: that is what the reason says.
    assert len(readiness.reasons) == 1
    assert readiness.reasons[0].startswith(("frame process", "starting: "))
    wait_for(lambda: ready(service), "the frame process coming back")
    assert Admin(service.http).live()
    header, _ = denoise_one(service, "after", noise_frame(1, SHAPE))
    assert header["calibration"] == posted, "the calibration did not survive the restart"


def test_a_camera_keeps_sending_through_a_restart(service: RunningService) -> None:
    with push(service.ingest) as camera:
        os.kill(service.pid_of("frames"), signal.SIGKILL)
        wait_for(lambda: not ready(service), "503 after the kill")
        wait_for(lambda: ready(service), "the frame process coming back")
        subscriber = Subscriber(service.frames)
        subscriber.next()
        camera.send_multipart(frame_parts("same-camera", 7, noise_frame(1, SHAPE)))
        header, _ = subscriber.until("frame", series="same-camera")
        subscriber.close()
    assert header["frame"] == 7
    assert header["lost"] == {"missing": 7}


def test_sigterm_ends_both_processes_and_says_end(tmp_path: Path) -> None:
    service = start_service(["--state-dir", str(tmp_path), "--engine", "pass-through"])
    pids = [service.pid_of(role) for role in ("frames", "http")]
    subscriber = Subscriber(service.frames)
    subscriber.next()
    with push(service.ingest) as camera:
        camera.send_multipart(frame_parts("s", 0, noise_frame(1)))
        subscriber.until("frame")
        service.process.send_signal(signal.SIGTERM)
        end, _ = subscriber.until("end", series="s")
    subscriber.close()
    assert (end["reason"], end["ledger"]["published"]) == ("shutdown", 1)
    assert service.stop() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_killing_the_supervisor_leaves_no_orphan(tmp_path: Path) -> None:
    service = start_service(["--state-dir", str(tmp_path), "--engine", "pass-through"])
    pids = [service.pid_of(role) for role in ("frames", "http")]
    service.process.kill()
    service.process.wait(10)
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "both ending")


def test_settings_that_cannot_work_end_the_service_at_once(tmp_path: Path) -> None:
    with pytest.raises(NotStarted, match="no network 'absent'"):
        start_service(["--state-dir", str(tmp_path), "--network", "absent"])


def test_a_taken_port_is_said(service: RunningService, tmp_path: Path) -> None:
    with pytest.raises(NotStarted, match="Address already in use"):
        start_service(["--state-dir", str(tmp_path), "--frames", service.frames])


def test_a_taken_http_port_is_said(service: RunningService, tmp_path: Path) -> None:
    with pytest.raises(NotStarted, match=r"(?i)address already in use"):
        start_service(["--state-dir", str(tmp_path), "--http", service.http[7:]], ready_s=30)


def test_ctrl_c_stops_both_in_order(tmp_path: Path) -> None:
    service = start_service(["--state-dir", str(tmp_path), "--engine", "pass-through"])
    os.killpg(service.pid, signal.SIGINT)  # what a terminal does
    assert service.process.wait(10) == 0
    assert "process ended" not in service.log.read_text(), "a process was restarted meanwhile"


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="the shared real frames are not here")
@pytest.mark.parametrize(
    ("file", "crop", "count", "shape"),
    [
        ("movies/pt_ceo2_41x100.gif", "left", 41, (100, 100)),
        ("movies/lctem_exposure_1.tif", None, 1, (512, 512)),
        ("movies/lctem_exposure_2.tif", None, 1, (512, 512)),
        ("hrtem/graphene_defect_raw.tif", None, 1, (512, 512)),
    ],
)
def test_real_frames_come_back_whole(
    service: RunningService, file: str, crop: str | None, count: int, shape: tuple[int, int]
) -> None:
    from scgn_client import cli

    subscriber = Subscriber(service.frames)
    subscriber.next()
    words = ["replay", str(SHARED_DATA / file), "--endpoint", service.ingest, "--series", "real"]
    assert cli.main([*words, *(["--crop", crop] if crop else [])]) == 0
    frames, end = subscriber.series("real")
    subscriber.close()
    assert [frame["frame"] for frame in frames] == list(range(count))
    assert {tuple(frame["channels"][0]["shape"]) for frame in frames} == {shape}
    assert end["ledger"]["published"] == end["ledger"]["expected"] == count


def test_a_stop_during_a_build_is_heeded(tmp_path: Path) -> None:
    """A build takes seconds to minutes: health tells of it, and SIGTERM ends it."""
    *ends, port = free_ports(4)
    flags = ["--http", f"127.0.0.1:{port}", "--state-dir", str(tmp_path), "--engine-cache"]
    flags += [str(tmp_path / "engines"), "--shapes", "264x280"]
    for name, end in zip(("ingest", "frames", "latest"), ends, strict=True):
        flags += [f"--{name}", f"tcp://127.0.0.1:{end}"]
    with (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-m", "scgn_live", "serve", *flags]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            admin = Admin(f"http://127.0.0.1:{port}", timeout_s=1)
            told = "starting: scgn compile: 264x280: exporting to ONNX"
            wait_for(lambda: told in reasons(admin), "health telling of the build", 60)
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0
        finally:
            process.kill()
    assert "killing a process" not in (tmp_path / "log").read_text()
    assert not list((tmp_path / "engines").glob("*"))


def reasons(admin: Admin) -> list[str]:
    """Why a service is not ready; none while it does not answer."""
    try:
        return list(admin.ready().reasons)
    except ServiceError:
        return []
