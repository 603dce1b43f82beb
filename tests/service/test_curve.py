"""CURVE: who has no key gets nothing, in either direction; who has one opens its own door alone."""

from __future__ import annotations

import errno
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import zmq
from support import event_parts, frame_parts, noise_frame, running_app, wait_for

from scgn_client import cli
from scgn_client.diagnosis import diagnose
from scgn_client.errors import KeyFileError, ReceiveTimeout, SendTimeout
from scgn_client.keys import ClientKeys, client_keys
from scgn_client.messages import PublishedFrame
from scgn_client.receiver import FrameReceiver, LatestReceiver
from scgn_client.sender import FrameSender
from scgn_live import curve
from scgn_live.app import EXIT_STAGE_DIED, App
from scgn_live.curve import AllowList
from scgn_live.keys import keys_command
from scgn_live.settings import Settings

FRAME = noise_frame(1)
SHORT_S = 1.0


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    assert keys_command([str(folder), "--camera", "cam", "--viewer", "wall"]) == 0
    return folder


@pytest.fixture
def app(tmp_path: Path, keys: Path) -> Iterator[App]:
    locked = {
        "curve_key": keys / "service.key_secret", "camera_keys": keys / "cameras",
        "viewer_keys": keys / "viewers",
    }  # fmt: skip
    with running_app(tmp_path, **locked) as running:
        yield running


def handed(keys: Path, name: str) -> ClientKeys:
    place = keys / "hand-out" / name
    return client_keys(place / "service.key", place / f"{name}.key_secret")


def stranger(keys: Path) -> ClientKeys:
    """Knows the service's public key, and is on no list."""
    public, secret = zmq.curve_keypair()
    return ClientKeys(handed(keys, "cam").service, public, secret)


def test_known_keys_send_and_see(app: App, keys: Path) -> None:
    ends = app.endpoints()
    wall = handed(keys, "wall")
    with (
        FrameReceiver(ends["frames"], keys=wall) as every,
        LatestReceiver(ends["latest"], keys=wall) as newest,
        FrameSender(ends["ingest"], "cam", keys=handed(keys, "cam")) as sender,
    ):
        every.receive()
        wait_for(lambda: app.publisher.viewers == 1, "the viewer being counted")
        sender.send(FRAME)
        frame = next(iter(every))
        assert (newest.receive().frame, frame.frame) == (0, 0)


REFUSED = "refuses this key"
KEYLESS = r"asks for keys \(CURVE\), and none were given"


@pytest.mark.parametrize("who", ["stranger", "viewer", "nobody"])
def test_ingest_takes_no_frame_but_a_cameras(app: App, keys: Path, who: str) -> None:
    own = {"stranger": stranger(keys), "viewer": handed(keys, "wall"), "nobody": None}[who]
    sender = FrameSender(app.endpoints()["ingest"], "cam", timeout_s=SHORT_S, keys=own)
    with pytest.raises(SendTimeout, match=REFUSED if own else KEYLESS):
        sender.start()
    assert app.ledger.totals() == {}, "not even a rejected message"
    if who != "nobody":
        assert app.door.refused()["cameras"] > 0


def test_refused_keys_are_counted_by_list(app: App, keys: Path) -> None:
    ends, unknown = app.endpoints(), stranger(keys)
    assert app.door.refused() == {"cameras": 0, "viewers": 0}
    for name, kind in (("ingest", zmq.PUSH), ("frames", zmq.SUB), ("latest", zmq.SUB)):
        diagnose(ends[name], kind, unknown)
    assert app._status({})["refused_connections"] == {"cameras": 1, "viewers": 2}
    told = app._metrics({})["text"].decode()
    assert 'scgn_refused_connections_total{list="cameras"} 1.0' in told
    assert 'scgn_refused_connections_total{list="viewers"} 2.0' in told


@pytest.mark.parametrize("who", ["stranger", "camera", "nobody"])
def test_frames_reach_viewers_alone(app: App, keys: Path, who: str) -> None:
    own = {"stranger": stranger(keys), "camera": handed(keys, "cam"), "nobody": None}[who]
    ends = app.endpoints()
    with (
        FrameReceiver(ends["frames"], timeout_s=SHORT_S, keys=own) as every,
        LatestReceiver(ends["latest"], timeout_s=SHORT_S, keys=own) as newest,
        FrameSender(ends["ingest"], "cam", keys=handed(keys, "cam")) as sender,
    ):
        sender.send(FRAME)
        wait_for(lambda: app.ledger.totals().get(("published", "")), "the frame leaving")
        for receiver in (every, newest):
            with pytest.raises(ReceiveTimeout, match=REFUSED if own else KEYLESS):
                receiver.receive()


def test_client_speaks_to_no_other_service(app: App, keys: Path) -> None:
    own = handed(keys, "cam")
    other, _ = zmq.curve_keypair()
    wrong = ClientKeys(other, own.public, own.secret)
    with pytest.raises(SendTimeout, match="is not the service of that key"):
        FrameSender(app.endpoints()["ingest"], "cam", timeout_s=SHORT_S, keys=wrong).start()


