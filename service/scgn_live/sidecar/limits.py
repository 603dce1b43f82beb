"""A cap on what a request may bring, held both by what it says and by what it really sends."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scgn_live.sidecar.problems import Problem, problem_response


class UploadLimit:
    """ASGI middleware: 413 for a body above `limit_bytes`, before it is stored anywhere."""

    def __init__(self, app: ASGIApp, limit_bytes: int) -> None:
        self._app = app
        self._limit = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self._limit:
            problem = self._too_large(declared.decode("latin-1"))
            await problem_response(problem)(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._limit:
                raise self._too_large(f"more than {self._limit}")
            return message

        await self._app(scope, counted, send)

    def _too_large(self, got: str) -> Problem:
        return Problem(413, "body", f"expected at most {self._limit} bytes, got {got}")
