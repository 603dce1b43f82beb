"""The processes of a running service, as the kernel sees them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from scgn_live.running import RunningService

ROLES = ("frames", "http")


@dataclass(frozen=True)
class Sample:
    """What one process holds at one moment."""

    resident_mb: float
    descriptors: int
    threads: int


def pid_of(service: RunningService, role: str) -> int:
    """Pid of the `frames` or `http` process; RuntimeError while there is none."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            child = f"PPid:\t{service.pid}\n" in (folder / "status").read_text()
            if child and f"_{role}\0".encode() in (folder / "cmdline").read_bytes():
                return int(folder.name)
    raise RuntimeError(f"the {role} process is not running")


def sample(pid: int) -> Sample:
    """Of one process; OSError when it is gone."""
    folder = Path("/proc") / str(pid)
    status = dict(line.partition(":")[::2] for line in (folder / "status").read_text().splitlines())
    descriptors = sum(1 for _ in (folder / "fd").iterdir())
    return Sample(
        int(status["VmRSS"].split()[0]) / 1024, descriptors, int(status["Threads"].split()[0])
    )
