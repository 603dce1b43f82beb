"""Who may ask over HTTP: the bearer token, other sites' pages, names made to point here."""

from __future__ import annotations

import contextlib
import hmac
import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import settings, wait_for
from uploads import Http, checkers_of, npy

from scgn_client.admin import Admin
from scgn_client.errors import ServiceError
from scgn_live.__main__ import main
from scgn_live.config import load_settings
from scgn_live.running import RunningService, free_ports, start_service
from scgn_live.settings import SettingsError
from scgn_live.sidecar import guard
from scgn_live.sidecar.guard import Guard

TOKEN = "correct-horse-battery-staple"
FREE = ["/livez", "/readyz", "/v2/health/live", "/v2/health/ready", "/"]
GUARDED = ["/status", "/metrics", "/calibrations", "/docs", "/redoc", "/openapi.json", "/none",
           "/calibrations/000000000000", "/livez/", "/readyzz", "//livez", "/LIVEZ"]  # fmt: skip
CHANGES = [("POST", "/calibrations"), ("POST", "/calibrations/rollback"), ("POST", "/livez"),
           ("DELETE", "/calibrations/active"), ("POST", "/calibrations/from-stream"), ("POST", "/"),
           ("PUT", "/status")]  # fmt: skip


@dataclass(frozen=True)
class Started:
    """A service whose token is in its environment, and where it writes."""

    service: RunningService
    state: Path

    @property
    def web(self) -> Http:
        return Http.of(self.service)

    @property
    def run_dir(self) -> Path:
        words = Path(f"/proc/{self.service.pid_of('http')}/cmdline").read_text().split("\0")
        return Path(words[-2])


def command(folder: Path, flags: list[str], bind: str = "127.0.0.1") -> tuple[list[str], list[int]]:
    """`scgn-live serve` on free ports, and these: ingest, frames, latest, HTTP."""
    ports = free_ports(4)
    places = [f"tcp://127.0.0.1:{port}" for port in ports[:3]] + [f"{bind}:{ports[3]}"]
    words = [sys.executable, "-m", "scgn_live", "serve", "--engine", "pass-through"]
    words += ["--state-dir", str(folder / "state"), *flags]
    for name, place in zip(("ingest", "frames", "latest", "http"), places, strict=True):
        words += [f"--{name}", place]
    return words, ports


@contextlib.contextmanager
def serving(
    folder: Path, flags: list[str], environment: Mapping[str, str], bind: str = "127.0.0.1"
) -> Iterator[Started]:
    """`scgn-live serve` with variables of its own, once it is ready."""
    words, ports = command(folder, flags, bind)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SCGN_")}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            words, stdout=log, stderr=log, env={**clean, **environment}, start_new_session=True
        )
    ingest, frames, latest = (f"tcp://127.0.0.1:{port}" for port in ports[:3])
    where = f"http://127.0.0.1:{ports[3]}"
    service = RunningService(ingest, frames, latest, where, process, folder / "log")
    started = Started(service, folder / "state")
    try:
        wait_for(lambda: process.poll() is not None or is_ready(started.web), "the service", 60)
        assert process.poll() is None, started.service.log.read_text()
        yield started
    finally:
        started.service.stop()


def is_ready(web: Http) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return web.get("/readyz").status == 200
    return False


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """A service with a token of its environment."""
    with serving(tmp_path_factory.mktemp("locked"), [], {"SCGN_TOKEN": TOKEN}) as started:
        yield started


@pytest.fixture(scope="module")
def open_(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http]:
    """A service on loopback without a token."""
    flags = ["--state-dir", str(tmp_path_factory.mktemp("open")), "--engine", "pass-through"]
    service = start_service(flags)
    yield Http.of(service)
    service.stop()
    service.log.unlink()


# The token.


def test_without_the_token_nothing_is_told_and_nothing_done(locked: Started) -> None:
    web = locked.web
    for method, path in [*(("GET", path) for path in GUARDED), *CHANGES, ("OPTIONS", "/status")]:
        answer = web.ask(method, path)
        detail = answer.problem(401)["detail"]
        assert detail == "expected the header `Authorization: Bearer <token>`"
        assert answer.headers["www-authenticate"] == 'Bearer realm="scgn-live"'


@pytest.mark.parametrize(
    "value",
    ["", "Bearer " + "x" * 9000, "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN,
     f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN.upper()}",
     f"Bearer {TOKEN} {TOKEN}", "Bearer \xff\xfe",
     f"Token {TOKEN}", f"Bearer:{TOKEN}"],
)  # fmt: skip
def test_other_tokens_are_refused(locked: Started, value: str) -> None:
    locked.web.ask("GET", "/status", headers={"Authorization": value}).problem(401)


