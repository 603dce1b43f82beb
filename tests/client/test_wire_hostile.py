"""Headers that were made to hurt: nested beyond what can be printed or packed, of wrong types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import pytest
from support import frame_parts, noise_frame, push, running_app, subscribed, wait_for

from scgn_client import wire
from scgn_client.errors import WireError
from scgn_client.messages import PublishedFrame

FRAME = {
    "v": 1, "type": "frame", "source": "cam", "series": "s", "frame": 0, "shape": [2, 2],
    "dtype": "|u1",
}  # fmt: skip
PUBLISHED = {
    "v": 1, "type": "frame", "source": "cam", "series": "s", "frame": 0,
    "channels": [{"name": "denoised", "dtype": "|u1", "shape": [2, 2]}],
    "display": [0, 1], "t_received_ns": 1, "t_published_ns": 2, "latency_ms": 0.5, "model": "m",
    "engine": "cpu", "calibration": None, "lost": {},
}  # fmt: skip
QUALITY = {
    "frame": 3, "shown": "temporal", "gain": 812.5, "gain_error": 12.5, "upsnr_db": 24.5,
    "error_db": 0.25, "others": {"single": [640.0, 14.0]},
}  # fmt: skip
STREAM = {
    "averaged": 11.25, "drift_px": [0.5, -0.25], "drift_nm_s": [0.125, 0], "moving": 0.25,
    "quality": QUALITY, "dose_e_per_px": 8,
}  # fmt: skip
PLACE = "<here>"
LEVELS = (300, 500, 511, 600, 1000, 5000)  # repr gives up, msgpack packs no more, unpacks no more


def nested(header: dict[str, Any], key: str, levels: int, opening: bytes = b"\x81\xa1v") -> bytes:
    """The header with maps in maps, or lists in lists, under a key: more than msgpack packs."""
    packed: bytes = msgpack.packb({**header, key: PLACE})
    return packed.replace(msgpack.packb(PLACE), opening * levels + b"\x01")


def reason(header: bytes, pixels: list[bytes] | None = None) -> str:
    with pytest.raises(WireError) as caught:
        if pixels is None:
            wire.decode_ingest(header)
        else:
            wire.decode_published(header, pixels)
    assert len(str(caught.value)) < 300
    return caught.value.reason


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("opening", [b"\x81\xa1v", b"\x91"], ids=["maps", "lists"])
@pytest.mark.parametrize(
    "key", ["v", "type", "source", "series", "frame", "shape", "dtype", "user"]
)
def test_nested_values_are_refused_by_name(key: str, opening: bytes, levels: int) -> None:
    known = {"v": "version"}.get(key, key)
    assert reason(nested(FRAME, key, levels, opening)) in (known, "header_format")


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("key", [*PUBLISHED, *STREAM])
def test_nested_published_values_are_refused(key: str, levels: int) -> None:
    assert reason(nested(PUBLISHED, key, levels), [bytes(4)]) in wire.REASONS


def test_what_nests_elsewhere_is_nobodys_business() -> None:
    assert wire.decode_ingest(nested(FRAME, "unknown", 1000)) == wire.decode_ingest(
        msgpack.packb(FRAME)
    )


def test_user_may_nest_so_deep_and_no_deeper(tmp_path: Path) -> None:
    """The deepest one that is taken goes out as it came, and is read again."""
    user: Any = {"x": 1}
    for _ in range(wire.USER_LEVELS_MAX - 1):
        user = {"x": user}
    wire.decode_ingest(msgpack.packb({**FRAME, "user": user}))
    assert reason(msgpack.packb({**FRAME, "user": {"x": user}})) == "user"
    with running_app(tmp_path) as app, subscribed(app) as sub, push(app.ingest.endpoint) as camera:
        camera.send_multipart(frame_parts("s", 0, noise_frame(1), user=user))
        header, pixels = sub.until("frame")
    assert header["user"] == user
    message = wire.decode_published(msgpack.packb(header), pixels)
    assert isinstance(message, PublishedFrame)
    assert message.user == user


def test_no_nested_message_ends_the_service(tmp_path: Path) -> None:
    with running_app(tmp_path) as app, subscribed(app) as sub, push(app.ingest.endpoint) as camera:
        sent = 0
        for key in (*FRAME, "user"):
            for levels in LEVELS:
                camera.send_multipart([nested(FRAME, key, levels), bytes(4)])
                sent += 1
        camera.send_multipart(frame_parts("good", 0, noise_frame(1)))
        sub.until("frame", series="good")
        wait_for(lambda: rejected(app.ledger.totals()) == sent, "every one being counted")
        assert app.failed_stage() is None


def rejected(totals: dict[tuple[str, str], int]) -> int:
    return sum(count for (bucket, _), count in totals.items() if bucket == "rejected")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("source", {"a": 1}), ("series", 5), ("frame", -1), ("frame", "1"), ("frame", 1.5),
        ("display", [1]), ("display", ["a", "b"]), ("display", None), ("t_received_ns", None),
        ("latency_ms", "1"), ("model", None), ("engine", 3), ("calibration", 1), ("lost", []),
        ("lost", {"missing": -1}), ("lost", {"missing": "1"}), ("user", [1]), ("channels", []),
        ("latency_ms", float("nan")),
        ("channels", [{"name": "raw", "dtype": "|u1", "shape": [2, 2]}]),
        ("channels", [{"name": ["x"], "dtype": "|u1", "shape": [2, 2]}]),
    ],
)  # fmt: skip
def test_published_frames_of_wrong_types_are_refused(key: str, value: Any) -> None:
    assert isinstance(wire.decode_published(msgpack.packb(PUBLISHED), [bytes(4)]), PublishedFrame)
    assert reason(msgpack.packb({**PUBLISHED, key: value}), [bytes(4)]) in ("field", "frame")


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[(key, value) for key in ("averaged", "moving", "dose_e_per_px")
          for value in ("1", [1], {}, True, NAN, INFINITE, -0.5)],
        ("averaged", None), ("moving", None), ("moving", 1.5),
        *[(key, value) for key in ("drift_px", "drift_nm_s")
          for value in (0.5, [], [1.0], [1.0, 2.0, 3.0], ["a", "b"], [None, None], [NAN, 0.0],
                        [0.0, INFINITE], [True, False], {"0": 1.0, "1": 2.0})],
        ("quality", []), ("quality", "temporal"), ("quality", {}),
    ],
)  # fmt: skip
def test_what_lies_about_the_stream_is_refused(key: str, value: Any) -> None:
    whole = {**PUBLISHED, **STREAM}
    assert isinstance(wire.decode_published(msgpack.packb(whole), [bytes(4)]), PublishedFrame)
    assert reason(msgpack.packb({**whole, key: value}), [bytes(4)]) == "field"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("frame", -1), ("frame", None), ("frame", 1.5), ("frame", "3"), ("shown", None),
        ("shown", 3), ("gain", None), ("gain", NAN), ("gain", "1"), ("gain_error", INFINITE),
        ("gain_error", None), ("upsnr_db", NAN), ("upsnr_db", "24"), ("upsnr_db", True),
        ("error_db", [1.0]), ("others", [1.0]), ("others", {"single": 1.0}),
        ("others", {"single": [1.0]}), ("others", {"single": [NAN, 1.0]}),
        ("others", {"s" * 9000: 1.0}),
    ],
)  # fmt: skip
def test_what_lies_about_the_quality_is_refused(key: str, value: Any) -> None:
    header = {**PUBLISHED, **STREAM, "quality": {**QUALITY, key: value}}
    assert reason(msgpack.packb(header), [bytes(4)]) == "field"


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "start", "exposure_ms": "1"}, {"type": "start", "user": 1},
        {"type": "end", "frames": -1}, {"type": "end", "ledger": []},
        {"type": "heartbeat", "frame": "1"}, {"type": "heartbeat", "source": None},
        {"type": "heartbeat", "series": {"a": 1}},
    ],
)  # fmt: skip
def test_published_events_of_wrong_types_are_refused(wrong: dict[str, Any]) -> None:
    assert reason(msgpack.packb({"v": 1, "source": "c", "series": "s", **wrong}), []) == "field"
