"""What the checking process may use, asked of the kernel before any byte of an upload is read."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

MB = 1_000_000
NICE = 10  # frames come first
OUTPUT_MB = 2048  # of one file; far beyond any calibration
OPEN_FILES = 256
AUTOGROUP = Path("/proc/self/autogroup")
_PR_SET_PDEATHSIG = 1


def limit(memory_mb: float, time_s: float, asker: int) -> None:
    """From here on at most so much address space and processor time, and no core file.

    Beyond the memory Python raises MemoryError; beyond the time the kernel ends the process, and so
    it does once the asker, by its pid, is gone.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != asker:
        raise SystemExit("whoever asked for this is gone")
    step_aside()
    for what, most in {
        resource.RLIMIT_AS: round(memory_mb * MB),
        resource.RLIMIT_CPU: max(1, round(time_s)),
        resource.RLIMIT_FSIZE: OUTPUT_MB * MB,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_CORE: 0,
    }.items():
        _, hard = resource.getrlimit(what)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def step_aside() -> None:
    """Let frames come first, also where the kernel weighs sessions and not processes: there a
    process that has a session of its own is nice to nobody (autogroup, sched(7)).
    """
    os.nice(NICE)
    if os.getsid(0) == os.getpid():
        with suppress(OSError):  # no such kernel
            AUTOGROUP.write_text(str(NICE))
