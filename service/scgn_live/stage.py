"""A stage: one thread that turns a loop, says when it last turned, and never dies unnoticed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

LOG = logging.getLogger(__name__)


class Stage:
    """Runs `turn` again and again in a thread of its own until `stop`.

    A turn must come back within a second. An exception out of it ends the stage: `error` keeps it
    and `on_death` is called, so that the process can end instead of hanging.
    """

    def __init__(self, name: str, turn: Callable[[], None], on_death: Callable[[], None]) -> None:
        self.name = name
        self.error: BaseException | None = None
        self.turned_s = time.monotonic()
        self._turn = turn
        self._on_death = on_death
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Let the current turn finish, then end the thread; safe to call twice."""
        self._stopping.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._turn()
                self.turned_s = time.monotonic()
        except BaseException as error:
            self.error = error
            LOG.exception("stage died", extra={"stage": self.name})
            self._on_death()
