"""Calibrations over HTTP: upload, proof, activation, rollback.

staged -> active -> replaced or rolled back. An upload is checked in a process of its own and proved
against the camera's last raw frames; what is in use changes only once all else has gone well.
"""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Path, Query, Request, UploadFile
from fastapi.responses import FileResponse
from pydantic import FiniteFloat
from pydantic.json_schema import SkipJsonSchema
from starlette.convertors import StringConvertor, register_url_convertor

from scgn_live.checking.files import Task
from scgn_live.sidecar.checker import Checker
from scgn_live.sidecar.models import PROBLEMS, Listed, Now, Report, Stored
from scgn_live.sidecar.problems import Problem
from scgn_live.sidecar.shelf import Shelf, not_stored

CHUNK_BYTES = 1 << 20
QUERIES = ("gain_convention", "orientation", "camera", "exposure_ms", "activate", "force")
Orientation = Literal[
    "as-is", "flip-up-down", "flip-left-right", "rotate-180", "rotate-90", "rotate-270",
    "transpose", "anti-transpose",
]  # fmt: skip
Convention = Annotated[
    Literal["multiply", "divide"] | None,
    Query(description="how the gain is meant: corrected = (raw - dark) * gain, or / gain"),
]
Turn = Annotated[
    Orientation, Query(description="what turns the files onto the frames; counter-clockwise")
]
Camera = Annotated[
    str | None,
    Query(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="whose frames; default: those that fit"),
]
Exposure = Annotated[
    FiniteFloat | None, Query(gt=0, description="of the references, ms; held against the frames'")
]
Activate = Annotated[
    bool | None,
    Query(description="true: or say why not; false: only keep it; unset: if it is accepted"),
]
Force = Annotated[bool, Query(description="activate although it is suspicious")]
Id = Annotated[str, Path(pattern=r"^[0-9a-f]{12}$", description="12 hex digits")]
File_ = UploadFile | SkipJsonSchema[None]  # a form cannot say null
PNG, NPZ = "image/png", "application/octet-stream"
Stack = "; .npy .npz .tif .mrc .h5 .nxs .emd .dm3 .dm4, one frame or a stack, which is averaged"
Dark = Annotated[File_, File(description=f"dark reference, counts{Stack}")]
Gain = Annotated[File_, File(description=f"gain reference{Stack}")]
Mask = Annotated[File_, File(description="1 where a pixel is defective; one frame")]
Noise = Annotated[
    File_,
    File(description="noise model of the camera's frames, JSON; a stack of darks tells it"),
]
Whole = Annotated[File_, File(description="a file of `scgn calibrate`, alone")]
Frames = Annotated[File_, File(description=f"raw frames to prove it against{Stack}")]


class IdConvertor(StringConvertor):
    """Only ids are calibrations in a path: `rollback`, `active` and `from-stream` are none."""

    regex = "[0-9a-f]{12}"


register_url_convertor("calibration", IdConvertor())


def calibration_router(shelf: Shelf, checker: Checker) -> APIRouter:
    """The routes, over what is stored and what checks it."""
    router = APIRouter(prefix="/calibrations", tags=["calibrations"], responses=PROBLEMS)
    _add_upload(router, shelf, checker)
    _add_questions(router, shelf)
    _add_changes(router, shelf)
    return router


def _add_upload(router: APIRouter, shelf: Shelf, checker: Checker) -> None:
    @router.post("", status_code=201)
    async def post_calibration(
        request: Request,
        dark: Dark = None,
        gain: Gain = None,
        mask: Mask = None,
        noise: Noise = None,
        calibration: Whole = None,
        frames: Frames = None,
        gain_convention: Convention = None,
        orientation: Turn = "as-is",
        camera: Camera = None,
        exposure_ms: Exposure = None,
        activate: Activate = None,
        force: Force = False,
    ) -> Stored:
        """Check references, prove them against raw frames, store them, and activate them.

        `gain_convention` is required with a gain: both conventions are in use, and a wrong guess
        doubles the fixed pattern instead of removing it. The frames are those sent along, or the
        last ones of the camera. What is `refused` is stored for its report, and never active.
        """
        parts = {
            "dark": dark, "gain": gain, "mask": mask, "noise": noise, "calibration": calibration,
            "frames": frames,
        }  # fmt: skip
        await _must_know_all(request, set(parts))
        given = {name: part for name, part in parts.items() if part is not None}
        task = Task(
            "upload", {name: part.filename or "" for name, part in given.items()}, gain_convention,
            orientation, camera, exposure_ms,
        )  # fmt: skip
        async with checker.errand() as errand:
            for name, part in given.items():
                await _copied(part, errand.folder / name)
            task = await shelf.with_frames(task, errand.folder)
            report = await checker.check(errand, task)
            made = await shelf.keep(errand, report)
        return await shelf.settle(made, report, activate, force)


