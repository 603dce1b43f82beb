"""Calibrations in the frame process, as the control socket asks: swap, roll back, give frames."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scgn.calibration import Calibration
from scgn_live.calibrations import Activity, CalibrationStore
from scgn_live.control import Handler
from scgn_live.engine import Engine
from scgn_live.recent import Collector, RecentFrames
from scgn_live.ring import Slot
from scgn_live.settings import Settings

LOG = logging.getLogger(__name__)


def work_endpoint(control: str) -> str:
    """Address of the socket for calibrations, beside the control socket."""
    return f"{control}-work"


class NothingBefore(LookupError):
    """There is nothing to roll back to."""


class DiskFull(OSError):
    """There is no room to note which calibration is in use."""


class NotStarted(RuntimeError):
    """The network is not there yet."""


class CalibrationControl:
    """The calibration in use and the frames kept to make or prove one.

    problem: a sentence when the one that should be in use cannot be.
    """

    def __init__(self, settings: Settings) -> None:
        self._required, self._ready_s = settings.require_calibration, settings.ready_s
        self.store = CalibrationStore(settings.state_dir)
        self.recent = RecentFrames(
            settings.proof_frames, settings.proof_every_s, settings.proof_mb, settings.max_series
        )
        self.collector = Collector(settings.stream_mb)
        self.engine: Engine | None = None  # once frames can come
        self._used_s = 0.0  # when the calibration in use came (monotonic)
        self.problem: str | None = None

    def handlers(self) -> dict[str, Handler]:
        """By verb, as the control socket wants them."""
        return {
            "activate": self._activate, "rollback": self._rollback, "recent": self._recent,
            "collect": self._collect, "collection": self._collection, "collected": self._collected,
        }  # fmt: skip

    def seen(self) -> tuple[Callable[[Slot], None], ...]:
        """What the engine shows its frames to."""
        return self.recent.offer, self.collector.offer

    def load_active(self) -> Calibration | None:
        """The calibration that was active when the process ended; `problem` when it is damaged."""
        calibration, self.problem = self.store.active()
        return calibration

    def reasons_not_ready(self) -> list[str]:
        """With `require_calibration`: why frames would go out uncorrected, in words."""
        if not self._required or self.engine is None:
            return []
        if not self.engine.state.processor.corrects:
            return ["a calibration is required, and this engine corrects nothing"]
        calibration = self.engine.state.calibration
        if calibration is None:
            return [self.problem or "no calibration is active, and one is required"]
        seen_s = self.engine.mismatched_s or 0.0
        if seen_s > max(self._used_s, time.monotonic() - self._ready_s):
            return [f"frames have another shape than calibration {calibration.id}"]
        return []

    def _activate(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Use the stored calibration of that id (None: none) from the next frame on."""
        return self._use(self._activity().then(asked["id"]))

    def _rollback(self, _: dict[str, Any]) -> dict[str, Any]:
        """Use again what was used before the active calibration."""
        activity = self._activity()
        while activity.before:
            activity = activity.back()
            if activity.active is None or self.store.has(activity.active):
                return self._use(activity)
        raise NothingBefore("no calibration was active before this one")

    def _activity(self) -> Activity:
        try:
            return self.store.activity()
        except (OSError, ValueError):
            return Activity()  # damaged: said since the start

    def _use(self, activity: Activity) -> dict[str, Any]:
        """All that may fail comes first: an error leaves the frames as they are."""
        identity = activity.active
        calibration = None if identity is None else self.store.load(identity)
        engine = self._started()
        engine.prepare(calibration)
        self._note(activity)
        engine.use_calibration(calibration)
        self.problem, self._used_s = None, time.monotonic()
        LOG.info("calibration active", extra={"calibration": identity})
        return {"id": identity}

    def _note(self, activity: Activity) -> None:
        try:
            self.store.note(activity)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(*error.args) from error
            raise

    def _started(self) -> Engine:
        if self.engine is None:
            raise NotStarted("starting: the network is not there yet")
        return self.engine

    def _recent(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Cameras whose last frames are kept; those of `source`, if asked, written to `path`."""
        path = asked.get("path")
        saved = 0 if path is None else self.recent.save(Path(path), asked["source"])
        return {"cameras": self.recent.cameras(), "frames": saved}

    def _collect(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Keep the next frames of one series, of `source` if it is not None."""
        self._started()
        self.collector.begin(asked["frames"], asked["source"])
        return {}

    def _collection(self, _: dict[str, Any]) -> dict[str, Any]:
        return self.collector.state()

    def _collected(self, asked: dict[str, Any]) -> dict[str, Any]:
        """End the collection; its frames are written to `path`, or thrown away for None."""
        path = asked["path"]
        return {"frames": self.collector.finish(None if path is None else Path(path))}
