"""Memory that peers can fill: its bounds, and the end of a process that has outgrown it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from chaos.zmtp import MORE, frame, shake_hands
from support import (
    Subscriber,
    adds_up,
    frame_parts,
    noise_frame,
    push,
    running_app,
    settings,
    subscribed,
    wait_for,
)

from benchmarks.processes import sample
from scgn_client.admin import Admin
from scgn_client.errors import ServiceError
from scgn_live.app import App
from scgn_live.memory import EXIT_MEMORY, MB, SHARE, Watchdog, available_mb, resident_mb
from scgn_live.publish import queue_length
from scgn_live.running import NotStarted, RunningService, start_service

LIMIT_MB = 300  # of a service that takes 60 MB without frames
SIDE = 2048


def parts(size: int) -> Callable[[], bytes]:
    """Parts of one message that never ends."""
    block = frame(bytes(size), MORE) * max(1, 2**20 // size)
    return lambda: block


def topics() -> bytes:
    """Subscriptions, each to something else."""
    return b"".join(frame(b"\x01" + os.urandom(500)) for _ in range(100))


WITHOUT_END: dict[str, tuple[str, bytes, Callable[[], bytes]]] = {
    "large parts": ("ingest", b"PUSH", parts(1 << 20)),
    "small parts": ("ingest", b"PUSH", parts(100)),
    "a subscriber's parts": ("frames", b"SUB", parts(500)),
    "topics": ("frames", b"SUB", topics),
}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    """A service of pass-through with little memory."""
    flags = ["--state-dir", str(tmp_path), "--engine", "pass-through"]
    running = start_service([*flags, "--memory-mb", str(LIMIT_MB)])
    yield running
    running.stop()
    running.log.unlink()


def port(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])


def is_ready(service: RunningService) -> bool:
    try:
        return Admin(service.http, timeout_s=1).ready().ready
    except ServiceError:
        return False


def is_served(service: RunningService, series: str) -> None:
    """One frame goes through."""
    wait_for(lambda: is_ready(service), "the service being ready")
    viewer = Subscriber(service.frames)
    try:
        viewer.next()
        with push(service.ingest) as camera:
            camera.send_multipart(frame_parts(series, 0, noise_frame(1)))
            viewer.until("frame", series=series)
    finally:
        viewer.close()


def said(service: RunningService, message: str) -> list[dict[str, Any]]:
    """Lines of the log that say so."""
    rows = [json.loads(line) for line in service.log.read_text().splitlines() if line[:1] == "{"]
    return [row for row in rows if row["message"] == message]


def outgrown(service: RunningService) -> dict[str, Any]:
    """The one line about memory, once the process has ended with the status of it."""
    wait_for(lambda: said(service, "process ended"), "the end of the frame process")
    (ended,) = said(service, "process ended")
    assert (ended["role"], ended["status"]) == ("frames", EXIT_MEMORY)
    (row,) = said(service, "out of memory: ending")
    return row


@pytest.mark.parametrize("what", WITHOUT_END)
def test_what_comes_without_end_restarts_the_frame_process(
    service: RunningService, what: str
) -> None:
    name, kind, more = WITHOUT_END[what]
    pid, end_s = service.pid_of("frames"), time.monotonic() + 60
    with shake_hands(port(getattr(service, name)), kind, 20) as peer:
        with contextlib.suppress(OSError):  # cut off by the end of the process
            while time.monotonic() < end_s:
                peer.sendall(more())
    row = outgrown(service)
    assert row["level"] == "ERROR"
    assert row["memory_mb"] == LIMIT_MB < row["resident_mb"]
    assert "ingest and frames" in row["look_at"]
    is_served(service, "after")
    assert service.pid_of("frames") != pid


def test_memory_that_grows_slowly_ends_the_process_in_order(service: RunningService) -> None:
    pid, block = service.pid_of("frames"), parts(2**18)()[: 2**18 + 9]
    assert pid is not None
    viewer = Subscriber(service.frames)
    viewer.next()
    with push(service.ingest) as camera, shake_hands(port(service.ingest), b"PUSH", 20) as peer:
        camera.send_multipart(frame_parts("s", 0, noise_frame(1)))
        viewer.until("frame", series="s")
        # No more than the limit: the rest is room for an end in order.
        with contextlib.suppress(OSError):
            while sample(pid).resident_mb * 2**20 / MB <= LIMIT_MB:
                peer.sendall(block)
        end, _ = viewer.until("end", series="s")
    viewer.close()
    assert (end["reason"], end["ledger"]["published"]) == ("shutdown", 1)
    assert adds_up(end["ledger"])
    outgrown(service)


def test_memory_that_cannot_be_enough_ends_the_service_at_once(tmp_path: Path) -> None:
    flags = ["--state-dir", str(tmp_path), "--engine", "pass-through", "--memory-mb", "20"]
    with pytest.raises(NotStarted, match=r"memory_mb: expected more than the .* MB .*, got 20 MB"):
        start_service(flags)


# What there is.


def written(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text + "\n")


@pytest.mark.parametrize(
    ("groups", "limits", "expected_mb"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "500000000"}, 500),
        ("0::/a/b\n", {"a/memory.max": "400000000", "a/b/memory.max": "max"}, 400),
        ("0::/\n", {"memory.max": "300000000"}, 300),  # in a container with a view of its own
        ("0::/of/the/host\n", {"memory.max": "300000000"}, 300),
        ("4:memory:/a\n0::/\n", {"memory/a/memory.limit_in_bytes": "200000000"}, 200),
        ("5:cpu:/a\n", {"memory/a/memory.limit_in_bytes": "200000000"}, None),
        ("0::/a\n", {"a/memory.max": "9223372036854771712"}, None),  # more than the machine has
        ("", {}, None),
    ],
)
def test_the_smaller_of_machine_and_group_counts(
    tmp_path: Path, groups: str, limits: dict[str, str], expected_mb: float | None
) -> None:
    for path, text in limits.items():
        written((tmp_path / path).parent, Path(path).name, text)
    found = re.search(r"MemTotal: *(\d+)", Path("/proc/meminfo").read_text())
    assert found is not None
    machine_mb = int(found[1]) * 1024 / MB
    assert available_mb(groups, tmp_path) == pytest.approx(expected_mb or machine_mb)


def test_unset_it_is_three_quarters_of_what_there_is() -> None:
    assert Watchdog(None).limit_mb == pytest.approx(SHARE * available_mb())
    assert 10 < resident_mb() < available_mb()


# What one subscriber may cost.


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 64),
        ({"shapes": ("2048x2048",)}, 10),  # 256 MB of 25.2 MB each
        ({"shapes": ("2048x2048",), "output_dtype": "uint16"}, 15),
        ({"shapes": ("2048x2048",), "publish_raw": False}, 15),
        ({"shapes": ("256x256", "2048x2048:|u1")}, 12),
        ({"shapes": ("4096x4096:<f4",)}, 2),
        ({"shapes": ("4096x4096:<f4",), "subscriber_mb": 1}, 2),
        ({"shapes": ("4096x4096:<f4",), "subscriber_queue": 1}, 1),
        ({"shapes": ("512x512",), "subscriber_mb": 1000, "subscriber_queue": 5000}, 635),
    ],
)
def test_queue_is_as_long_as_memory_allows(
    tmp_path: Path, changes: dict[str, Any], expected: int
) -> None:
    assert queue_length(settings(tmp_path, **changes)) == expected


def test_a_stalled_subscriber_costs_what_the_settings_say(tmp_path: Path) -> None:
    """Frames of 25 MB: a queue of two, and what both ends have in hand, of twelve."""
    pixels = noise_frame(1, (SIDE, SIDE))
    with (
        running_app(tmp_path, shapes=(f"{SIDE}x{SIDE}",), subscriber_mb=60) as app,
        subscribed(app, queue=1) as sub,
        push(app.ingest.endpoint) as camera,
    ):
        for index in range(12):
            camera.send_multipart(frame_parts("s", index, pixels))
        published(app, 12)
        came = 0
        while (header := sub.next()[0])["type"] != "heartbeat" or header["frame"] != 11:
            came += header["type"] == "frame"
    assert 2 <= came <= 6


@pytest.mark.parametrize(("side", "is_said"), [(64, False), (256, True)])
def test_frames_that_were_not_announced_are_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, side: int, is_said: bool
) -> None:
    with (
        running_app(tmp_path, shapes=("16x16",), subscriber_mb=2) as app,
        push(app.ingest.endpoint) as camera,
    ):
        for index in range(3):
            camera.send_multipart(frame_parts("s", index, noise_frame(1, (side, side))))
        published(app, 3)
    said = [row for row in caplog.records if "frames larger" in row.message]
    assert len(said) == is_said


def published(app: App, count: int) -> None:
    wait_for(lambda: app.ledger.totals().get(("published", "")) == count, f"{count} frames out")


@pytest.mark.parametrize("name", ["frames", "latest"])
def test_a_topic_too_long_is_cut_off(tmp_path: Path, name: str) -> None:
    with running_app(tmp_path) as app:
        for length, is_cut in ((64, False), (513, True)):
            with shake_hands(port(app.endpoints()[name]), b"SUB", 20) as peer:
                peer.sendall(frame(b"\x01" + b"x" * (length - 1)))
                peer.settimeout(20 if is_cut else 0.3)
                assert hangs_up(peer) == is_cut


def hangs_up(peer: socket.socket) -> bool:
    """Whether the other side does, before the socket's timeout."""
    try:
        while peer.recv(4096):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


def test_queue_is_set(tmp_path: Path) -> None:
    with running_app(tmp_path, shapes=("2048x2048",)) as app:
        assert app.publisher._frames.getsockopt(zmq.SNDHWM) == 10
