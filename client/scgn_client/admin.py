"""The service's HTTP side, with the standard library alone: health, status, calibrations."""

from __future__ import annotations

import http.client
import io
import json
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from scgn_client.errors import FileFormatError, ServiceError
from scgn_client.files import read_frames
from scgn_client.messages import Array

HTTP = "http://127.0.0.1:8000"
Reference = NDArray[Any] | str | Path


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a frame sent now would be denoised; `reasons` in words when not."""

    ready: bool
    reasons: list[str]


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes

    def content(self, what: str) -> dict[str, Any]:
        """The body as a JSON object; ServiceError when something else came."""
        try:
            content = json.loads(self.body)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            got = self.body[:80].decode(errors="replace")
            raise ServiceError(f"{what}: expected a JSON object, got {got!r}", self.status)
        return content


class Admin:
    """A service's HTTP side.

    url: scheme, host and port; timeout_s: how long one request may stand still, s; token: sent as
    a bearer token when the service wants one. Every method raises ServiceError, with the HTTP
    status (None when nothing answered) and the service's own words.
    """

    def __init__(self, url: str = HTTP, timeout_s: float = 5.0, token: str | None = None) -> None:
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        self._token = token
        # A proxy of the environment is for the outside world, not for an instrument's network.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def live(self) -> bool:
        """Whether the HTTP side answers at all; False instead of an error when it does not."""
        try:
            return self._ask("GET", "/v2/health/live").status == 200
        except ServiceError:
            return False

    def ready(self) -> Readiness:
        """Whether frames flow, and if not, why."""
        path = "/v2/health/ready"
        content = self._ask("GET", path, accept=(200, 503)).content(path)
        if not isinstance(content.get("ready"), bool):
            raise ServiceError(f"{self.url}{path}: expected ready and reasons, got {content}")
        return Readiness(content["ready"], [str(reason) for reason in content.get("reasons") or []])

    def status(self) -> dict[str, Any]:
        """Ledgers, rates, latencies, network and calibration, as the service tells them."""
        return self._ask("GET", "/status").content("/status")

    def metrics(self) -> str:
        """Counters and gauges in Prometheus' text format."""
        return self._ask("GET", "/metrics").body.decode(errors="replace")

    def post_calibration(
        self,
        dark: Reference | None = None,
        gain: Reference | None = None,
        mask: Reference | None = None,
        gain_convention: Literal["multiply", "divide"] | None = None,
    ) -> dict[str, Any]:
        """Upload references, active from the next frame on; gives the service's answer (`id`, ...).

        Each is a (rows, columns) array or a file of one frame. dark: ADU; gain: needs
        gain_convention, `multiply` for corrected = (raw - dark) * gain, `divide` for / gain;
        mask: 1 where a pixel is defective. FileFormatError for a file that is no such thing.
        """
        given = {"dark": dark, "gain": gain, "mask": mask}
        parts = {k: npy_bytes(v, k) for k, v in given.items() if v is not None}
        if not parts:
            raise ServiceError("calibration: expected a dark, gain or mask, got none")
        if gain is not None and gain_convention is None:
            raise ServiceError("calibration: a gain needs gain_convention, multiply or divide")
        query = {"gain_convention": gain_convention} if gain_convention is not None else {}
        path = "/calibrations" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        body, content_type = multipart(parts)
        return self._ask("POST", path, body, content_type, accept=(200, 201)).content(path)

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str | None = None,
        accept: tuple[int, ...] = (200,),
    ) -> _Answer:
        headers = {"Content-Type": content_type} if content_type is not None else {}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        where = f"{method} {self.url}{path}"
        try:
            request = urllib.request.Request(self.url + path, body, headers, method=method)
            answer = self._exchange(request)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise ServiceError(f"{where}: no answer: {reason}") from error
        if answer.status not in accept:
            raise ServiceError(f"{where}: {answer.status} {_detail(answer)}", answer.status)
        return answer

    def _exchange(self, request: urllib.request.Request) -> _Answer:
        try:
            with self._opener.open(request, timeout=self.timeout_s) as response:
                return _Answer(response.status, response.read())
        except urllib.error.HTTPError as error:  # an answer too, only not a 2xx
            with error:
                return _Answer(error.code, error.read())


def _detail(answer: _Answer) -> str:
    """What the service says is wrong: `detail` of a problem, else the beginning of the body."""
    try:
        detail = json.loads(answer.body)["detail"]
    except (ValueError, KeyError, TypeError):
        detail = answer.body[:200].decode(errors="replace").strip()
    return detail if isinstance(detail, str) else json.dumps(detail)


def npy_bytes(reference: Reference, name: str = "reference") -> bytes:
    """A reference as the bytes of a .npy file; a file must hold exactly one frame."""
    frame = _only_frame(reference) if isinstance(reference, (str, Path)) else np.asarray(reference)
    if frame.ndim != 2 or frame.dtype.kind not in "biuf":
        got = f"{frame.dtype} of shape {frame.shape}"
        raise FileFormatError(f"{name}: expected numbers of (rows, columns), got {got}")
    buffer = io.BytesIO()
    np.save(buffer, frame, allow_pickle=False)
    return buffer.getvalue()


def _only_frame(path: str | Path) -> Array:
    frames = list(read_frames(path))
    if len(frames) != 1:
        raise FileFormatError(f"{path}: expected one frame, got {len(frames)}")
    return frames[0]


def multipart(parts: Mapping[str, bytes]) -> tuple[bytes, str]:
    """Body and content type of a multipart/form-data upload of .npy files."""
    boundary = uuid.uuid4().hex  # 128 random bits: not in the data
    lines: list[bytes] = []
    for name, content in parts.items():
        disposition = f'Content-Disposition: form-data; name="{name}"; filename="{name}.npy"'
        lines += [f"--{boundary}".encode(), disposition.encode()]
        lines += [b"Content-Type: application/octet-stream", b"", content]
    lines += [f"--{boundary}--".encode(), b""]
    return b"\r\n".join(lines), f"multipart/form-data; boundary={boundary}"


def ledger_line(ledger: Mapping[str, Any] | None) -> str:
    """A series' account in one line, in the order of its sum."""
    if ledger is None:
        return "no ledger"
    words = []
    for key in ("expected", "published", "dropped", "failed", "missing", "in_flight", "rejected"):
        value = ledger.get(key, 0)
        if isinstance(value, Mapping):
            reasons = ", ".join(f"{reason} {count}" for reason, count in value.items())
            value = f"{sum(value.values())}" + (f" ({reasons})" if reasons else "")
        words.append(f"{key} {value}")
    return ", ".join(words)


def flat_rows(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """A nested answer as rows of a table: dotted key and value; a series' ledger is one row."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from flat_rows(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for row in value:
                yield f"{row['source']}/{row['series']}", f"{row['state']}: {ledger_line(row)}"
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            yield prefix + key, "none" if shown in (None, "") else str(shown)
