"""Uploads from anyone: caps, bombs, lies, other people's files, limits that hold; nothing changes.

How single files are read is in test_upload_readers, hundreds of damaged ones in test_upload_fuzz.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pickle
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from support import wait_for
from uploads import Answer, Http, checkers_of, form, mrc, npy, npz, slow_npz, tif

from scgn_live.checking.files import CheckError, Task
from scgn_live.checking.limits import NICE
from scgn_live.checking.upload import check_upload
from scgn_live.running import RunningService, start_service

SHAPE = (20, 24)
CAP = 1_000_000  # bytes of a request
CHECK_MB = 350  # of address space; the libraries take a good part of it
CHECK_S = 4.0
AUTOGROUPS = Path("/proc/sys/kernel/sched_autogroup_enabled")
ONE = np.ones(SHAPE, np.float32)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    state = tmp_path_factory.mktemp("state")
    flags = ["--state-dir", str(state), "--engine", "pass-through", "--check-s", str(CHECK_S)]
    flags += ["--max-upload-mb", str(CAP / 1e6), "--check-mb", str(CHECK_MB)]
    running = start_service(flags)
    yield running
    assert running.stop() == 0
    log = running.log.read_text()
    assert "Exception in ASGI" not in log
    assert '"process ended"' not in log
    running.log.unlink()


@pytest.fixture
def web(service: RunningService) -> Http:
    return Http.of(service)


@pytest.fixture(autouse=True)
def untouched(web: Http) -> Iterator[None]:
    """What is in use, what is stored and the processes are the same after every test."""
    if not web.ids():
        web.stored({"dark": npy(100 * ONE)})
    before = (web.active, web.ids())
    yield
    assert (web.active, web.ids()) == before
    assert web.get("/readyz").status == 200


# Caps.


def head_only(web: Http, length: str) -> Answer:
    """The answer to an upload of which only the head was sent."""
    head = f"POST /calibrations HTTP/1.1\r\nHost: {web.host}\r\nContent-Length: {length}\r\n"
    head += "Content-Type: multipart/form-data; boundary=x\r\nExpect: 100-continue\r\n\r\n"
    name, port = web.host.split(":")
    with socket.create_connection((name, int(port)), timeout=10) as connection:
        connection.sendall(head.encode())
        response = http.client.HTTPResponse(connection)
        response.begin()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read(), length)


def test_what_says_that_it_is_too_large_is_refused_unread(web: Http) -> None:
    for length in (CAP + 1, 10**15, 10**19):
        problem = head_only(web, str(length)).problem(413, "body")
        assert problem["detail"] == f"expected at most {CAP} bytes, got {length}"


@pytest.mark.parametrize("length", ["-1", "many", "1e3", "", "9" * 400, "+5", "0x10"])
def test_lengths_that_are_none_are_4xx(web: Http, length: str) -> None:
    assert 400 <= head_only(web, length).status < 500


def chunked(web: Http, pieces: Any) -> Answer:
    """An upload that does not say how long it is."""
    headers = {"Content-Type": "multipart/form-data; boundary=x", "Transfer-Encoding": "chunked"}
    with contextlib.closing(http.client.HTTPConnection(web.host, timeout=20)) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request("POST", "/calibrations", pieces, headers, encode_chunked=True)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read(), "chunked")


@pytest.mark.parametrize("named", [True, False], ids=["a file", "a field"])
def test_what_grows_too_large_is_refused_and_kept_nowhere(
    service: RunningService, web: Http, named: bool
) -> None:
    name = b'; filename="a"' if named else b""
    head = b'--x\r\nContent-Disposition: form-data; name="dark"' + name + b"\r\n\r\n"
    before_mb = memory_mb(service.pid_of("http"))
    answer = chunked(web, (head if number == 0 else bytes(100_000) for number in range(1000)))
    answer.problem(413, "body")
    assert memory_mb(service.pid_of("http")) < before_mb + 30, "100 MB came"


def memory_mb(pid: int) -> float:
    words = Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()
    return float(words[0]) / 1000


def test_forms_that_are_none_are_4xx(web: Http) -> None:
    body, content_type = form({"dark": npy(ONE)})
    multipart = {"Content-Type": content_type}
    assert web.ask("POST", "/calibrations", body[:200], multipart).status in (400, 422)
    assert web.ask("POST", "/calibrations", b"\r\n" * 1000, multipart).status in (400, 422)
    for kind in ("multipart/form-data", "multipart/form-data; boundary=" + "x" * 300, "text/plain",
                 "multipart/form-data; boundary=other", "application/x-www-form-urlencoded",
                 "multipart/form-data; boundary=x; charset=punycode"):  # fmt: skip
        assert 400 <= web.ask("POST", "/calibrations", body, {"Content-Type": kind}).status < 500
    many = [(f"f{number}", "a", b"") for number in range(1200)]
    web.upload(many).problem(400)
    fields = "&".join(f"dark={number}" for number in range(1200)).encode()
    urlencoded = {"Content-Type": "application/x-www-form-urlencoded"}
    assert web.ask("POST", "/calibrations", fields, urlencoded).status == 400
    plain = b'--x\r\nContent-Disposition: form-data; name="dark"\r\n\r\nwords\r\n--x--\r\n'
    multipart = {"Content-Type": "multipart/form-data; boundary=x"}
    web.ask("POST", "/calibrations", plain, multipart).problem(422, "dark")


def test_a_client_that_goes_away_leaves_nothing(service: RunningService, web: Http) -> None:
    body, content_type = form({"dark": slow_npz(600)})
    name, port = web.host.split(":")
    head = f"POST /calibrations HTTP/1.1\r\nHost: {web.host}\r\nContent-Length: {len(body)}\r\n"
    head += f"Content-Type: {content_type}\r\n\r\n"
    with socket.create_connection((name, int(port)), timeout=10) as connection:
        connection.sendall(head.encode() + body[: len(body) // 2])
    assert web.get("/readyz").status == 200


# Files that are none, and files that lie.


@pytest.mark.parametrize(
    ("called", "content"),
    [
        ("dark.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(3000)), ("a.npy", b"1 2 3\n4 5 6\n"),
        ("dark.pkl", pickle.dumps(ONE)), ("../../../../tmp/up.sh", b"#!/bin/sh\n"),
        ("..\\..\\boot.ini", b"MZ" + bytes(3000)), ("dark.npy", b""), ("", bytes(1000)),
    ],
    ids=["jpeg", "text", "pickle", "climbs", "climbs back", "empty", "nameless"],
)  # fmt: skip
def test_other_files_are_415(web: Http, called: str, content: bytes) -> None:
    problem = web.upload({"dark": (called, content)}).problem(415, "dark")
    assert "expected one of .npy .npz .tif" in problem["detail"]


def bombs(tmp_path: Path) -> dict[str, bytes]:
    zeros = np.zeros((45, 1500, 1500), np.uint8)
    with h5py.File(tmp_path / "chunks.h5", "w") as file:
        file.create_dataset("a", data=zeros, chunks=(1, 1500, 1500), compression="gzip")
    with h5py.File(tmp_path / "vast.h5", "w") as file:
        file.create_dataset("a", (10**6, 10**6), "u2", chunks=(64, 64), fillvalue=1)
    lie = bytearray(mrc(ONE))
    lie[92:96] = struct.pack("<i", 2**31 - 1)  # length of the extended header
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }"
    vast = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header.ljust(117) + b"\n"
    found = {
        "npz": npz(a=zeros), "tif": tif(zeros, compression="zlib"), "mrc": bytes(lie),
        "h5 chunks": (tmp_path / "chunks.h5").read_bytes(), "npy": vast,
        "h5 vast": (tmp_path / "vast.h5").read_bytes(),
    }  # fmt: skip
    assert all(len(content) < CAP for content in found.values())
    return found


def test_bombs_are_defused(web: Http, tmp_path: Path) -> None:
    for name, content in bombs(tmp_path).items():
        answer = web.upload({"dark": content})
        assert answer.status in (413, 422), (name, answer.body)
        assert "expected" in answer.json["detail"], name


WRONG: list[tuple[str, Any, str]] = [
    ("dark", np.where(ONE > 0, np.nan, 0), "expected finite values, got 480 that are not"),
    ("dark", ONE * np.inf, "expected finite values, got 480 that are not"),
    ("dark", ONE.astype(np.float64) * 1e300, "expected sizes of 0 to 1e+15, got 1e+300 to 1e+300"),
    ("gain", -ONE, "expected positive values, got 480 below"),
    ("gain", ONE * 0, "expected at most 50% masked (1 is defective), got 100.0%"),
    ("gain", ONE * 1e-20, "expected sizes of 1e-15 to 1e+15, got 1e-20 to 1e-20"),
    ("mask", ONE, "expected bool or integer (NeXus), got dtype float32"),
    ("dark", ONE.astype(complex), "expected real numbers, got dtype complex128"),
    ("dark", np.ones(9), "expected rows x columns, or frames x rows x columns, not empty, got"),
    ("dark", np.ones((1, 5000), np.uint8), "expected at most 4096 x 4096 px, got 1 x 5000"),
    ("frames", np.where(ONE > 0, np.nan, 0), "expected finite values, got some that are not"),
]


def test_wrong_numbers_are_422_that_say_field_expected_and_got(web: Http) -> None:
    for part, array, said in WRONG:
        parts = {part: npy(array)} | ({"dark": npy(ONE)} if part == "frames" else {})
        answer = web.upload(parts, gain_convention="multiply")
        field = "mask" if "masked" in said else part
        detail = answer.problem(422, field)["detail"]
        assert detail.startswith(f"{field}: {said}"), detail


NOISES: list[Any] = [
    b"", b"{", b"[]", b"null", b"7", b'"x"', b"\xff\xfe", b"{}", b"[" * 100_000, b'{"a": 1}',
    b'{"gain_adu_per_e": 1, "read_noise_adu": NaN}',
    b'{"gain_adu_per_e": 1e999, "read_noise_adu": 1}',
    b'{"gain_adu_per_e": 1, "read_noise_adu": ' + b"9" * 5000 + b"}",
    b'{"gain_adu_per_e": 1, "read_noise_adu": ' + b"9" * 500 + b"}",
    {"autocorrelation": "x"}, {"autocorrelation": [[1, 2]]}, {"autocorrelation": [[2]]},
    {"autocorrelation": [[[1]]]}, {"autocorrelation": [[1], [1, 2]]}, {"autocorrelation": None},
    {"line_axis": "diagonal"}, {"line_axis": ["row"]}, {"line_axis": {}}, {"line_correlation": 2},
    {"read_noise_adu": -1}, {"read_noise_adu": "3"}, {"read_noise_adu": [1, 2]}, {"format": "x"},
    b" " * 1_000_001,
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(NOISES)))
def test_noise_that_no_camera_has_is_named(tmp_path: Path, number: int) -> None:
    noise = NOISES[number]
    if not isinstance(noise, bytes):
        noise = json.dumps({"gain_adu_per_e": 1, "read_noise_adu": 1, **noise}).encode()
    (tmp_path / "noise").write_bytes(noise)
    (tmp_path / "dark").write_bytes(npy(ONE))
    task = Task("upload", {"dark": "a.npy", "noise": "n.json"})
    with pytest.raises((CheckError, ValueError), match="noise: expected") as caught:
        check_upload(tmp_path, task)
    assert getattr(caught.value, "field", None) == "noise"


# Other people's files.


def test_files_of_the_server_stay_with_the_server(web: Http, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(np.full(SHAPE, 4242, "<i2").tobytes())
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["a"] = np.full(SHAPE, 4242, "<i2")
    layout = h5py.VirtualLayout(SHAPE, "<i2")
    layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "a", SHAPE)
    for name in ("external", "virtual", "link"):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            if name == "external":
                outside = [(str(secret), 0, h5py.h5f.UNLIMITED)]
                file.create_dataset("entry/data", SHAPE, "<i2", external=outside)
            elif name == "virtual":
                file.create_virtual_dataset("entry/data", layout)
            else:
                file["entry/data"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "a")
        content = (tmp_path / f"{name}.h5").read_bytes()
        problem = web.upload({"dark": ("a.nxs", content)}).problem(422, "dark")
        assert "4242" not in problem["detail"]


def test_a_tif_that_names_one_of_the_server_gets_only_itself(web: Http, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "secret.tif", np.full(SHAPE, 4242, np.uint16), metadata=None)
    planes = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{z}</UUID>'
        "</TiffData>"
        for z, name in enumerate(("dark", tmp_path / "secret.tif"))
    )
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        'UUID="urn:uuid:0"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" '
        'Type="uint16" SizeX="24" SizeY="20" SizeC="1" SizeZ="2" SizeT="1">'
        f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>'
    )
    content = tif(np.full(SHAPE, 3, np.uint16), description=xml, metadata=None)
    stored = web.stored({"dark": ("a.ome.tif", content)}, activate=False)
    try:
        told = web.get(stored["report"]).json["references"]["dark"]
        assert (told["frames"], told["mean"]) == (1, 3.0), "a frame that is not of the upload"
    finally:
        web.delete(f"/calibrations/{stored['id']}")


# Limits that hold.


@contextlib.contextmanager
def checking(service: RunningService, web: Http, content: bytes) -> Iterator[tuple[int, Any]]:
    """An upload that is being checked: the pid of its check, and a list for its answer."""
    wait_for(lambda: not checkers_of(service), "the last picture being drawn")
    answers: list[Answer] = []

    def upload() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):  # the service is ended
            answers.append(web.upload({"dark": content}))

    thread = threading.Thread(target=upload)
    thread.start()
    try:
        (pid,) = wait_for(lambda: checkers_of(service), "a check")
        yield pid, answers
    finally:
        thread.join(30)
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the check being over", 5)


def test_what_takes_too_long_is_ended(service: RunningService, web: Http) -> None:
    """A check that stands, as one that reads from a device that does not answer."""
    began_s = time.monotonic()
    with checking(service, web, slow_npz(700)) as (pid, answers):
        os.kill(pid, signal.SIGSTOP)
        assert web.get("/livez").status == 200, "HTTP goes on beside it"
    detail = answers[0].problem(422)["detail"]
    assert detail == "expected files that can be checked within 4 s, got ones that take longer"
    assert time.monotonic() - began_s < 4 * CHECK_S


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGXCPU])
def test_a_check_that_dies_is_the_uploads_fault_and_harms_nobody(
    service: RunningService, web: Http, number: int
) -> None:
    with checking(service, web, slow_npz(700)) as (pid, answers):
        os.kill(pid, number)
    assert answers[0].problem(422)["detail"].startswith("expected files that can be ")


def test_check_lets_frames_come_first(service: RunningService, web: Http) -> None:
    """As a process, and as a session where the kernel weighs those."""
    with checking(service, web, slow_npz(700)) as (pid, _):
        wait_for(lambda: os.getpriority(os.PRIO_PROCESS, pid) == NICE, "its being nice")
        group = Path(f"/proc/{pid}/autogroup")
        if group.exists() and AUTOGROUPS.read_text().strip() == "1":
            wait_for(lambda: group.read_text().endswith(f"nice {NICE}\n"), "its session being nice")
        os.kill(pid, signal.SIGKILL)


def test_memory_is_limited(web: Http) -> None:
    """64 MB of pixels as stored, and several times as much to check them."""
    large = npz(a=np.ones((4000, 4000), np.float32))
    assert len(large) < CAP
    problem = web.upload({"dark": large}).problem(413)
    said = f"expected files that can be checked within {CHECK_MB} MB, got larger ones"
    assert problem["detail"] == said


def test_processor_time_is_limited(tmp_path: Path) -> None:
    """Where the clock of the wall would allow it, the kernel counts what is burnt."""
    flags = ["--state-dir", str(tmp_path), "--engine", "pass-through", "--check-s", "1"]
    service = start_service(flags)
    try:
        web = Http.of(service)
        noise = np.random.default_rng(1).integers(0, 99, (3500, 3500), np.uint8)
        began_s = time.monotonic()
        problem = web.upload({"dark": npy(noise)}).problem(422)
        assert "within 1 s" in problem["detail"]
        assert time.monotonic() - began_s < 10
        assert web.active is None
        wait_for(lambda: not checkers_of(service), "the check being over")
    finally:
        service.stop()


def test_checks_end_with_their_service(tmp_path: Path) -> None:
    service = start_service(["--state-dir", str(tmp_path), "--engine", "pass-through"])
    web, slow = Http.of(service), slow_npz(700)
    try:
        with checking(service, web, slow):
            os.kill(service.pid_of("http"), signal.SIGKILL)
        wait_for(lambda: ready(web), "the HTTP process coming back")
        with checking(service, web, slow):
            assert service.stop() == 0
    finally:
        service.process.kill()


def ready(web: Http) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return web.get("/readyz").status == 200
    return False


def test_nothing_is_left_of_all_this(service: RunningService, web: Http) -> None:
    *_, run_dir = Path(f"/proc/{service.pid_of('http')}/cmdline").read_text().split("\0")[:-1]
    checks = Path(run_dir) / "checks"
    wait_for(lambda: not list(checks.iterdir()), "the folders of checks being gone")
    assert checks.stat().st_mode & 0o077 == 0, "others can look into uploads"


def test_folders_that_a_tidy_system_took_are_made_anew(service: RunningService, web: Http) -> None:
    *_, run_dir = Path(f"/proc/{service.pid_of('http')}/cmdline").read_text().split("\0")[:-1]
    wait_for(lambda: not list((Path(run_dir) / "checks").iterdir()), "no check")
    (Path(run_dir) / "checks").rmdir()
    stored = web.stored({"dark": npy(3 * ONE)}, activate=False)
    web.delete(stored["report"])
