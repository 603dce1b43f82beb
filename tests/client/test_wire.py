"""Messages to bytes and back; whatever the bytes, only WireError comes out."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scgn_client import wire
from scgn_client.errors import WireError
from scgn_client.messages import End, FrameHeader, Heartbeat, PublishedFrame, Start

NAMES = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
UINT64 = st.integers(0, 2**64 - 1)
POSITIVE = st.floats(1e-6, 1e6)
USER = st.none() | st.dictionaries(st.text(max_size=8), st.integers(-5, 5) | st.text(max_size=9))
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=9), inner, max_size=6),
    max_leaves=12,
)  # fmt: skip
INGEST = st.one_of(
    st.builds(Start, NAMES, NAMES, st.none() | POSITIVE, st.none() | POSITIVE, USER),
    st.builds(
        FrameHeader, NAMES, NAMES, st.integers(0, 2**64 - 2),
        st.tuples(st.integers(1, 2**40), st.integers(1, 2**40)), st.sampled_from(wire.DTYPES),
        st.none() | UINT64, USER,
    ),
    st.builds(End, NAMES, NAMES, st.none() | UINT64),
    st.builds(Heartbeat, NAMES, NAMES, st.none() | UINT64),
)  # fmt: skip


@given(INGEST)
def test_ingest_round_trip(message: Any) -> None:
    assert wire.decode_ingest(wire.encode_ingest(message)) == message


@given(st.binary(max_size=400))
def test_random_bytes_raise_nothing_but_wire_errors(content: bytes) -> None:
    with pytest.raises(WireError) as caught:
        wire.decode_ingest(content)
    assert caught.value.reason in wire.REASONS


@settings(max_examples=300)
@given(
    INGEST,
    st.dictionaries(
        st.sampled_from(["v", "type", "source", "series", "frame", "shape", "dtype", "frames",
                         "t_acquired_ns", "exposure_ms", "pixel_size_nm", "user"]),
        JUNK, min_size=1, max_size=3,
    ),
)  # fmt: skip
def test_lying_fields_are_accepted_whole_or_refused_by_name(message: Any, lies: dict) -> None:
    content = msgpack.unpackb(wire.encode_ingest(message)) | lies
    try:
        decoded = wire.decode_ingest(msgpack.packb(content))
    except WireError as error:
        assert error.reason in wire.REASONS
    else:
        assert wire.decode_ingest(wire.encode_ingest(decoded)) == decoded


@settings(max_examples=300)
@given(JUNK, st.lists(st.binary(max_size=64), max_size=3))
def test_published_junk_raises_nothing_but_wire_errors(junk: Any, pixels: list[bytes]) -> None:
    content = {"v": 1, "type": "frame", "source": "c", "series": "s", "channels": junk}
    with pytest.raises(WireError):
        wire.decode_published(msgpack.packb(content), pixels)


@given(st.binary(max_size=64))
def test_split_latest_of_anything(content: bytes) -> None:
    try:
        header, pixels = wire.split_latest(content)
    except WireError as error:
        assert error.reason == "header_format"
    else:
        assert 4 + len(header) + len(pixels) == len(content)


def published(channels: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
    header = {
        "source": "cam", "series": "s", "frame": 3, "t_acquired_ns": None, "user": {"a": [1]},
        "display": [1.0, 2.0], "t_received_ns": 10, "t_published_ns": 20, "latency_ms": 0.5,
        "calibration": None, "model": "m", "engine": "cpu", "lost": {"missing": 1},
    }  # fmt: skip
    return header, wire.encode_published(header, channels)


@pytest.mark.parametrize("dtype", wire.DTYPES)
def test_published_round_trip_in_parts_and_in_one(dtype: str) -> None:
    rng = np.random.default_rng(1)
    channels = {
        "denoised": rng.normal(0, 1, (5, 7)).astype("<f4"),
        "raw": rng.integers(0, 100, (5, 7)).astype(dtype),
    }
    header, parts = published(channels)
    pixels = [bytes(wire.pixels(array)) for array in channels.values()]
    joined = wire.join_latest([*parts, *pixels])
    split_header, split_pixels = wire.split_latest(joined)
    for message in (
        wire.decode_published(parts[1], pixels),
        wire.decode_published(split_header, [split_pixels]),
    ):
        assert isinstance(message, PublishedFrame)
        assert (message.denoised == channels["denoised"]).all()
        assert message.raw is not None
        assert message.raw.dtype.str == dtype
        assert (message.raw == channels["raw"]).all()
        assert (message.user, message.lost) == (header["user"], header["lost"])
        assert message.calibration is None
        assert message.t_acquired_ns is None


def test_calibration_nil_is_said_and_other_nils_are_left_out() -> None:
    _, parts = published({"denoised": np.zeros((2, 2), "<f4")})
    content = msgpack.unpackb(parts[1])
    assert content["calibration"] is None
    assert "t_acquired_ns" not in content


STREAM: dict[str, Any] = {
    "averaged": 11.25, "drift_px": [0.5, -0.25], "drift_nm_s": [0.125, -0.0625], "moving": 0.25,
    "dose_e_per_px": 8.125,
    "quality": {
        "frame": 1, "shown": "temporal", "gain": 812.5, "gain_error": 12.5, "upsnr_db": 24.5,
        "error_db": 0.25, "others": {"single": [640.0, 14.0]},
    },
}  # fmt: skip
ALONE = {
    "averaged": 1.0, "drift_px": None, "drift_nm_s": None, "moving": 0.0, "quality": None,
    "dose_e_per_px": None,
}  # fmt: skip


def told(stream: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What goes over the wire of a frame with these words of its stream, and what is read."""
    header, _ = published({})
    _, packed = wire.encode_published({**header, **stream}, {"denoised": np.zeros((2, 2), "<f4")})
    message = wire.decode_published(packed, [bytes(16)])
    return msgpack.unpackb(packed), {key: getattr(message, key) for key in ALONE}