@pytest.mark.parametrize("value", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER   {TOKEN} "])
def test_the_token_opens(locked: Started, value: str) -> None:
    for path in ("/status", "/metrics", "/calibrations", "/openapi.json"):
        assert locked.web.ask("GET", path, headers={"Authorization": value}).status == 200


def test_a_token_in_the_address_opens_nothing(locked: Started) -> None:
    """It would be in every log on the way."""
    for name in ("token", "access_token", "authorization"):
        locked.web.get(f"/status?{name}={TOKEN}").problem(401)


def test_probes_and_the_page_are_free(locked: Started) -> None:
    for path in FREE:
        for headers in ({}, {"Host": "10.0.0.7:8000"}, {"Authorization": "Bearer wrong"}):
            assert locked.web.ask("GET", path, headers=headers).status == 200, path
            assert locked.web.ask("HEAD", path, headers=headers).status in (200, 405), path
    page = locked.web.get("/").body.decode()
    assert TOKEN not in page
    assert locked.web.get("/live/main.js").status == 200


def test_the_client_brings_the_token(locked: Started, tmp_path: Path) -> None:
    admin = Admin(locked.service.http, token=TOKEN)
    stored = admin.post_calibration(np.ones((20, 20)))
    assert stored["active"]
    assert admin.status()["calibration"] == stored["id"]
    with pytest.raises(ServiceError, match="401 expected the header"):
        Admin(locked.service.http).status()
    assert Admin(locked.service.http).ready().ready


def test_the_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    class Hmac:
        compare_digest = staticmethod(compare)

    monkeypatch.setattr(guard, "hmac", Hmac)
    locked = Guard(TOKEN, loopback=True)
    for given in (TOKEN, "wrong", "", None, "ü", "\udcff"):
        assert locked.allows(given) == (given == TOKEN)
    assert len(compared) == 6, "some tokens were told apart before"
    assert {type(word) for pair in compared for word in pair} == {bytes}
    assert Guard(None, loopback=True).allows(None)


# Where a token comes from, and where it must not go.


def test_the_token_is_read_from_environment_or_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"  {TOKEN}\n")
    of_file = settings(tmp_path, token_file=file)
    assert of_file.token({}) == TOKEN
    assert of_file.token({"SCGN_TOKEN": "another-long-enough-token"}) == "another-long-enough-token"
    assert of_file.token({"SCGN_TOKEN": ""}) == TOKEN
    assert settings(tmp_path).token({"SCGN_TOKEN": TOKEN}) == TOKEN
    assert settings(tmp_path).token({}) is None


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read"), (b"", "16 ASCII characters or more, got 0"), (b"short", "got 5"),
     (b"\xff" * 20, "cannot be read"), ("ü".encode() * 20, "got others"),
     (b"a\x00" * 10, "expected 16")],
    ids=["missing", "empty", "short", "not text", "not ASCII", "not printable"],
)  # fmt: skip
def test_a_token_that_cannot_be_one_is_an_error(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    """Never no token instead: that would leave the door open."""
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    used = settings(tmp_path, token_file=file)
    with pytest.raises(SettingsError, match=said) as caught:
        used.token({})
    with pytest.raises(SettingsError):
        Guard.of(used)
    if content and content.isascii() and content.decode().isprintable():
        assert content.decode() not in str(caught.value)


def test_a_folder_for_a_token_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        settings(tmp_path, token_file=tmp_path).token({})


def test_the_token_is_nowhere_but_where_it_came_from(
    locked: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    web = Http(locked.web.host, token=TOKEN)
    web.stored({"dark": npy(np.ones((30, 30)))})
    assert web.upload({"dark": b"nothing"}).status == 415
    web.ask("GET", "/status", headers={"Authorization": "Bearer wrong"}).problem(401)
    files = [*locked.run_dir.rglob("*"), *locked.state.rglob("*"), locked.service.log]
    for file in (path for path in files if path.is_file()):
        assert TOKEN.encode() not in file.read_bytes(), file
    assert (locked.run_dir / "settings.json").exists()
    for path in ("/status", "/openapi.json", "/metrics", "/calibrations"):
        assert TOKEN not in web.get(path).body.decode()
    for role in ("http", "frames"):
        command = Path(f"/proc/{locked.service.pid_of(role)}/cmdline").read_bytes()
        assert TOKEN.encode() not in command
    monkeypatch.setenv("SCGN_TOKEN", TOKEN)
    assert main(["check"]) == 0
    shown = capsys.readouterr()
    assert TOKEN not in shown.out + shown.err
    assert json.loads(shown.out)["token_file"] is None


def test_a_check_of_an_upload_does_not_know_the_token(locked: Started) -> None:
    """Whoever breaks a reader of files must not find the key to the door."""
    web = Http(locked.web.host, token=TOKEN)
    wait_for(lambda: not checkers_of(locked.service), "the last picture being drawn")
    noise = npy(np.random.default_rng(1).integers(0, 99, (900, 900), np.uint8))
    thread = threading.Thread(target=web.upload, args=({"dark": noise},))
    thread.start()
    (pid,) = wait_for(lambda: checkers_of(locked.service), "a check")
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    thread.join()
    assert b"PATH=" in environment
    assert b"SCGN_" not in environment
    assert TOKEN.encode() not in environment


def test_a_service_whose_token_cannot_be_read_does_not_start(tmp_path: Path) -> None:
    words, _ = command(tmp_path, ["--token-file", str(tmp_path / "absent")])
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert f"token_file {tmp_path / 'absent'}: cannot be read" in ended.stderr


def test_the_variable_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCGN_TOKEN", TOKEN)
    assert TOKEN not in repr(load_settings([]))


# Beyond loopback.


def test_a_token_is_enough_to_bind_http_alone_beyond_loopback(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    with serving(tmp_path, ["--token-file", str(file)], {}, bind="0.0.0.0") as started:
        started.web.get("/status").problem(401)
        assert Http(started.web.host, token=TOKEN).get("/status").status == 200
        named = {"Host": "microscope.example:8000", "Authorization": f"Bearer {TOKEN}"}
        assert started.web.ask("GET", "/status", headers=named).status == 200
        assert "INSECURE" not in started.service.log.read_text()


def test_without_a_token_or_for_frames_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match="needs a token"):
        load_settings(["--http", "0.0.0.0:8000"])
    monkeypatch.setenv("SCGN_TOKEN", TOKEN)
    assert load_settings(["--http", "0.0.0.0:8000"]).token() == TOKEN
    for name in ("ingest", "frames", "latest"):
        with pytest.raises(SettingsError, match="insecure = true"):
            load_settings([f"--{name}", "tcp://0.0.0.0:5000"])
    monkeypatch.setenv("SCGN_TOKEN", "short")
    with pytest.raises(SettingsError, match="16 ASCII characters"):
        load_settings(["--http", "0.0.0.0:8000"])


# Other sites' pages.


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1.evil.example", "http://[", "file://",
               "http://127.0.0.1:1", "http://localhost", "", "http://user@evil.example"],
)  # fmt: skip
def test_a_page_of_another_site_is_403(open_: Http, locked: Started, origin: str) -> None:
    key = Http(locked.web.host, token=TOKEN)
    for web in (open_, key):
        for method, path in (("GET", "/status"), ("DELETE", "/calibrations/active")):
            web.ask(method, path, headers={"Origin": origin}).problem(403)
    assert open_.ask("GET", "/livez", headers={"Origin": origin}).status == 200


