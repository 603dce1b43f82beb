"""What tests of uploads share: references in every format, requests by hand, a filming camera."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import h5py
import mrcfile
import numpy as np
import tifffile
import uvicorn
from support import DEADLINE_S, wait_for

from scgn_client.camera import SimulatedCamera
from scgn_client.sender import FrameSender
from scgn_live.app import App
from scgn_live.running import RunningService, free_ports
from scgn_live.sidecar.app import build_app

Content = bytes | tuple[str, bytes]  # a file, and its name if that matters
Parts = Mapping[str, Content] | Sequence[tuple[str, str, bytes]]
HOLDS = {401: "WWW-Authenticate", 405: "Allow"}  # headers that a status must have


# Files.


def npy(array: Any) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    return content.getvalue()


def npz(**arrays: Any) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def tif(array: Any, **options: Any) -> bytes:
    content = io.BytesIO()
    tifffile.imwrite(content, array, **{"photometric": "minisblack", **options})
    return content.getvalue()


def mrc(array: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mrc"
        with mrcfile.new(path) as file:
            file.set_data(array)
        return path.read_bytes()


def h5(**datasets: Any) -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, array in datasets.items():
            file[name.replace("__", "/")] = array
    return content.getvalue()


def nxs(array: Any) -> bytes:
    """As NeXus lays a detector out."""
    return h5(entry__data__data=array, entry__title="flat")


def emd(array: Any) -> bytes:
    """As Velox lays an image out: the frame's number is the last axis."""
    stack = array if array.ndim == 3 else array[np.newaxis]
    return h5(Data__Image__abc__Data=np.moveaxis(stack, 0, -1))


def berkeley_emd(array: Any) -> bytes:
    """As openNCEM lays one out, axes beside it."""
    axes = {f"data__counts__dim{n + 1}": np.arange(side) for n, side in enumerate(array.shape)}
    return h5(data__counts__data=array, **axes)


WRITERS: dict[str, tuple[str, Callable[[Any], bytes]]] = {
    "npy": (".npy", npy), "npz": (".npz", lambda array: npz(frame=array)), "tif": (".tif", tif),
    "bigtiff": (".tiff", lambda array: tif(array, bigtiff=True, byteorder=">")),
    "deflated": (".tif", lambda array: tif(array, compression="zlib")), "mrc": (".mrc", mrc),
    "h5": (".h5", lambda array: h5(frames=array)), "hdf5": (".hdf5", lambda a: h5(a__b__c=a)),
    "nxs": (".nxs", nxs), "emd": (".emd", emd), "ncem": (".emd", berkeley_emd),
}  # fmt: skip


# Requests.


@dataclass(frozen=True)
class Answer:
    """What a service answered; header names in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes
    path: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def problem(self, status: int, field: str | None = None) -> dict[str, Any]:
        """Its problem details, which must be of that status and name that field."""
        assert self.status == status, f"{self.path}: {self.status} {self.body[:500]!r}"
        assert self.headers["content-type"] == "application/problem+json"
        found: dict[str, Any] = self.json
        assert found["status"] == status
        assert found["field"] == field
        return found


@dataclass(frozen=True)
class Http:
    """Requests to a service by hand; every one on a connection of its own."""

    host: str  # host:port
    token: str | None = None
    timeout_s: float = 110

    @classmethod
    def of(cls, service: RunningService, **changes: Any) -> Http:
        return cls(service.http.removeprefix("http://"), **changes)

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request; whatever comes back tells nothing of the server."""
        given = dict(headers or {})
        if self.token is not None:
            given.setdefault("Authorization", f"Bearer {self.token}")
        connection = http.client.HTTPConnection(self.host, timeout=self.timeout_s)
        with contextlib.closing(connection):
            connection.request(method, path, body, given)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            answer = Answer(response.status, found, response.read(), f"{method} {path}")
        tells_nothing(answer)
        return answer

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def post(self, path: str, **query: Any) -> Answer:
        return self.ask("POST", with_query(path, query))

    def delete(self, path: str) -> Answer:
        return self.ask("DELETE", path)

    def upload(self, parts: Parts, **query: Any) -> Answer:
        """POST /calibrations."""
        body, content_type = form(parts)
        path = with_query("/calibrations", query)
        return self.ask("POST", path, body, {"Content-Type": content_type})

    def stored(self, parts: Parts, **query: Any) -> dict[str, Any]:
        """The same, which must be accepted."""
        answer = self.upload(parts, **query)
        assert answer.status == 201, f"{answer.status} {answer.body[:500]!r}"
        found: dict[str, Any] = answer.json
        return found

    @property
    def active(self) -> str | None:
        """Id of the calibration that frames are corrected with, as the frame process says."""
        found: str | None = self.get("/status").json["calibration"]
        return found

    def ids(self) -> list[str]:
        return [row["id"] for row in self.get("/calibrations").json]


