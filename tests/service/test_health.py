"""Health tells the truth: each condition is made false, its reason read over HTTP, then mended."""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from probes import LIVE, READY, Probes, sidecar
from support import DEADLINE_S, frame_parts, noise_frame, push, running_app, settings, wait_for

from scgn.calibration import Calibration
from scgn_live.app import EXIT_DEVICE_LOST, App
from scgn_live.processor import FrameByFrame, PassThrough
from scgn_live.running import RunningService, start_service
from scgn_live.settings import Settings

GOAL_S = 0.05


@pytest.fixture
def runs_on(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Has the next service run its frames through the given processor."""
    return lambda processor: monkeypatch.setattr(
        "scgn_live.app.build_processor", lambda *_: processor
    )


def send(app: App) -> None:
    with push(app.ingest.endpoint) as camera:
        camera.send_multipart(frame_parts("s", 0, noise_frame(1)))


# Starting.


def test_no_frame_process_at_all(tmp_path: Path) -> None:
    with sidecar(settings(tmp_path, live_s=1)) as probes:
        assert probes.live() == LIVE, "a start that has not answered yet counted as dead"
        probes.told("frame process has not answered yet (for ")
        probes.told("frame process has been silent for 1", "/livez")
        with running_app(tmp_path):
            probes.becomes_ready()
            assert probes.live() == LIVE


def test_a_start_that_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = threading.Event()

    def slowly(_: Settings, stopping: threading.Event, progress: Callable[[str], None]) -> Any:
        progress("preparing 4096x4096 <u2, batch 1")
        assert built.wait(DEADLINE_S)
        return PassThrough()

    monkeypatch.setattr("scgn_live.app.build_processor", slowly)
    app = App(settings(tmp_path), f"ipc://{tmp_path}/control")
    starting = threading.Thread(target=app.start)
    with sidecar(app.settings) as probes:
        starting.start()
        try:
            probes.told("starting: preparing 4096x4096 <u2, batch 1")
            assert probes.live() == LIVE, "an orchestrator would end every build"
            status, problem = probes.ask("/status")
            assert (status, problem["detail"]) == (503, app.reasons_not_ready()[0])
            assert "scgn_ready 0.0" in probes.ask("/metrics")[1]
        finally:
            built.set()
            starting.join(DEADLINE_S)
        probes.becomes_ready()
        assert "scgn_ready 1.0" in probes.ask("/metrics")[1]
        app.stop()


# The frame process.


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    state = tmp_path_factory.mktemp("state")
    flags = ["--state-dir", str(state), "--engine", "pass-through", "--ready-s", "0.6"]
    running = start_service([*flags, "--live-s", "2"])
    yield running
    running.stop()
    running.log.unlink()


@pytest.fixture
def probes(service: RunningService) -> Probes:
    return Probes(service.http.removeprefix("http://"))


def test_a_killed_frame_process_is_neither_ready_nor_live(
    service: RunningService, probes: Probes
) -> None:
    pid = service.pid_of("frames")
    os.kill(pid, signal.SIGKILL)
    gone = f"frame process {pid} is gone"
    probes.told(gone, deadline_s=2)
    assert probes.live() == (503, {"live": False, "reasons": [gone]})
    probes.becomes_ready()
    assert probes.live() == LIVE
    assert service.pid_of("frames") != pid


def test_a_silent_frame_process_is_first_not_ready_and_then_not_live(
    service: RunningService, probes: Probes
) -> None:
    pid = service.pid_of("frames")
    os.kill(pid, signal.SIGSTOP)
    try:
        probes.told("frame process has been silent for 0.", deadline_s=3)
        assert probes.live() == LIVE, "half a second of silence would have it restarted"
        probes.told("frame process has been silent for 2.", "/livez", deadline_s=5)
        assert statistics.median(probes.times_s(20)) < GOAL_S
    finally:
        os.kill(pid, signal.SIGCONT)
    probes.becomes_ready()
    assert probes.live() == LIVE
    assert service.pid_of("frames") == pid


LOSES_ITS_DEVICE = """
import sys
from pathlib import Path
import scgn_live.app
from scgn_live.processor import FrameByFrame
from scgn_live.serve import run_role

class Lost(RuntimeError):
    fatal = True

class Loses(FrameByFrame):
    def __call__(self, raw, calibration):
        raise Lost("the device fell off the bus")

scgn_live.app.build_processor = lambda *_: Loses()
sys.exit(run_role("frames", Path(sys.argv[1])))
"""


def test_a_lost_device_ends_the_frame_process_and_a_new_one_is_ready(tmp_path: Path) -> None:
    of = settings(tmp_path)
    (tmp_path / "settings.json").write_text(of.model_dump_json())
    with sidecar(of) as probes, contextlib.ExitStack() as stack:

        def begun(*words: str) -> subprocess.Popen[bytes]:
            """A frame process without a supervisor, ready."""
            command = [sys.executable, *words, str(tmp_path)]
            process = stack.enter_context(subprocess.Popen(command, stderr=subprocess.DEVNULL))
            stack.callback(process.kill)
            probes.becomes_ready()
            return process

        process = begun("-c", LOSES_ITS_DEVICE)
        with push(probes.ask("/status")[1]["endpoints"]["ingest"]) as camera:
            camera.send_multipart(frame_parts("s", 0, noise_frame(1)))
            assert process.wait(DEADLINE_S) == EXIT_DEVICE_LOST
        gone = [f"frame process {process.pid} is gone"]
        assert probes.ready() == (503, {"ready": False, "reasons": gone})
        assert probes.live() == (503, {"live": False, "reasons": gone})
        begun("-m", "scgn_live", "_frames")
        assert probes.live() == LIVE


# The frame loop.


class Hangs(FrameByFrame):
    """Does not come back from a frame until it is released: on submission, or when waited for."""

    model = "hangs"

    def __init__(self, stage: str) -> None:
        self.stage, self.released = stage, threading.Event()

    def submit(
        self, raws: Any, results: Any, calibration: Calibration | None, slots: Any = ()
    ) -> Any:
        if self.stage == "engine":
            self.released.wait(DEADLINE_S)
        return Waited(list(raws), self.released)


@dataclass(frozen=True)
class Waited:
    """A call on a device."""

    raws: list[Any]
    released: threading.Event
    word: str = "cpu"
    ready: bool = False
    reports: tuple[None, ...] = ()

    def wait(self) -> list[Any]:
        self.released.wait(DEADLINE_S)
        return self.raws


@pytest.mark.parametrize("stage", ["engine", "complete"])
def test_a_standing_stage_is_named_and_no_probe_waits_for_it(
    stage: str, tmp_path: Path, runs_on: Callable[[Any], None]
) -> None:
    hangs = Hangs(stage)
    runs_on(hangs)
    with running_app(tmp_path, ready_s=0.4) as app, sidecar(app.settings) as probes:
        probes.becomes_ready()
        send(app)
        probes.told(f"stage {stage} has stood for 0.")
        assert probes.live() == LIVE
        assert statistics.median(probes.times_s(40)) < GOAL_S
        hangs.released.set()
        probes.becomes_ready()
        wait_for(lambda: app.ledger.totals().get(("published", "")) == 1, "the frame leaving")


def test_a_frame_longer_than_ready_s_blocks_nothing_behind_a_full_ring(
    tmp_path: Path, runs_on: Callable[[Any], None]
) -> None:
    """With `block` the ingest stands too, and rightly: the engine alone is named."""
    hangs = Hangs("engine")
    runs_on(hangs)
    with running_app(tmp_path, ready_s=0.3, ring_slots=2) as app, sidecar(app.settings) as probes:
        with push(app.ingest.endpoint) as camera:
            for index in range(4):
                camera.send_multipart(frame_parts("s", index, noise_frame(index)))
            wait_for(lambda: app.ring.depths()["free"] == 0, "a full ring")
            probes.told("stage engine has stood for 0.")
            probes.told("stage engine has stood for 1.")
            hangs.released.set()
            probes.becomes_ready()


def test_a_stage_that_died_is_named(tmp_path: Path, runs_on: Callable[[Any], None]) -> None:
    class Dies(PassThrough):
        def batch_of(self, raw: Any) -> int:
            raise MemoryError("beyond repair")

    runs_on(Dies())
    with sidecar(settings(tmp_path)) as probes:
        with running_app(tmp_path) as app:
            probes.becomes_ready()
            send(app)
            probes.told("stage engine died: MemoryError('beyond repair')")
            assert app.ended.is_set(), "the process does not end"
        runs_on(PassThrough())
        with running_app(tmp_path):
            probes.becomes_ready()


# A saturated engine.


def test_probes_are_quick_while_the_engine_takes_every_core(tmp_path: Path) -> None:
    flags = ["--state-dir", str(tmp_path), "--backend", "eager", "--overload", "latest"]
    service = start_service(flags)
    camera = [sys.executable, "-m", "scgn_client", "send", "--endpoint", service.ingest]
    camera += ["--shape", "256x256", "--prerender", "4"]
    probes = Probes(service.http.removeprefix("http://"))
    with subprocess.Popen(camera, stdout=subprocess.DEVNULL) as sending:
        try:
            wait_for(lambda: probes.ask("/status")[1]["totals"].get("dropped"), "frames in excess")
            times_s = []
            for _ in range(10):
                times_s += probes.times_s(10)
                assert probes.ready() == READY
                assert probes.live() == LIVE
        finally:
            sending.kill()
            service.stop()
    # On a kept connection: without TCP_NODELAY every answer waits 40 ms for an acknowledgement.
    assert statistics.median(times_s) < GOAL_S / 2
    assert statistics.quantiles(times_s, n=100)[94] < GOAL_S