def test_a_page_of_this_service_may_ask(open_: Http, locked: Started) -> None:
    for web in (open_, Http(locked.web.host, token=TOKEN)):
        answer = web.ask("GET", "/status", headers={"Origin": f"http://{web.host}"})
        assert answer.status == 200
        assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "[", "", "10.0.0.1",
             "0", "localhost.evil.example", "[::1", "a b", "127.0.0.1@evil.example"],
)  # fmt: skip
def test_a_name_that_was_made_to_point_here_is_403(open_: Http, host: str) -> None:
    for headers in ({"Host": host}, {"Host": host, "Origin": f"http://{host}"}):
        for method, path in (("GET", "/status"), ("DELETE", "/calibrations/active"), ("GET", "/")):
            answer = open_.ask(method, path, headers=headers)
            assert answer.status in (403, 400), path
    assert open_.ask("GET", "/livez", headers={"Host": host}).status in (200, 400)


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:1", "127.0.0.1", "[::1]:8000", "127.9.9.9"]
)
def test_names_of_loopback_are_fine(open_: Http, host: str) -> None:
    assert open_.ask("GET", "/status", headers={"Host": host}).status == 200


@pytest.mark.parametrize("path", ["/status", "/calibrations", "/livez", "/", "/none"])
def test_no_answer_opens_the_service_to_other_sites(open_: Http, path: str) -> None:
    for method in ("GET", "OPTIONS", "HEAD", "POST"):
        for origin in (f"http://{open_.host}", "http://evil.example"):
            asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            answer = open_.ask(method, path, headers=asked)
            assert not any(name.startswith("access-control") for name in answer.headers)
            assert answer.status < 500
