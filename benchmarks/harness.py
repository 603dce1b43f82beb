"""What every benchmark shares: the machine, a running service, percentiles, a result file."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """What the numbers were taken on."""
    model = platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    names = ("numpy", "pyzmq", "msgpack", "torch")
    versions = {name: metadata.version(name) for name in names}
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version(), **versions}


def percentiles(values: Any) -> dict[str, float]:
    """p50, p90, p99 and the largest, rounded to a thousandth."""
    found = np.percentile(values, (50, 90, 99, 100))
    return dict(zip(("p50", "p90", "p99", "max"), (round(float(v), 3) for v in found), strict=True))


def save(name: str, rows: dict[str, Any], seconds: float) -> None:
    """Print the result and, with --save, write results/NAME.json with machine and command."""
    command = "python " + " ".join([f"benchmarks/{name}.py", *sys.argv[1:]])
    result = {
        "command": command, "date": time.strftime("%Y-%m-%d"), "seconds": round(seconds, 1),
        "machine": machine(), **rows,
    }  # fmt: skip
    print(json.dumps(result, indent=2))
    if "--save" in sys.argv:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The flags every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--save", action="store_true", help="write the result under results/")
    parser.add_argument("--quick", action="store_true", help="a tenth of the frames")
    return parser


def free_port() -> int:
    """A TCP port on loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Service:
    """Where a running service is; `pid` is the frame process'."""

    ingest: str
    frames: str
    latest: str
    http: str
    supervisor: int

    def get(self, path: str) -> dict[str, Any]:
        """A JSON answer of the sidecar."""
        with urllib.request.urlopen(f"{self.http}{path}", timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def resident_mb(self) -> float:
        """Resident memory of the frame process, MB."""
        children = Path(f"/proc/{self.supervisor}/task").glob("*/children")
        for child in " ".join(path.read_text() for path in children).split():
            if b"_frames" in Path(f"/proc/{child}/cmdline").read_bytes():
                status = Path(f"/proc/{child}/status").read_text().splitlines()
                line = next(line for line in status if line.startswith("VmRSS"))
                return int(line.split()[1]) / 1024
        raise RuntimeError("the frame process is not running")


@contextlib.contextmanager
def service(*flags: str) -> Iterator[Service]:
    """The real service on free ports, ready, stopped at the end."""
    tcp = [f"tcp://127.0.0.1:{free_port()}" for _ in range(3)]
    http = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory(prefix="scgn-bench-") as state:
        places = zip(("--ingest", "--frames", "--latest"), tcp, strict=True)
        command = [sys.executable, "-m", "scgn_live", "serve", "--http", http, "--state-dir", state]
        command += [word for pair in places for word in pair]
        log = Path(state) / "log"
        with log.open("wb") as sink:
            process = subprocess.Popen([*command, *flags], stderr=sink)
            running = Service(*tcp, f"http://{http}", process.pid)
            try:
                _wait_ready(running, process, log)
                yield running
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(20)


def _wait_ready(running: Service, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, urllib.error.URLError):
            if running.get("/v2/health/ready")["ready"]:
                return
        time.sleep(0.1)
    raise RuntimeError(f"service did not become ready:\n{log.read_text()}")
