"""What calibration routes answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

Verdict = Literal["accepted", "suspicious", "refused"]
State = Literal["staged", "active", "replaced", "rolled back"]
# A list: OpenAPI's tools stumble over what pydantic makes of a tuple.
Shape = Annotated[list[int], Field(min_length=2, max_length=2)]


class ProblemDetails(BaseModel):
    """RFC 9457."""

    type: str = Field(description="about:blank: the status says it all")
    title: str
    status: int
    detail: str = Field(description="what was expected and what came")
    field: str | None = Field(description="the part of the request at fault")
    calibration: str | None = Field(default=None, description="id of the report that says more")
    reasons: list[str] | None = Field(default=None, description="of the verdict, in words")


_PROBLEM = {"content": {"application/problem+json": {}}, "model": ProblemDetails}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, **_PROBLEM}
    for status, text in {
        400: "not a form", 401: "no token", 403: "another site's page", 404: "not there",
        409: "not in this state", 413: "too large", 415: "an unknown format",
        422: "cannot be used", 429: "too many at once",
        503: "the frame process does not answer", 507: "the disk is full",
    }.items()
}  # fmt: skip


class Now(BaseModel):
    """What frames are corrected with from the next one on."""

    id: str | None = Field(description="the active calibration; null for none")


class Listed(BaseModel):
    """A stored calibration in a list."""

    id: str = Field(description="12 hex digits of the content; in the header of every frame")
    state: State
    verdict: Verdict | None = Field(default=None, description="null for one without a report")
    proved: bool = Field(
        default=False, description="whether raw frames rule out every other meaning"
    )
    camera: str | None = None
    exposure_ms: float | None = None
    shape: Shape | None = Field(default=None, description="rows, columns that a frame must have")
    masked: int | None = Field(
        default=None, description="defective pixels, filled from their neighbours"
    )
    origin: str | None = Field(default=None, description="upload, or stream")
    uploaded_ns: int | None = Field(default=None, description="Unix time, ns")


class Stored(BaseModel):
    """What became of an upload."""

    id: str = Field(description="12 hex digits of the content; in the header of every later frame")
    active: bool = Field(description="whether frames are corrected with it now")
    state: State
    verdict: Verdict
    proved: bool = Field(description="whether raw frames rule out every other meaning")
    reasons: list[str] = Field(description="of the verdict, in words")
    shape: Shape = Field(description="rows, columns that a frame must have")
    masked: int = Field(description="defective pixels, filled from their neighbours")
    best: dict[str, Any] | None = Field(
        default=None, description="orientation and gain_convention that the frames speak for"
    )
    report: str = Field(description="where the report is")
    picture: str = Field(description="where the picture is")


class Report(Listed):
    """Everything that is known of a calibration."""

    reasons: list[str] = []
    orientation: str | None = None
    gain_convention: str | None = None
    references: dict[str, Any] = {}
    noise: dict[str, Any] | None = None
    frames_of: dict[str, Any] = {}
    proof: dict[str, Any] | None = None
    estimate: dict[str, Any] | None = Field(
        default=None, description="of a calibration from the stream"
    )
    picture: str | None = None


class Job(BaseModel):
    """A calibration that is being made of the live stream."""

    id: str
    state: Literal["collecting", "estimating", "done", "failed"]
    frames: int = Field(description="there so far")
    wanted: int
    skipped: int = Field(default=0, description="indices in between that did not arrive here")
    camera: str | None = None
    detail: str | None = Field(default=None, description="why it failed")
    calibration: str | None = Field(default=None, description="its id once it is done")
    active: bool = False
    verdict: Verdict | None = None
    reasons: list[str] = []
