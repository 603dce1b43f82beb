"""Sender and receivers over real sockets: order, gaps, back-pressure, an absent service."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq
from support import noise_frame, running_app, wait_for

from scgn_client import (
    ClientError,
    End,
    FrameReceiver,
    FrameSender,
    Heartbeat,
    PublishedFrame,
    ReceiveTimeout,
    SendTimeout,
    Start,
    WireError,
)
from scgn_live.app import App


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with running_app(tmp_path) as running:
        yield running


def test_a_series_there_and_back(app: App) -> None:
    ends = app.endpoints()
    with FrameReceiver(ends["frames"], "cam") as receiver:
        with FrameSender(ends["ingest"], "cam", exposure_ms=1.5, user={"run": 1}) as sender:
            # An open series beats every second: the first word shows that we are subscribed.
            receiver.receive()
            indices = [sender.send(noise_frame(n), user={"n": n}) for n in range(20)]
        frames = list(receiver.frames(until_end=True))
    assert indices == list(range(20))
    assert [frame.frame for frame in frames] == indices
    assert all((f.denoised == noise_frame(f.frame)).all() for f in frames)
    assert [f.user for f in frames] == [{"n": n} for n in indices]
    assert all(f.age_ms() > 0 for f in frames)
    assert receiver.gaps() == []
    ledger = receiver.ledger(sender.series)
    assert ledger is not None
    assert ledger["published"] == 20


def test_skipped_frames_are_a_gap_that_the_service_knows(app: App) -> None:
    ends = app.endpoints()
    with FrameReceiver(ends["frames"]) as receiver, FrameSender(ends["ingest"], "cam") as sender:
        receiver.receive()
        sender.send(noise_frame(0))
        assert [sender.skip(), sender.skip()] == [1, 2]
        sender.send(noise_frame(3))
        assert sender.skip() == 4
        sender.end()
        frames = list(receiver.frames(until_end=True))
    assert [frame.frame for frame in frames] == [0, 3]
    (gap,) = receiver.gaps()
    assert (gap.first, gap.last, dict(gap.lost), gap.unseen) == (1, 2, {"missing": 2}, 0)
    ledger = receiver.ledger(sender.series)
    assert ledger is not None
    assert (ledger["expected"], ledger["missing"]) == (5, 3)


def test_what_this_subscriber_missed_is_told_from_what_the_service_lost() -> None:
    with zmq.Context.instance().socket(zmq.XPUB) as service:
        service.bind("tcp://127.0.0.1:*")
        where = service.getsockopt_string(zmq.LAST_ENDPOINT)
        with FrameReceiver(where) as receiver:
            assert service.recv() == b"\x01"
            for index, lost in ((0, {}), (6, {"overload": 2})):
                service.send_multipart(published_parts(index, lost))
            beat = {"v": 1, "type": "heartbeat", "source": "cam", "series": "s", "frame": 9}
            service.send_multipart([b"cam", msgpack.packb(beat)])
            for _ in range(3):
                receiver.receive()
    inner, tail = receiver.gaps()
    assert (inner.first, inner.last, dict(inner.lost), inner.unseen) == (1, 5, {"overload": 2}, 3)
    assert (tail.first, tail.last, tail.unseen) == (7, 9, 3), "loss at the tail is seen"


END = {"v": 1, "type": "end", "source": "cam", "series": "s", "frames": 9, "reason": "end"}


@pytest.mark.parametrize(
    ("told", "last"),
    [({"frame": 7, "ledger": {"published": 3}}, 7), ({"ledger": {"published": 6}}, 5), ({}, None)],
)
def test_an_end_shows_what_was_missed_at_the_tail(told: dict[str, Any], last: int | None) -> None:
    """One that names no frame shows at least what its count of published ones needs."""
    with zmq.Context.instance().socket(zmq.XPUB) as service:
        service.bind("tcp://127.0.0.1:*")
        with FrameReceiver(service.getsockopt_string(zmq.LAST_ENDPOINT)) as receiver:
            assert service.recv() == b"\x01"
            service.send_multipart(published_parts(2, {}))
            for _ in range(2):
                service.send_multipart([b"cam", msgpack.packb({**END, **told})])
            assert len(list(receiver.frames(until_end=True))) == 1
            receiver.receive()
    gaps = [(gap.first, gap.last, gap.unseen) for gap in receiver.gaps()]
    assert gaps == ([] if last is None else [(3, last, last - 2)]), "and once"


def test_a_viewer_of_two_cameras_learns_of_a_tail_that_it_missed(app: App) -> None:
    """It joins after one camera's last frames and its end, while the other goes on."""
    ends = app.endpoints()
    with FrameSender(ends["ingest"], "open") as other:
        other.send(noise_frame(0))
        with FrameSender(ends["ingest"], "over") as sender:
            with FrameReceiver(ends["frames"], "over") as receiver:
                receiver.receive()
                sender.send(noise_frame(0))
                while not isinstance(receiver.receive(), PublishedFrame):
                    continue
                receiver.close()  # away, while the rest leaves
                for n in range(1, 4):
                    sender.send(noise_frame(n))
                sender.end()
                wait_for(lambda: app.ledger.totals()["published", ""] == 5, "the tail leaving")
                receiver.start()
                wait_for(lambda: receiver.receive() and receiver.gaps(), "the tail being told")
    (gap,) = receiver.gaps()
    assert (gap.source, gap.first, gap.last, gap.unseen) == ("over", 1, 3, 3)


