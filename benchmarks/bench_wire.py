"""Cost of the protocol itself: encode and decode of headers, and validation of what is hostile.

Times are microseconds per message, the best of several repeats, one thread; the
baseline in the same run is bare msgpack on the same map. The relays pass 512x512 uint16 frames over
loopback, in turn, one with the protocol's checks and headers and one without.
"""

from __future__ import annotations

import sys
import time
import timeit
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import harness
from benchmarks.loopback import relay, run
from scgn_client import wire
from scgn_client.errors import WireError

REPEATS = 7
ROUNDS = 3


def microseconds(action: Callable[[], Any], number: int) -> float:
    """Best of REPEATS, per call."""
    return round(min(timeit.repeat(action, number=number, repeat=REPEATS)) / number * 1e6, 2)


def rejected(header: bytes) -> str:
    """Why a header is refused."""
    try:
        wire.decode_ingest(header)
    except WireError as error:
        return error.reason
    raise AssertionError("a hostile header was accepted")


def hostile() -> dict[str, bytes]:
    """Headers that must be cheap to refuse."""
    return {
        "random bytes": np.random.default_rng(0).bytes(200),
        "deep nesting": b"\x91" * 16_000 + b"\xc0",
        "4,000 keys": msgpack.packb({f"{n:x}": 0 for n in range(4000)})[:16_384],
        "wrong version": msgpack.packb({"v": 2}),
    }


def ingest(number: int) -> dict[str, float]:
    """A camera's frame header, with acquisition time and a small user map."""
    frame = np.zeros((512, 512), "<u2")
    optional = {"t_acquired_ns": time.time_ns(), "user": {"stage": 1.5, "note": "x"}}
    header = wire.frame_header(frame, "camera", "0" * 36, 12345, **optional)
    packed = wire.encode_ingest(header)
    content = msgpack.unpackb(packed)
    return {
        "encode_us": microseconds(lambda: wire.encode_ingest(header), number),
        "decode_us": microseconds(lambda: wire.decode_ingest(packed), number),
        "bare_msgpack_encode_us": microseconds(lambda: msgpack.packb(content), number),
        "bare_msgpack_decode_us": microseconds(lambda: msgpack.unpackb(packed), number),
    }


def published(number: int) -> dict[str, float]:
    """A published frame of two channels, header only (pixels are passed on, not copied)."""
    denoised, raw = np.zeros((512, 512), "<f4"), np.zeros((512, 512), "<u2")
    header = {
        "source": "camera", "series": "0" * 36, "frame": 12345, "t_acquired_ns": time.time_ns(),
        "user": None, "display": [0.0, 1.0], "t_received_ns": time.time_ns(),
        "t_published_ns": time.time_ns(), "latency_ms": 1.0, "calibration": "0" * 12,
        "model": "scgn-tiny-clean-00000000", "engine": "cpu", "lost": {},
    }  # fmt: skip
    channels = {"denoised": denoised, "raw": raw}
    packed = wire.encode_published(header, channels)[1]
    pixels = [bytes(wire.pixels(array)) for array in channels.values()]
    one_part = wire.join_latest([b"camera", packed, *pixels])

    def split() -> Any:
        head, body = wire.split_latest(one_part)
        return wire.decode_published(head, [body])

    return {
        "encode_us": microseconds(lambda: wire.encode_published(header, channels), number),
        "decode_us": microseconds(lambda: wire.decode_published(packed, pixels), number),
        "join_latest_us": microseconds(
            lambda: wire.join_latest([b"camera", packed, *pixels]), max(1, number // 20)
        ),
        "split_latest_us": microseconds(split, number),
    }


def relays(frames: int) -> dict[str, Any]:
    """Rate of a relay that speaks the protocol beside a bare one, median of ROUNDS."""
    rates: dict[str, list[float]] = {"bare": [], "wire": []}
    with relay("bare") as bare, relay("wire") as checked:
        for _ in range(ROUNDS):
            for kind, ends in (("bare", bare), ("wire", checked)):
                rates[kind].append(run(*ends, frames, 0, 512)["rate_fps"])
    middle = {kind: float(np.median(found)) for kind, found in rates.items()}
    return {"rate_fps": middle, "share": round(middle["wire"] / middle["bare"], 3), "rounds": rates}


def main() -> None:
    """Run all parts and print or save one result."""
    args = harness.arguments(__doc__).parse_args()
    number = 500 if args.quick else 5000
    begun = time.monotonic()
    refused = {
        name: {
            "reason": rejected(header),
            "us": microseconds(partial(rejected, header), max(1, number // 10)),
        }
        for name, header in hostile().items()
    }
    rows: dict[str, Any] = {
        "ingest": ingest(number),
        "published": published(number),
        "refused": refused,
    }
    rows["relay_512"] = relays(4000 // (10 if args.quick else 1))
    harness.save("bench_wire", rows, time.monotonic() - begun)


if __name__ == "__main__":
    main()
