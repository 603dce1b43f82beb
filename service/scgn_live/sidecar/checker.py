"""Runs checks of uploads in processes of their own, few at a time, and none without end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from scgn_live.checking.files import RESULT, Task
from scgn_live.settings import Settings
from scgn_live.sidecar.problems import Problem

LOG = logging.getLogger(__name__)
AT_ONCE = 1  # more would take the cores that frames need
WAITING_MAX = 8
QUIET = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH", "VIRTUAL_ENV", "XDG_CACHE_HOME")
LAST_WORDS = 2000  # bytes of a checker's stderr for the log


class Checker:
    """Checks tasks one after the other; a task is a folder of files (`scgn_live.checking`)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._inside = 0

    @contextlib.asynccontextmanager
    async def folder(self) -> AsyncIterator[Path]:
        """A folder for one task, gone afterwards; Problem 503 when too many wait already."""
        if self._inside >= WAITING_MAX:
            raise Problem(503, None, f"expected at most {WAITING_MAX} uploads at once: try again")
        self._inside += 1
        try:
            with _own_folder() as name:
                yield Path(name)
        finally:
            self._inside -= 1

    async def check(self, folder: Path, task: Task) -> dict[str, Any]:
        """The report of the task in the folder; Problem as the checker words it."""
        most = self._settings
        task = replace(
            task, memory_mb=most.check_mb, time_s=most.check_s,
            side_max=(most.max_rows, most.max_columns),
        )  # fmt: skip
        task.write(folder)
        async with self._turn:
            await self._run(folder)
        answer = _answer(folder / RESULT)
        if (problem := answer.get("problem")) is not None:
            raise Problem(problem["status"], problem["field"], problem["detail"])
        report: dict[str, Any] = answer["report"]
        return report

    async def _run(self, folder: Path) -> None:
        limits = (str(self._settings.check_mb), str(self._settings.check_s))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "ignore", "-m", "scgn_live.checking", str(folder), *limits,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE, start_new_session=True, cwd=folder,
            env=QUIET | {k: v for k in PASSED_ON if (v := os.environ.get(k)) is not None},
        )  # fmt: skip
        try:
            async with asyncio.timeout(self._settings.check_s):
                _, said = await process.communicate()
        except TimeoutError as error:
            text = f"expected files that can be checked within {self._settings.check_s:g} s"
            raise Problem(422, None, f"{text}, got ones that take longer") from error
        finally:
            _end(process)
        if process.returncode:
            self._died(process.returncode, said)

    def _died(self, status: int, said: bytes) -> None:
        """Damage that no library foresaw, or a limit of the kernel's: the upload's fault."""
        words = said[-LAST_WORDS:].decode(errors="replace")
        LOG.error("a check of an upload died", extra={"status": status, "said": words})
        if status == -signal.SIGXCPU or status == -signal.SIGKILL:
            got = "ones that take longer"
            text = f"expected files that can be checked within {self._settings.check_s:g} s"
        else:
            text, got = "expected files that can be read", f"ones that end the reader ({status})"
        raise Problem(422, None, f"{text}, got {got}")


def _own_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="scgn-check-", ignore_cleanup_errors=True)


def _end(process: asyncio.subprocess.Process) -> None:
    """The checker and whatever it started."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _answer(path: Path) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(path.read_text())
    return answer
