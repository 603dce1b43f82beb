"""Work that is done only while somebody looks."""

from __future__ import annotations

import asyncio
import contextlib
import logging

LOG = logging.getLogger(__name__)
IDLE_S = 1.0  # between two requests of one browser nothing is closed and opened again


class WhileWatched:
    """Runs `work` again and again from the first watcher on, until nobody watched for IDLE_S.

    A watcher is an asyncio.Event: it is set whenever there is something new to take.
    """

    def __init__(self) -> None:
        self._watchers: set[asyncio.Event] = set()
        self._came = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def watch(self, watcher: asyncio.Event) -> None:
        """Set `watcher` at every news until it leaves."""
        self._watchers.add(watcher)
        self._came.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work_on())

    def leave(self, watcher: asyncio.Event) -> None:
        """No more news for this one."""
        self._watchers.discard(watcher)

    def tell(self) -> None:
        """There is something new."""
        for watcher in self._watchers:
            watcher.set()

    async def somebody(self) -> bool:
        """True at once while somebody watches, or when one comes within IDLE_S; else False."""
        if self._watchers:
            return True
        self._came.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IDLE_S):
                await self._came.wait()
        return bool(self._watchers)

    async def work(self) -> None:
        """Do some of it; it may go on for as long as `somebody` says so."""
        raise NotImplementedError

    async def _work_on(self) -> None:
        while await self.somebody():
            try:
                await self.work()
            except Exception:  # whatever it is, those who still watch are served again
                LOG.exception("the live view stumbled")
                await asyncio.sleep(IDLE_S)
