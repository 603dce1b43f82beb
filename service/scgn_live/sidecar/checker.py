"""Runs checks of uploads in processes of their own, few at a time, and none without end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scgn_live.checking.files import DONE, PICTURE, RESULT, Task
from scgn_live.settings import Settings
from scgn_live.sidecar.problems import Problem

LOG = logging.getLogger(__name__)
AT_ONCE = 1  # more would take the cores that frames need
WAITING_MAX = 8
QUIET = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH", "VIRTUAL_ENV", "XDG_CACHE_HOME")
SAID = "said.txt"  # the checker's stderr
LAST_WORDS = 2000  # characters of it for the log


@dataclass(eq=False)
class Errand:
    """The folder of one task; drawing: its picture, which comes after the answer."""

    folder: Path
    drawing: asyncio.Task[bytes | None] | None = None


class Checker:
    """Checks tasks one after the other; a task is a folder of files (`scgn_live.checking`).

    folder: where those folders are made; it should go with the service.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder / "checks"
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._inside = 0
        self._drawings: set[asyncio.Task[bytes | None]] = set()

    def sweep(self) -> None:
        """Make the place, without what a killed process left there."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700, parents=True)

    async def stop(self) -> None:
        """Draw no more: the process ends."""
        for drawing in self._drawings:
            drawing.cancel()
        if self._drawings:
            await asyncio.wait(self._drawings)

    @contextlib.asynccontextmanager
    async def errand(self) -> AsyncIterator[Errand]:
        """A folder for one task, gone when all is done; Problem 429 when too many wait already."""
        if self._inside >= WAITING_MAX:
            raise Problem(429, None, f"expected at most {WAITING_MAX} uploads at once: try again")
        # Made anew: a system that tidies its temporary folders may have taken it.
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        errand = Errand(Path(tempfile.mkdtemp(dir=self._folder)))
        self._inside += 1
        try:
            yield errand
        finally:
            if errand.drawing is None:
                self._over(errand)
            else:
                errand.drawing.add_done_callback(lambda _: self._over(errand))

    def _over(self, errand: Errand) -> None:
        self._inside -= 1
        shutil.rmtree(errand.folder, ignore_errors=True)

    async def check(self, errand: Errand, task: Task) -> dict[str, Any]:
        """The report of the task; Problem as the checker words it. The picture is drawn after."""
        most = self._settings
        task = replace(
            task, memory_mb=most.check_mb, time_s=most.check_s,
            side_max=(most.max_rows, most.max_columns),
        )  # fmt: skip
        task.write(errand.folder)
        await self._turn.acquire()
        try:
            process = await self._begun(errand.folder)
            await self._answered(process, errand.folder)
            errand.drawing = asyncio.create_task(self._drawn(process, errand.folder))
            self._drawings.add(errand.drawing)
            errand.drawing.add_done_callback(self._drawings.discard)
        finally:
            if errand.drawing is None:
                self._turn.release()
        answer = json.loads((errand.folder / RESULT).read_text())
        if (problem := answer.get("problem")) is not None:
            raise Problem(problem["status"], problem["field"], problem["detail"])
        report: dict[str, Any] = answer["report"]
        return report

    async def _begun(self, folder: Path) -> Process:
        limits = map(str, (self._settings.check_mb, self._settings.check_s, os.getpid()))
        with (folder / SAID).open("wb") as said:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-Wignore", "-m", "scgn_live.checking", str(folder), *limits,
                stdin=DEVNULL, stdout=PIPE, stderr=said, start_new_session=True, cwd=folder,
                env=QUIET | {k: v for k in PASSED_ON if (v := os.environ.get(k)) is not None},
            )  # fmt: skip

    async def _answered(self, process: Process, folder: Path) -> None:
        """Until result.json is there; Problem, and the process is gone, when it will not be."""
        assert process.stdout is not None
        try:
            async with asyncio.timeout(self._settings.check_s):
                said = await process.stdout.readline()
                if said.strip() != DONE:
                    await process.wait()
        except TimeoutError as error:
            raise Problem(422, None, self._slow()) from error
        finally:
            if not (folder / RESULT).exists():
                await _end(process)
        if not (folder / RESULT).exists():
            self._died(process.returncode, folder / SAID)

    async def _drawn(self, process: Process, folder: Path) -> bytes | None:
        """The picture, once the process has ended; None when it drew none."""
        try:
            async with asyncio.timeout(self._settings.check_s):
                status = await process.wait()
            if status:
                LOG.error("no picture of a calibration", extra={"said": _words(folder / SAID)})
            picture = folder / PICTURE
            return picture.read_bytes() if status == 0 and picture.exists() else None
        except TimeoutError:
            LOG.error("a picture of a calibration took too long")
            return None
        finally:
            await _end(process)
            self._turn.release()

    def _died(self, status: int | None, said: Path) -> None:
        """Damage that no library foresaw, or a limit of the kernel's: the upload's fault."""
        LOG.error("a check of an upload died", extra={"status": status, "said": _words(said)})
        if status in (-signal.SIGXCPU, -signal.SIGKILL):
            raise Problem(422, None, self._slow())
        text = f"expected files that can be read, got ones that end the reader ({status})"
        raise Problem(422, None, text)

    def _slow(self) -> str:
        limit_s = f"{self._settings.check_s:g} s"
        return f"expected files that can be checked within {limit_s}, got ones that take longer"


async def _end(process: Process) -> None:
    """The checker and whatever it started."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _words(said: Path) -> str:
    with contextlib.suppress(OSError):
        return said.read_text(errors="replace")[-LAST_WORDS:]
    return ""
