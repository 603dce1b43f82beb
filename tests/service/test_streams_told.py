"""What a network knows of its stream, in frames, /status and /metrics; how long its memory is."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from live_client import Browser, live_sidecar
from remembering import DOSE, NOISE, QUALITY, Remembers, report, reporting, stream
from support import event_parts, frame_parts, noise_frame, push, running_app, subscribed, wait_for

from scgn_client import wire
from scgn_client.messages import PublishedFrame
from scgn_live.processor import PassThrough
from scgn_live.reports import ALONE, plain, published

FRAME = noise_frame(1)
TOKEN = "a token of the test"
NAN = float("nan")

# In frames.


def test_a_frame_without_memory_says_that_it_is_alone(tmp_path: Path) -> None:
    with running_app(tmp_path) as app, subscribed(app) as sub, push(app.ingest.endpoint) as camera:
        camera.send_multipart(frame_parts("s", 0, FRAME))
        header, _ = sub.until("frame")
    assert {key: header[key] for key in ALONE} == ALONE
    assert ALONE == {
        "averaged": 1.0, "drift_px": None, "drift_nm_s": None, "moving": 0.0, "quality": None,
        "dose_e_per_px": None,
    }  # fmt: skip


def test_a_frame_tells_its_own_report_and_no_other(tmp_path: Path) -> None:
    """A slot that carried a report before carries none for the next frame."""

    def every_other(slot: Any) -> Any:
        index = slot.header.frame
        return report(averaged=float(index)) if index % 2 else slot.report

    with running_app(tmp_path, ring_slots=2) as app, subscribed(app) as sub:
        with reporting(app, every_other), push(app.ingest.endpoint) as camera:
            for index in range(12):
                camera.send_multipart(frame_parts("s", index, FRAME))
            headers = [sub.until("frame", frame=index)[0] for index in range(12)]
    for index, header in enumerate(headers):
        assert header["averaged"] == (index if index % 2 else 1.0)
        assert (header["quality"] is None) == (index % 2 == 0)
    assert headers[1]["drift_px"] == [0.5, -0.25]
    assert headers[1]["drift_nm_s"] == [0.125, -0.0625]
    assert (headers[1]["moving"], headers[1]["dose_e_per_px"]) == (0.25, 8.0)
    assert headers[1]["quality"] == QUALITY


def read(told: dict[str, Any]) -> PublishedFrame:
    """What a client makes of it."""
    header = {
        "source": "c", "series": "s", "frame": 0, "display": [0.0, 1.0], "t_received_ns": 1,
        "t_published_ns": 2, "latency_ms": 1.0, "calibration": None, "model": "m", "engine": "e",
        "lost": {}, **told,
    }  # fmt: skip
    _, packed = wire.encode_published(header, {"denoised": np.zeros((2, 2), "<f4")})
    message = wire.decode_published(packed, [bytes(16)])
    assert isinstance(message, PublishedFrame)
    return message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"averaged": np.float32(2.5)}, {"averaged": 2.5}),
        ({"averaged": NAN}, {"averaged": 1.0}),
        ({"moving": np.float32(1.0000001)}, {"moving": 1.0}),
        ({"moving": NAN}, {"moving": 0.0}),
        ({"drift_px": (NAN, 0.5)}, {"drift_px": None}),
        ({"drift_px": np.array([0.5, 1])}, {"drift_px": (0.5, 1.0)}),
        ({"drift_px": None, "drift_nm_s": None}, {"drift_px": None, "drift_nm_s": None}),
        ({"dose_e_per_px": NAN}, {"dose_e_per_px": None}),
        ({"dose_e_per_px": np.float64(0.5)}, {"dose_e_per_px": 0.5}),
        ({"quality": None}, {"quality": None}),
        ({"quality": {**QUALITY, "gain": NAN}}, {"quality": None}),
        ({"quality": {**QUALITY, "upsnr_db": NAN}}, {"quality": {**QUALITY, "upsnr_db": None}}),
        (
            {"quality": {**QUALITY, "frame": np.int64(7), "gain": np.float32(1)}},
            {"quality": {**QUALITY, "frame": 7, "gain": 1.0}},
        ),
        (
            {"quality": {**QUALITY, "others": {"mean": (NAN, 1.0), "single": (2.0, 1.0)}}},
            {"quality": {**QUALITY, "others": {"single": [2.0, 1.0]}}},
        ),
    ],
)
def test_numbers_that_are_none_cost_their_key_and_never_the_frame(
    changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    message = read(published(report(**changes)))
    whole = read(published(report()))
    for key in ALONE:
        assert getattr(message, key) == expected.get(key, getattr(whole, key)), key


def test_plain_values_can_be_packed() -> None:
    odd = {
        "a": np.float32(0.5),
        1: (np.int64(2), NAN),
        "c": object(),
        "d": True,
        "e": b"x",
        "f": {},
    }
    found = plain(odd)
    assert found == {"a": 0.5, "1": [2, None], "c": None, "d": True, "e": None, "f": {}}
    msgpack.packb(found)
    json.dumps(found, allow_nan=False)


# In /status and /metrics.


def ask(host: str, path: str, content: Any = None, token: str | None = None) -> tuple[int, Any]:
    """Status and JSON of an answer; with content it is posted."""
    body = (
        content if content is None or isinstance(content, bytes) else json.dumps(content).encode()
    )
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(f"http://{host}{path}", data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read().decode()
            return answer.status, json.loads(text) if text.startswith("{") else text
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_status_tells_noise_dose_and_quality_of_each_camera(tmp_path: Path) -> None:
    odd = stream(noise={**NOISE, "correlation_px": np.float32("nan")}, averaged=np.float32(2))
    with running_app(tmp_path) as app, live_sidecar(app) as host:
        status = ask(host, "/status")[1]
        assert (status["sources"], status["temporal"]) == ({}, None)
        app.engine.use_processor(Remembers(cam=stream(), other=odd))
        status = ask(host, "/status")[1]
    assert status["temporal"] == "auto"
    assert "streams" not in status["backend"]
    cam, other = status["sources"]["cam"], status["sources"]["other"]
    assert (cam["noise"], cam["dose"]) == (NOISE, DOSE)
    assert cam["quality"]["upsnr_db"] == 24.5
    assert (other["noise"]["correlation_px"], other["averaged"]) == (None, 2.0)


def gauges(text: str) -> set[str]:
    """Rows of the cameras' gauges."""
    names = ("averaged", "drift", "moving", "dose", "upsnr", "noise")
    return {
        line for line in text.splitlines() if line.startswith(tuple(f"scgn_{n}_" for n in names))
    }


