"""The frame process: ingest, engine and publisher around one ring, and a control socket."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import platform
import signal
import sys
import threading
import time
from importlib import metadata
from typing import Any, Self

import zmq

from scgn_client.wire import UINT64_MAX
from scgn_live.calibration_control import CalibrationControl, work_endpoint
from scgn_live.control import ControlServer, Handler
from scgn_live.curve import Doorkeeper
from scgn_live.engine import Engine, EngineState
from scgn_live.ingest import FrameIngest
from scgn_live.ledger import Ledger
from scgn_live.memory import CHECK_S, EXIT_MEMORY, Watchdog
from scgn_live.metrics import Facts, Metrics
from scgn_live.model_control import ModelControl
from scgn_live.processor import build_processor
from scgn_live.publish import FramePublisher
from scgn_live.reports import plain
from scgn_live.ring import Ring, Slot
from scgn_live.settings import EXIT_CONFIG, Settings
from scgn_live.stage import Stage
from scgn_live.temporal_control import TemporalControl

LOG = logging.getLogger(__name__)
EXIT_STAGE_DIED = 70  # a supervisor restarts the process; sysexits' "internal software error"
EXIT_DEVICE_LOST = 71  # likewise, but it was the device that failed: sysexits' "system error"
DRAIN_S = 0.5  # of a stop, at most, for what waits on the ingest socket
SWITCH_INTERVAL_S = 5e-4  # threads hand over the interpreter sooner than the default 5 ms


Part = FrameIngest | FramePublisher | ControlServer


class App:
    """Everything of the frame process; `start` returns when frames can come."""

    def __init__(self, settings: Settings, control: str) -> None:
        self.settings = settings
        self.started_ns = time.time_ns()
        self.ledger = Ledger(settings.max_series)
        self.ring = Ring(settings.ring_slots, settings.overload, self._dropped)
        self.metrics = Metrics(self.ledger, self.ring, self._facts, self._noise)
        self.calibrations = CalibrationControl(settings)
        self.memory = Watchdog(settings.memory_mb)
        self.ingest = FrameIngest(settings, self.ring, self.ledger)
        self.publisher = FramePublisher(settings, self.ring, self.ledger, self.metrics)
        self.engine: Engine
        self.stages: dict[str, Stage] = {}
        self.ended = threading.Event()
        self.door = Doorkeeper(settings, self.ended.set)
        self.models = ModelControl(settings, self.ended)
        self.temporal = TemporalControl()
        self.starting: str | None = "starting"  # what `start` is at; None once frames can come
        questions: dict[str, Handler] = {
            "health": self._health, "status": self._status, "metrics": self._metrics,
        }  # fmt: skip
        self.control = ControlServer(control, questions)
        # Apart: loading a large calibration takes seconds, in which health must answer.
        controls = (self.calibrations, self.models, self.temporal)
        changes = {verb: act for control in controls for verb, act in control.handlers().items()}
        self.work = ControlServer(work_endpoint(control), changes)

    def _dropped(self, slot: Slot) -> None:
        self.ledger.drop(slot.run, slot.header.frame, "overload")

    # Life.

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Load and warm the network, then bind: nobody can connect before frames can flow.

        The control socket comes first, so that health can say what a long build is at.
        """
        self.calibrations.store.open()
        self._begin(control=self.control, work=self.work)
        try:
            self._load_and_bind()
        except BaseException:
            for name, server in (("control", self.control), ("work", self.work)):
                self.stages[name].stop()
                server.close()
            self.door.close()
            raise

    def _load_and_bind(self) -> None:
        calibration = self.calibrations.load_active()
        processor = build_processor(self.settings, self.ended, self._progress)
        state, seen = EngineState(processor, calibration), self.calibrations.seen()
        self.engine = Engine(self.ring, self.ledger, state, seen, self.settings.temporal)
        self.ring.keep_in(processor.host)
        if calibration is not None:
            processor.prepare(calibration)
        self.memory.must_fit()
        self.door.open()
        self._begin(publish=self.publisher, ingest=self.ingest)
        self.calibrations.engine = self.models.engine = self.temporal.engine = self.engine
        self.starting = None
        facts = {"model": processor.model, **self.endpoints()}
        LOG.info("frames can come", extra=facts)

    def _begin(self, **parts: Part) -> None:
        """Open these parts, then start their stages, and with the publisher those between."""
        with contextlib.ExitStack() as opened:
            for part in parts.values():
                part.open()
                opened.callback(part.close)
            opened.pop_all()
        turns = {name: part.turn for name, part in parts.items()}
        if "publish" in parts:
            turns |= {"complete": self.engine.complete, "engine": self.engine.turn}
        stages = {name: Stage(name, turn, self.ended.set) for name, turn in turns.items()}
        self.stages |= stages
        for stage in stages.values():
            stage.start()

    def _progress(self, text: str) -> None:
        LOG.info(text)
        self.starting = text if self.starting else None

    def stop(self) -> None:
        """Stop taking, finish what is in flight within `shutdown_s`, say `end`, close."""
        deadline_s = time.monotonic() + self.settings.shutdown_s
        if self.failed_stage() is not None:
            self.ring.stop()  # nothing will leave it: an ingest that waits for room waits in vain
        self._stop_ingest(deadline_s)
        if self.failed_stage() is None:
            self.ring.drain(deadline_s - time.monotonic())
        for name in ("engine", "complete", "publish"):
            self.stages[name].stop(max(0.5, deadline_s - time.monotonic()))
        self.models.close()
        self.engine.state.processor.close()
        slots, events = self.ring.abandon()
        for slot in slots:
            self.ledger.fail(slot.run, slot.header.frame, "shutdown")
        for name in ("work", "control"):
            self.stages[name].stop(1.0)
        if self.stages["publish"].error is None and not self.stages["publish"].alive:
            self.publisher.end_runs(events)
        for name, part in self._parts().items():
            if not self.stages[name].alive:  # sockets belong to the thread that still holds them
                part.close()
        self.door.close()

    def _stop_ingest(self, deadline_s: float) -> None:
        """Take no more. What cameras have handed over already is dropped, so that `end` tells it;
        what they have not stays with them, for the next process.
        """
        stage, drain_s = self.stages["ingest"], min(DRAIN_S, self.settings.shutdown_s / 2)
        stage.stop(self.settings.shutdown_s - drain_s)
        self.ring.stop()  # one that still waits for room waits no longer
        stage.stop(max(0.0, deadline_s - time.monotonic()))
        if not stage.alive and stage.error is None:  # else the socket is not this thread's
            self.ingest.drain(min(drain_s, deadline_s - time.monotonic()))
            self.ingest.close()

    def _parts(self) -> dict[str, Part]:
        return {
            "publish": self.publisher, "ingest": self.ingest, "work": self.work,
            "control": self.control,
        }  # fmt: skip

    def failed_stage(self) -> str | None:
        """Name of a stage that died, None while all live."""
        dead = (s.name for s in self.stages.values() if s.error is not None)
        return next(dead, "keys" if self.door.died else None)

    def exit_status(self) -> int:
        """Of the process, once it stopped."""
        errors = [s.error for s in self.stages.values() if s.error is not None]
        if any(getattr(error, "fatal", False) for error in errors):
            return EXIT_DEVICE_LOST
        return EXIT_STAGE_DIED if errors or self.door.died else 0

    # What the control socket answers.

    def endpoints(self) -> dict[str, str]:
        """Where the sockets really are (a wildcard port is resolved)."""
        return {"ingest": self.ingest.endpoint, **self.publisher.endpoints}

    def reasons_not_ready(self) -> list[str]:
        """Why frames would not flow now, in words; empty when they would."""
        if self.starting is not None:
            return [f"starting: {self.starting}"]
        now = time.monotonic()
        reasons = [f"stage {s.name} died: {s.error!r}" for s in self.stages.values() if s.error]
        for stage in self.stages.values():
            stood_s = now - stage.turned_s
            if stage.error is None and stood_s > self.settings.ready_s and self._stuck(stage):
                reasons.append(f"stage {stage.name} has stood for {stood_s:.1f} s")
        return reasons + self.calibrations.reasons_not_ready()

    def _stuck(self, stage: Stage) -> bool:
        if stage.name == "work":
            return False  # frames go on beside it
        # With `block` the ingest rightly stands while the ring is full and moving.
        blocked = self.settings.overload == "block" and stage.name == "ingest"
        return not (blocked and self.ring.depths()["free"] == 0)

    def _health(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"reasons": self.reasons_not_ready(), "pid": os.getpid()}

    def _metrics(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"text": self.metrics.exposition()}

    def _must_have_started(self) -> None:
        if self.starting is not None:
            raise RuntimeError(f"starting: {self.starting}")

    def _facts(self) -> Facts:
        """For the metrics."""
        version = metadata.version("scgn-live")
        if self.starting is not None:
            return Facts(
                ready=False, calibration="", mismatched=0, model="", engine="", version=version,
                refused=self.door.refused(),
            )  # fmt: skip
        state = self.engine.state
        return Facts(
            ready=not self.reasons_not_ready(), mismatched=self.engine.mismatched,
            calibration="" if state.calibration is None else state.calibration.id,
            model=state.processor.model, engine=state.processor.word, version=version,
            refused=self.door.refused(),
        )  # fmt: skip

    def _noise(self) -> dict[str, Any]:
        """By source, for the metrics."""
        if self.starting is not None:
            return {}
        streams = plain(self.engine.state.processor.status().get("streams", {}))
        return {source: told.get("noise") or {} for source, told in streams.items()}

    def _status(self, _: dict[str, Any]) -> dict[str, Any]:
        self._must_have_started()
        state = self.engine.state
        backend = dict(state.processor.status())
        streams = plain(backend.pop("streams", {}))
        calibration = state.calibration
        totals: dict[str, dict[str, int]] = {}
        for (bucket, reason), count in self.ledger.totals().items():
            # Two series with lying indices exceed what msgpack can carry.
            totals.setdefault(bucket, {})[reason or "all"] = min(count, UINT64_MAX)
        return {
            "ready": not self.reasons_not_ready(), "reasons": self.reasons_not_ready(),
            "model": state.processor.model, "engine": state.processor.word,
            "backend": backend, "temporal": self.temporal.value(), "sources": streams,
            "calibration": None if calibration is None else calibration.id,
            "calibration_shape": None if calibration is None else list(calibration.shape),
            "calibration_mismatched_frames": self.engine.mismatched,
            "calibration_problem": self.calibrations.problem,
            "refused_connections": self.door.refused(),
            "series": self.ledger.snapshot(), "totals": totals, "ring": self.ring.depths(),
            **self.metrics.summary(), "endpoints": self.endpoints(),
            "overload": self.settings.overload, "started_ns": self.started_ns,
            "uptime_s": round((time.time_ns() - self.started_ns) / 1e9, 1),
            "versions": versions(),
        }  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of what decides how frames are processed."""
    names = ("scgn-live", "numpy", "pyzmq", "torch")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in names}


def run(settings: Settings, control: str) -> int:
    """The frame process until SIGTERM, SIGINT, the death of a stage or the end of its memory;
    returns the exit status.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    app = App(settings, control)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: app.ended.set())
    try:
        app.start()
    except (zmq.ZMQError, OSError, ValueError, RuntimeError) as error:
        if app.ended.is_set():
            return 0  # asked to stop while it was starting
        LOG.error("cannot start", extra={"error": str(error)})
        return EXIT_CONFIG
    gc.freeze()  # what start-up made lives for ever: collections need not look at it again
    outgrown = False
    while not app.ended.wait(CHECK_S) and not (outgrown := app.memory.outgrown()):
        pass
    if outgrown:
        app.memory.end_soon()  # what fills it goes on while the process stops
    LOG.info("stopping", extra={"died": app.failed_stage()})
    app.stop()
    return EXIT_MEMORY if outgrown else app.exit_status()
