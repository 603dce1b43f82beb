"""How long health probes wait: on an idle service, while the engine is saturated, and while uploads
are checked beside that.

Camera, uploads, service and prober are separate processes on one machine. The camera sends flat
out, so that `preview-clean` takes every core; a probe goes out every PERIOD_S, in turn to /readyz
and /livez, on a kept connection (a load balancer's) or on one of its own (kubelet's).
"""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import harness
from benchmarks.loopback import HERE
from scgn_client.admin import Admin
from scgn_client.camera import SimulatedCamera
from scgn_live.running import RunningService

SIDE = 512
GOAL_MS = 50.0
PERIOD_S = 0.02
SECONDS = 15.0  # of each kind of connection in each situation
PATHS = ("/readyz", "/livez")
FLAGS = ("--network", "preview-clean", "--shapes", f"{SIDE}x{SIDE}", "--overload", "block")
CAMERA = ("-m", "scgn_client", "send", "--shape", f"{SIDE}x{SIDE}", "--prerender", "32")
STACKS = {"upload": 16, "large_upload": 200}  # frames of the posted dark stack


def probe(connection: http.client.HTTPConnection, path: str) -> tuple[float, int]:
    """One probe: time to the whole answer (ms), and its status."""
    begun = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    return 1000 * (time.perf_counter() - begun), answer.status


def http_process(service: RunningService) -> int:
    """Pid of what answers probes; 0 off Linux."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            child = f"PPid:\t{service.pid}\n" in (folder / "status").read_text()
            if child and b"_http\0" in (folder / "cmdline").read_bytes():
                return int(folder.name)
    return 0


def core_wait_ms(pid: int | str) -> float:
    """How long the main thread of a process has waited for a core, ms; 0 off Linux."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e6
    return 0.0


def probes(service: RunningService, kept: bool, seconds: float) -> dict[str, Any]:
    """What probes find: times (ms) by path, statuses, and of those beyond the goal what they waited
    for: a core in the HTTP process, a core in the prober, or neither.
    """
    times: dict[str, list[float]] = {path: [] for path in PATHS}
    statuses: Counter[int] = Counter()
    late = []
    asked: tuple[int | str, ...] = (http_process(service), "self")
    connection = http.client.HTTPConnection(service.http.removeprefix("http://"), timeout=10)
    begun = time.monotonic()
    while (now := time.monotonic()) - begun < seconds:
        for path in PATHS:
            before = [core_wait_ms(pid) for pid in asked]
            took_ms, status = probe(connection, path)
            waits = [core_wait_ms(pid) - was for pid, was in zip(asked, before, strict=True)]
            times[path].append(took_ms)
            statuses[status] += 1
            if took_ms > GOAL_MS:
                words = ("ms", "http_waited_for_a_core_ms", "prober_waited_for_a_core_ms")
                late.append(dict(zip(words, (round(v, 1) for v in (took_ms, *waits)), strict=True)))
            if not kept:
                connection.close()  # the next request opens it anew
        time.sleep(max(0.0, now + len(PATHS) * PERIOD_S - time.monotonic()))
    connection.close()
    found: dict[str, Any] = {path: harness.percentiles(row) for path, row in times.items()}
    return {
        **found, "probes": statuses.total(), "beyond_goal": len(late),
        "slowest": sorted(late, key=lambda row: -row["ms"])[:5],
        "statuses": {str(status): count for status, count in statuses.items()},
    }  # fmt: skip


def both_kinds(service: RunningService, seconds: float) -> dict[str, Any]:
    """On a kept connection, then on fresh ones; with the engine's figures and the load."""
    rows = {
        name: probes(service, kept, seconds)
        for name, kept in (("kept_connection", True), ("fresh_connections", False))
    }
    status = Admin(service.http).status()
    engine = {key: status[key] for key in ("rate_out_fps", "engine_ms")}
    return {**rows, **engine, "load_average": round(os.getloadavg()[0], 1)}


def busy_s() -> tuple[float, float]:
    """Processor time that this program and what it started have used so far, and everyone, s.

    Zero off Linux; what was started counts once it has ended.
    """
    ours = sum(os.times()[:4])
    with contextlib.suppress(OSError):
        ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
        return ours, sum(ticks[at] for at in (0, 1, 2, 5, 6)) / os.sysconf("SC_CLK_TCK")
    return 0.0, 0.0


@contextlib.contextmanager
def process(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python program beside, killed at the end."""
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE) as running:
        try:
            yield running
        finally:
            running.kill()


def while_uploading(service: RunningService, frames: int, seconds: float) -> dict[str, Any]:
    """The same while references are posted again and again; how long one upload takes (s)."""
    camera = SimulatedCamera((SIDE, SIDE))
    with tempfile.TemporaryDirectory(prefix="scgn-bench-") as name:
        folder = Path(name)
        camera.save_references(folder)
        stack = np.repeat(camera.dark_reference[np.newaxis].astype("<u2"), frames, axis=0)
        np.save(folder / "dark.npy", stack)
        with process(str(HERE / "uploads.py"), service.http, name) as uploads:
            rows = both_kinds(service, seconds)
            if uploads.poll() is not None:
                raise RuntimeError("an upload failed: see above")
            uploads.terminate()
            told, _ = uploads.communicate()
    took_s = [float(word) for word in told.split()]
    median_s = round(float(np.median(took_s)), 2) if took_s else None
    megabytes = round(stack.nbytes / 1e6, 1)
    return {**rows, "uploads": len(took_s), "upload_s": median_s, "upload_mb": megabytes}


def wait_until_saturated(service: RunningService) -> None:
    """The ring has no free slot: the camera is faster than the engine."""
    while Admin(service.http).status()["ring"]["free"]:
        time.sleep(0.05)


def main() -> None:
    """Run all situations and print or save one result."""
    args = harness.arguments(__doc__).parse_args()
    seconds = SECONDS / (10 if args.quick else 1)
    begun, before = time.monotonic(), busy_s()
    with harness.service(*FLAGS) as service:
        rows: dict[str, Any] = {"goal_ms": GOAL_MS, "side_px": SIDE}
        rows["idle"] = both_kinds(service, seconds)
        with process(*CAMERA, "--endpoint", service.ingest):
            wait_until_saturated(service)
            rows["saturated"] = both_kinds(service, seconds)
            for name, frames in STACKS.items():
                rows[f"saturated_{name}"] = while_uploading(service, frames, seconds)
    took_s = time.monotonic() - begun
    ours_s, all_s = (now - then for now, then in zip(busy_s(), before, strict=True))
    # Of other programs on this machine, which keep prober and service waiting alike.
    rows["others_share"] = round((all_s - ours_s) / (took_s * (os.cpu_count() or 1)), 3)
    harness.save("bench_health", rows, took_s)


if __name__ == "__main__":
    main()
