"""POST /calibrations/from-stream: the noise of the camera as it sends now; progress by polling."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.concurrency import run_in_threadpool

from scgn_live.checking.files import ACTIVE, FRAMES, Task
from scgn_live.sidecar.calibration_routes import Camera, Force
from scgn_live.sidecar.checker import Checker, Errand
from scgn_live.sidecar.models import PROBLEMS, Job
from scgn_live.sidecar.problems import Problem
from scgn_live.sidecar.shelf import Shelf

LOG = logging.getLogger(__name__)
ASK_S = 5.0
SAVE_S = 60.0  # a full collection is written to disk
POLL_S = 0.2
IDLE_S = 10.0  # a camera that sends nothing more has ended the series
ENOUGH = 16  # frames, of which something can be made then
FRAMES_MAX = 4096
KEPT = 16  # finished jobs that can be asked for

Number = Annotated[int, Query(ge=2, le=FRAMES_MAX, description="frames to collect")]
JobId = Annotated[str, Path(pattern=r"^[0-9a-f]{8}$", description="8 hex digits")]


class StreamMakers:
    """Calibrations being made of the live stream, one at a time, and those made lately."""

    def __init__(self, shelf: Shelf, checker: Checker) -> None:
        self._shelf, self._checker = shelf, checker
        self._jobs: dict[str, Job] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._beginning = asyncio.Lock()

    async def begin(self, frames: int, camera: str | None, activate: bool, force: bool) -> Job:
        """Collect from the next frame on; Problem 409 while another one is collected."""
        async with self._beginning:
            if not any(job.state == "collecting" for job in self._jobs.values()):
                await self._let_go()  # of what an HTTP process that was killed had begun
            await self._shelf.asked(ASK_S, "collect", frames=frames, source=camera)
            job = Job(
                id=uuid.uuid4().hex[:8], state="collecting", frames=0, wanted=frames, camera=camera
            )
            self._jobs[job.id] = job
        for old in list(self._jobs)[:-KEPT]:
            del self._jobs[old]
        task = asyncio.create_task(self._made(job, activate, force))
        self._tasks[job.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(job.id, None))
        return job

    def jobs(self) -> list[Job]:
        """All that can be asked for, the newest first."""
        return list(reversed(self._jobs.values()))

    def job(self, identity: str) -> Job:
        """Progress; Problem 404."""
        if identity not in self._jobs:
            raise Problem(404, "job", f"expected the id of a job, got {identity}")
        return self._jobs[identity]

    async def cancel(self, identity: str) -> Job:
        """Collect no more; what came is thrown away."""
        job = self.job(identity)
        if task := self._tasks.get(identity):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        return job

    async def stop(self) -> None:
        """The process ends."""
        for identity in list(self._tasks):
            await self.cancel(identity)

    async def _made(self, job: Job, activate: bool, force: bool) -> None:
        try:
            async with self._checker.errand() as errand:
                of = await self._collect(job, errand.folder / FRAMES)
                await self._estimate(job, of, errand, activate, force)
        except asyncio.CancelledError:
            await self._failed(job, "cancelled")
            raise
        except Problem as problem:
            await self._failed(job, str(problem.detail))
        except Exception as error:
            LOG.exception("a calibration from the stream failed")
            await self._failed(job, f"internal error ({type(error).__name__})")

    async def _failed(self, job: Job, detail: str) -> None:
        if job.state == "collecting":  # later on, what is collected is another job's
            await self._let_go()
        job.state, job.detail = "failed", detail

    async def _let_go(self) -> None:
        """The frame process keeps no frames for a job that is over."""
        with contextlib.suppress(Problem):
            await self._shelf.asked(ASK_S, "collected", path=None)

    async def _collect(self, job: Job, path: FilePath) -> dict[str, Any]:
        """Wait for the frames (fewer will do when the camera stops sending); what they are of."""
        while True:
            now = await self._shelf.asked(ASK_S, "collection")
            if not now:
                raise Problem(409, None, "the frame process was started anew meanwhile")
            job.frames, job.skipped, job.camera = now["frames"], now["skipped"], now["source"]
            if now["full"] or now["idle_s"] > IDLE_S:
                break
            await asyncio.sleep(POLL_S)
        if not now["full"] and now["frames"] < ENOUGH:
            came = f"{now['frames']} of {job.wanted} frames"
            text = f"expected a camera that sends, got {came} and none for {IDLE_S:g} s"
            raise Problem(409, None, text)
        job.state = "estimating"  # the frame process is free for another one
        await self._shelf.asked(SAVE_S, "collected", path=str(path))
        return {k: now[k] for k in ("source", "series", "exposure_ms", "frames", "skipped")}

    async def _estimate(
        self, job: Job, of: dict[str, Any], errand: Errand, activate: bool, force: bool
    ) -> None:
        await run_in_threadpool(self._copy_active, errand.folder / ACTIVE)
        task = Task("stream", camera=job.camera, frames_of=of)
        report = await self._checker.check(errand, task)
        made = await self._shelf.keep(errand, report)
        job.calibration, job.verdict, job.reasons = made.id, report["verdict"], report["reasons"]
        if activate:
            job.active = (await self._shelf.settle(made, report, None, force)).active
        job.state = "done"

    def _copy_active(self, path: FilePath) -> None:
        active = self._shelf.activity().active
        if active is not None and self._shelf.store.has(active):
            path.write_bytes(self._shelf.store.path(active).read_bytes())


def stream_router(makers: StreamMakers) -> APIRouter:
    """The routes, over the jobs."""
    place = "/calibrations/from-stream"
    router = APIRouter(prefix=place, tags=["calibrations"], responses=PROBLEMS)

    @router.post("", status_code=202)
    async def post_from_stream(
        frames: Number = 200,
        camera: Camera = None,
        activate: Annotated[bool, Query(description="use it if it is accepted")] = False,
        force: Force = False,
    ) -> Job:
        """Measure the camera's noise from its next frames, beside the references in use.

        The scene should stand still. Poll `GET /calibrations/from-stream/{id}` until it is `done`.
        """
        return await makers.begin(frames, camera, activate, force)

    @router.get("")
    async def list_jobs() -> list[Job]:
        """Those that are made now and those made lately, the newest first."""
        return makers.jobs()

    @router.get("/{job}")
    async def get_job(job: JobId) -> Job:
        """How far it is."""
        return makers.job(job)

    @router.delete("/{job}")
    async def cancel_job(job: JobId) -> Job:
        """Stop it; a job that is done stays done."""
        return await makers.cancel(job)

    return router
