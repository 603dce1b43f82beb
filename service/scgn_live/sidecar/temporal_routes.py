"""How many frames the network may see together, over HTTP: for everybody who watches, at once."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from scgn_live.settings import Temporal, temporal_of
from scgn_live.sidecar.models import PROBLEMS
from scgn_live.sidecar.shelf import Shelf

ASK_S = 5.0


def _said(value: Any) -> Any:
    """Of every possible value at once what was expected, and what came."""
    try:
        return temporal_of(value)
    except ValueError as error:
        raise ValueError(f"{error}, got {value!r:.40}") from error


class TemporalValue(BaseModel):
    """The setting `temporal`."""

    model_config = ConfigDict(extra="forbid")

    temporal: Annotated[Temporal, BeforeValidator(_said)] = Field(
        description="auto: as many frames as help; off: each frame alone; or 2 to 16 frames"
    )


def temporal_router(shelf: Shelf) -> APIRouter:
    """The route, over the frame process."""
    router = APIRouter(tags=["temporal"], responses=PROBLEMS)

    @router.post("/temporal")
    async def post_temporal(wanted: TemporalValue) -> TemporalValue:
        """Holds from the next frame on, for every camera and every later network.

        `GET /status` tells it as `temporal`. A restart begins with the setting again.
        """
        answer = await shelf.asked(ASK_S, "use_temporal", temporal=wanted.temporal)
        return TemporalValue(temporal=answer["temporal"])

    return router
