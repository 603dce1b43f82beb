"""Small messages and files that are right, for the fuzzer to change: written, and kept in corpus/.

Nothing here comes from a microscope: every frame is made of a few seeded numbers.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scgn_client import wire
from scgn_client.messages import Array, End, Heartbeat, Ingest, Start

from .files import others, references
from .messages import CORPUS as WIRE
from .messages import content_of

CALIBRATIONS = WIRE.parent / "calibrations"
USER = {"dose": 3.5, "stage": [1, -2], "note": "x"}
SHAPE = (3, 4)


def pixels(dtype: str, shape: tuple[int, ...] = SHAPE) -> Array:
    """Counts of 0..99 of any dtype."""
    counts: Array = np.random.default_rng(7).integers(0, 100, shape).astype(dtype)
    return counts


def camera_messages() -> Iterator[tuple[str, list[bytes]]]:
    """Name and parts of every type of message that a camera sends."""
    events: dict[str, Ingest] = {
        "start": Start("cam", "a"), "start-full": Start("cam", "b", 1.5, 0.02, USER),
        "end": End("cam", "a"), "end-frames": End("cam", "b", 4),
        "heartbeat": Heartbeat("cam", "a"),
    }  # fmt: skip
    for name, event in events.items():
        yield name, [wire.encode_ingest(event)]
    for dtype in wire.DTYPES:
        frame = pixels(dtype)
        header = wire.frame_header(frame, "cam", "a", 0)
        yield f"frame-{dtype[1:]}{'-big' * (dtype[0] == '>')}", _parts(header, frame)
    full = wire.frame_header(pixels("<u2"), "cam.2", "b", 1, t_acquired_ns=2**60, user=USER)
    yield "frame-full", _parts(full, pixels("<u2"))


def _parts(header: Ingest, frame: Array) -> list[bytes]:
    return [wire.encode_ingest(header), bytes(wire.pixels(frame))]


def published_messages() -> Iterator[tuple[str, list[bytes]]]:
    """Name and parts, after the topic, of what the service publishes."""
    ledger = {
        "expected": 4, "published": 2, "missing": 1, "in_flight": 0, "dropped": {"overload": 1},
        "failed": {}, "rejected": {"version": 1},
    }  # fmt: skip
    yield "start", wire.encode_event("start", "cam", "a", exposure_ms=1.5, user=USER)[1:]
    end = wire.encode_event("end", "cam", "a", frames=4, ledger=ledger, reason="end")
    yield "end", end[1:]
    yield "heartbeat", wire.encode_event("heartbeat", "cam", "a", frame=3, ledger=ledger)[1:]
    yield "heartbeat-idle", wire.encode_event("heartbeat", "", None)[1:]
    for name, channels, stream in (
        ("frame", {"denoised": pixels("<f4"), "raw": pixels("<u2")}, _stream()),
        ("frame-alone", {"denoised": pixels("<f2")}, {}),
    ):
        parts = wire.encode_published({**_published_header(), **stream}, channels)
        yield name, [*parts[1:], *(bytes(wire.pixels(array)) for array in channels.values())]


def _published_header() -> dict[str, object]:
    return {
        "source": "cam", "series": "a", "frame": 3, "t_acquired_ns": 2**60, "user": USER,
        "display": [1.0, 99.0], "t_received_ns": 2**60 + 1, "t_published_ns": 2**60 + 2,
        "latency_ms": 1.25, "calibration": None, "model": "scgn-tiny-clean-00000000",
        "engine": "openvino/2026.4.1/float32", "lost": {"missing": 1},
    }  # fmt: skip


def _stream() -> dict[str, object]:
    """What a network with memory tells beside it; a reader does without."""
    return {
        "averaged": 11.25, "drift_px": [0.5, -0.25], "drift_nm_s": None, "moving": 0.25,
        "quality": {
            "frame": 1, "shown": "temporal", "gain": 812.5, "gain_error": 12.5, "upsnr_db": None,
            "error_db": None, "others": {"single": [640.0, 14.0]},
        },
        "dose_e_per_px": 8.0,
    }  # fmt: skip


def write() -> None:
    """Everything, in place of what is there."""
    write_wire()
    write_calibrations()


def write_wire(folder: Path = WIRE) -> None:
    """One file a message, in a folder for each side."""
    shutil.rmtree(folder, ignore_errors=True)
    for kind, found in {"ingest": camera_messages(), "published": published_messages()}.items():
        (folder / kind).mkdir(parents=True)
        for name, parts in found:
            (folder / kind / f"{name}.bin").write_bytes(content_of(parts))
    (folder / "latest").mkdir()
    for name, parts in published_messages():
        if name.startswith("frame"):
            one = wire.join_latest([b"cam", *parts])
            (folder / "latest" / f"{name}.bin").write_bytes(content_of([one]))


def write_calibrations(folder: Path = CALIBRATIONS) -> None:
    """One file a format and way of storing, and what may be posted beside them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in (*references(), *others()):
        (folder / name).write_bytes(content)
