"""What an operator does while frames run: calibrations and networks, over plain HTTP."""

from __future__ import annotations

import io
import json
import time
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

TIMEOUT_S = 90.0
POLL_S = 0.1  # often enough for a swap of a second; each question costs the service a turn
BUILD_S = 300.0


def ask(http: str, method: str, path: str, body: bytes | None = None, kind: str = "") -> Any:
    """The JSON that a request is answered with; urllib's HTTPError otherwise."""
    headers = {"Content-Type": kind} if kind else {}
    request = urllib.request.Request(f"{http}{path}", body, headers, method=method)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        return json.load(answer)


def upload(http: str, query: str, **parts: NDArray[Any]) -> str:
    """Post references without activating them; the calibration's id."""
    boundary = uuid.uuid4().hex
    body = b"".join(_part(boundary, name, array) for name, array in parts.items())
    body += f"--{boundary}--\r\n".encode()
    kind = f"multipart/form-data; boundary={boundary}"
    path = f"/calibrations?activate=false&{query}"
    return str(ask(http, "POST", path, body, kind)["id"])


def _part(boundary: str, name: str, array: NDArray[Any]) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    head = f'Content-Disposition: form-data; name="{name}"; filename="{name}.npy"'
    return f"--{boundary}\r\n{head}\r\n\r\n".encode() + content.getvalue() + b"\r\n"


def use_calibration(http: str, identity: str | None) -> None:
    """Correct with it from the next frame on; with none for None."""
    if identity is None:
        ask(http, "DELETE", "/calibrations/active")
    else:
        ask(http, "POST", f"/calibrations/{identity}/activate?force=true")


def use_model(http: str, name: str) -> str:
    """Have frames go through another network; its id once they do, RuntimeError otherwise."""
    ask(http, "POST", f"/models/{name}/activate")
    for state in _states(http):
        if state["state"] == "active":
            return str(state["model"])
        if state["state"] == "failed":
            raise RuntimeError(f"{name} is not used: {state['detail']}")
    raise RuntimeError(f"{name} is not in use after {BUILD_S:.0f} s")


def _states(http: str) -> Iterator[dict[str, Any]]:
    deadline_s = time.monotonic() + BUILD_S
    while time.monotonic() < deadline_s:
        yield ask(http, "GET", "/models")
        time.sleep(POLL_S)
