"""What a network's memory costs: frames/s of the whole service with it and without, in turn.

One service on this machine's CPU, camera and subscriber as processes beside it, 256x256 uint16, the
camera held back by the service. `auto` and `off` take turns of some frames within one run, each a
series of its own that begins without a past, so that what the machine does meets both alike;
figures are medians over turns. What `auto` does more: every eighth frame has a second call, for the
number that is told of it. `lost` is the share of the frames/s that it costs, and it may be a
quarter. Nothing else may run: what is left of two cores to it is not left to the service.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import harness, operating
from benchmarks.loopback import run
from scgn_client.admin import Admin

WAYS = ("auto", "off")
LOST_MAX = 0.25
SUMS = ("sent", "received")
WARM = 20  # frames that fill the runtime's pools, of no turn


def use(http: str, temporal: str) -> None:
    """Have every later frame seen so."""
    body = json.dumps({"temporal": temporal}).encode()
    operating.ask(http, "POST", "/temporal", body, "application/json")


def turns(args: argparse.Namespace) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """Runs of each way, in turn, and the service's status after them."""
    flags = ["--network", args.network, "--shapes", f"{args.side}x{args.side}", *args.flags]
    flags += ["--overload", "block", "--no-publish-raw", "--proof-frames", "0"]
    rows: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    with harness.service(*flags, ready_s=operating.BUILD_S) as served:
        ends = served.ingest, served.frames
        run(*ends, WARM, 0, args.side)
        for number in range(args.turns):
            for way in WAYS[:: 1 if number % 2 else -1]:  # neither always goes first
                use(served.http, way)
                row = run(*ends, args.frames, 0, args.side)
                known = Admin(served.http).status()["sources"]["bench"]
                rows[way].append({**row, "averaged": round(known["averaged"], 1)})
        return rows, Admin(served.http).status()


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Everything."""
    rows, status = turns(args)
    rates = {way: float(np.median([row["rate_fps"] for row in rows[way]])) for way in WAYS}
    pairs = zip(rows["auto"], rows["off"], strict=True)
    by_turn = [round(1 - auto["rate_fps"] / off["rate_fps"], 3) for auto, off in pairs]
    lost = round(1 - rates["auto"] / rates["off"], 3)
    inside = {way: float(np.median([row["inside_ms"]["p50"] for row in rows[way]])) for way in WAYS}
    averaged = {way: float(np.median([row["averaged"] for row in rows[way]])) for way in WAYS}
    counts = {key: sum(row[key] for way in WAYS for row in rows[way]) for key in SUMS}
    backend = status["backend"]
    return {
        "network": args.network, "side_px": args.side, "frames_a_turn": args.frames,
        "backend": {key: backend[key] for key in ("name", "version", "precision")},
        "rate_fps": rates, "inside_ms": inside, "averaged": averaged, "lost": lost,
        "lost_by_turn": by_turn, "lost_max": LOST_MAX, "holds": lost <= LOST_MAX,
        **counts, "turns": rows,
    }  # fmt: skip


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    """The command's flags."""
    parser = harness.arguments(__doc__)
    harness.add_flags(parser)
    parser.add_argument("--network", default="preview-clean")
    parser.add_argument("--side", type=int, default=256, help="px")
    parser.add_argument("--turns", type=int, default=7, help="of each way")
    parser.add_argument("--frames", type=int, default=240, help="of a turn")
    args = parser.parse_args(words)
    if args.quick:
        args.turns, args.frames = max(1, args.turns // 3), max(8, args.frames // 4)
    return args


def main() -> None:
    """Measure; --save writes results/bench_temporal.json."""
    args, begun = parsed(), time.monotonic()
    rows = measured(args)
    harness.save("bench_temporal", rows, time.monotonic() - begun)


if __name__ == "__main__":
    main()
