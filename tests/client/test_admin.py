"""Health, status and calibrations against a real HTTP server, by the client and its commands."""

from __future__ import annotations

import email
import email.policy
import io
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scgn_client import FileFormatError, ServiceError
from scgn_client.admin import Admin
from scgn_client.camera import SimulatedCamera
from scgn_client.cli import main


class Service(ThreadingHTTPServer):
    """The HTTP side as the client sees it; `answers` maps a path to a status and a body."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, tuple[int, bytes]] = {
            "/v2/health/live": (200, b'{"live": true}'),
            "/v2/health/ready": (200, b'{"ready": true, "reasons": []}'),
            "/status": (
                200,
                b'{"model": "tiny", "ring": {"free": 4}, "series": [{"source": "cam", "series": '
                b'"s1", "state": "open", "expected": 4, "published": 3, "missing": 1}]}',
            ),
            "/metrics": (200, b"scgn_frames_total 3\n"),
            "/calibrations": (201, b'{"id": "abc123", "active": true}'),
        }
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.slow_s = 0.0  # before an answer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        time.sleep(self.server.slow_s)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.path, dict(self.headers), body))
        status, content = self.server.answers.get(
            self.path.split("?")[0], (404, b'{"detail": "Not Found"}')
        )
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def uploaded_files(service: Service) -> tuple[str, dict[str, tuple[str, Any]]]:
    """Query and files of the last upload, read by another library than the one that wrote it."""
    path, headers, body = service.requests[-1]
    head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    files = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        files[str(name)] = str(part.get_filename()), part.get_payload(decode=True)
    return path.partition("?")[2], files


def uploaded(service: Service) -> tuple[str, dict[str, np.ndarray]]:
    """Query and arrays of the last upload."""
    query, files = uploaded_files(service)
    assert all(filename == f"{name}.npy" for name, (filename, _) in files.items())
    arrays = {k: np.load(io.BytesIO(v), allow_pickle=False) for k, (_, v) in files.items()}
    return query, arrays


def test_admin_reads_health_status_and_metrics(service: Service) -> None:
    admin = Admin(service.url + "/", token="secret")
    assert admin.live()
    assert admin.ready().ready
    assert admin.status()["model"] == "tiny"
    assert admin.metrics() == "scgn_frames_total 3\n"
    assert all(h["Authorization"] == "Bearer secret" for _, h, _ in service.requests)
    service.answers["/v2/health/ready"] = (503, b'{"ready": false, "reasons": ["warming up"]}')
    assert not admin.ready().ready
    assert admin.ready().reasons == ["warming up"]


@pytest.mark.parametrize(
    ("status", "body", "complaint"),
    [
        (422, b'{"detail": "dark: expected 2-D"}', "422 dark: expected 2-D"),
        (422, b'{"detail": [{"loc": ["query"]}]}', '422 [{"loc": ["query"]}]'),
        (500, b"Internal Server Error", "500 Internal Server Error"),
        (200, b"[1, 2]", "expected a JSON object, got '[1, 2]'"),
        (200, b"\xff\x00", "expected a JSON object"),
    ],
)
def test_admin_errors_carry_the_services_words(
    service: Service, status: int, body: bytes, complaint: str
) -> None:
    service.answers["/status"] = (status, body)
    with pytest.raises(ServiceError) as raised:
        Admin(service.url).status()
    assert raised.value.status == status
    assert complaint in str(raised.value)


def test_admin_without_a_service() -> None:
    admin = Admin("http://127.0.0.1:1", timeout_s=1)
    assert not admin.live()
    with pytest.raises(ServiceError, match="no answer") as raised:
        admin.ready()
    assert raised.value.status is None


def test_calibrate_uploads_files(service: Service, tmp_path: Path, capsys: Any) -> None:
    camera = SimulatedCamera((16, 24))
    camera.save_references(tmp_path)
    Image.fromarray(camera.pixel_mask).save(tmp_path / "mask.png")
    files = {"dark": "dark.npy", "gain": "gain.npy", "mask": "mask.png"}
    args = [word for name, file in files.items() for word in (f"--{name}", str(tmp_path / file))]
    (tmp_path / "token").write_text("secret\n")
    args += ["--url", service.url, "--token-file", str(tmp_path / "token")]
    assert main(["calibrate", *args, "--gain-convention", "multiply"]) == 0
    assert "id abc123" in capsys.readouterr().out
    query, arrays = uploaded(service)
    assert query == "gain_convention=multiply"
    np.testing.assert_array_equal(arrays["dark"], camera.dark_reference)
    np.testing.assert_array_equal(arrays["gain"], camera.gain_reference)
    np.testing.assert_array_equal(arrays["mask"], camera.pixel_mask)
    assert service.requests[-1][1]["Authorization"] == "Bearer secret"


def test_arrays_are_uploaded_as_they_are(service: Service) -> None:
    dark = np.arange(6, dtype=np.float64).reshape(2, 3)
    stack = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    assert Admin(service.url).post_calibration(dark, mask=stack)["id"] == "abc123"
    query, arrays = uploaded(service)
    assert query == ""
    assert list(arrays) == ["dark", "mask"]
    assert arrays["dark"].dtype == np.float64
    np.testing.assert_array_equal(arrays["dark"], dark)
    np.testing.assert_array_equal(arrays["mask"], stack)


@pytest.mark.parametrize("ending", [".tif", ".MRC", ".h5", ".nxs", ".emd", ".dm4", ".npz"])
def test_a_camera_programs_files_are_uploaded_byte_for_byte(
    service: Service, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f'with "quotes" ü{ending}'
    path.write_bytes(b"whatever\r\n--x\x00")
    Admin(service.url).post_calibration(dark=path, frames=str(path))
    expected = (f"dark{ending.lower()}", b"whatever\r\n--x\x00")
    _, files = uploaded_files(service)
    assert files == {"dark": expected, "frames": (f"frames{ending.lower()}", expected[1])}


def test_folders_and_pictures_go_as_a_stack_of_frames(service: Service, tmp_path: Path) -> None:
    for index in range(3):
        Image.fromarray(np.full((4, 5), index, np.uint8)).save(tmp_path / f"{index}.png")
    Admin(service.url).post_calibration(dark=tmp_path)
    _, arrays = uploaded(service)
    assert arrays["dark"].shape == (3, 4, 5)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "3.png")
    with pytest.warns(UserWarning, match="not every frame"):
        with pytest.raises(FileFormatError, match="expected frames of one shape"):
            Admin(service.url).post_calibration(dark=tmp_path)


def test_whatever_is_said_of_an_upload_is_in_its_query(service: Service, tmp_path: Path) -> None:
    noise = {"gain_adu_per_e": 2.0, "read_noise_adu": 3.0}
    Admin(service.url).post_calibration(
        np.ones((2, 3)), noise=noise, orientation="rotate-90", camera="cam", exposure_ms=2.5,
        activate=False, force=True,
    )  # fmt: skip
    query, files = uploaded_files(service)
    said = "orientation=rotate-90&camera=cam&exposure_ms=2.5&activate=false&force=true"
    assert query == said
    assert files["noise"] == ("noise.json", json.dumps(noise).encode())
    (tmp_path / "c.npz").write_bytes(b"PK")
    Admin(service.url).post_calibration(calibration=tmp_path / "c.npz")
    assert uploaded_files(service) == ("", {"calibration": ("calibration.npz", b"PK")})


def test_an_upload_waits_longer_than_a_question(service: Service) -> None:
    service.slow_s = 0.4
    admin = Admin(service.url, timeout_s=0.1)
    with pytest.raises(ServiceError, match="no answer"):
        admin.status()
    assert admin.post_calibration(np.ones((2, 3)))["id"] == "abc123"


ROW: dict[str, Any] = {
    "id": "abc123",
    "state": "active",
    "verdict": "accepted",
    "shape": [4, 5],
    "camera": None,
}


def test_calibrations_are_listed_read_activated_and_rolled_back(service: Service) -> None:
    service.answers |= {
        "/calibrations": (200, json.dumps([ROW]).encode()),
        "/calibrations/abc123": (200, b'{"verdict": "accepted"}'),
        "/calibrations/abc123/activate": (200, b'{"id": "abc123"}'),
        "/calibrations/rollback": (200, b'{"id": null}'),
        "/calibrations/active": (200, b'{"id": null}'),
    }
    admin = Admin(service.url)
    assert admin.calibrations() == [ROW]
    assert admin.calibration("abc123") == {"verdict": "accepted"}
    assert admin.activate("abc123") == "abc123"
    assert admin.activate("abc123", force=True) == "abc123"
    assert service.requests[-1][0] == "/calibrations/abc123/activate?force=true"
    assert admin.rollback() is None
    assert admin.activate(None) is None
    assert service.requests[-1][0] == "/calibrations/active"
    with pytest.raises(ServiceError, match="404 Not Found"):
        admin.calibration("../status")
    assert service.requests[-1][0] == "/calibrations/..%2Fstatus"
    service.answers["/calibrations"] = (200, b"{}")
    with pytest.raises(ServiceError, match="expected a JSON array"):
        admin.calibrations()


def test_calibrate_says_what_became_of_it(service: Service, tmp_path: Path, capsys: Any) -> None:
    best = {"orientation": "rotate-90", "gain_convention": None, "removed": 0.91234}
    stored = {**ROW, "active": False, "state": "staged", "verdict": "suspicious", "best": best}
    stored["reasons"] = ["as posted it makes the pattern worse", "post it rotated"]
    service.answers["/calibrations"] = (201, json.dumps(stored).encode())
    np.save(tmp_path / "dark.npy", np.ones((4, 5)))
    args = ["calibrate", "--url", service.url, "--dark", str(tmp_path / "dark.npy")]
    assert main([*args, "--camera", "cam", "--exposure-ms", "3"]) == 1, "kept, but not in use"
    out = capsys.readouterr().out.splitlines()
    assert out == [
        "id abc123  state staged  verdict suspicious  shape 4 x 5  active False",
        "reason: as posted it makes the pattern worse", "reason: post it rotated",
        "the frames speak for: orientation rotate-90  removed 0.9123",
    ]  # fmt: skip
    assert main([*args, "--no-activate"]) == 0
    assert service.requests[-1][0] == "/calibrations?activate=false"
    assert main([*args, "--activate", "--force", "--orientation", "transpose"]) == 1
    assert service.requests[-1][0].endswith("?orientation=transpose&activate=true&force=true")


def test_calibrations_command(service: Service, capsys: Any) -> None:
    service.answers |= {
        "/calibrations": (200, json.dumps([ROW, {**ROW, "id": "def456"}]).encode()),
        "/calibrations/abc123": (200, b'{"verdict": "accepted"}'),
        "/calibrations/abc123/activate": (200, b'{"id": "abc123"}'),
        "/calibrations/rollback": (200, b'{"id": null}'),
    }
    command = ["calibrations", "--url", service.url]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[1] == "id def456  state active  verdict accepted  shape 4 x 5"
    assert main([*command, "--report", "abc123"]) == 0
    assert json.loads(capsys.readouterr().out) == {"verdict": "accepted"}
    assert main([*command, "--activate", "abc123", "--force"]) == 0
    assert main([*command, "--rollback"]) == 0
    assert capsys.readouterr().out == "active abc123\nactive none\n"
    assert main([*command, "--report", "none"]) == 2
    service.answers["/calibrations/rollback"] = (409, b'{"detail": "none was active before"}')
    assert main([*command, "--rollback"]) == 2
    assert "409 none was active before" in capsys.readouterr().err


def test_calibrations_that_cannot_be_meant(service: Service, tmp_path: Path) -> None:
    admin = Admin(service.url)
    with pytest.raises(ServiceError, match="needs gain_convention"):
        admin.post_calibration(gain=np.ones((2, 3)))
    with pytest.raises(FileFormatError, match=r"dark: expected numbers of \(rows, columns\)"):
        admin.post_calibration(dark=np.ones(3))
    with pytest.raises(FileFormatError, match=r"absent\.tif: no such file"):
        admin.post_calibration(dark=tmp_path / "absent.tif")
    with pytest.raises(FileFormatError, match=r"absent\.png: no such file"):
        admin.post_calibration(dark=tmp_path / "absent.png")
    assert service.requests == []


def test_status_table_json_and_exit(service: Service, capsys: Any) -> None:
    assert main(["status", "--url", service.url]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["ready"] == "True"
    assert rows["model"] == "tiny"
    assert rows["ring.free"] == "4"
    assert rows["cam/s1"].startswith("open: expected 4, published 3, ")
    service.answers["/v2/health/ready"] = (503, b'{"ready": false, "reasons": ["no frames"]}')
    service.answers["/status"] = (503, b'{"detail": "frame process is gone"}')
    assert main(["status", "--url", service.url, "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert (shown["ready"], shown["reasons"]) == (False, ["no frames"])
    assert "frame process is gone" in shown["status"]["error"]
