"""The frame process' own memory: how much it has, and its end before the machine has none left.

ZeroMQ bounds a part and counts whole messages; a message of endless parts, or topics without end,
it keeps for as long as they come, and no setting of it says otherwise.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

LOG = logging.getLogger(__name__)
EXIT_MEMORY = 72  # the supervisor restarts the process
MB = 1e6
SHARE = 0.75  # of what there is, unless `memory_mb` says how much
CHECK_S = 0.1  # a peer on loopback fills about 0.1 GB meanwhile
STOP_S = 2.0  # for an end in order,
STOP_SHARE = 1.1  # while memory grows by no more than that
LOOK_AT = (
    "the connections to ingest and frames (ss -tnp): a peer that sends parts or topics without end;"
    " then subscriber_mb, stream_mb, proof_mb, ring_slots and shapes"
)
_CGROUP = Path("/sys/fs/cgroup")


def resident_mb() -> float:
    """Memory of this process, MB; 0 on a system that does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / MB


def available_mb(groups: str | None = None, root: Path = _CGROUP) -> float:
    """What this process may have, MB: the machine's memory, or its control groups' if that is less.

    groups: as /proc/self/cgroup tells them (default); root: where they are mounted.
    """
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if groups is None:
        try:
            groups = Path("/proc/self/cgroup").read_text()
        except OSError:
            groups = ""
    limits = [limit for line in groups.splitlines() for limit in _limits(line, root)]
    return min([machine, *limits]) / MB


def _limits(line: str, root: Path) -> list[int]:
    """Bytes that a group (`0::/a/b`, or version 1's `4:memory:/a/b`) and those above it allow."""
    _, kinds, path = line.split(":", 2)
    if kinds and "memory" not in kinds.split(","):
        return []
    base, name = (root / "memory", "memory.limit_in_bytes") if kinds else (root, "memory.max")
    group = base / path.lstrip("/")
    # In a container the path may be the host's, which is not there: the mount's root is our group.
    folders = [folder for folder in (group, *group.parents) if folder.is_relative_to(base)]
    return [limit for folder in folders if (limit := _number(folder / name)) is not None]


def _number(file: Path) -> int | None:
    """None without such a file and for `max`."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


class Watchdog:
    """Knows whether this process has outgrown `limit_mb` (MB; None: SHARE of what there is)."""

    def __init__(self, limit_mb: float | None) -> None:
        self.limit_mb = SHARE * available_mb() if limit_mb is None else limit_mb

    def must_fit(self) -> None:
        """ValueError when there is no room even before frames come."""
        if (taken_mb := resident_mb()) > self.limit_mb:
            raise ValueError(
                f"memory_mb: expected more than the {taken_mb:.0f} MB that the process takes"
                f" before frames come, got {self.limit_mb:.0f} MB"
            )

    def outgrown(self) -> bool:
        """Whether it has; said in the log."""
        if (taken_mb := resident_mb()) <= self.limit_mb:
            return False
        facts = {"memory_mb": round(self.limit_mb), "resident_mb": round(taken_mb)}
        LOG.error("out of memory: ending", extra={**facts, "look_at": LOOK_AT})
        return True

    def end_soon(self) -> None:
        """End the process whatever else happens, after STOP_S or once memory grows further."""
        threading.Thread(target=self._end, name="end", daemon=True).start()

    def _end(self) -> None:
        end_s, most_mb = time.monotonic() + STOP_S, STOP_SHARE * self.limit_mb
        while time.monotonic() < end_s and resident_mb() < most_mb:
            time.sleep(CHECK_S / 10)
        os._exit(EXIT_MEMORY)
