"""The command line against real sockets and real files; its HTTP side is in test_admin."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq
from PIL import Image

from scgn_client import wire
from scgn_client.camera import SimulatedCamera
from scgn_client.cli import main

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_MS = 20_000


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    with zmq.Context() as context:
        yield context


# send and replay


class Camera:
    """The service's end of `ingest`: reads what the commands send."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.socket = socket
        self.endpoint = f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}"

    def message(self) -> tuple[dict[str, Any], np.ndarray | None]:
        assert self.socket.poll(PATIENCE_MS), "no message came"
        parts = self.socket.recv_multipart()
        header = msgpack.unpackb(parts[0])
        if len(parts) == 1:
            return header, None
        return header, np.frombuffer(parts[1], header["dtype"]).reshape(header["shape"])

    def series(self) -> tuple[dict[str, Any], list[np.ndarray], dict[str, Any]]:
        """start, frames and end of the next series."""
        start, _ = self.message()
        assert start["type"] == "start"
        frames: list[np.ndarray] = []
        while True:
            header, frame = self.message()
            if frame is None:
                return start, frames, header
            assert header["frame"] == len(frames)
            frames.append(frame)


@pytest.fixture
def ingest(context: zmq.Context[zmq.Socket[bytes]]) -> Iterator[Camera]:
    with context.socket(zmq.PULL) as socket:
        yield Camera(socket)


def test_send_is_the_simulated_camera(ingest: Camera, tmp_path: Path, capsys: Any) -> None:
    status = main(
        ["send", "--endpoint", ingest.endpoint, "--source", "sim", "--series", "s1", "--shape",
         "48x64", "--rate", "200", "--frames", "4", "--seed", "3", "--dose", "8",
         "--save-references", str(tmp_path / "refs")]
    )  # fmt: skip
    assert status == 0
    start, frames, end = ingest.series()
    assert (start["source"], start["series"], end["frames"]) == ("sim", "s1", 4)
    camera = SimulatedCamera((48, 64), seed=3, dose_e_per_px=8)
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(frame, camera.frame(i).raw)
    saved = np.load(tmp_path / "refs" / "gain.npy", allow_pickle=False)
    np.testing.assert_array_equal(saved, camera.gain_reference)
    out = capsys.readouterr().out
    assert "series s1" in out
    assert "4 frames in" in out


def test_send_repeats_prerendered_frames(ingest: Camera) -> None:
    args = ["send", "--endpoint", ingest.endpoint, "--shape", "8x9", "--prerender", "2"]
    assert main([*args, "--frames", "5"]) == 0
    _, frames, end = ingest.series()
    assert end["frames"] == len(frames) == 5
    for k in (2, 3, 4):
        np.testing.assert_array_equal(frames[k], frames[k % 2])


def test_replay_of_files_and_folders_is_one_series(
    ingest: Camera, tmp_path: Path, capsys: Any
) -> None:
    movie = np.arange(2 * 4 * 6, dtype=np.uint16).reshape(2, 4, 6)
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "movie.npy", movie)
    np.save(tmp_path / "folder" / "a.npy", movie[0].astype(float))
    paths = [str(tmp_path / "movie.npy"), str(tmp_path / "folder")]
    args = ["replay", *paths, "--endpoint", ingest.endpoint, "--crop", "right", "--loop"]
    assert main([*args, "--frames", "4"]) == 0
    _, frames, end = ingest.series()
    assert end["frames"] == 4
    for frame, expected in zip(frames, [movie[0], movie[1], movie[0], movie[0]], strict=True):
        np.testing.assert_array_equal(frame, expected[:, 3:])
    assert frames[2].dtype == np.float32
    noted = capsys.readouterr().err
    assert noted.count("float64 is read as float32") == 1
    assert "files.py" not in noted, "a note for people, without a line of code"


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["replay", "none.npy"], "none.npy: no such file"),
        (["send", "--endpoint", "nonsense", "--timeout", "0.1"], "nonsense"),
        (["send", "--endpoint", "tcp://127.0.0.1:1", "--timeout", "0.1"], "took no message within"),
        (["send", "--source", "two words"], "expected source of"),
        (["watch", "--endpoint", "tcp://127.0.0.1:1", "--timeout", "0.1"], "sent nothing within"),
        (["glimpse", "--endpoint", "tcp://127.0.0.1:1", "--timeout", "0.1"], "sent nothing within"),
        (["status", "--url", "http://127.0.0.1:1"], "no answer"),
        (["status", "--url", "nonsense"], "no answer"),
        (["status", "--token-file", "/none"], "/none"),
        (["calibrate", "--gain", "a.npy"], "no such file"),
        (["calibrate"], "expected a dark, gain or mask"),
    ],
)
def test_errors_are_one_line_and_status_2(args: list[str], complaint: str, capsys: Any) -> None:
    assert main(args) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1
    assert said.startswith("scgn-client: ")


