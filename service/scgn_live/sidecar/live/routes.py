"""The live view's routes: the page at `/`, its files under `/live/`, frames over a WebSocket."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request, WebSocket
from starlette.responses import Response
from starlette.websockets import WebSocketDisconnect

from scgn_live.curve import own_client_keys
from scgn_live.settings import Settings
from scgn_live.sidecar.live.board import StatusBoard
from scgn_live.sidecar.live.feed import LatestFeed, connectable
from scgn_live.sidecar.live.viewer import TRY_LATER, Guard, Refused, Viewer, let_in
from scgn_live.sidecar.problems import Problem
from scgn_live.sidecar.watch import FrameProcess

LOG = logging.getLogger(__name__)
PAGE = Path(__file__).parent / "page"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
}  # fmt: skip
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; connect-src 'self'; img-src 'self' blob: data:;"
    " object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
# How uvicorn should treat WebSockets: noise does not compress, and trying to takes milliseconds of
# everyone; a browser has only a few words to say.
WEBSOCKET_SERVER = {"ws_per_message_deflate": False, "ws_max_size": 4096}


@dataclass(frozen=True)
class PageFile:
    """One file of the page as it is served."""

    content: bytes
    media_type: str

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:16]}"'

    def response(self, known: str | None) -> Response:
        """200 with the content, or 304 when the browser's copy is the same."""
        headers = {**HEADERS, "ETag": self.etag}
        if known is not None and self.etag in [tag.strip() for tag in known.split(",")]:
            return Response(None, 304, headers)
        return Response(self.content, 200, headers, self.media_type)


def page_files() -> dict[str, PageFile]:
    """Every file of the page by name: nothing else is ever served."""
    return {
        path.name: PageFile(path.read_bytes(), MEDIA_TYPES[path.suffix])
        for path in sorted(PAGE.iterdir())
        if path.suffix in MEDIA_TYPES
    }


def add_live_view(app: FastAPI, settings: Settings, frames: FrameProcess, guard: Guard) -> None:
    """Serve the live view from `app`."""
    app.include_router(page_router())
    app.include_router(live_router(settings, frames, guard))


def page_router() -> APIRouter:
    """`GET /` and `GET /live/<file>`."""
    router, files = APIRouter(include_in_schema=False), page_files()

    @router.get("/")
    async def index(request: Request) -> Response:
        return files["index.html"].response(request.headers.get("if-none-match"))

    @router.get("/live/{name}")
    async def file(name: str, request: Request) -> Response:
        if name not in files:
            raise Problem(404, "name", f"expected one of {', '.join(files)}")
        return files[name].response(request.headers.get("if-none-match"))

    return router


def live_router(settings: Settings, frames: FrameProcess, guard: Guard) -> APIRouter:
    """`WS /live/frames`."""
    router = APIRouter()
    feed = LatestFeed(connectable(settings.latest), own_client_keys(settings))
    board = StatusBoard(frames, feed)

    @router.websocket("/live/frames")
    async def watch(socket: WebSocket) -> None:
        await socket.accept()  # a refusal before it could not say why
        try:
            await let_in(socket, guard)
            if board.viewers >= settings.viewers:
                raise Refused(TRY_LATER, f"{settings.viewers} browsers watch already")
            board.viewers += 1
            try:
                await Viewer(socket, feed, board, settings.viewer_fps).serve()
            finally:
                board.viewers -= 1
        except Refused as refusal:
            await socket.close(refusal.code, refusal.reason)
        except WebSocketDisconnect:
            pass

    return router
