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

HTTP = "http://127.0.0.1:8000"
UPLOAD_S = 90.0  # checking an upload may take the service a minute
ACTIVATE_S = 15.0  # a calibration is made ready for the device before it is used
# What the service reads itself; the client reads the others and sends their frames.
SENT_AS_IS = (
    ".npy", ".npz", ".tif", ".tiff", ".mrc", ".mrcs", ".h5", ".hdf5", ".nxs", ".emd", ".dm3",
    ".dm4", ".json",
)  # fmt: skip
Reference = NDArray[Any] | str | Path
Noise = Mapping[str, Any] | str | Path
Part = tuple[str, bytes]  # name and content of a file


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
        found: dict[str, Any] = self._json(what, dict, "a JSON object")
        return found

    def rows(self, what: str) -> list[dict[str, Any]]:
        """The body as a JSON array; ServiceError when something else came."""
        found: list[dict[str, Any]] = self._json(what, list, "a JSON array")
        return found

    def _json(self, what: str, kind: type, expected: str) -> Any:
        try:
            content = json.loads(self.body)
        except ValueError:
            content = None
        if not isinstance(content, kind):
            got = self.body[:80].decode(errors="replace")
            raise ServiceError(f"{what}: expected {expected}, got {got!r}", self.status)
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
        *,
        noise: Noise | None = None,
        calibration: str | Path | None = None,
        frames: Reference | None = None,
        orientation: str | None = None,
        camera: str | None = None,
        exposure_ms: float | None = None,
        activate: bool | None = None,
        force: bool = False,
    ) -> dict[str, Any]:
        """Upload references; gives what became of them: `id`, `active`, `verdict`, `reasons`, ...

        Each is a (rows, columns) array, a (frames, rows, columns) stack, which is averaged, or a
        file of either, as a camera program wrote it. dark: ADU; gain: needs gain_convention,
        `multiply` for corrected = (raw - dark) * gain, `divide` for / gain; mask: 1 where a pixel
        is defective; noise: a map or JSON file; calibration: a file of `scgn calibrate`, alone;
        frames: raw ones to prove it against, else the camera's last ones. orientation: what turns
        the files onto the frames; activate: None for if it is accepted; force: although it is
        suspicious. Waits 90 s at least; FileFormatError for files that are no frames.
        """
        given = {"dark": dark, "gain": gain, "mask": mask, "frames": frames, "noise": noise}
        given |= {"calibration": calibration}
        parts = {k: part_of(v, k) for k, v in given.items() if v is not None}
        if not parts:
            raise ServiceError("calibration: expected a dark, gain or mask, got none")
        if gain is not None and gain_convention is None:
            raise ServiceError("calibration: a gain needs gain_convention, multiply or divide")
        path = _path(
            "/calibrations", gain_convention=gain_convention, orientation=orientation,
            camera=camera, exposure_ms=exposure_ms, activate=activate, force=force or None,
        )  # fmt: skip
        body, content_type = multipart(parts)
        timeout_s = max(self.timeout_s, UPLOAD_S)
        answer = self._ask("POST", path, body, content_type, (200, 201), timeout_s)
        return answer.content(path)

    def calibrations(self) -> list[dict[str, Any]]:
        """Those that are stored, the newest first: `id`, `state`, `verdict`, `camera`, ..."""
        return self._ask("GET", "/calibrations").rows("/calibrations")

    def calibration(self, identity: str) -> dict[str, Any]:
        """The report of one: verdict, reasons in words, and the numbers of its proof."""
        path = f"/calibrations/{urllib.parse.quote(identity, safe='')}"
        return self._ask("GET", path).content(path)

    def activate(self, identity: str | None, force: bool = False) -> str | None:
        """Correct every frame from the next one on with this one, or with none; gives its id."""
        if identity is None:
            return self._now("DELETE", "/calibrations/active")
        place = f"/calibrations/{urllib.parse.quote(identity, safe='')}/activate"
        return self._now("POST", _path(place, force=force or None))

    def rollback(self) -> str | None:
        """Go back to what was in use before, be it none; gives its id."""
        return self._now("POST", "/calibrations/rollback")

    def _now(self, method: str, path: str) -> str | None:
        active = self._ask(method, path, timeout_s=max(self.timeout_s, ACTIVATE_S)).content(path)
        return None if active.get("id") is None else str(active["id"])

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str | None = None,
        accept: tuple[int, ...] = (200,),
        timeout_s: float | None = None,
    ) -> _Answer:
        headers = {"Content-Type": content_type} if content_type is not None else {}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        where = f"{method} {self.url}{path}"
        try:
            request = urllib.request.Request(self.url + path, body, headers, method=method)
            answer = self._exchange(request, self.timeout_s if timeout_s is None else timeout_s)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise ServiceError(f"{where}: no answer: {reason}") from error
        if answer.status not in accept:
            raise ServiceError(f"{where}: {answer.status} {_detail(answer)}", answer.status)
        return answer

    def _exchange(self, request: urllib.request.Request, timeout_s: float) -> _Answer:
        try:
            with self._opener.open(request, timeout=timeout_s) as response:
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


def _path(place: str, **query: Any) -> str:
    """A path with what of a query is not None."""
    words = {True: "true", False: "false"}
    given = {k: words[v] if isinstance(v, bool) else v for k, v in query.items() if v is not None}
    return place + (f"?{urllib.parse.urlencode(given)}" if given else "")


def part_of(given: Reference | Noise, name: str) -> Part:
    """What is uploaded under a name: files that the service reads as they are, others as .npy."""
    if isinstance(given, Mapping):
        return f"{name}.json", json.dumps(given).encode()
    suffix = Path(given).suffix.lower() if isinstance(given, (str, Path)) else None
    if suffix not in SENT_AS_IS:
        return f"{name}.npy", npy_bytes(given, name)
    try:
        return f"{name}{suffix}", Path(str(given)).read_bytes()
    except OSError as error:
        raise FileFormatError(f"{given}: {(error.strerror or str(error)).lower()}") from error


def npy_bytes(reference: Reference, name: str = "reference") -> bytes:
    """A frame or a stack, an array or a file that the client reads, as the bytes of a .npy file."""
    if isinstance(reference, (str, Path)):
        frames = list(read_frames(reference))
        if len(shapes := {frame.shape for frame in frames}) > 1:
            raise FileFormatError(f"{reference}: expected frames of one shape, got {shapes}")
        array = frames[0] if len(frames) == 1 else np.stack(frames)
    else:
        array = np.asarray(reference)
    if array.ndim not in (2, 3) or array.dtype.kind not in "biuf":
        got = f"{array.dtype} of shape {array.shape}"
        raise FileFormatError(f"{name}: expected numbers of (rows, columns) or a stack, got {got}")
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def multipart(parts: Mapping[str, bytes | Part]) -> tuple[bytes, str]:
    """Body and content type of a multipart/form-data upload of files; mere bytes are a .npy."""
    boundary = uuid.uuid4().hex  # 128 random bits: not in the data
    lines: list[bytes] = []
    for name, part in parts.items():
        filename, content = (f"{name}.npy", part) if isinstance(part, bytes) else part
        disposition = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"'
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
