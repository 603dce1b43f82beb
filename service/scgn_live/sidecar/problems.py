"""Errors as RFC 9457 problem+json: the field, what was expected, what came."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import compile_path


class Problem(HTTPException):
    """An answer other than success; `field` names the part of the request at fault.

    An HTTPException, because FastAPI turns every other error of a body's reading into a 400.
    """

    def __init__(self, status: int, field: str | None, detail: str) -> None:
        super().__init__(status, detail)
        self.field = field
        self.more: dict[str, Any] = {}  # members beside those of the RFC


def problem_response(problem: Problem) -> JSONResponse:
    """The answer to send for a problem."""
    content = {
        "type": "about:blank", "title": HTTPStatus(problem.status_code).phrase,
        "status": problem.status_code, "detail": problem.detail, "field": problem.field,
        **problem.more,
    }  # fmt: skip
    return JSONResponse(content, problem.status_code, problem.headers, "application/problem+json")


async def on_problem(request: Request, error: Exception) -> JSONResponse:
    """Exception handler for Problem, and for what the framework itself refuses."""
    assert isinstance(error, HTTPException)
    if not isinstance(error, Problem):
        problem = Problem(error.status_code, None, str(error.detail))
        problem.headers = error.headers
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            problem.headers = _allowed(request) or error.headers
        return problem_response(problem)
    return problem_response(error)


def _allowed(request: Request) -> dict[str, str] | None:
    """All that may be done with a path; the framework tells what its first route does."""
    known, path = request.app.openapi()["paths"], request.url.path
    fitting = (template for template in known if compile_path(template)[0].match(path))
    template = path if path in known else next(fitting, None)
    if template is None:
        return None
    return {"Allow": ", ".join(sorted(map(str.upper, known[template])))}


async def on_error(_: Request, error: Exception) -> JSONResponse:
    """Exception handler for what nobody expected: its kind is told, its words are in the log."""
    return problem_response(Problem(500, None, f"internal error ({type(error).__name__})"))


async def on_invalid(_: Request, error: Exception) -> JSONResponse:
    """Exception handler for a request that does not fit its declaration."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = str(first["loc"][1]) if len(first["loc"]) > 1 else None
    text = first["msg"].removeprefix("Value error, ")
    return problem_response(Problem(422, field, f"{field}: {text}"))
