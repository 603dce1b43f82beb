"""POST /calibrations: references in, checked, stored, active from the next frame on."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Query, UploadFile
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from scgn.calibration import Calibration, CalibrationError, build_calibration, read_npy
from scgn_live.calibrations import CalibrationStore
from scgn_live.control import ControlError, ControlTimeout, request
from scgn_live.sidecar.problems import Problem

ACTIVATE_S = 10.0

Convention = Annotated[
    Literal["multiply", "divide"] | None,
    Query(description="how the gain is meant: corrected = (raw - dark) * gain, or / gain"),
]
Part = Annotated[UploadFile | None, File(description=".npy of rows x columns")]


class Stored(BaseModel):
    """What became of an upload."""

    id: str = Field(description="12 hex digits of the content; in the header of every later frame")
    active: bool = Field(description="whether frames are corrected with it now")
    shape: tuple[int, int] = Field(description="rows, columns that a frame must have")
    masked: int = Field(description="defective pixels, filled from their neighbours")


def calibration_router(control: str, store: CalibrationStore) -> APIRouter:
    """The routes, over one store and one frame process."""
    router = APIRouter(prefix="/calibrations", tags=["calibrations"])

    @router.post("", status_code=201)
    async def post_calibration(
        dark: Part = None, gain: Part = None, mask: Part = None, gain_convention: Convention = None
    ) -> Stored:
        """Check, store and activate a calibration made of any of dark, gain and mask.

        `gain_convention` is required with a gain: both conventions are in use, and a wrong guess
        doubles the fixed pattern instead of removing it.
        """
        contents = {
            field: await part.read()
            for field, part in (("dark", dark), ("gain", gain), ("mask", mask))
            if part is not None
        }
        calibration = await run_in_threadpool(_checked, contents, gain_convention)
        await run_in_threadpool(store.add, calibration)
        await _activate(control, calibration.id)
        return Stored(
            id=calibration.id, active=True, shape=calibration.shape, masked=calibration.masked
        )

    @router.delete("/active")
    async def deactivate() -> dict[str, Any]:
        """Correct frames with nothing from now on; stored calibrations stay."""
        return await _activate(control, None)

    return router


def _checked(contents: dict[str, bytes], convention: Any) -> Calibration:
    try:
        arrays: dict[str, Any] = {
            field: read_npy(field, content) for field, content in contents.items()
        }
        return build_calibration(**arrays, gain_convention=convention)
    except CalibrationError as error:
        raise Problem(422, error.field, str(error)) from error


async def _activate(control: str, identity: str | None) -> dict[str, Any]:
    try:
        return await request(control, ACTIVATE_S, do="activate", id=identity)
    except ControlTimeout as error:
        raise Problem(503, None, f"stored but not active: {error}") from error
    except ControlError as error:
        raise Problem(500, None, f"stored but not active: {error}") from error
