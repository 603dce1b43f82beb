"""Series that fall silent and go on, and what a viewer hears of one camera beside another."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq
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

from scgn_client.sockets import open_socket
from scgn_live import publish
from scgn_live.ledger import Ledger
from scgn_live.metrics import Metrics
from scgn_live.publish import FramePublisher
from scgn_live.ring import Ring, Slot


def send(camera: zmq.Socket[bytes], *indices: int, series: str = "s", source: str = "cam") -> None:
    for index in indices:
        camera.send_multipart(frame_parts(series, index, noise_frame(index), source=source))


def test_a_series_that_fell_silent_goes_on_where_it_was(tmp_path: Path) -> None:
    changes = {"series_idle_s": 0.5}
    with running_app(tmp_path, **changes) as app, subscribed(app) as sub:
        with push(app.ingest.endpoint) as camera:
            send(camera, *range(10))
            silent, _ = sub.until("end", series="s")
            send(camera, 3, 10)
            sub.until("start", series="s")
            header, _ = sub.until("frame")
            camera.send_multipart(event_parts("end", "s", frames=12))
            whole, _ = sub.until("end", series="s")
    assert (silent["reason"], silent["frames"], silent["frame"]) == ("idle", 10, 9)
    assert (header["frame"], header["lost"]) == (10, {}), "published once, and no loss told again"
    assert (whole["reason"], whole["frames"], whole["frame"]) == ("end", 12, 10)
    assert whole["ledger"] == {
        "expected": 12, "published": 11, "missing": 1, "in_flight": 0,
        "dropped": {}, "failed": {}, "rejected": {"duplicate": 1},
    }  # fmt: skip


def test_a_camera_that_begins_again_after_a_silence_is_served(tmp_path: Path) -> None:
    """As a script that is run twice, names its series alike, and says neither start nor end."""
    changes = {"series_idle_s": 0.5}
    with running_app(tmp_path, **changes) as app, subscribed(app) as sub:
        with push(app.ingest.endpoint) as camera:
            for _ in range(2):
                send(camera, *range(5))
                ended, _ = sub.until("end", series="s")
                assert ended["ledger"]["published"] == ended["ledger"]["expected"] == 5
                assert ended["ledger"]["rejected"] == {}


def test_a_series_pushed_out_by_others_goes_on_where_it_was(tmp_path: Path) -> None:
    """Three cameras take turns where two series may be open: none sees a frame twice."""
    cameras = ("one", "two", "three")
    with running_app(tmp_path, max_series=2) as app, subscribed(app) as sub:
        with push(app.ingest.endpoint) as camera:
            for index in range(20):
                for source in cameras:
                    send(camera, index, max(0, index - 1), source=source)
            for source in cameras:
                camera.send_multipart(event_parts("end", "s", source=source, frames=21))
            frames = {source: list[int]() for source in cameras}
            whole = {}
            while len(whole) < len(cameras):
                header, _ = sub.next()
                if header["type"] == "frame":
                    assert header["lost"] == {}
                    frames[header["source"]].append(header["frame"])
                if header["type"] == "end" and header["frames"] == 21:
                    whole[header["source"]] = header["ledger"]
    assert frames == {source: list(range(20)) for source in cameras}
    for ledger in whole.values():
        assert adds_up(ledger)
        assert (ledger["published"], ledger["missing"]) == (20, 1)
        assert ledger["rejected"] == {"duplicate": 20}


def test_a_series_that_ended_beats_while_another_camera_is_open(tmp_path: Path) -> None:
    with running_app(tmp_path) as app, subscribed(app) as sub, push(app.ingest.endpoint) as camera:
        send(camera, 0, source="open")
        send(camera, 0, 1, 2, source="over")
        camera.send_multipart(event_parts("end", "s", source="over", frames=3))
        end, _ = sub.until("end", source="over")
        assert end["frame"] == 2, "the tail is named where viewers stop"
        for _ in range(2):
            beat, _ = sub.until("heartbeat", source="over")
            assert (beat["frame"], beat["ledger"]["published"]) == (2, 3)
            sub.until("heartbeat", source="open")


def test_an_end_of_which_nothing_was_published_names_no_frame(tmp_path: Path) -> None:
    with running_app(tmp_path) as app, subscribed(app) as sub, push(app.ingest.endpoint) as camera:
        camera.send_multipart(event_parts("end", "s", frames=3))
        end, _ = sub.until("end", series="s")
    assert "frame" not in end


def no_drop(slot: Slot) -> None:
    raise AssertionError(f"no frame came, but {slot} was dropped")


def test_nobody_who_joins_is_overlooked_when_many_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "NOTES_S", 1e-4)
    ring, ledger = Ring(2, "block", no_drop), Ledger(4)
    publisher = FramePublisher(settings(tmp_path), ring, ledger, Metrics(ledger, ring))
    publisher.open()
    # Fewer than the thousand that ZeroMQ keeps for a peer.
    topics, seen = {f"cam{n}".encode() for n in range(500)}, set[bytes]()
    try:
        with open_socket(zmq.SUB) as viewer:
            for topic in topics:
                viewer.setsockopt(zmq.SUBSCRIBE, topic)
            viewer.connect(publisher.endpoints["frames"])
            wait_for(lambda: seen.update(publisher._joined()) or seen == topics, "every note")
    finally:
        publisher.close()