def test_metrics_tell_of_cameras_that_send_and_of_no_other(tmp_path: Path) -> None:
    unknown = dict.fromkeys(NOISE)  # before a camera's first frame is judged
    known = {"cam": stream(), "gone": stream(), "third": stream(noise=unknown)}
    unsure = {**QUALITY, "upsnr_db": None}

    def made(slot: Any) -> Any:
        if slot.header.source == "second":
            return report(drift_px=None, dose_e_per_px=None, quality=unsure)
        return report() if slot.header.source == "cam" else None

    with running_app(tmp_path) as app, subscribed(app) as sub, push(app.ingest.endpoint) as camera:
        app.engine.use_processor(Remembers(**known))
        assert gauges(app.metrics.exposition().decode()) == set()
        with reporting(app, made):
            for source in ("cam", "second", "third"):
                camera.send_multipart(frame_parts("s", 0, FRAME, source=source))
                sub.until("frame", source=source)
            wait_for(lambda: app.metrics.summary()["frames_measured"] == 3, "all being measured")
            found = gauges(app.metrics.exposition().decode())
            camera.send_multipart(event_parts("end", "s"))
            sub.until("end", source="cam")
            left = gauges(app.metrics.exposition().decode())
            camera.send_multipart(event_parts("end", "s", source="second"))
            sub.until("end", source="second")
            assert gauges(app.metrics.exposition().decode()) == set()
    second = {
        'scgn_averaged_frames{source="second"} 11.25', 'scgn_moving_share{source="second"} 0.25',
    }  # fmt: skip
    assert left == second
    assert found - second == {
        'scgn_averaged_frames{source="cam"} 11.25', 'scgn_moving_share{source="cam"} 0.25',
        'scgn_drift_px{axis="rows",source="cam"} 0.5',
        'scgn_drift_px{axis="columns",source="cam"} -0.25',
        'scgn_dose_e_per_px{source="cam"} 8.0', 'scgn_upsnr_db{source="cam"} 24.5',
        'scgn_noise_sigma_adu{source="cam"} 70.5',
        'scgn_noise_info{from="stream",source="cam"} 1.0',
    }  # fmt: skip


def test_cameras_that_change_their_names_leave_bounded_reports(tmp_path: Path) -> None:
    with running_app(tmp_path) as app, subscribed(app) as sub, push(app.ingest.endpoint) as camera:
        with reporting(app, lambda _: report()):
            for index in range(80):
                camera.send_multipart(frame_parts("s", 0, FRAME, source=f"cam{index}"))
            sub.until("frame", source="cam79")
            wait_for(lambda: "cam79" in app.metrics.reports(), "the last one being noted")
        assert len(app.metrics.reports()) == 64


# The memory's length.


def test_the_setting_reaches_the_network_and_every_later_one(tmp_path: Path) -> None:
    first, second, third = Remembers(), Remembers(), Remembers()
    with running_app(tmp_path, temporal=8) as app, live_sidecar(app) as host:
        app.engine.use_processor(first)
        assert (first.told, ask(host, "/status")[1]["temporal"]) == ([8], 8)
        for value in ("off", 2, 16, "auto"):
            assert ask(host, "/temporal", {"temporal": value}) == (200, {"temporal": value})
            assert ask(host, "/status")[1]["temporal"] == value
        assert ask(host, "/temporal", {"temporal": "auto"})[0] == 200  # as it is: told to nobody
        assert first.told == [8, "off", 2, 16, "auto"]
        app.engine.use_processor(second)
        ask(host, "/temporal", {"temporal": 4})
        app.engine.use_processor(third)
        assert second.told == ["auto", 4]
        assert third.told == [4]


