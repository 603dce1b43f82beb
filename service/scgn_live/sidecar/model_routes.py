"""Networks over HTTP: which there are, and another one without a gap."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from scgn_live.sidecar.models import PROBLEMS
from scgn_live.sidecar.shelf import Shelf

ASK_S = 5.0
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="or id of a network")]


class Models(BaseModel):
    """Networks, and how the last change of them stands."""

    models: list[str] = Field(description="names that may be used")
    model: str = Field(description="id of the network that frames go through now, as in the frames")
    asked: str = Field(description="the name that was asked for last")
    state: Literal["active", "building", "failed"] = Field(description="of what was asked for")
    detail: str = Field(description="the step of a build, or why it failed; frames go on meanwhile")


def model_router(shelf: Shelf) -> APIRouter:
    """The routes, over the frame process."""
    router = APIRouter(prefix="/models", tags=["models"], responses=PROBLEMS)

    async def asked(verb: str, **what: Any) -> Models:
        return Models(**await shelf.asked(ASK_S, verb, **what))

    @router.get("")
    async def get_models() -> Models:
        """Poll this while one is `building`."""
        return await asked("models")

    @router.post("/{name}/activate", status_code=202)
    async def activate_model(name: Name) -> Models:
        """Build and warm it aside, then swap it in between two frames; each frame names its own.

        A network that fails on its first frames is taken back. A restart of the service begins with
        the setting `network` again.
        """
        return await asked("use_model", name=name)

    @router.post("/rollback", status_code=202)
    async def rollback() -> Models:
        """The network that was used before."""
        return await asked("previous_model")

    return router
