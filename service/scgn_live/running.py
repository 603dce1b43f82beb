"""Starting a service from a program and knowing where it is: for the demo and for tests."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scgn_client.admin import Admin
from scgn_client.errors import ServiceError

READY_S = 180.0  # the first start builds an engine
# Below those that the kernel gives to outgoing connections: one of them could take a port between
# our look and the service's bind.
PORTS = range(10_000, 32_000)
CHANCE = random.SystemRandom()  # two programs with one seed would choose the same


class NotStarted(RuntimeError):
    """The service did not become ready; the message holds its log."""


@dataclass(frozen=True)
class RunningService:
    """Endpoints of a service, its HTTP address, its supervisor's pid and its log."""

    ingest: str
    frames: str
    latest: str
    http: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def pid_of(self, role: str) -> int | None:
        """Of its `frames` or `http` process now; None while there is none."""
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # gone meanwhile
                child = f"PPid:\t{self.pid}\n" in (folder / "status").read_text()
                if child and f"_{role}\0".encode() in (folder / "cmdline").read_bytes():
                    return int(folder.name)
        return None

    def stop(self, timeout_s: float = 15.0) -> int:
        """SIGTERM and wait; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        finally:
            self.process.kill()
            self.process.wait()


def free_ports(count: int) -> list[int]:
    """TCP ports on loopback that nothing listens on now, all different."""
    found: set[int] = set()
    while len(found) < count:
        port = CHANCE.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):  # it is taken
            probe.bind(("127.0.0.1", port))
            found.add(port)
    return list(found)


def start_service(flags: Sequence[str] = (), ready_s: float = READY_S) -> RunningService:
    """`scgn-live serve` with the given flags on free loopback ports, once it is ready.

    Settings in the environment or a file do not reach it. Raises NotStarted with the log.
    """
    *tcp, http = free_ports(4)
    places = dict(zip(("ingest", "frames", "latest"), tcp, strict=True))
    command = [sys.executable, "-m", "scgn_live", "serve", "--http", f"127.0.0.1:{http}"]
    for name, port in places.items():
        command += [f"--{name}", f"tcp://127.0.0.1:{port}"]
    command += flags
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SCGN_")}
    descriptor, log = tempfile.mkstemp(prefix="scgn-live-", suffix=".log")
    with os.fdopen(descriptor, "wb") as sink:
        process = subprocess.Popen(
            command, stdout=sink, stderr=sink, env=environment, start_new_session=True
        )
    ends = {name: f"tcp://127.0.0.1:{port}" for name, port in places.items()}
    service = RunningService(
        **ends, http=f"http://127.0.0.1:{http}", process=process, log=Path(log)
    )
    _wait_ready(service, ready_s)
    return service


def _wait_ready(service: RunningService, ready_s: float) -> None:
    admin, deadline_s = Admin(service.http, timeout_s=1), time.monotonic() + ready_s
    while time.monotonic() < deadline_s and service.process.poll() is None:
        try:
            if admin.ready().ready:
                return
        except ServiceError:
            pass  # not listening yet
        time.sleep(0.1)
    service.process.kill()
    service.process.wait()
    raise NotStarted(f"service not ready within {ready_s:.0f} s:\n{service.log.read_text()}")
