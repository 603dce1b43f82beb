"""The frame process as the sidecar sees it: asked all the time, so that no probe ever waits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator

from scgn_live.control import ControlError, ControlTimeout, request

LOG = logging.getLogger(__name__)
ASK_EVERY_S = 0.2
ANSWER_S = 0.8


class FrameProcess:
    """Health of the frame process, at most a second old."""

    def __init__(self, control: str, ready_s: float, live_s: float) -> None:
        self.control = control
        self._ready_s, self._live_s = ready_s, live_s
        self._began_s = time.monotonic()
        self._answered_s: float | None = None
        self._problem: str | None = "frame process has not answered yet"
        self._reasons: list[str] = []
        self._pid: int | None = None

    def reasons_not_live(self) -> list[str]:
        """Why the frame process counts as dead, in words; empty while it lives.

        A start that has not answered yet lives: the supervisor has made it a moment ago.
        """
        if self._gone():
            return [f"frame process {self._pid} is gone"]
        if self._silent_s() > self._live_s:
            return [self._silence()]
        return []

    def reasons_not_ready(self) -> list[str]:
        """Why frames would not flow now, in words; empty when they would."""
        if self._gone():
            return [f"frame process {self._pid} is gone"]
        if self._problem is not None:
            return [f"{self._problem} (for {self._silent_s():.1f} s)"]
        if self._silent_s() > self._ready_s:
            return [self._silence()]
        return self._reasons

    def _gone(self) -> bool:
        return self._pid is not None and not _exists(self._pid)

    def _silent_s(self) -> float:
        return time.monotonic() - (self._answered_s or self._began_s)

    def _silence(self) -> str:
        return f"frame process has been silent for {self._silent_s():.1f} s"

    async def ask_once(self) -> None:
        """Renew the picture."""
        try:
            answer = await request(self.control, ANSWER_S, do="health")
        except ControlTimeout:
            pass  # one late answer on a busy machine is no illness: silence counts once it is long
        except Exception as error:  # whatever it is, the next question is asked
            if not isinstance(error, ControlError):
                LOG.exception("asking the frame process failed")
            self._problem = str(error) or type(error).__name__
        else:
            self._problem, self._answered_s = None, time.monotonic()
            self._reasons, self._pid = list(answer["reasons"]), answer["pid"]

    async def _ask_for_ever(self) -> None:
        while True:
            await self.ask_once()
            await asyncio.sleep(ASK_EVERY_S)

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Keep asking in the background."""
        task = asyncio.create_task(self._ask_for_ever())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