async def _must_know_all(request: Request, known: set[str]) -> None:
    """Problem 422 for a part or a query that would be passed over: a slip of the pen, mostly."""
    names = [name for name, _ in (await request.form()).multi_items()]
    if not names:
        text = f"expected a form with files of {', '.join(sorted(known))}, got none"
        raise Problem(422, "calibration", text)
    for name in names:
        if name not in known:
            text = f"expected parts of {', '.join(sorted(known))}, got {name[:80]!r}"
            raise Problem(422, name[:80], text)
        if names.count(name) > 1:
            text = f"{name}: expected one file (a stack is one), got {names.count(name)}"
            raise Problem(422, name, text)
    for name in request.query_params:
        if name not in QUERIES:
            text = f"expected queries of {', '.join(QUERIES)}, got {name[:80]!r}"
            raise Problem(422, name[:80], text)


async def _copied(part: UploadFile, path: FilePath) -> None:
    """An uploaded part as a file of the checker's folder."""
    try:
        with path.open("wb") as file:
            while chunk := await part.read(CHUNK_BYTES):
                file.write(chunk)
    except OSError as error:
        raise not_stored(error) from error


def _only(media_type: str) -> dict[int | str, dict[str, Any]]:
    """For the documentation: a file of that type."""
    return {200: {"content": {media_type: {}}}}


def _add_questions(router: APIRouter, shelf: Shelf) -> None:
    @router.get("")
    def list_calibrations() -> list[Listed]:
        """All that are stored, the newest first."""
        return [shelf.listed(identity) for identity in shelf.store.ids()]

    @router.get("/{identity:calibration}")
    def get_calibration(identity: Id) -> Report:
        """The report: verdict, reasons in words, and the numbers of the proof."""
        return shelf.report(identity)

    @router.get(
        "/{identity:calibration}/picture", response_class=FileResponse, responses=_only(PNG)
    )
    async def get_picture(identity: Id) -> FileResponse:
        """The report to look at, PNG; it comes a moment after the answer to the upload."""
        await shelf.drawn(identity)
        shelf.must_have(identity, ".png")
        return FileResponse(shelf.store.path(identity, ".png"), media_type=PNG)

    @router.get("/{identity:calibration}/file", response_class=FileResponse, responses=_only(NPZ))
    def get_file(identity: Id) -> FileResponse:
        """The calibration itself, as `scgn train --calibration` and another service take it."""
        shelf.must_have(identity)
        path, name = shelf.store.path(identity), f"{identity}.npz"
        return FileResponse(path, media_type=NPZ, filename=name)


def _add_changes(router: APIRouter, shelf: Shelf) -> None:
    @router.post("/{identity:calibration}/activate")
    async def activate_calibration(identity: Id, force: Force = False) -> Now:
        """Correct every frame from the next one on with this; `suspicious` needs `force`."""
        shelf.must_have(identity)
        shelf.must_be_usable(identity, shelf.store.report(identity), force)
        return await shelf.activate(identity)

    @router.post("/rollback")
    async def rollback() -> Now:
        """Go back to what was in use before the active one, be it none."""
        return await shelf.rollback()

    @router.delete("/active")
    async def deactivate() -> Now:
        """Correct frames with nothing from now on; stored calibrations stay."""
        return await shelf.activate(None)

    @router.delete("/{identity:calibration}")
    def delete_calibration(identity: Id) -> Now:
        """Forget a calibration; 409 for the one that is in use."""
        shelf.must_have(identity)
        return shelf.delete(identity)