# What no answer may hold: places on the server and insides of the program.
SECRETS = ("/tmp/", "/usr/", "/home/", "/root/", "/work/", "site-packages", "Traceback", ", line ")


def tells_nothing(answer: Answer) -> None:
    """No path of the server, no traceback, no header that opens the service to other sites."""
    if answer.headers.get("content-type", "").startswith(("application/json", "application/pro")):
        text = answer.body.decode()
        found = [secret for secret in SECRETS if secret in text]
        assert not found, f"{answer.path}: the answer tells {found}: {text[:500]}"
    assert not any(name.startswith("access-control") for name in answer.headers)
    if answer.status in HOLDS:
        assert HOLDS[answer.status].lower() in answer.headers


def with_query(path: str, query: Mapping[str, Any]) -> str:
    words = {True: "true", False: "false"}
    given = {k: words[v] if isinstance(v, bool) else v for k, v in query.items()}
    return f"{path}?{urlencode(given)}" if given else path


def form(parts: Parts) -> tuple[bytes, str]:
    """Body and content type of a form with these files, by name or one after the other."""
    if isinstance(parts, Mapping):
        named = {k: v if isinstance(v, tuple) else (f"{k}.npy", v) for k, v in parts.items()}
        parts = [(name, *named[name]) for name in named]
    boundary = uuid.uuid4().hex
    lines = b""
    for name, filename, content in parts:
        lines += f"--{boundary}\r\nContent-Disposition: form-data; ".encode()
        lines += f'name="{name}"; filename="{filename}"\r\n\r\n'.encode() + content + b"\r\n"
    return lines + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


# A camera, and the HTTP side beside an App of this process.


@contextlib.contextmanager
def filming(
    ingest: str,
    camera: SimulatedCamera,
    source: str = "cam",
    rate_fps: float = 60,
    exposure_ms: float | None = None,
) -> Iterator[Callable[[], int]]:
    """A camera that films all the time; call what is yielded for how many frames it has sent."""
    frames = [camera.frame(i).raw for i in range(48)]
    over = threading.Event()
    sender = FrameSender(ingest, source, timeout_s=DEADLINE_S, exposure_ms=exposure_ms)

    def film() -> None:
        with sender:
            while not over.wait(1 / rate_fps):
                sender.send(frames[sender.next_frame % len(frames)])

    thread = threading.Thread(target=film)
    thread.start()
    try:
        yield lambda: sender.next_frame
    finally:
        over.set()
        thread.join(DEADLINE_S)


@contextlib.contextmanager
def sidecar(app: App) -> Iterator[Http]:
    """The HTTP side over a real server beside `app`, in this process, so that it can be tampered
    with.
    """
    (port,) = free_ports(1)
    built = build_app(app.settings, f"ipc://{app.settings.state_dir}/control")
    config = uvicorn.Config(built, "127.0.0.1", port, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started, "the sidecar listening")
        yield Http(f"127.0.0.1:{port}")
    finally:
        server.should_exit = True
        thread.join(DEADLINE_S)


def checkers_of(service: RunningService) -> list[int]:
    """Pids of the processes that check uploads of a service now."""
    http_pid, found = service.pid_of("http"), []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            child = f"PPid:\t{http_pid}\n" in (folder / "status").read_text()
            if child and b"scgn_live.checking\0" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def slow_npz(side: int = 1600) -> bytes:
    """A small file that takes seconds to check."""
    return npz(frame=np.random.default_rng(1).integers(0, 2, (side, side), np.uint8))
