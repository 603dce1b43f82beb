"""The HTTP application: routes over the control socket."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from importlib import metadata
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response

from scgn_live.calibration_control import work_endpoint
from scgn_live.calibrations import CalibrationStore
from scgn_live.control import ControlError, request, run_dir_of
from scgn_live.settings import Settings
from scgn_live.sidecar.calibration_routes import calibration_router
from scgn_live.sidecar.checker import Checker
from scgn_live.sidecar.guard import Guard, GuardMiddleware
from scgn_live.sidecar.limits import UploadLimit
from scgn_live.sidecar.live.routes import add_live_view
from scgn_live.sidecar.model_routes import model_router
from scgn_live.sidecar.models import PROBLEMS
from scgn_live.sidecar.problems import Problem, on_error, on_invalid, on_problem
from scgn_live.sidecar.shelf import Shelf
from scgn_live.sidecar.stream_routes import StreamMakers, stream_router
from scgn_live.sidecar.temporal_routes import temporal_router
from scgn_live.sidecar.watch import FrameProcess

ASK_S = 2.0
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
Responses = dict[int | str, dict[str, Any]]
UNWELL: Responses = {503: {"description": "no, with the reasons in words"}}


def build_app(settings: Settings, control: str) -> FastAPI:
    """The application of one service; `control` is the frame process' control socket."""
    frames = FrameProcess(control, settings.ready_s, settings.live_s)
    shelf = Shelf(CalibrationStore(settings.state_dir), work_endpoint(control))
    checker, guard = Checker(settings, run_dir_of(control)), Guard.of(settings)
    makers = StreamMakers(shelf, checker)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.openapi()  # takes a while, and is kept: later a probe would wait for it
        shelf.store.open()
        shelf.store.sweep()
        checker.sweep()
        async with frames.watched():
            yield
        await makers.stop()
        await checker.stop()

    app = FastAPI(
        title="scgn-live", version=metadata.version("scgn-live"), lifespan=lifespan,
        description="Health, status and calibrations of a live denoising service.",
    )  # fmt: skip
    app.add_middleware(UploadLimit, limit_bytes=round(settings.max_upload_mb * 1e6))
    app.add_middleware(GuardMiddleware, guard=guard)  # added last: asked first
    app.add_exception_handler(HTTPException, on_problem)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(Exception, on_error)
    app.include_router(stream_router(makers))
    app.include_router(calibration_router(shelf, checker))
    app.include_router(model_router(shelf))
    app.include_router(temporal_router(shelf))
    _add_health(app, frames)
    _add_status(app, frames)
    add_live_view(app, settings, frames, guard)
    return app


def _add_health(app: FastAPI, frames: FrameProcess) -> None:
    @app.get("/livez", tags=["health"], responses=UNWELL)
    @app.get("/v2/health/live", tags=["health"], responses=UNWELL)
    async def live() -> JSONResponse:
        """200 while this process answers and the frame process lives, else 503 with the reasons."""
        reasons = frames.reasons_not_live()
        return JSONResponse({"live": not reasons, "reasons": reasons}, 503 if reasons else 200)

    @app.get("/readyz", tags=["health"], responses=UNWELL)
    @app.get("/v2/health/ready", tags=["health"], responses=UNWELL)
    async def ready() -> JSONResponse:
        """200 when a frame sent now would be denoised, else 503 with the reasons."""
        reasons = frames.reasons_not_ready()
        return JSONResponse({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)


def _add_status(app: FastAPI, frames: FrameProcess) -> None:
    problems: Responses = {status: PROBLEMS[status] for status in (401, 403, 503)}

    @app.get("/status", tags=["status"], responses=problems)
    async def status() -> dict[str, Any]:
        """Ledger per series, rates, queue depths, latency percentiles, model, calibration; under
        `sources`, of each camera whose frames are seen together: noise, dose, quality.
        """
        return await _asked(frames.control, "status")

    @app.get("/metrics", tags=["status"], responses=problems, response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Prometheus text format."""
        answer = await _asked(frames.control, "metrics")
        return Response(answer["text"], media_type=PROMETHEUS)


async def _asked(control: str, verb: str) -> dict[str, Any]:
    try:
        return await request(control, ASK_S, do=verb)
    except ControlError as error:
        raise Problem(503, None, str(error)) from error
