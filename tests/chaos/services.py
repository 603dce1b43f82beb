"""Real services of the kinds that faults are tried on, on free loopback ports."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from support import wait_for

from scgn_client.admin import Admin
from scgn_client.errors import ServiceError
from scgn_client.keys import ClientKeys, client_keys
from scgn_live.keys import keys_command
from scgn_live.running import RunningService, free_ports

READY_S = 90.0
DISK = "size=2m"  # of the state folder where a small disk may be mounted
SMALL = (
    "--max-rows", "64", "--max-columns", "64", "--shapes", "32x48", "--subscriber-queue", "4000",
)  # fmt: skip
PASS = ("--engine", "pass-through")
NETWORK = (
    "--engine", "scgn", "--backend", "eager", "--network", "tiny-clean", "--threads", "1",
    "--proof-frames", "0",
)  # fmt: skip
FLAGS = {"plain": PASS, "network": NETWORK, "faulty": PASS, "latest": PASS, "curve": PASS}
KINDS = tuple(FLAGS)
FAULTY = (str(Path(__file__).parent / "faulty_service.py"),)
PROGRAMS = {"faulty": FAULTY, "latest": FAULTY}


@dataclass(frozen=True)
class Place:
    """Where a service keeps its things: log, state, and whether the state has a small disk."""

    folder: Path
    state: Path
    small_disk: bool
    keys: dict[str, ClientKeys | None] = field(default_factory=dict)


@contextmanager
def place(kind: str) -> Iterator[Place]:
    """A folder for one service; with keys for `curve`, on a small disk for `network`."""
    with tempfile.TemporaryDirectory(prefix=f"scgn-chaos-{kind}-") as name:
        folder = Path(name)
        state = folder / "state"
        state.mkdir()
        small = kind == "network" and _mounted(state)
        try:
            yield Place(folder, state, small, _keys(folder / "keys") if kind == "curve" else {})
        finally:
            if small:
                subprocess.run(["umount", "-l", state], check=True)


def _mounted(state: Path) -> bool:
    """Whether this machine lets us have a disk of our own; root alone may."""
    command = ["mount", "-t", "tmpfs", "-o", DISK, "none", str(state)]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0


def _keys(folder: Path) -> dict[str, ClientKeys | None]:
    names = ["--camera", "cam", "--viewer", "wall"]
    with contextlib.redirect_stdout(None):
        assert keys_command([str(folder), *names]) == 0
    given = folder / "hand-out"
    return {
        name: client_keys(given / name / "service.key", given / name / f"{name}.key_secret")
        for name in ("cam", "wall")
    }


def _locks(folder: Path) -> list[str]:
    own = folder / "keys"
    return [
        "--curve-key", str(own / "service.key_secret"), "--camera-keys", str(own / "cameras"),
        "--viewer-keys", str(own / "viewers"),
    ]  # fmt: skip


@contextmanager
def started(kind: str, where: Place) -> Iterator[RunningService]:
    """The service, once it is ready; its whole process tree is gone at the end."""
    *tcp, http = free_ports(4)
    ends = dict(
        zip(("ingest", "frames", "latest"), (f"tcp://127.0.0.1:{p}" for p in tcp), strict=True)
    )
    command = [sys.executable, *PROGRAMS.get(kind, ("-m", "scgn_live")), "serve"]
    command += ["--overload", "latest" if kind == "latest" else "block", *SMALL, *FLAGS[kind]]
    command += ["--state-dir", str(where.state)]
    command += ["--http", f"127.0.0.1:{http}", "--engine-cache", str(where.folder / "engines")]
    command += [word for name, end in ends.items() for word in (f"--{name}", end)]
    command += _locks(where.folder) if where.keys else []
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SCGN_")}
    log = where.folder / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, stdout=sink, stderr=sink, env=environment, start_new_session=True
        )
    service = RunningService(**ends, http=f"http://127.0.0.1:{http}", process=process, log=log)
    try:
        wait_for(lambda: is_ready(service), f"{kind} service being ready", READY_S)
        yield service
    finally:
        service.stop()


def is_ready(service: RunningService) -> bool:
    """Whether it says so; AssertionError with its log once its supervisor is gone."""
    assert service.process.poll() is None, f"the supervisor ended:\n{service.log.read_text()}"
    try:
        return Admin(service.http, timeout_s=1).ready().ready
    except ServiceError:
        return False


def is_there(pid: int) -> bool:
    """Whether a process of that id exists."""
    return Path(f"/proc/{pid}").exists()
