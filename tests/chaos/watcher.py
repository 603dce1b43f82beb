"""The background viewer: every frame and every end, in the order they came."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from chaos.account import SeenFrame
from chaos.film import SOURCE
from chaos.frames import is_whole
from scgn_client.errors import ReceiveTimeout
from scgn_client.keys import ClientKeys
from scgn_client.messages import End, Published, PublishedFrame
from scgn_client.receiver import FrameReceiver

DEADLINE_S = 30.0


@dataclass
class SeenSeries:
    """One run of a series, up to its `end`."""

    frames: list[SeenFrame] = field(default_factory=list)
    ledger: Mapping[str, Any] | None = None


class Watcher:
    """Receives in a thread of its own from `start` to `stop`; anyone may wait for what came."""

    def __init__(self, endpoint: str, keys: ClientKeys | None = None) -> None:
        self._receiver = FrameReceiver(endpoint, timeout_s=0.1, queue=0, keys=keys)
        self._came = threading.Condition()
        self._runs: dict[tuple[str, str], list[SeenSeries]] = {}
        self._messages = 0
        self._error: BaseException | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.wait(lambda: self._messages, "a first message")
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(10)

    def runs(self, series: str, source: str = SOURCE) -> list[SeenSeries]:
        """Every run of a series, the last one perhaps open."""
        return self._runs.get((source, series), [])

    def last(self, series: str, source: str = SOURCE) -> int:
        """Index of the last frame, -1 before the first."""
        runs = self.runs(series, source)
        return runs[-1].frames[-1].frame if runs and runs[-1].frames else -1

    def wait(self, condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
        """The first true value of `condition`, asked at each message; AssertionError after that."""
        end_s = time.monotonic() + deadline_s
        with self._came:
            while not (value := condition()):
                left_s = end_s - time.monotonic()
                assert self._error is None, f"the watcher died: {self._error!r}"
                assert left_s > 0, f"{what} did not come within {deadline_s:.0f} s"
                self._came.wait(min(left_s, 0.5))
            return value

    def ended(self, series: str, source: str = SOURCE, runs: int = 1) -> list[SeenSeries]:
        """The runs of a series once `runs` of them have ended."""
        self.wait(
            lambda: sum(run.ledger is not None for run in self.runs(series, source)) >= runs,
            f"the end of {source}/{series}",
        )
        return [run for run in self.runs(series, source) if run.ledger is not None]

    def forget(self) -> None:
        """Keep nothing of what came so far."""
        with self._came:
            self._runs.clear()

    def _run(self) -> None:
        try:
            with self._receiver as receiver:
                while not self._stopping.is_set():
                    try:
                        message = receiver.receive()
                    except ReceiveTimeout:
                        continue
                    self._note(message)
        except BaseException as error:
            self._error = error

    def _note(self, message: Published) -> None:
        with self._came:
            self._messages += 1
            if isinstance(message, PublishedFrame):
                self._open(message).frames.append(_seen(message))
            elif isinstance(message, End):
                self._open(message).ledger = message.ledger
            self._came.notify_all()

    def _open(self, message: PublishedFrame | End) -> SeenSeries:
        runs = self._runs.setdefault((message.source, message.series), [])
        if not runs or runs[-1].ledger is not None:
            runs.append(SeenSeries())
        return runs[-1]


def _seen(message: PublishedFrame) -> SeenFrame:
    whole = is_whole(message.source, message.series, message.frame, message.raw)
    return SeenFrame(
        message.frame, message.lost, whole, time.monotonic(), message.latency_ms, message.model,
        message.calibration,
    )  # fmt: skip
