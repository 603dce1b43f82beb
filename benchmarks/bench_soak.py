"""Half an hour under load, and beyond it: memory, descriptors, latency by minute, and what is lost.

The capacity is measured first: a camera that the service holds back. Then a camera sends at a share
of it, or at a rate, for minutes; latency is from the camera's clock reading to the subscriber's
receipt, `inside` what the service measured. The ends that are compared are the first and the last
five minutes, or a third of the time each when that is shorter. Memory is compared from the second
minute on: the first one fills caches and pools.

Last comes a camera at twice the capacity, once for each policy: with `latest` the age of published
frames (received to published, p99) must stay below ring length x service time, which is the p99 of
one frame in the engine or, when that is more, the time from one published frame to the next; with
`block` nothing may be lost.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import harness, operating
from benchmarks.loopback import Watch, run
from benchmarks.processes import ROLES, Sample, pid_of, sample
from scgn_client.admin import Admin
from scgn_live.running import RunningService

SAMPLE_EVERY_S = 5.0
EDGE_S = 300.0  # of the beginning and of the end, for the drift
WARM_S = 60.0
CAPACITY_S, BEYOND_S = 20.0, 30.0
FIRST_GUESS = 200  # frames that tell the capacity well enough to measure it for CAPACITY_S
RING_SLOTS = 4  # the service's default, said so that the bound on the age can be told
MEMORY_GROWTH_MAX, P99_DRIFT_MAX = 0.01, 0.10


@dataclass
class Story:
    """What is seen of a run as it goes: latencies by minute, and the processes now and then."""

    service: RunningService
    pids: dict[str, int] = field(default_factory=dict)
    began_s: float = field(default_factory=time.monotonic)
    minutes: list[tuple[list[float], list[float]]] = field(default_factory=list)
    samples: dict[str, list[tuple[float, Sample]]] = field(
        default_factory=lambda: {role: [] for role in ROLES}
    )
    _sampled_s: float = 0.0

    def begin(self) -> None:
        """Look which processes there are: another pid later would be a restart."""
        self.pids = {role: pid_of(self.service, role) for role in ROLES}

    def frame(self, _: int, latency_ms: float, inside_ms: float) -> None:
        """One frame came."""
        now = time.monotonic()
        minute = int((now - self.began_s) / 60)
        while len(self.minutes) <= minute:
            self.minutes.append(([], []))
        self.minutes[minute][0].append(latency_ms)
        self.minutes[minute][1].append(inside_ms)
        if now - self._sampled_s >= SAMPLE_EVERY_S:
            self._sampled_s = now
            for role, pid in self.pids.items():
                self.samples[role].append((now - self.began_s, sample(pid)))


def by_minute(story: Story) -> list[dict[str, Any]]:
    """A row a minute: frames, latencies, and what the frame process holds at its end."""
    rows = []
    for minute, (latency_ms, inside_ms) in enumerate(story.minutes):
        if not latency_ms:
            continue
        until = [held for at_s, held in story.samples["frames"] if at_s < 60 * (minute + 1)]
        rows.append({
            "minute": minute, "frames": len(latency_ms),
            "latency_ms": harness.percentiles(latency_ms),
            "inside_ms": harness.percentiles(inside_ms),
            "resident_mb": round(until[-1].resident_mb, 1), "descriptors": until[-1].descriptors,
        })  # fmt: skip
    return rows


def edges(story: Story, total_s: float) -> dict[str, Any]:
    """Latency of the first and of the last minutes, and how far the last p99 is from the first."""
    minutes = max(1, round(min(EDGE_S, total_s / 3) / 60))
    full = [row for row in story.minutes[: max(1, int(total_s / 60))] if row[0]]
    found = {}
    for end, rows in {"first": full[:minutes], "last": full[-minutes:]}.items():
        for place, name in enumerate(("latency_ms", "inside_ms")):
            values = np.concatenate([np.asarray(row[place]) for row in rows])
            found[f"{end}_{name}"] = harness.percentiles(values)
    drift = found["last_latency_ms"]["p99"] / found["first_latency_ms"]["p99"] - 1
    inside = found["last_inside_ms"]["p99"] / found["first_inside_ms"]["p99"] - 1
    return {
        "minutes": minutes, **found, "p99_drift": round(drift, 3),
        "inside_p99_drift": round(inside, 3),
    }  # fmt: skip


def held(story: Story, role: str, total_s: float) -> dict[str, Any]:
    """Memory, descriptors and threads of one process after the first minute and at the end."""
    rows = story.samples[role]
    warm_s = min(WARM_S, total_s / 3)
    warm = [held for at_s, held in rows if at_s >= warm_s] or [rows[-1][1]]
    edge = max(1, len(warm) // 6)
    begun, ended = (
        (
            float(np.median([h.resident_mb for h in end])),
            int(np.median([h.descriptors for h in end])),
        )
        for end in (warm[:edge], warm[-edge:])
    )
    counts = [held.descriptors for held in warm]
    return {
        "resident_mb": {"warm": round(begun[0], 2), "end": round(ended[0], 2),
                        "most": round(max(held.resident_mb for _, held in rows), 2)},
        "growth": round(ended[0] / begun[0] - 1, 4),
        # A question of the HTTP process is a connection for a moment.
        "descriptors": {"warm": begun[1], "end": ended[1], "least": min(counts),
                        "most": max(counts)},
        "threads": sorted({held.threads for held in warm}),
    }  # fmt: skip


def uploaded(service: RunningService, side: int) -> list[str]:
    """Two calibrations, before any frame came that could speak against them."""
    rng = np.random.default_rng(1)
    darks = [rng.normal(level, 1, (side, side)).astype(np.float32) for level in (5, 10)]
    return [operating.upload(service.http, "force=true", dark=dark) for dark in darks]


@contextmanager
def calibrating(
    service: RunningService, ids: list[str], per_minute: float
) -> Iterator[dict[str, int]]:
    """Calibrations that take turns all the time; how many swaps so far, and how many failed."""
    if not ids:
        yield {}
        return
    done, counts = threading.Event(), {"swaps": 0, "failed": 0}

    def swap() -> None:
        while not done.wait(60 / per_minute):
            try:
                operating.use_calibration(service.http, ids[counts["swaps"] % 2])
            except OSError:
                counts["failed"] += 1
            counts["swaps"] += 1

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield counts
    finally:
        done.set()
        thread.join()


def capacity_fps(args: argparse.Namespace) -> float:
    """What the service takes from a camera that waits for it."""
    with harness.service(*flags(args, "block"), ready_s=operating.BUILD_S) as served:
        first = run(served.ingest, served.frames, FIRST_GUESS, 0, args.side)
        frames = max(FIRST_GUESS, int(first["rate_fps"] * CAPACITY_S / (10 if args.quick else 1)))
        row = run(served.ingest, served.frames, frames, 0, args.side)
    return float(row["rate_fps"])


def soak(args: argparse.Namespace, rate_fps: float) -> dict[str, Any]:
    """The long run, and whether it held."""
    total_s = 60 * args.minutes
    with harness.service(*flags(args, args.overload), ready_s=operating.BUILD_S) as served:
        ids = uploaded(served, args.side) if args.calibrations else []
        run(served.ingest, served.frames, FIRST_GUESS, rate_fps, args.side)  # warm
        with calibrating(served, ids, args.calibrations) as swaps:
            story = Story(served)
            story.begin()
            watch: Watch = story.frame
            row = run(
                served.ingest, served.frames, int(rate_fps * total_s), rate_fps, args.side, watch
            )
        ledger = Admin(served.http).status()["series"][-1]
        restarts = {role: pid_of(served, role) for role in ROLES} != story.pids
    processes = {role: held(story, role, total_s) for role in ROLES}
    ends = edges(story, total_s)
    frames = processes["frames"]
    return {
        **row, "rate_asked_fps": round(rate_fps, 1), "overload": args.overload, "ledger": ledger,
        "swaps": dict(swaps), "restarted": restarts, "ends": ends, "processes": processes,
        "holds": {
            "memory": frames["growth"] < MEMORY_GROWTH_MAX,
            "descriptors": frames["descriptors"]["warm"] == frames["descriptors"]["end"],
            "p99": ends["p99_drift"] < P99_DRIFT_MAX, "no_restart": not restarts,
        },
        "by_minute": by_minute(story),
    }  # fmt: skip


def beyond(args: argparse.Namespace, capacity: float, overload: str) -> dict[str, Any]:
    """A camera at twice what the service can do."""
    frames = int(2 * capacity * (BEYOND_S / 10 if args.quick else BEYOND_S))
    with harness.service(*flags(args, overload)) as served:
        run(served.ingest, served.frames, FIRST_GUESS, capacity / 2, args.side)  # warm
        row = run(served.ingest, served.frames, frames, 2 * capacity, args.side)
        status = Admin(served.http).status()
    ledger, engine_ms = status["series"][-1], status["engine_ms"]
    found = {**row, "sent_fps": round(2 * capacity, 1), "ledger": ledger, "engine_ms": engine_ms}
    if overload == "block":
        whole = ledger["published"] == ledger["expected"] == frames
        return {**found, "holds": whole and not ledger["dropped"]}
    # It waits for those before it in the ring, and is then worked on itself.
    service_ms = max(engine_ms["p99"], 1000 / row["rate_fps"])
    bound_ms = RING_SLOTS * service_ms
    return {
        **found, "service_ms": round(service_ms, 3), "bound_ms": round(bound_ms, 3),
        "p99_age_in_service_times": round(row["inside_ms"]["p99"] / service_ms, 2),
        "holds": row["inside_ms"]["p99"] <= bound_ms,
    }  # fmt: skip


def flags(args: argparse.Namespace, overload: str) -> list[str]:
    """Of the service."""
    chosen = ["--overload", overload, "--ring-slots", str(RING_SLOTS)]
    chosen += ["--no-publish-raw", "--engine", args.engine]
    if args.engine == "scgn":
        chosen += ["--network", args.network, "--shapes", f"{args.side}x{args.side}"]
    return [*chosen, *args.flags]


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    """The command's flags."""
    parser = harness.arguments(__doc__)
    harness.add_flags(parser)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--load", type=float, default=0.8, help="share of the capacity")
    parser.add_argument("--rate", type=float, help="frames/s instead of a share")
    parser.add_argument("--engine", choices=("scgn", "pass-through"), default="scgn")
    parser.add_argument("--network", default="preview-clean")
    parser.add_argument("--side", type=int, default=256, help="px")
    parser.add_argument("--overload", choices=("latest", "block"), default="latest")
    parser.add_argument("--calibrations", type=float, default=0.0, help="swaps a minute meanwhile")
    args = parser.parse_args(words)
    if args.quick:
        args.minutes /= 10
    return args


def main() -> None:
    """Run all parts; --save writes results/bench_soak.json."""
    args = parsed()
    begun = time.monotonic()
    capacity = capacity_fps(args)
    rate_fps = args.rate or args.load * capacity
    rows: dict[str, Any] = {
        "capacity_fps": capacity, "soak": soak(args, rate_fps),
        "beyond": {policy: beyond(args, capacity, policy) for policy in ("latest", "block")},
    }  # fmt: skip
    harness.save("bench_soak", rows, time.monotonic() - begun)


if __name__ == "__main__":
    main()
