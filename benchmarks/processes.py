"""The processes of a running service, as the kernel sees them."""

from __future__ import annotations

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
    if (pid := service.pid_of(role)) is None:
        raise RuntimeError(f"the {role} process is not running")
    return pid


def sample(pid: int) -> Sample:
    """Of one process; OSError when it is gone."""
    folder = Path("/proc") / str(pid)
    status = dict(line.partition(":")[::2] for line in (folder / "status").read_text().splitlines())
    descriptors = sum(1 for _ in (folder / "fd").iterdir())
    return Sample(
        int(status["VmRSS"].split()[0]) / 1024, descriptors, int(status["Threads"].split()[0])
    )