class Fails(Remembers):
    """A network whose first frames fail."""

    model = "fails"

    def __call__(self, raw: Any, calibration: Any) -> Any:
        raise RuntimeError("no")


def test_a_network_that_is_taken_back_to_has_the_newest_value(tmp_path: Path) -> None:
    before = Remembers()
    with running_app(tmp_path) as app, subscribed(app) as sub, push(app.ingest.endpoint) as camera:
        app.engine.use_processor(before)
        camera.send_multipart(frame_parts("s", 0, FRAME))
        sub.until("frame", frame=0)
        app.engine.use_processor(Fails())
        app.engine.use_temporal("off")
        for index in range(1, 5):
            camera.send_multipart(frame_parts("s", index, FRAME))
        sub.until("frame", frame=4)
        assert app.engine.state.processor is before
    assert before.told == ["auto", "off"]


@pytest.mark.parametrize(
    "content",
    [
        {"temporal": 1}, {"temporal": 17}, {"temporal": -2}, {"temporal": 2.5}, {"temporal": "on"},
        {"temporal": "8"}, {"temporal": None}, {"temporal": True}, {"temporal": ["off"]},
        {"temporal": {}},
    ],
)  # fmt: skip
def test_any_other_value_is_refused_in_words_and_changes_nothing(
    tmp_path: Path, content: Any
) -> None:
    network = Remembers()
    with running_app(tmp_path) as app, live_sidecar(app) as host:
        app.engine.use_processor(network)
        status, problem = ask(host, "/temporal", content)
        assert (status, problem["field"]) == (422, "temporal")
        words = "temporal: expected auto, off, or 2 to 16 frames, got "
        assert problem["detail"].startswith(words)
        assert repr(content["temporal"]) in problem["detail"]
        for odd in ([], 3, {}, {"temporal": "off", "more": 1}, b"no json"):
            assert ask(host, "/temporal", odd)[0] == 422
        assert ask(host, "/status")[1]["temporal"] == "auto"
    assert network.told == ["auto"]


def test_a_service_without_a_network_has_no_memory_to_change(tmp_path: Path) -> None:
    with running_app(tmp_path) as app, live_sidecar(app) as host:
        status, problem = ask(host, "/temporal", {"temporal": "off"})
        assert (status, problem["detail"]) == (
            409, "expected engine = scgn, got a service that passes frames through",
        )  # fmt: skip
        PassThrough().set_temporal("off")


def test_the_memory_is_changed_with_the_token_alone(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    network = Remembers()
    with running_app(tmp_path, token_file=tmp_path / "token") as app, live_sidecar(app) as host:
        app.engine.use_processor(network)
        for token in (None, "a wrong token of the test"):
            assert ask(host, "/temporal", {"temporal": "off"}, token)[0] == 401
        assert network.told == ["auto"]
        assert ask(host, "/temporal", {"temporal": "off"}, TOKEN)[0] == 200
    assert network.told == ["auto", "off"]


# In the browser.


def test_a_browser_is_told_of_the_stream(tmp_path: Path) -> None:
    with running_app(tmp_path) as app, live_sidecar(app) as host, Browser(host) as browser:
        app.engine.use_processor(Remembers(cam=stream()))
        with reporting(app, lambda _: report()), push(app.ingest.endpoint) as camera:
            browser.want("frame", source=None)
            wait_for(lambda: app.publisher.viewers == 1, "the sidecar connecting to latest")
            camera.send_multipart(frame_parts("s", 0, FRAME))
            header = browser.binary().header
            told: dict[str, Any] = {}
            wait_for(lambda: told.update(browser.told("status")) or told["sources"], "a status")
    assert (header["averaged"], header["drift_px"], header["moving"]) == (11.25, [0.5, -0.25], 0.25)
    assert (header["drift_nm_s"], header["dose_e_per_px"]) == ([0.125, -0.0625], 8.0)
    assert header["quality"] == {key: QUALITY[key] for key in QUALITY if key != "others"}
    assert told["temporal"] == "auto"
    (row,) = told["sources"]
    assert (row["stream"]["noise"], row["stream"]["dose"]) == (NOISE, DOSE)
    assert (row["stream"]["shown"], row["stream"]["quality"]["word"]) == ("temporal", "")


def test_quality_that_json_cannot_carry_costs_no_picture() -> None:
    from scgn_live.sidecar.live.frames import browser_message

    odd = {**QUALITY, "frame": 2**63, "more": b"bytes", "nan": NAN, "upsnr_db": None}
    content = b"".join(browser_message(read({**ALONE, "quality": odd})))
    header = json.loads(content[4 : 4 + int.from_bytes(content[:4], "little")])
    assert header["quality"]["frame"] == str(2**63)
    assert header["quality"]["upsnr_db"] is None
