"""The HTTP application: routes over the control socket."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from importlib import metadata
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response

from scgn_live.calibrations import CalibrationStore
from scgn_live.control import ControlError, request
from scgn_live.settings import Settings
from scgn_live.sidecar.calibration_routes import calibration_router
from scgn_live.sidecar.limits import UploadLimit
from scgn_live.sidecar.problems import Problem, on_error, on_invalid, on_problem
from scgn_live.sidecar.watch import FrameProcess

ASK_S = 2.0
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def build_app(settings: Settings, control: str) -> FastAPI:
    """The application of one service; `control` is the frame process' control socket."""
    frames = FrameProcess(control, settings.ready_s)
    store = CalibrationStore(settings.state_dir)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        store.open()
        async with frames.watched():
            yield

    app = FastAPI(
        title="scgn-live", version=metadata.version("scgn-live"), lifespan=lifespan,
        description="Health, status and calibrations of a live denoising service.",
    )  # fmt: skip
    app.add_middleware(UploadLimit, limit_bytes=round(settings.max_upload_mb * 1e6))
    app.add_exception_handler(HTTPException, on_problem)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(Exception, on_error)
    app.include_router(calibration_router(control, store))
    _add_health(app, frames)
    _add_status(app, frames)
    return app


def _add_health(app: FastAPI, frames: FrameProcess) -> None:
    @app.get("/livez", tags=["health"])
    @app.get("/v2/health/live", tags=["health"])
    async def live() -> dict[str, bool]:
        """200 while this process answers."""
        return {"live": True}

    @app.get("/readyz", tags=["health"])
    @app.get("/v2/health/ready", tags=["health"])
    async def ready() -> JSONResponse:
        """200 when a frame sent now would be denoised, else 503 with the reasons."""
        reasons = frames.reasons_not_ready()
        return JSONResponse({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)


def _add_status(app: FastAPI, frames: FrameProcess) -> None:
    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("/docs")

    @app.get("/status", tags=["status"])
    async def status() -> dict[str, Any]:
        """Ledger per series, rates, queue depths, latency percentiles, model, calibration."""
        return await _asked(frames.control, "status")

    @app.get("/metrics", tags=["status"])
    async def metrics() -> Response:
        """Prometheus text format."""
        answer = await _asked(frames.control, "metrics")
        return Response(answer["text"], media_type=PROMETHEUS)


async def _asked(control: str, verb: str) -> dict[str, Any]:
    try:
        return await request(control, ASK_S, do=verb)
    except ControlError as error:
        raise Problem(503, None, str(error)) from error
