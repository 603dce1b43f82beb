"""Frames through the frame process over real sockets, plain pyzmq and msgpack on both sides."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from pathlib import Path

import msgpack
import numpy as np
import pytest
import zmq
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

from scgn_client import wire
from scgn_client.errors import ReceiveTimeout
from scgn_client.messages import PublishedFrame
from scgn_client.receiver import LatestReceiver
from scgn_live.app import App

DTYPES = wire.DTYPES


def ledger_of(app: App, series: str) -> dict[str, object]:
    rows = [row for row in app.ledger.snapshot() if row["series"] == series]
    return rows[-1] if rows else {}


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_goes_through_bit_for_bit(dtype: str, tmp_path: Path) -> None:
    with running_app(tmp_path) as app, subscribed(app) as sub, push(app.ingest.endpoint) as camera:
        frame = noise_frame(1, (7, 9), dtype)
        camera.send_multipart(frame_parts("s", 0, frame, t_acquired_ns=5, user={"dose": 3}))
        header, pixels = sub.until("frame")
    assert header["channels"] == [
        {"name": "denoised", "dtype": dtype, "shape": [7, 9]},
        {"name": "raw", "dtype": dtype, "shape": [7, 9]},
    ]
    assert pixels == [frame.tobytes(), frame.tobytes()]
    assert (header["t_acquired_ns"], header["user"]) == (5, {"dose": 3})


def test_frame_header_has_what_the_wire_promises(tmp_path: Path) -> None:
    before_ns = time.time_ns()
    with running_app(tmp_path) as app, subscribed(app) as sub, push(app.ingest.endpoint) as camera:
        camera.send_multipart(frame_parts("s", 0, noise_frame(1)))
        header, _ = sub.until("frame")
    assert before_ns < header["t_received_ns"] <= header["t_published_ns"] <= time.time_ns()
    assert 0 < header["latency_ms"] < 20_000
    assert header["display"][0] <= header["display"][1]
    assert {k: header[k] for k in ("v", "source", "series", "frame", "calibration", "lost")} == {
        "v": 1, "source": "cam", "series": "s", "frame": 0, "calibration": None, "lost": {},
    }  # fmt: skip
    assert (header["model"], header["engine"]) == ("pass-through", "pass-through")
    assert "t_acquired_ns" not in header
    assert "user" not in header


def test_start_frames_and_end_in_order_with_the_ledger(tmp_path: Path) -> None:
    with running_app(tmp_path) as app, subscribed(app) as sub, push(app.ingest.endpoint) as camera:
        camera.send_multipart(event_parts("start", "s", exposure_ms=1.5, pixel_size_nm=0.02))
        for index in (0, 1, 4):
            camera.send_multipart(frame_parts("s", index, noise_frame(index)))
        camera.send_multipart(event_parts("end", "s", frames=7))
        start, _ = sub.until("start")
        frames, end = sub.series("s")
    assert (start["exposure_ms"], start["pixel_size_nm"]) == (1.5, 0.02)
    assert [(f["frame"], f["lost"]) for f in frames] == [(0, {}), (1, {}), (4, {"missing": 2})]
    assert end["frames"] == 7
    assert end["ledger"] == {
        "expected": 7, "published": 3, "missing": 4, "in_flight": 0,
        "dropped": {}, "failed": {}, "rejected": {},
    }  # fmt: skip


def test_frame_of_an_unknown_series_opens_it(tmp_path: Path) -> None:
    with running_app(tmp_path) as app, subscribed(app) as sub, push(app.ingest.endpoint) as camera:
        camera.send_multipart(frame_parts("s", 0, noise_frame(1)))
        kinds = [sub.next()[0] for _ in range(4)]
    kinds = [k["type"] for k in kinds if k["type"] != "heartbeat"]
    assert kinds[:2] == ["start", "frame"]


def test_late_subscriber_gets_the_open_series_start(tmp_path: Path) -> None:
    with running_app(tmp_path) as app, push(app.ingest.endpoint) as camera:
        camera.send_multipart(event_parts("start", "s", exposure_ms=2.0))
        camera.send_multipart(frame_parts("s", 0, noise_frame(1)))
        wait_for(lambda: ledger_of(app, "s").get("published") == 1, "the frame leaving")
        for topic in (b"", b"cam", b"cam"):  # the third shares its topic with one already there
            late = Subscriber(app.endpoints()["frames"], topic)
            header, _ = late.until("start", series="s")
            assert header["exposure_ms"] == 2.0
            late.close()
        stranger = Subscriber(app.endpoints()["frames"], b"other")
        assert not stranger.socket.poll(1300), "another camera's subscriber hears nothing of this"
        stranger.close()


def test_heartbeats_of_open_series_and_of_an_idle_service(tmp_path: Path) -> None:
    with running_app(tmp_path) as app, subscribed(app) as sub, push(app.ingest.endpoint) as camera:
        idle, _ = sub.until("heartbeat")
        assert (idle["v"], idle["source"]) == (1, "")
        camera.send_multipart(frame_parts("s", 0, noise_frame(1)))
        camera.send_multipart(frame_parts("s", 1, noise_frame(2)))
        beat, _ = sub.until("heartbeat", series="s", frame=1)
        assert beat["ledger"]["published"] == 2
        camera.send_multipart(event_parts("end", "s", frames=2))
        sub.until("end", series="s")
        after, _ = sub.until("heartbeat", series="s")
        assert after["frame"] == 1, "the tail of a finished series can still be checked"


def test_two_cameras_keep_their_own_ledgers(tmp_path: Path) -> None:
    with running_app(tmp_path) as app, push(app.ingest.endpoint) as camera:
        with subscribed(app, b"") as sub:
            for index in range(6):
                shape = (8, 8) if index % 2 else (5, 30)
                name = f"cam{index % 2}"
                frame = noise_frame(index, shape)
                camera.send_multipart(frame_parts("s", index // 2, frame, source=name))
            headers = [sub.until("frame")[0] for _ in range(6)]
    assert [(h["source"], h["frame"]) for h in headers] == [
        ("cam0", 0), ("cam1", 0), ("cam0", 1), ("cam1", 1), ("cam0", 2), ("cam1", 2),
    ]  # fmt: skip


def lies(frame: np.ndarray) -> dict[str, list[bytes]]:
    """One message for each reason to reject it."""
    good, pixels = frame_parts("s", 0, frame)
    deep = b"\x91" * 5000 + b"\xc0"
    many = {f"k{n}": n for n in range(10_000)}
    return {
        "parts": [good, pixels, b"extra"],
        "header_size": frame_parts("s", 0, frame, filler="x" * 20_000),
        "header_format": [deep, pixels],
        "version": frame_parts("s", 0, frame, v=2),
        "type": frame_parts("s", 0, frame, type="image"),
        "source": frame_parts("s", 0, frame, source="../etc/passwd"),
        "series": frame_parts("s" * 65, 0, frame),
        "frame": frame_parts("s", -1, frame),
        "frame ": frame_parts("s", 2**64 - 1, frame),
        "shape": frame_parts("s", 0, frame, shape=[2**63, 2]),
        "dtype": frame_parts("s", 0, frame, dtype="|O"),
        "frame_size": frame_parts("s", 0, frame, shape=[5000, 4]),
        "payload_size": [good, pixels[:-1]],
        "field": frame_parts("s", 0, frame, t_acquired_ns="now"),
        "user": frame_parts("s", 0, frame, user={"x": "y" * 5000}),
        "many keys": [msgpack.packb(many), pixels],
    }


def test_each_lie_is_counted_by_its_reason_and_costs_nothing_else(tmp_path: Path) -> None:
    frame = noise_frame(1)
    messages = lies(frame)
    with running_app(tmp_path) as app, subscribed(app) as sub, push(app.ingest.endpoint) as camera:
        for parts in messages.values():
            camera.send_multipart(parts)
        camera.send_multipart(frame_parts("good", 0, frame))
        header, _ = sub.until("frame")
        rejected = {r: n for (bucket, r), n in app.ledger.totals().items() if bucket == "rejected"}
    assert header["series"] == "good"
    expected = dict.fromkeys(messages, 1)
    del expected["many keys"], expected["frame "]
    expected["frame"] = 2  # and one whose count would not be a uint64
    expected["header_size"] = 2  # 10,000 keys do not fit a header either
    expected["frame_size"], expected["shape"] = expected["frame_size"] + 1, 0  # 2^63 rows
    assert rejected == {k: v for k, v in expected.items() if v}
    assert set(rejected) <= set(wire.REASONS)


def test_shape_reason(tmp_path: Path) -> None:
    with running_app(tmp_path) as app, push(app.ingest.endpoint) as camera:
        for shape in ([16], [16, 12, 1], [0, 12], ["16", 12], None, [16.0, 12]):
            camera.send_multipart(frame_parts("s", 0, noise_frame(1), shape=shape))
        wait_for(lambda: app.ledger.totals().get(("rejected", "shape")) == 6, "six rejections")


def test_restart_of_a_camera_under_the_same_series_name(tmp_path: Path) -> None:
    with running_app(tmp_path) as app, subscribed(app) as sub, push(app.ingest.endpoint) as camera:
        for _ in range(2):
            camera.send_multipart(event_parts("start", "s"))
            for index in range(3):
                camera.send_multipart(frame_parts("s", index, noise_frame(index)))
        first, end = sub.series("s")
        assert [f["frame"] for f in first] == [0, 1, 2]
        assert end["ledger"]["published"] == 3
        again = [sub.until("frame", series="s")[0]["frame"] for _ in range(3)]
        assert again == [0, 1, 2]


def test_latest_is_one_part_and_never_stale(tmp_path: Path) -> None:
    with running_app(tmp_path) as app, push(app.ingest.endpoint) as camera:
        endpoint = app.endpoints()["latest"]
        with LatestReceiver(endpoint, timeout_s=5) as viewer:
            wait_for(lambda: app.publisher.viewers == 1, "the viewer being seen")
            for index in range(50):
                camera.send_multipart(frame_parts("s", index, noise_frame(index)))
            wait_for(lambda: ledger_of(app, "s").get("published") == 50, "all frames leaving")
            frame = viewer.receive()
            while frame.frame < 49:
                frame = viewer.receive()
            assert (frame.denoised == noise_frame(49)).all()
            assert frame.raw is not None
            assert (frame.raw == noise_frame(49)).all()
        wait_for(lambda: app.publisher.viewers == 0, "the viewer being gone")


def test_the_highest_index_is_served_and_adds_up(tmp_path: Path) -> None:
    last = 2**64 - 2
    with running_app(tmp_path) as app, subscribed(app) as sub, push(app.ingest.endpoint) as camera:
        for source in ("one", "two"):
            camera.send_multipart(frame_parts("s", last, noise_frame(1), source=source))
            header, _ = sub.until("frame", source=source)
            assert (header["frame"], header["lost"]) == (last, {"missing": last})
        beat, _ = sub.until("heartbeat", source="two")
        status = msgpack.unpackb(app.control._answer(msgpack.packb({"do": "status"})))
    assert adds_up(beat["ledger"])
    assert status["ok"], "the sum over series is beyond a uint64 and must not break the answer"


def test_a_port_probe_does_not_blind_the_next_viewer(tmp_path: Path) -> None:
    with running_app(tmp_path) as app, push(app.ingest.endpoint) as camera:
        endpoint = app.endpoints()["latest"]
        for _ in range(5):
            socket.create_connection(("127.0.0.1", int(endpoint.rpartition(":")[2]))).close()
        wait_for(lambda: app.publisher.viewers == 0, "the probes being gone")
        with LatestReceiver(endpoint, timeout_s=10) as viewer:
            wait_for(lambda: app.publisher.viewers == 1, "the viewer being seen")
            # A connection is seen a little before its subscription is: send until one comes.
            for index in range(200):
                camera.send_multipart(frame_parts("s", index, noise_frame(index)))
                with contextlib.suppress(ReceiveTimeout):
                    assert viewer.receive(0.1).frame <= index
                    break
            else:
                raise AssertionError("the viewer saw nothing")


def test_raw_is_not_sent_when_it_is_off(tmp_path: Path) -> None:
    with running_app(tmp_path, publish_raw=False) as app, subscribed(app) as sub:
        with push(app.ingest.endpoint) as camera:
            camera.send_multipart(frame_parts("s", 0, noise_frame(1)))
            header, pixels = sub.until("frame")
    assert [c["name"] for c in header["channels"]] == ["denoised"]
    assert len(pixels) == 1


@pytest.mark.parametrize("role", ["pull-connect", "sub-connect"])
def test_ingest_connects_to_a_camera_that_binds(role: str, tmp_path: Path) -> None:
    context = zmq.Context.instance()
    with context.socket(zmq.PUSH if role == "pull-connect" else zmq.XPUB) as camera:
        camera.bind("tcp://127.0.0.1:*")
        where = camera.getsockopt_string(zmq.LAST_ENDPOINT)
        with running_app(tmp_path, ingest=where, ingest_role=role) as app, subscribed(app) as sub:
            if role == "sub-connect":
                assert camera.recv() == b"\x01"
            camera.send_multipart(frame_parts("s", 0, noise_frame(3)))
            header, _ = sub.until("frame")
    assert header["frame"] == 0


def test_stop_finishes_frames_and_says_end(tmp_path: Path) -> None:
    with running_app(tmp_path) as app, subscribed(app) as sub, push(app.ingest.endpoint) as camera:
        for index in range(3):
            camera.send_multipart(frame_parts("s", index, noise_frame(index)))
        sub.until("frame", frame=2)
        app.stop()
        end, _ = sub.until("end", series="s")
        app.stop = lambda: None  # type: ignore[method-assign]  # the context would stop it again
    assert end["reason"] == "shutdown"
    assert adds_up(end["ledger"])
    assert end["ledger"]["published"] == 3


def test_golden_messages_decode_to_what_they_always_did() -> None:
    """The bytes under tests/data are the protocol: a change here breaks cameras in the field."""
    golden = json.loads((ROOT / "tests" / "data" / "golden.json").read_text())
    for name, entry in golden["ingest"].items():
        message = wire.decode_ingest(bytes.fromhex(entry["hex"]))
        assert repr(message) == entry["decoded"], name
        assert wire.encode_ingest(message).hex() == entry["hex"], name
    for name, entry in golden["published"].items():
        pixels = [bytes.fromhex(part) for part in entry["pixels"]]
        message = wire.decode_published(bytes.fromhex(entry["hex"]), pixels)
        assert repr(message) == entry["decoded"], name


@pytest.mark.parametrize(("output", "dtype"), [("uint16", "<u2"), ("float16", "<f2")])
def test_denoised_pixels_come_in_the_dtype_that_was_set(tmp_path: Path, output, dtype) -> None:
    """Of any network; the client takes it, and the display levels are of the same pixels."""
    changes = {"engine": "scgn", "network": "tiny-clean", "backend": "eager", "shapes": ()}
    frame = np.random.default_rng(0).poisson(300, (24, 32)).astype("<u2")
    with running_app(tmp_path, **changes, output_dtype=output) as app, subscribed(app) as sub:
        with push(app.ingest.endpoint) as camera:
            camera.send_multipart(frame_parts("s", 0, frame))
            while len(parts := sub.socket.recv_multipart()) < 4:
                pass  # beats and the start come before
    received = wire.decode_published(parts[1], parts[2:])
    assert isinstance(received, PublishedFrame)
    assert received.denoised.dtype.str == dtype
    assert 290 < received.display[0] <= np.median(received.denoised) <= received.display[1] < 310