def published_parts(index: int, lost: dict[str, int]) -> list[bytes]:
    frame = np.zeros((2, 2), "<f4")
    header = {
        "v": 1, "type": "frame", "source": "cam", "series": "s", "frame": index, "lost": lost,
        "channels": [{"name": "denoised", "dtype": "<f4", "shape": [2, 2]}], "display": [0, 1],
        "t_received_ns": 1, "t_published_ns": 2, "latency_ms": 1.0, "calibration": None,
        "model": "m", "engine": "cpu",
    }  # fmt: skip
    return [b"cam", msgpack.packb(header), frame.tobytes()]


def test_a_subscription_to_cam1_does_not_bring_cam10(app: App) -> None:
    ends = app.endpoints()
    with FrameReceiver(ends["frames"], "cam1") as receiver:
        with (
            FrameSender(ends["ingest"], "cam10") as other,
            FrameSender(ends["ingest"], "cam1") as one,
        ):
            # On a busy machine the open series' heartbeat may come before its start does.
            while isinstance(message := receiver.receive(), Heartbeat):
                continue
            assert isinstance(message, Start)
            other.send(noise_frame(1))
            one.send(noise_frame(2))
        frames = list(receiver.frames(until_end=True))
    assert {frame.source for frame in frames} == {"cam1"}


def test_back_pressure_reaches_the_sender_and_costs_no_index() -> None:
    with zmq.Context.instance().socket(zmq.PULL) as service:
        service.setsockopt(zmq.RCVHWM, 1)
        service.setsockopt(zmq.RCVBUF, 4096)
        service.bind("tcp://127.0.0.1:*")
        where = service.getsockopt_string(zmq.LAST_ENDPOINT)
        big = np.zeros((1500, 1500), "<u2")
        sender = FrameSender(where, queue=1, timeout_s=0.2)
        sender.start()
        with pytest.raises(SendTimeout, match="took no message within") as caught:
            for _ in range(50):
                sender.send(big)
        stuck_at = sender.next_frame
        assert caught.value.waited_ms >= 200
        seen = []
        while len(seen) < stuck_at:  # the service recovers
            header, *_ = service.recv_multipart()
            content = msgpack.unpackb(header)
            seen += [content["frame"]] if content["type"] == "frame" else []
        assert sender.send(big) == stuck_at
        sender.close()
    assert seen == list(range(stuck_at))


def test_the_tail_reaches_a_slow_service_though_the_camera_exits() -> None:
    """A camera process sends more than the sockets hold and ends; nothing of it is lost."""
    script = (
        "import sys, numpy\n"
        "from scgn_client import FrameSender\n"
        "with FrameSender(sys.argv[1], series='s', timeout_s=30) as sender:\n"
        "    for _ in range(12): sender.send(numpy.zeros((1500, 1500), '<u2'))\n"
    )
    with zmq.Context.instance().socket(zmq.PULL) as service:
        service.setsockopt(zmq.RCVHWM, 1)
        service.bind("tcp://127.0.0.1:*")
        where = service.getsockopt_string(zmq.LAST_ENDPOINT)
        camera = subprocess.Popen([sys.executable, "-c", script, where])
        kinds = []
        while "end" not in kinds:
            assert service.poll(20_000), f"the tail was dropped after {kinds}"
            kinds.append(msgpack.unpackb(service.recv_multipart()[0])["type"])
            time.sleep(0.05)  # a service that is slower than its camera
        assert camera.wait(20) == 0
    assert kinds == ["start", *["frame"] * 12, "end"]


def test_no_service_is_said_in_time() -> None:
    begun_s = time.monotonic()
    with pytest.raises(SendTimeout, match=r"127\.0\.0\.1:1 took no message within 2"):
        FrameSender("tcp://127.0.0.1:1", timeout_s=0.2).start()
    with FrameReceiver("tcp://127.0.0.1:1", timeout_s=0.2) as receiver:
        with pytest.raises(ReceiveTimeout, match=r"127\.0\.0\.1:1 sent nothing within 2"):
            receiver.receive()
    assert time.monotonic() - begun_s < 5


def test_misuse_is_said() -> None:
    with pytest.raises(ClientError, match="not started"):
        FrameSender("tcp://127.0.0.1:1").send(noise_frame(1))
    with pytest.raises(ClientError, match="not started"):
        FrameReceiver("tcp://127.0.0.1:1").receive()
    with pytest.raises(WireError, match="source"):
        FrameSender("tcp://127.0.0.1:1", source="a camera").start()


def test_an_error_in_the_block_does_not_announce_an_end(app: App) -> None:
    with pytest.raises(RuntimeError, match="camera broke"):
        with FrameSender(app.endpoints()["ingest"], "cam", "broken") as sender:
            sender.send(noise_frame(1))
            raise RuntimeError("camera broke")
    wait_for(lambda: app.ledger.totals().get(("published", "")) == 1, "the frame leaving")
    assert [row["state"] for row in app.ledger.snapshot()] == ["open"]


def test_end_is_said_once(app: App) -> None:
    with FrameReceiver(app.endpoints()["frames"]) as receiver:
        receiver.receive()
        with FrameSender(app.endpoints()["ingest"], "cam") as sender:
            sender.send(noise_frame(1))
            sender.end()
        messages = [receiver.receive() for _ in range(5)]
    assert sum(isinstance(message, End) for message in messages) == 1
    assert sum(isinstance(message, PublishedFrame) for message in messages) == 1
    assert app.ledger.totals().get(("rejected", "ended")) is None
