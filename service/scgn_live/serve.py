"""Starting the service: two processes and the supervisor that keeps them."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from scgn_live.config import load_settings
from scgn_live.control import control_endpoint
from scgn_live.logs import set_up
from scgn_live.settings import EXIT_CONFIG, Settings

LOG = logging.getLogger(__name__)
BACKOFF_S = (0.1, 0.5, 1.0, 2.0, 5.0)
STEADY_S = 30.0  # a process that lived so long starts over with the shortest wait
DESCRIPTORS = 65_536  # open files and sockets of a process, where it may have so many
ROLES = ("frames", "http")
# Threads of the network that wait for each other must sleep: spinning takes the core that another
# stage or process needs (with one core busy, the same work took nine times as long).
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}
_PR_SET_PDEATHSIG = 1


class Child:
    """One process, restarted whenever it ends before `stop`."""

    def __init__(
        self, role: str, settings: Settings, run_dir: Path, give_up: threading.Event
    ) -> None:
        self.role = role
        self.status = 0
        self._settings = settings
        self._run_dir = run_dir
        self._give_up = give_up
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name=f"keep-{role}")

    def start(self) -> None:
        self._thread.start()

    def ask_to_stop(self) -> None:
        """SIGTERM, and no restart."""
        self._stopping.set()
        if process := self._process:
            process.terminate()

    def stop(self, timeout_s: float) -> None:
        """Wait for the end; SIGKILL for what has not ended in time."""
        if process := self._process:
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                LOG.error("killing a process that did not stop", extra={"role": self.role})
                process.kill()
        self._thread.join()

    def _keep(self) -> None:
        deaths, first = 0, True
        while not self._stopping.is_set():
            began_s = time.monotonic()
            status = self._run()
            if self._stopping.is_set():
                break
            deaths = 1 if time.monotonic() - began_s > STEADY_S else deaths + 1
            facts = {"role": self.role, "status": status, "deaths": deaths}
            LOG.error("process ended", extra=facts)
            if status == EXIT_CONFIG and first:
                self.status = status
                self._give_up.set()
                return
            first = False
            self._stopping.wait(BACKOFF_S[min(deaths, len(BACKOFF_S)) - 1])

    def _run(self) -> int | None:
        """Its exit status; None when the system had no room for it, which may be over later."""
        try:
            # Written anew: a system that tidies its temporary folders may have taken it.
            self._run_dir.mkdir(mode=0o700, exist_ok=True)
            _settings_file(self._run_dir).write_text(self._settings.model_dump_json())
            self._process = subprocess.Popen(
                [sys.executable, "-m", "scgn_live", f"_{self.role}", str(self._run_dir)],
                env=PASSIVE | os.environ,
                start_new_session=True,  # Ctrl-C is the supervisor's: it stops both in order
            )
        except OSError as error:
            LOG.error("no process", extra={"role": self.role, "error": str(error)})
            return None
        if self._stopping.is_set():  # asked while the process was being made
            self._process.terminate()
        return self._process.wait()


def serve(settings: Settings) -> int:
    """Run both processes until SIGTERM or SIGINT; returns the exit status."""
    set_up(settings.log_level, "supervisor")
    if exposed := settings.unguarded():
        LOG.warning("INSECURE: anyone who reaches these can use them", extra={"keys": exposed})
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with tempfile.TemporaryDirectory(prefix="scgn-live-") as folder:
        children = [Child(role, settings, Path(folder), ended) for role in ROLES]
        for child in children:
            child.start()
        while not ended.wait(0.5):  # a wait without end can sleep through a signal
            pass
        for child in children:
            child.ask_to_stop()
        for child in children:
            child.stop(settings.shutdown_s + 3)
    return max(child.status for child in children)


def _settings_file(run_dir: Path) -> Path:
    return run_dir / "settings.json"


def run_role(role: str, run_dir: Path) -> int:
    """One of the two processes, as the supervisor starts it."""
    die_with_parent()
    take_descriptors()
    settings = Settings.model_validate_json(_settings_file(run_dir).read_text())
    set_up(settings.log_level, role)
    # At DEBUG it would write what browsers say, the token among it.
    logging.getLogger("uvicorn.error").setLevel(max(logging.INFO, logging.root.level))
    run = run_frames if role == "frames" else run_http
    return run(settings, control_endpoint(run_dir))


# Each process loads only its own half: a restart should not wait for the other's packages.


def run_frames(settings: Settings, control: str) -> int:
    """The frame process until SIGTERM or the death of a stage; returns the exit status."""
    from scgn_live.app import run

    return run(settings, control)


def run_http(settings: Settings, control: str) -> int:
    """The sidecar until SIGTERM; returns the exit status."""
    import uvicorn

    from scgn_live.sidecar.app import build_app
    from scgn_live.sidecar.live.routes import WEBSOCKET_SERVER
    from scgn_live.sidecar.patience import PatientProtocol

    host, port = settings.http_address
    sockets: Any = WEBSOCKET_SERVER
    config = uvicorn.Config(
        build_app(settings, control), host, port, log_config=None, access_log=False,
        timeout_graceful_shutdown=2, http=PatientProtocol, **sockets,
    )  # fmt: skip
    try:
        listening = config.bind_socket()
    except SystemExit:  # uvicorn's way to say that the address is taken; it has logged why
        return EXIT_CONFIG
    # Handed down to each connection. asyncio sets it only on sockets that it has made itself, and
    # without it an answer's second packet waits 40 ms for a client on a kept connection.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    LOG.info("http listens", extra={"http": settings.http})
    gc.freeze()  # a look at what start-up made would keep probes waiting for 20 ms
    uvicorn.Server(config).run([listening])
    return 0


def die_with_parent() -> None:
    """Have the kernel send SIGTERM when the supervisor is gone, so that no orphan holds a port."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit(0)


def take_descriptors() -> None:
    """As many as the system allows us: the usual 1,024 are gone with a thousand connections, and
    then neither a calibration can be read nor a probe answered.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def serve_command(flags: list[str]) -> int:
    """`scgn-live serve`."""
    settings = load_settings(flags, prog="scgn-live serve")
    settings.token()  # one that cannot be used is said now, not by a door that stays locked
    return serve(settings)