def test_key_added_and_removed_counts_for_the_next_connection(app: App, keys: Path) -> None:
    assert keys_command([str(keys), "--camera", "late"]) == 0
    ends = app.endpoints()
    with FrameSender(ends["ingest"], "late", keys=handed(keys, "late")) as sender:
        sender.send(FRAME)
    (keys / "cameras" / "late.key").unlink()
    with pytest.raises(SendTimeout):
        FrameSender(ends["ingest"], "late", timeout_s=SHORT_S, keys=handed(keys, "late")).start()


def test_viewer_is_let_in_once_its_key_is_on_the_list(app: App, keys: Path) -> None:
    """libzmq alone would not try a refused key again."""
    late = stranger(keys)
    with FrameReceiver(app.endpoints()["frames"], timeout_s=SHORT_S, keys=late) as receiver:
        with pytest.raises(ReceiveTimeout, match=REFUSED):
            receiver.receive()
        known = (keys / "viewers" / "wall.key").read_bytes()
        content = known.replace(handed(keys, "wall").public, late.public)
        (keys / "viewers" / "late.key").write_bytes(content)
        with suppress(ReceiveTimeout):  # refused a moment ago; after this one it is tried anew
            receiver.receive()
        assert receiver.receive(timeout_s=5).source == "", "the heartbeat of an idle service"


