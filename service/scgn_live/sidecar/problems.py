"""Errors as RFC 9457 problem+json: the field, what was expected, what came."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import JSONResponse


class Problem(Exception):
    """An answer other than success; `field` names the part of the request at fault."""

    def __init__(self, status: int, field: str | None, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.field = field
        self.detail = detail


def problem_response(problem: Problem) -> JSONResponse:
    """The answer to send for a problem."""
    content = {
        "type": "about:blank", "title": HTTPStatus(problem.status).phrase,
        "status": problem.status, "detail": problem.detail, "field": problem.field,
    }  # fmt: skip
    return JSONResponse(content, problem.status, media_type="application/problem+json")


async def on_problem(_: Request, error: Exception) -> JSONResponse:
    """Exception handler for Problem."""
    assert isinstance(error, Problem)
    return problem_response(error)


async def on_invalid(_: Request, error: Exception) -> JSONResponse:
    """Exception handler for a request that does not fit its declaration."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:]) or None
    return problem_response(Problem(422, field, f"{field}: {first['msg']}"))