def test_what_is_known_of_the_stream_is_read_as_it_was_written() -> None:
    content, read = told(STREAM)
    assert STREAM.items() <= content.items()
    assert read == {**STREAM, "drift_px": (0.5, -0.25), "drift_nm_s": (0.125, -0.0625)}


def test_what_is_not_known_of_the_stream_is_said_as_nil() -> None:
    content, read = told(ALONE)
    assert {key: content[key] for key in ALONE} == read == ALONE


def test_frames_of_a_service_that_knows_no_stream_are_alone() -> None:
    content, read = told({})
    assert not set(content) & set(ALONE)
    assert read == ALONE


def test_quality_of_a_later_service_may_say_more() -> None:
    quality = {**STREAM["quality"], "shown": "another", "more": [1, {"a": 2}], "upsnr_db": None}
    _, read = told({**STREAM, "quality": quality})
    assert read["quality"] == quality
    _, read = told(
        {**STREAM, "quality": {"frame": 0, "shown": "single", "gain": 1, "gain_error": 0}}
    )
    assert read["quality"]["gain"] == 1


def test_age_counts_from_the_exposure_or_else_from_the_receipt() -> None:
    _, parts = published({"denoised": np.zeros((2, 2), "<f4")})
    message = wire.decode_published(parts[1], [bytes(16)])
    assert isinstance(message, PublishedFrame)
    assert message.age_ms(now_ns=10 + 3_000_000) == 3.0
    assert message.age_ms() > 1e9


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (np.zeros((2, 2), "<f8"), "dtype"), (np.zeros((2, 2), bool), "dtype"),
        (np.zeros((2, 2), "<c8"), "dtype"), (np.zeros(4, "<u2"), "shape"),
        (np.zeros((2, 2, 3), "|u1"), "shape"), (np.zeros((0, 2), "<u2"), "shape"),
    ],
)  # fmt: skip
def test_arrays_the_wire_does_not_carry(frame: Any, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        wire.encode_ingest(wire.frame_header(frame, "cam", "s", 0))
    assert caught.value.reason == reason


def test_pixels_of_a_strided_frame_are_in_c_order() -> None:
    frame = np.arange(24, dtype="<u2").reshape(4, 6)[::2, ::3]
    assert bytes(wire.pixels(frame)) == frame.tobytes()


def test_the_limits_are_exact() -> None:
    fits = {"x": "y" * (wire.USER_BYTES_MAX - 6)}
    assert len(msgpack.packb(fits)) == wire.USER_BYTES_MAX
    wire.encode_ingest(Start("c", "s", user=fits))
    with pytest.raises(WireError, match="at most 4096 bytes, got 4097"):
        wire.encode_ingest(Start("c", "s", user={"x": "y" * (wire.USER_BYTES_MAX - 5)}))
    wire.encode_ingest(Start("c" * 64, "s"))
    with pytest.raises(WireError, match="64 characters"):
        wire.encode_ingest(Start("c" * 65, "s"))
