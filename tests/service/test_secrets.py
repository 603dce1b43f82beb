"""Secrets stay where they belong: a service with CURVE and a token, used rightly and wrongly, tells
neither in its log, its answers, its metrics, its run folder, its state nor its command lines.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import zmq
from support import noise_frame, wait_for
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from zmq.auth import load_certificate
from zmq.utils import z85

from scgn_client.errors import ReceiveTimeout, SendTimeout
from scgn_client.keys import ClientKeys, client_keys
from scgn_client.messages import PublishedFrame
from scgn_client.receiver import FrameReceiver
from scgn_client.sender import FrameSender
from scgn_live.keys import keys_command
from scgn_live.running import RunningService, start_service

TOKEN = "correct-horse-battery-staple-42"
NEARLY = "correct-horse-battery-staple-43"  # what an operator mistypes is nearly the secret
FRAME = noise_frame(1)
SHORT_S = 1.0


@dataclass(frozen=True)
class Locked:
    """A service that wants keys and a token, and the folder where its keys are kept."""

    service: RunningService
    keys: Path
    state: Path

    def handed(self, name: str) -> ClientKeys:
        place = self.keys / "hand-out" / name
        return client_keys(place / "service.key", place / f"{name}.key_secret")

    def ask(self, path: str, token: str | None = TOKEN, body: bytes | None = None) -> bytes:
        """What HTTP answers, be it an error."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"{self.service.http}{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.read()

    def look(self, token: str) -> None:
        """As a browser: the token is the first word that it says."""
        with connect(f"{self.service.http.replace('http', 'ws', 1)}/live/frames") as browser:
            browser.send(json.dumps({"token": token}))
            with contextlib.suppress(ConnectionClosed, TimeoutError):
                browser.recv(timeout=2)

    def children(self) -> list[Path]:
        """Folders in /proc of the supervisor and its processes."""
        parent = f"PPid:\t{self.service.pid}\n"
        found = [Path("/proc") / str(self.service.pid)]
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                found += [folder] if parent in (folder / "status").read_text() else []
            except OSError:
                continue
        return found


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    keys, state = tmp_path_factory.mktemp("keys"), tmp_path_factory.mktemp("state")
    assert keys_command([str(keys), "--camera", "cam", "--viewer", "wall"]) == 0
    (keys / "token").write_text(f"{TOKEN}\n")
    flags = ["--engine", "pass-through", "--log-level", "DEBUG", "--state-dir", str(state)]
    flags += ["--curve-key", str(keys / "service.key_secret"), "--token-file", str(keys / "token")]
    flags += ["--camera-keys", str(keys / "cameras"), "--viewer-keys", str(keys / "viewers")]
    service = start_service(flags)
    found = Locked(service, keys, state)
    try:
        used_rightly(found)
        used_wrongly(found)
        yield found
    finally:
        service.stop()
        service.log.unlink()


def used_rightly(locked: Locked) -> None:
    service = locked.service
    with (
        FrameReceiver(service.frames, keys=locked.handed("wall")) as viewer,
        FrameSender(service.ingest, "cam", keys=locked.handed("cam")) as camera,
    ):
        viewer.receive()
        camera.send(FRAME)
        assert isinstance(next(iter(viewer)), PublishedFrame)
    assert json.loads(locked.ask("/status"))["totals"]["published"] == {"all": 1}
    locked.look(TOKEN)


def used_wrongly(locked: Locked) -> None:
    """Keys of strangers, of the wrong role, none; tokens that are wrong, or in wrong places."""
    service, own = locked.service, locked.handed("cam")
    public, secret = zmq.curve_keypair()
    for keys in (ClientKeys(own.service, public, secret), locked.handed("wall"), None):
        with pytest.raises(SendTimeout):
            FrameSender(service.ingest, "cam", timeout_s=SHORT_S, keys=keys).start()
    with (
        FrameReceiver(service.frames, timeout_s=SHORT_S, keys=own) as viewer,
        pytest.raises(ReceiveTimeout),
    ):
        viewer.receive()
    for token in (None, NEARLY, "", TOKEN[:-1], f"{TOKEN} "):
        locked.ask("/status", token)
    for path in (f"/{TOKEN}", f"/status?token={TOKEN}", f"/calibrations/{TOKEN}", "/calibrations"):
        locked.ask(path)
        locked.ask(path, None)
    for token in (NEARLY, "\ud800"):
        locked.look(token)
    locked.ask("/calibrations", TOKEN, TOKEN.encode())
    header = f"GET /status HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
    http_port = service.http.rpartition(":")[2]
    for end in (service.ingest, service.frames, service.latest, f"x:{http_port}"):
        with socket.create_connection(("127.0.0.1", int(end.rpartition(":")[2])), 5) as guest:
            guest.sendall(header + own.secret)
    (locked.keys / "cameras" / "broken.key").write_text(f'secret-key = "{own.secret.decode()}"\n')
    with pytest.raises(SendTimeout):  # the list is read anew, the broken file with it
        FrameSender(service.ingest, "x", timeout_s=SHORT_S, keys=locked.handed("wall")).start()
    killed = next(f for f in locked.children() if b"_frames\0" in (f / "cmdline").read_bytes())
    os.kill(int(killed.name), signal.SIGKILL)
    wait_for(lambda: b'"ready":true' in locked.ask("/readyz"), "the frame process coming back", 30)


def secrets(locked: Locked) -> dict[str, bytes]:
    """Everything that may be told nowhere, in every writing of it."""
    found = {"token": TOKEN.encode(), "nearly the token": NEARLY.encode()}
    for path in locked.keys.rglob("*.key_secret"):
        _, secret = load_certificate(path)
        assert secret is not None
        raw = z85.decode(secret)
        found |= {
            f"{path.name}": secret, f"{path.name}, raw": raw,
            f"{path.name}, hex": raw.hex().encode(), f"{path.name}, base64": base64.b64encode(raw),
        }  # fmt: skip
    return found


def tells_nothing(locked: Locked, content: bytes, where: str) -> None:
    told = [name for name, secret in secrets(locked).items() if secret in content]
    assert not told, f"{where} tells {told}"


def test_the_search_knows_what_to_look_for(locked: Locked) -> None:
    assert len(secrets(locked)) == 2 + 3 * 4
    with pytest.raises(AssertionError, match="tells"):
        tells_nothing(locked, b"x" + (locked.keys / "token").read_bytes(), "the token's own file")


def test_log_tells_that_somebody_was_refused_and_no_secret(locked: Locked) -> None:
    log = locked.service.log.read_bytes()
    assert b"a connection with an unknown key was refused" in log
    assert b"broken.key: expected a file of `scgn-live keys`" in log
    assert b'"level": "DEBUG"' in log, "nothing is held back but what is secret"
    assert b"Exception in ASGI" not in log
    tells_nothing(locked, log, "the log")


@pytest.mark.parametrize(
    "path",
    ["/status", "/metrics", "/openapi.json", "/readyz", "/livez", "/calibrations", "/models"],
)
@pytest.mark.parametrize("token", [TOKEN, NEARLY])
def test_answers_tell_no_secret(locked: Locked, path: str, token: str) -> None:
    tells_nothing(locked, locked.ask(path, token), path)


def run_folder(locked: Locked) -> Path:
    words = (locked.children()[-1] / "cmdline").read_bytes().split(b"\0")
    return Path(next(word.decode() for word in words if b"scgn-live-" in word))


def test_run_folder_is_the_users_own(locked: Locked) -> None:
    """The control socket takes whatever comes: its folder lets nobody else in."""
    folder = run_folder(locked)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.stat().st_uid == os.getuid()
    assert stat.S_ISSOCK((folder / "control").stat().st_mode)


def test_run_folder_and_state_tell_no_secret(locked: Locked) -> None:
    run_dir = run_folder(locked)
    settings = (run_dir / "settings.json").read_text()
    assert str(locked.keys / "token") in settings, "where it is, not what it is"
    for folder in (run_dir, locked.state):
        for path in folder.rglob("*"):
            if path.is_file():
                tells_nothing(locked, path.read_bytes(), str(path))


def test_command_lines_tell_no_secret(locked: Locked) -> None:
    folders = locked.children()
    assert len(folders) >= 3
    for folder in folders:
        tells_nothing(locked, (folder / "cmdline").read_bytes(), folder.name)


def test_shown_settings_tell_no_secret(locked: Locked) -> None:
    command = [sys.executable, "-m", "scgn_live", "check"]
    command += ["--curve-key", str(locked.keys / "service.key_secret")]
    for given in ({"SCGN_TOKEN": TOKEN}, {"SCGN_TOKEN_FILE": str(locked.keys / "token")}):
        done = subprocess.run(command, env=os.environ | given, capture_output=True, check=True)
        assert re.search(rb"curve_key", done.stdout)
        tells_nothing(locked, done.stdout + done.stderr, "scgn-live check")


def test_errors_of_a_bad_token_do_not_repeat_it(locked: Locked) -> None:
    short = "tooshort-secret"
    command = [sys.executable, "-m", "scgn_live", "check"]
    done = subprocess.run(
        command, env=os.environ | {"SCGN_TOKEN": short}, capture_output=True, check=False
    )
    assert done.returncode == 2
    assert short.encode() not in done.stdout + done.stderr
