"""Stored calibrations as the routes see them: reports, states, and who may become active."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from scgn.calibration import Calibration, load_calibration
from scgn_live.calibrations import Activity, CalibrationStore
from scgn_live.checking.files import CALIBRATION, Task
from scgn_live.control import ControlError, ControlTimeout, request
from scgn_live.sidecar.checker import Errand
from scgn_live.sidecar.models import Listed, Now, Report, Stored
from scgn_live.sidecar.problems import Problem

LOG = logging.getLogger(__name__)
Known = TypeVar("Known", Listed, Report)
ACTIVATE_S = 10.0
RECENT_S = 5.0
FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSALS = {
    "NothingBefore": 409,
    "NotStarted": 503,
    "ModelError": 409,
    "TemporalError": 409,
    "CollectionError": 409,
    "CalibrationError": 409,
    "DiskFull": 507,
}


class Shelf:
    """One store, and the frame process that uses one of its calibrations."""

    def __init__(self, store: CalibrationStore, control: str) -> None:
        self.store = store
        self._control = control
        self._pictures: dict[str, asyncio.Task[None]] = {}

    # Questions.

    def must_have(self, identity: str, suffix: str = ".npz") -> None:
        """Problem 404 for what is not there."""
        if not self.store.has(identity) or not self.store.path(identity, suffix).exists():
            what = "a picture of one" if suffix == ".png" else "the id of one"
            raise Problem(404, "identity", f"expected {what} that is stored, got {identity}")

    def activity(self) -> Activity:
        """Which one is active; none when the note cannot be read."""
        try:
            return self.store.activity()
        except (OSError, ValueError):
            return Activity()

    def listed(self, identity: str) -> Listed:
        """A row of the list."""
        known = self.store.report(identity) | {"id": identity}
        return _shown(Listed, known, state=self.activity().state(identity))

    def report(self, identity: str) -> Report:
        """All that is known; Problem 404."""
        self.must_have(identity)
        known = self.store.report(identity) | {"id": identity}
        drawn = identity in self._pictures or self.store.path(identity, ".png").exists()
        picture = f"/calibrations/{identity}/picture" if drawn else None
        state = self.activity().state(identity)
        return _shown(Report, known, state=state, picture=picture)

    # Changes.

    async def keep(self, errand: Errand, report: dict[str, Any]) -> Calibration:
        """Store what a check made with its report, and the picture once it is drawn.

        Problem 507 when the disk is full, and nothing has changed.
        """
        report |= {"uploaded_ns": time.time_ns()}
        made = await run_in_threadpool(load_calibration, errand.folder / CALIBRATION)
        try:
            await run_in_threadpool(self.store.add, made, report)
        except OSError as error:
            raise not_stored(error) from error
        if errand.drawing is not None:
            task = asyncio.create_task(self._keep_picture(made.id, errand.drawing))
            self._pictures[made.id] = task
            task.add_done_callback(lambda _: self._pictures.pop(made.id, None))
        return made

    async def _keep_picture(self, identity: str, drawing: asyncio.Task[bytes | None]) -> None:
        if (picture := await drawing) is None or not self.store.has(identity):
            return
        try:
            await run_in_threadpool(self.store.add_picture, identity, picture)
        except OSError as error:
            LOG.error("a picture was not stored", extra={"error": error.strerror})

    async def drawn(self, identity: str) -> None:
        """Wait for the picture, if it is being drawn."""
        if (task := self._pictures.get(identity)) is not None:
            await asyncio.wait([task])

    def delete(self, identity: str) -> Now:
        """Forget it; Problem 409 while it is in use."""
        active = self.activity().active
        if identity == active:
            raise Problem(409, "identity", f"expected one that is not in use, got {identity}")
        self.store.delete(identity)
        return Now(id=active)

    async def settle(
        self, made: Calibration, report: dict[str, Any], activate: bool | None, force: bool
    ) -> Stored:
        """Activate an upload or not, as it was asked and as the verdict allows."""
        if report["verdict"] == "refused" or activate:
            self.must_be_usable(made.id, report, force)
        wanted = activate or (activate is None and (force or report["verdict"] == "accepted"))
        if wanted:
            await self.activate(made.id)
        state = self.activity().state(made.id)
        best = (report.get("proof") or {}).get("best")
        return Stored(
            **_fields(Stored, report | {"shape": list(made.shape)}), active=state == "active",
            state=state, report=f"/calibrations/{made.id}",
            picture=f"/calibrations/{made.id}/picture",
            best=best and {k: best[k] for k in ("orientation", "gain_convention", "removed")},
        )  # fmt: skip

    def must_be_usable(self, identity: str, report: dict[str, Any], force: bool) -> None:
        """Problem 422 for a refused one, 409 for a suspicious one without force."""
        verdict, reasons = report.get("verdict", "accepted"), report.get("reasons", [])
        if verdict == "accepted" or (verdict == "suspicious" and force):
            return
        said = "; ".join(reasons)
        way = ", or force=true" if verdict == "suspicious" else ""
        problem = Problem(
            409 if verdict == "suspicious" else 422, "calibration",
            f"expected an accepted calibration{way}, got a {verdict} one: {said}",
        )  # fmt: skip
        problem.more = {"calibration": identity, "reasons": reasons}
        raise problem

    async def activate(self, identity: str | None) -> Now:
        """From the next frame on; Problem when the frame process does not do it."""
        return Now(id=(await self.asked(ACTIVATE_S, "activate", id=identity))["id"])

    async def rollback(self) -> Now:
        """To the one before; Problem 409 when there is none."""
        return Now(id=(await self.asked(ACTIVATE_S, "rollback"))["id"])

    # The frame process.

    async def asked(self, timeout_s: float, verb: str, **what: Any) -> dict[str, Any]:
        """One request to the frame process; Problem with its words when it refuses."""
        try:
            return await request(self._control, timeout_s, do=verb, **what)
        except ControlTimeout as error:
            raise Problem(503, None, str(error)) from error
        except ControlError as error:
            raise Problem(REFUSALS.get(error.kind, 500), None, str(error)) from error

    async def with_frames(self, task: Task, folder: Path) -> Task:
        """The task with the last raw frames of each camera it may be for, in files of `folder`.

        A frame process that does not answer has no frames: the upload is checked without.
        """
        try:
            cameras = (await request(self._control, RECENT_S, do="recent"))["cameras"]
            seen = [row for row in cameras if task.camera in (None, row["source"])]
            for number, row in enumerate(seen if "frames" not in task.parts else []):
                row["file"] = f"frames-{number}.npy"
                what = {"path": str(folder / row["file"]), "source": row["source"]}
                await request(self._control, RECENT_S, do="recent", **what)
        except ControlError:
            return task
        return replace(task, cameras=seen)


def not_stored(error: OSError) -> Problem:
    """What to answer when the disk is full, or not there at all."""
    return Problem(507 if error.errno in FULL else 500, None, f"not stored: {error.strerror}")


def _shown(model: type[Known], known: dict[str, Any], **derived: Any) -> Known:
    """A stored report as the model shows it; of one that is none the id alone."""
    try:
        return model(**_fields(model, known), **derived)
    except ValidationError:
        LOG.error("a report cannot be shown", extra={"calibration": known["id"]})
        return model(id=known["id"], **derived)


def _fields(model: type[Listed] | type[Report] | type[Stored], known: dict[str, Any]) -> Any:
    """What of a stored report the model shows; states are told anew each time."""
    derived = {"state", "active", "picture", "report", "best"}
    return {k: v for k, v in known.items() if k in model.model_fields and k not in derived}