@pytest.mark.parametrize(
    "args",
    [["send", "--shape", "512"], ["send", "--rate", "0"], ["send", "--frames", "-1"],
     ["send", "--dose", "nan"], ["watch", "--timeout", "inf"], ["replay"], [], ["fly"]],
)  # fmt: skip
def test_wrong_arguments_exit_as_argparse_does(args: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(args)
    assert exit_.value.code == 2
    assert "usage: scgn-client" in capsys.readouterr().err


@pytest.mark.parametrize(
    "verb", ["send", "replay", "watch", "glimpse", "calibrate", "calibrations", "status"]
)
def test_every_command_has_help(verb: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([verb, "--help"])
    assert exit_.value.code == 0
    assert "usage: scgn-client" in capsys.readouterr().out


def test_ctrl_c_ends_the_series_quietly(ingest: Camera) -> None:
    command = [sys.executable, "-m", "scgn_client", "send", "--shape", "16x16", "--rate", "100"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "client")}
    with subprocess.Popen(
        [*command, "--endpoint", ingest.endpoint], env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            assert ingest.message()[0]["type"] == "start"
            assert ingest.message()[0]["type"] == "frame"
            process.send_signal(signal.SIGINT)
            header: dict[str, Any] = {"type": "frame"}
            while header["type"] == "frame":
                last, (header, _) = header, ingest.message()
            _, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert header["type"] == "end"
    # One more when it came between counting a frame and sending it.
    assert header["frames"] - last.get("frame", 0) in (1, 2)
    assert process.returncode == 130
    assert errors == b""


# watch and glimpse


def frame_header(number: int, **changes: Any) -> dict[str, Any]:
    now = time.time_ns()
    header = {
        "source": "cam", "series": "s1", "frame": number, "t_acquired_ns": now - 5_000_000,
        "display": [0.0, 100.0], "t_received_ns": now, "t_published_ns": now, "latency_ms": 1.5,
        "calibration": "abc123", "model": "tiny", "engine": "cpu", "lost": {},
    }  # fmt: skip
    return {**header, **changes}


DENOISED = np.linspace(0, 100, 12, dtype=np.float32).reshape(3, 4)
RAW = (DENOISED + 200).astype(np.uint16)
LEDGER = {"expected": 5, "published": 3, "missing": 1, "in_flight": 0,
          "dropped": {"overload": 1}, "failed": {}, "rejected": {"duplicate": 2}}  # fmt: skip


def published(number: int, **changes: Any) -> list[Any]:
    channels = {"denoised": DENOISED, "raw": RAW}
    parts = wire.encode_published(frame_header(number, **changes), channels)
    return [*parts, *(array.tobytes() for array in channels.values())]


@contextlib.contextmanager
def publishing(
    context: zmq.Context[zmq.Socket[bytes]], send: Callable[[zmq.Socket[bytes]], None]
) -> Iterator[str]:
    """The service's end of `frames` or `latest`: calls `send` once somebody has subscribed."""
    socket = context.socket(zmq.XPUB)
    endpoint = f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}"

    def run() -> None:
        if socket.poll(PATIENCE_MS):
            socket.recv()
            send(socket)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield endpoint
    finally:
        thread.join(timeout=PATIENCE_MS / 1000)
        assert not thread.is_alive()
        socket.close(linger=0)


def one_series(socket: zmq.Socket[bytes]) -> None:
    socket.send_multipart(wire.encode_event("start", "cam", "s1"))
    for number in (0, 1):
        socket.send_multipart(published(number))
    socket.send_multipart(published(4, lost={"overload": 1}))
    socket.send_multipart(wire.encode_event("end", "cam", "s1", frames=5, ledger=LEDGER))


def test_watch_follows_a_series_to_its_end(
    context: zmq.Context[zmq.Socket[bytes]], tmp_path: Path, capsys: Any
) -> None:
    with publishing(context, one_series) as endpoint:
        args = ["watch", "--endpoint", endpoint, "--every", "--until-end", "--save", str(tmp_path)]
        assert main(args) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("cam s1 frame 0  ")
    for fact in ("fps", "latency 1.5 ms", "calibration abc123", "model tiny (cpu)", "gaps 0"):
        assert fact in lines[0]
    assert "gaps 1 (1 lost, 1 unseen)" in lines[2]
    assert lines[3] == (
        "end of cam s1: expected 5, published 3, dropped 1 (overload 1), failed 0, missing 1, "
        "in_flight 0, rejected 2 (duplicate 2)"
    )
    names = {file.name for file in tmp_path.iterdir()}
    assert {f"cam_s1_{k:06d}{e}" for k in (0, 1, 4) for e in ("_raw.npy", ".png")} <= names
    saved = np.load(tmp_path / "cam_s1_000004_denoised.npy", allow_pickle=False)
    np.testing.assert_array_equal(saved, DENOISED)
    with Image.open(tmp_path / "cam_s1_000004.png") as image:
        picture = np.asarray(image)
    assert picture.shape == (3, 8), "raw left, denoised right"
    np.testing.assert_array_equal(picture[:, 4:], np.rint(255 * DENOISED / 100))
    assert picture[0, 0] == 0
    assert picture[2, 3] == 255, "raw beyond the display's window has a window of its own"


def test_watch_stops_after_so_many_frames(
    context: zmq.Context[zmq.Socket[bytes]], capsys: Any
) -> None:
    with publishing(context, one_series) as endpoint:
        assert main(["watch", "--endpoint", endpoint, "--frames", "2", "--source", "cam"]) == 0
    assert "frame 1 " in capsys.readouterr().out


def test_watch_tells_what_is_known_of_the_stream_and_nothing_else(
    context: zmq.Context[zmq.Socket[bytes]], capsys: Any
) -> None:
    quality = {"frame": 0, "shown": "temporal", "gain": 1.5, "gain_error": 0.5, "upsnr_db": 24.53}
    stream = {
        "averaged": 11.2, "drift_px": [0.5, -0.25], "drift_nm_s": [0.3, -0.4], "moving": 0.1,
        "dose_e_per_px": 8.125, "quality": quality,
    }  # fmt: skip

    def send(socket: zmq.Socket[bytes]) -> None:
        socket.send_multipart(published(0))
        socket.send_multipart(published(1, **stream))
        socket.send_multipart(published(2, **{**stream, "quality": {**quality, "upsnr_db": None}}))

    with publishing(context, send) as endpoint:
        assert main(["watch", "--endpoint", endpoint, "--every", "--frames", "3"]) == 0
    without, whole, unsure = capsys.readouterr().out.splitlines()
    assert without.endswith("unseen)")
    words = (
        "mean of 11 frames  drift +0.50 -0.25 px/frame  0.5 nm/s  dose 8.12 e/px  shown temporal"
    )
    assert whole.endswith(f"unseen)  {words}  uPSNR 24.5 dB")
    assert unsure.endswith(f"unseen)  {words}")


def test_names_from_the_network_stay_in_the_folder(
    context: zmq.Context[zmq.Socket[bytes]], tmp_path: Path
) -> None:
    def send(socket: zmq.Socket[bytes]) -> None:
        socket.send_multipart(published(0, source="../../up", series="/etc/x"))

    with publishing(context, send) as endpoint:
        folder = tmp_path / "in"
        args = ["watch", "--endpoint", endpoint, "--frames", "1", "--save", str(folder)]
        assert main(args) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert len(list(folder.iterdir())) == 3


def test_glimpse_shows_one_newest_frame(
    context: zmq.Context[zmq.Socket[bytes]], tmp_path: Path, capsys: Any
) -> None:
    def send(socket: zmq.Socket[bytes]) -> None:
        socket.send(wire.join_latest(published(7, calibration=None)))

    with publishing(context, send) as endpoint:
        save = tmp_path / "now.png"
        assert main(["glimpse", "--endpoint", endpoint, "--save", str(save)]) == 0
    shown = capsys.readouterr().out
    for fact in ("frame  7", "model  tiny", "calibration  None", "raw  3x4 <u2  min 200  max 300"):
        assert fact in shown
    with Image.open(save) as image:
        assert np.asarray(image)[:, :4].min() == 255, "one window for both without a calibration"
