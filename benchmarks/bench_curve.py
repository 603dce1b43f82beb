"""What CURVE costs: the pass-through service with it and without, side by side in one run.

Two services run at once and take turns, with frames of 256x256 and 1024x1024 uint16 over loopback;
rates are medians of rounds, flat out. Latency is at half of the rate with CURVE, for both.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import harness
from benchmarks.loopback import CurveKeys, run
from scgn_client.keys import client_keys
from scgn_live.keys import keys_command
from scgn_live.running import RunningService

ROUNDS = 5
FRAMES = {256: 6000, 1024: 1000}
FLAGS = ("--engine", "pass-through", "--overload", "block", "--no-publish-raw")
Served = tuple[RunningService, CurveKeys | None]


@contextmanager
def both() -> Iterator[dict[str, Served]]:
    """A service without keys, and one that asks for them."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scgn-bench-keys-")))
        locked = (
            "--curve-key", str(folder / "service.key_secret"), "--camera-keys",
            str(folder / "cameras"), "--viewer-keys", str(folder / "viewers"),
        )  # fmt: skip
        if keys_command([str(folder), "--camera", "bench", "--viewer", "wall"]):
            raise RuntimeError("no keys were made")
        out = folder / "hand-out"
        keys = CurveKeys(
            client_keys(folder / "service.key", out / "wall" / "wall.key_secret"),
            (folder / "service.key", out / "bench" / "bench.key_secret"),
        )
        yield {
            "plain": (stack.enter_context(harness.service(*FLAGS)), None),
            "curve": (stack.enter_context(harness.service(*FLAGS, *locked)), keys),
        }


def turns(
    served: dict[str, Served], frames: int, rate_fps: float, side: int, rounds: int
) -> dict[str, list[dict[str, Any]]]:
    """Rows of both, round by round."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in served}
    for _ in range(rounds):
        for name, (service, keys) in served.items():
            row = run(service.ingest, service.frames, frames, rate_fps, side, keys=keys)
            rows[name].append(row)
    return rows


def measured(served: dict[str, Served], side: int, scale: int) -> dict[str, Any]:
    """One size of frames."""
    frames = FRAMES[side] // scale
    flat_out = turns(served, frames, 0, side, ROUNDS)
    rates = {
        n: float(np.median([row["rate_fps"] for row in found])) for n, found in flat_out.items()
    }
    half_fps = rates["curve"] / 2
    at_half = turns(served, max(50, frames // 4), half_fps, side, ROUNDS)
    latency = {
        name: {
            key: round(float(np.median([row["latency_ms"][key] for row in found])), 3)
            for key in ("p50", "p99")
        }
        for name, found in at_half.items()
    }
    pixels_mb = 2 * side**2 / 1e6
    return {
        "rate_fps": rates, "share": round(rates["curve"] / rates["plain"], 3),
        "mb_per_s": {name: round(rate * pixels_mb, 1) for name, rate in rates.items()},
        "half_rate_fps": half_fps, "latency_at_half_ms": latency,
        "rounds": {"flat_out": flat_out, "at_half": at_half},
    }  # fmt: skip


def main() -> None:
    """Measure; --save writes results/bench_curve.json."""
    args = harness.arguments(__doc__).parse_args()
    begun, scale = time.monotonic(), 10 if args.quick else 1
    with both() as served:
        rows = {f"{side}x{side}": measured(served, side, scale) for side in FRAMES}
    harness.save("bench_curve", rows, time.monotonic() - begun)


if __name__ == "__main__":
    main()
