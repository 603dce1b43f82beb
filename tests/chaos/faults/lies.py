"""Messages that break the protocol: each is rejected under its reason, and costs nothing else."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgpack
import zmq

from chaos.account import foretell
from chaos.frames import SHAPE, frame_of
from chaos.stage import Stage, until
from chaos.table import fault
from chaos.watcher import DEADLINE_S
from chaos.zmtp import MORE, part, shake_hands
from chaos.zmtp import frame as zmtp_frame

LIAR = "liar"
MESSAGES = 60
PARTS = (256, 4096, 2**16)  # bytes of one; up to 8 times the largest frame's are let in
ENDLESS_BYTES = 40 << 20
Message = tuple[str, list[bytes]]  # the reason it must be rejected for, and its parts


def _header(series: str = "s", **changes: Any) -> bytes:
    content = {
        "v": 1, "type": "frame", "source": LIAR, "series": series, "frame": 0,
        "shape": list(SHAPE), "dtype": "<u2",
    }  # fmt: skip
    packed: bytes = msgpack.packb(content | changes)
    return packed


def _pixels(series: str = "s", index: int = 0) -> bytes:
    return frame_of(LIAR, series, index).tobytes()


def _send_and_count(stage: Stage, chance: random.Random, messages: list[Message]) -> None:
    """Send them; the counts by reason grow by just these."""
    before = Counter(stage.rejected())
    with stage.camera() as camera:
        for _, parts in messages:
            camera.send_multipart(parts)
            if chance.random() < 0.1:
                time.sleep(chance.uniform(0, 0.01))
        expected = before + Counter(reason for reason, _ in messages)
        until(
            lambda: sum(stage.rejected().values()) >= sum(expected.values()),
            f"{len(messages)} messages being rejected",
        )
    found = Counter(stage.rejected())
    assert found == expected, f"{found - before} instead of {expected - before}"


@fault()
def truncated_parts(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Too many parts, too few, cut or too long."""
    event, pixels = msgpack.packb({"v": 1, "type": "end", "source": LIAR, "series": "s"}), _pixels()
    kinds: list[Message] = []
    for _ in range(MESSAGES):
        head, cut = _header(), chance.randrange(1, 40)
        kinds += [chance.choice([
            ("parts", [head]), ("parts", [event, pixels]), ("parts", [head, pixels, b""]),
            ("parts", [chance.randbytes(5)] * chance.randrange(3, 30)),
            ("header_format", [head[:-cut], pixels]), ("header_format", [b"", pixels]),
            ("header_format", [head + b"\x00", pixels]), ("header_format", [pixels, head]),
            ("header_size", [b"\x81" + bytes(16 * 1024), pixels]),
            ("payload_size", [head, pixels[:-cut]]), ("payload_size", [head, b""]),
            ("payload_size", [head, pixels + chance.randbytes(cut)]),
            ("payload_size", [head, bytes(100_000)]),
        ])]  # fmt: skip
    _send_and_count(stage, chance, kinds)
    yield


