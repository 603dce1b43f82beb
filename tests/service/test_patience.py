"""Connections that ask nothing are let go; whoever asks, or looks, is not."""

from __future__ import annotations

import contextlib
import http.client
import json
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from support import settings, wait_for
from websockets.sync.client import connect

from scgn_live.running import free_ports, start_service
from scgn_live.serve import DESCRIPTORS
from scgn_live.sidecar.app import build_app
from scgn_live.sidecar.patience import PatientProtocol

PATIENCE_S = 0.4
LATE_S = 3 * PATIENCE_S


class Impatient(PatientProtocol):
    patience_s = PATIENCE_S


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The sidecar's application beside no frame process."""
    (number,) = free_ports(1)
    built = build_app(settings(tmp_path_factory.mktemp("state")), "ipc:///nobody")
    config = uvicorn.Config(
        built, "127.0.0.1", number, log_config=None, access_log=False, http=Impatient
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started, "the sidecar listening")
        yield number
    finally:
        server.should_exit = True
        thread.join(20)


def closed_after_s(connection: socket.socket) -> float:
    """From now on until the other side hangs up, s."""
    begun_s = time.monotonic()
    connection.settimeout(20)
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(4096):
            pass
    return time.monotonic() - begun_s


@pytest.mark.parametrize("said", [b"", b"G", b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: "])
def test_who_asks_nothing_is_let_go(port: int, said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(said)
        assert closed_after_s(stranger) > 0.8 * PATIENCE_S


def test_a_byte_now_and_then_is_no_request(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        begun_s = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for byte in b"GET /livez HTTP/1.1\r\n" + b"X-Slow: y\r\n" * 100:
                stranger.sendall(bytes([byte]))
                time.sleep(0.02)
        assert time.monotonic() - begun_s < 10, "a thousand bytes, one at a time, were listened to"


def test_kept_connection_may_ask_again_and_again(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        end_s = time.monotonic() + LATE_S
        while time.monotonic() < end_s:
            connection.request("GET", "/livez")
            connection.getresponse().read()
            first = connection.sock
            time.sleep(PATIENCE_S / 4)
        assert connection.sock is first, "it was closed in between"


def test_slow_body_is_waited_for(port: int) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="dark"; filename="a"\r\n\r\nno\r\n--x--\r\n'
    )
    head = (
        b"POST /calibrations HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(head)
        time.sleep(LATE_S)
        client.sendall(body)
        response = http.client.HTTPResponse(client)
        response.begin()
        assert response.status >= 400  # no dark, and no frame process
        assert json.loads(response.read())["status"] == response.status


def test_websocket_may_be_silent(port: int) -> None:
    with connect(f"ws://127.0.0.1:{port}/live/frames", origin=f"http://127.0.0.1:{port}") as viewer:
        time.sleep(LATE_S)
        viewer.ping().wait(10)


def test_processes_take_all_descriptors_they_may(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, hard), hard))
    try:
        service = start_service(["--state-dir", str(tmp_path), "--engine", "pass-through"])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        for role in ("frames", "http"):
            limits = Path(f"/proc/{service.pid_of(role)}/limits").read_text()
            line = next(line for line in limits.splitlines() if line.startswith("Max open files"))
            assert int(line.split()[3]) == min(DESCRIPTORS, hard)
    finally:
        assert service.stop() == 0