def test_list_of_before_holds_while_the_system_is_short(
    keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A camera that is refused for it would not be let in again by libzmq."""
    own, cam = b"o" * 40, handed(keys, "cam").public
    known = AllowList("cameras", keys / "cameras", own)
    assert known.callback("", cam)

    def short(path: Path) -> bytes:
        raise KeyFileError(f"{path}: too many open files") from OSError(errno.EMFILE, "too many")

    with monkeypatch.context() as patched:
        patched.setattr(curve, "read_public", short)
        assert known.callback("", cam)
        assert not known.callback("", b"x" * 40)
    (keys / "cameras").rename(keys / "away")
    assert not known.callback("", cam), "a folder that is gone lets nobody in"
    assert known.callback("", own)
    (keys / "away").rename(keys / "cameras")
    assert known.callback("", cam)


def test_process_ends_when_nobody_answers_about_keys(app: App) -> None:
    authenticator = app.door._authenticator
    assert authenticator is not None
    assert app.failed_stage() is None
    authenticator.pipe.send(b"TERMINATE")
    assert app.ended.wait(10), "the process was not told to end"
    assert app.failed_stage() == "keys"
    assert app.exit_status() == EXIT_STAGE_DIED


def test_raw_bytes_reach_nobody(app: App) -> None:
    """What a NULL socket hands to the application (ecosystem: 50 connections, 659 messages)."""
    for endpoint in app.endpoints().values():
        port = int(endpoint.rpartition(":")[2])
        for greeting in (b"GET / HTTP/1.0\r\n\r\n", b"\xff" + bytes(8) + b"\x7f", b"\x01\x00" * 40):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as guest:
                guest.sendall(greeting)
    assert app.ledger.totals() == {}
    assert app.failed_stage() is None


def test_keys_are_private_and_stay(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secrets = [p for p in keys.rglob("*") if p.suffix == ".key_secret"]
    assert len(secrets) == 3
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o600 for p in secrets)
    before = {p: p.read_bytes() for p in keys.rglob("*.key*")}
    assert keys_command([str(keys), "--camera", "cam"]) == 0
    assert "there already" in capsys.readouterr().out
    assert {p: p.read_bytes() for p in keys.rglob("*.key*")} == before
    assert keys_command([str(keys), "--camera", "../cam"]) == 2


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_lists_alone_are_open_to_the_services_user(tmp_path: Path, umask: int) -> None:
    """Keys are made by root, say, and the service runs as somebody else (DynamicUser, 10001)."""
    before = os.umask(umask)
    try:
        assert keys_command([str(tmp_path / "keys"), "--camera", "cam", "--viewer", "wall"]) == 0
        assert keys_command([str(tmp_path / "keys"), "--camera", "late"]) == 0
    finally:
        os.umask(before)
    found = {p.relative_to(tmp_path).as_posix(): p for p in sorted(tmp_path.rglob("*"))}
    open_to_all = {name: oct(stat.S_IMODE(p.stat().st_mode)) for name, p in found.items()
                   if p.stat().st_mode & 0o077 and "hand-out/" not in name}  # fmt: skip
    assert open_to_all == {
        "keys": "0o711", "keys/service.key": "0o644",
        "keys/cameras": "0o755", "keys/viewers": "0o755", "keys/viewers/wall.key": "0o644",
        "keys/cameras/cam.key": "0o644", "keys/cameras/late.key": "0o644",
    }  # fmt: skip
    for place in (found["keys/hand-out"], *found["keys/hand-out"].iterdir()):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_a_folder_that_was_closed_stays_closed(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o700)
    assert keys_command([str(tmp_path / "keys")]) == 0
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else for a moment")
@pytest.mark.parametrize("closed", ["", "cameras"])
def test_a_list_that_the_service_may_not_read_is_a_wrong_setting(closed: str) -> None:
    """Not a list of nobody, and no traceback."""
    with tempfile.TemporaryDirectory() as made:  # pytest's own is closed to others
        Path(made).chmod(0o711)
        keys = Path(made) / "keys"
        assert keys_command([str(keys)]) == 0
        given = {"curve_key": keys / "service.key_secret", "camera_keys": keys / "cameras"}
        try:
            os.seteuid(65534)
            assert Settings(**given).unguarded() == []
            os.seteuid(0)
            (keys / closed).chmod(0o700)
            os.seteuid(65534)
            with pytest.raises(ValueError, match=r"got \S+/cameras: Permission denied"):
                Settings(**given)
        finally:
            os.seteuid(0)


def test_secrets_are_never_shown(keys: Path) -> None:
    own = handed(keys, "cam")
    assert own.secret.decode() not in repr(own)


def bad_settings(keys: Path) -> list[tuple[dict[str, Any], str]]:
    key = keys / "service.key_secret"
    return [
        ({"camera_keys": keys / "cameras"}, "expected a curve_key beside it"),
        ({"curve_key": key, "viewer_keys": keys / "no"}, "expected a folder of .key files"),
        ({"curve_key": key, "ingest_role": "pull-connect"}, "expected the camera's public key"),
        ({"ingest": "tcp://0.0.0.0:1"}, "beyond loopback needs curve_key, or insecure = true"),
    ]


def test_half_of_curve_is_refused(keys: Path) -> None:
    for given, message in bad_settings(keys):
        with pytest.raises(ValueError, match=message):
            Settings(**given)
    opened = Settings(ingest="tcp://0.0.0.0:1", curve_key=keys / "service.key_secret")
    assert opened.unguarded() == []


@pytest.mark.parametrize("name", ["ingest", "frames", "latest"])
def test_start_that_fails_leaves_nothing_open(tmp_path: Path, keys: Path, name: str) -> None:
    """Neither a socket nor the answers about keys, of which a process can have but one."""
    locked: dict[str, Any] = {"curve_key": keys / "service.key_secret"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        locked[name] = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(zmq.ZMQError, match="Address already in use"):
            with running_app(tmp_path, **locked):
                pass
    with running_app(tmp_path, **locked) as app:
        assert app.reasons_not_ready() == []


def test_service_connects_to_a_camera_that_binds_with_curve(tmp_path: Path, keys: Path) -> None:
    public, secret = zmq.curve_keypair()
    (tmp_path / "camera.key").write_text(f'curve\n    public-key = "{public.decode()}"\n')
    # A context of its own: in the service's, the service's lists would be asked about it.
    with zmq.Context() as context, context.socket(zmq.PUSH) as camera:
        camera.setsockopt(zmq.LINGER, 0)
        camera.curve_server = True
        camera.curve_publickey, camera.curve_secretkey = public, secret
        port = camera.bind_to_random_port("tcp://127.0.0.1")
        settings = {
            "ingest": f"tcp://127.0.0.1:{port}", "ingest_role": "pull-connect",
            "curve_key": keys / "service.key_secret", "ingest_key": tmp_path / "camera.key",
        }  # fmt: skip
        with running_app(tmp_path, **settings) as app:
            camera.send_multipart(event_parts("start", "s"))
            camera.send_multipart(frame_parts("s", 0, FRAME))
            wait_for(lambda: app.ledger.totals().get(("published", "")), "the frame leaving")


def test_file_without_a_key_is_named(tmp_path: Path, keys: Path) -> None:
    (tmp_path / "no.key").write_text("nothing")
    with pytest.raises(KeyFileError, match=r"no\.key: expected a file of `scgn-live keys`"):
        client_keys(tmp_path / "no.key", keys / "service.key_secret")
    with pytest.raises(KeyFileError, match="expected a secret key"):
        client_keys(keys / "service.key", keys / "service.key")


def test_published_frames_are_whole(app: App, keys: Path) -> None:
    ends = app.endpoints()
    with (
        FrameReceiver(ends["frames"], keys=handed(keys, "wall")) as every,
        FrameSender(ends["ingest"], "cam", keys=handed(keys, "cam")) as sender,
    ):
        every.receive()
        for _ in range(50):
            sender.send(FRAME)
        sender.end()
        seen = list(every.frames(until_end=True))
    assert all(isinstance(frame, PublishedFrame) for frame in seen)
    assert [frame.frame for frame in seen] == list(range(50))


def test_command_line_takes_what_was_handed_out(
    app: App, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = keys / "hand-out"
    words = ["send", "--shape", "16x12", "--frames", "3", "--timeout", "5"]
    where = ["--endpoint", app.endpoints()["ingest"]]
    assert cli.main([*words, *where, "--key", str(own / "cam" / "cam.key_secret")]) == 0
    wait_for(lambda: app.ledger.totals().get(("published", "")) == 3, "three frames leaving")
    assert cli.main([*words, *where, "--key", str(keys / "service.key")]) == 2
    assert "expected a secret key" in capsys.readouterr().err