@fault()
def lying_headers(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Headers of right form that say what cannot be."""
    messages = []
    for _ in range(MESSAGES):
        reason, key, values = chance.choice(LIES)
        messages.append((reason, [_header(**{key: chance.choice(values)}), _pixels()]))
        messages.append(chance.choice(_malformed(chance)))
    _send_and_count(stage, chance, messages)
    yield


LIES: list[tuple[str, str, list[Any]]] = [
    ("version", "v", [2, 0, -1, True, "1", 1.0, None, [1]]),
    ("type", "type", ["frames", "", 3, None, b"frame", ["frame"], {}]),
    ("source", "source", ["", "a" * 65, "cam/1", "k\u00e4mera", 5, None, b"cam", "a\n", "a b"]),
    ("series", "series", ["", "a" * 65, "../s", 5, None, [], "s\x00"]),
    ("frame", "frame", [-1, 2**64 - 1, 1.0, "0", True, None, [0], -(2**63)]),
    ("shape", "shape", [[0, 4], [-1, 4], [4], [4, 4, 4], "44", [4.0, 4], [True, 4], None, {}]),
    ("frame_size", "shape", [[2**63, 2**63], [65, 1], [1, 65], [2**40, 2**40], [10**18, 9]]),
    ("payload_size", "shape", [[32, 47], [1, 1], [64, 64], [31, 48]]),
    ("dtype", "dtype", ["<f8", "|O", "object", "<u2\0", 5, None, ["<u2"], "u2", ">f4", "<c8"]),
    ("payload_size", "dtype", ["|u1", "<u4", "<i4", "<f4"]),
    ("field", "t_acquired_ns", [-1, "now", 1.5, [1], True]),
    ("user", "user", [[1], "x", 5, {"k": "x" * 5000}, {"k": [0] * 4096}, {"k": {"k": "x" * 4096}}]),
]


def _malformed(chance: random.Random) -> list[Message]:
    """Bytes that msgpack reads otherwise than a header: claims, depth, keys that are no names."""
    depth, pixels = chance.randrange(2000, 16_000), _pixels()
    ten_thousand = b"\xdf" + (10_000).to_bytes(4, "big") + b"\xa1k\x01" * 3000
    return [
        ("header_format", [b"\x91" * depth, pixels]), ("header_format", [b"\x81" * depth, pixels]),
        ("header_format", [b"\x81\xa1a" * (depth // 3), pixels]),
        ("header_format", [ten_thousand, pixels]),
        ("header_size", [msgpack.packb({f"key{i}": i for i in range(10_000)}), pixels]),
        ("header_format", [b"\x81\xa1v\xdb\xff\xff\xff\xff", pixels]),
        ("header_format", [b"\xdd\xff\xff\xff\xff", pixels]),
        ("header_format", [b"\xdf\x7f\xff\xff\xff\x01", pixels]),
        ("header_format", [msgpack.packb({1: 2}), pixels]),
        ("header_format", [msgpack.packb([1, 2]), pixels]), ("header_format", [b"\xc1", pixels]),
        ("header_format", [b"\xa5\xff\xfe\xfd\xfc\xfb", pixels]),
    ]  # fmt: skip


@fault()
def deep_user_map(stage: Stage, chance: random.Random) -> Iterator[None]:
    """A `user` that msgpack can read but not write again: the frame may be rejected, no more."""
    before = stage.rejected()
    with stage.camera() as camera:
        for _ in range(10):
            depth = chance.randrange(400, 1020)
            user = b"\x81\xa1d" + b"\x91" * depth + b"\x01"
            series = f"deep-{chance.randrange(10**9)}"
            packed = _header(series)
            head = bytes([packed[0] + 1]) + packed[1:] + b"\xa4user" + user
            camera.send_multipart([head, _pixels(series)])
        # Something known behind them: once it is counted, they have been dealt with.
        camera.send_multipart([b"", b""])
        until(
            lambda: stage.rejected().get("header_format", 0) > before.get("header_format", 0),
            "the message behind them being rejected",
        )
    yield


@fault()
def lying_indices(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Indices of 2^63 and beyond: the sums hold, in a series of their own."""
    series = f"far-{chance.randrange(10**9)}"
    far = sorted(chance.sample([2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 2], 3))
    indices = [0, 1, *far, far[0], 5, far[-1]]
    total = chance.choice([0, 2**64 - 1])
    with stage.camera() as camera:
        for index in indices:
            camera.send_multipart([_header(series, frame=index), _pixels(series, index)])
        end = {"v": 1, "type": "end", "source": LIAR, "series": series, "frames": total}
        camera.send_multipart([msgpack.packb(end)])
        stage.must_be(foretell(indices, total), series, LIAR)
    yield


@fault()
def giant_parts(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Far beyond what ZeroMQ is told to take: the connection is cut, the camera's index tells."""
    series, giant = f"giant-{chance.randrange(10**9)}", bytes(chance.randrange(2 << 17, 2 << 20))
    with stage.camera() as camera:
        _one(camera, series, 0)
        stage.watcher.wait(lambda: stage.watcher.last(series, LIAR) == 0, "the first frame")
        camera.send_multipart(chance.choice([
            [_header(series, frame=1), giant], [giant, _pixels()], [giant],
        ]))  # fmt: skip
        index = 1
        while stage.watcher.last(series, LIAR) < 2:
            index += 1
            _one(camera, series, index)
            time.sleep(0.02)
            assert index < 50 * DEADLINE_S, "no frame came through after a giant one"
        end = {"v": 1, "type": "end", "source": LIAR, "series": series, "frames": index + 1}
        camera.send_multipart([msgpack.packb(end)])
        seen = stage.watcher.ended(series, LIAR)[0]
    indices = [frame.frame for frame in seen.frames]
    assert seen.ledger == foretell(indices, index + 1).ledger, f"{seen.ledger} for {indices}"
    yield


@fault(keeps_mb=128)  # glibc's, for the next message: it stops growing after some
def endless_parts(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Tens of MB in parts that ZeroMQ takes, never ended, then cut: memory does not add up."""
    ports = stage.ports()
    for name, kind, size in (("ingest", b"PUSH", chance.choice(PARTS)), ("frames", b"SUB", 512)):
        block = zmtp_frame(bytes(size), MORE) * max(1, 2**18 // size)
        stranger = shake_hands(ports[name], kind, DEADLINE_S)
        for _ in range(chance.randrange(ENDLESS_BYTES // 2, ENDLESS_BYTES) // len(block)):
            stranger.sendall(block)
        time.sleep(chance.uniform(0, 0.2))
        part(stranger, chance)
    yield


def _one(camera: zmq.Socket[bytes], series: str, index: int) -> None:
    camera.send_multipart([_header(series, frame=index), _pixels(series, index)])
