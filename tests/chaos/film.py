"""The background camera: one series at a time, sent by the client, with a known plan of gaps."""

from __future__ import annotations

import random
import threading
from typing import Self

from chaos.frames import frame_of
from scgn_client.errors import SendTimeout
from scgn_client.keys import ClientKeys
from scgn_client.sender import FrameSender

SOURCE = "film"
PACE_S = 0.006
GAP_SHARE = 0.02  # of the frames are given up on purpose
HELD_S = 0.5  # how long a frame waits for the service before it is given up


class Film:
    """One series in a thread of its own, until `stop`; skips frames by chance and when it must.

    total: indices used up so far; sent: frames handed over.
    """

    def __init__(
        self,
        endpoint: str,
        series: str,
        chance: random.Random,
        *,
        source: str = SOURCE,
        pace_s: float = PACE_S,
        keys: ClientKeys | None = None,
    ) -> None:
        self.source, self.series = source, series
        self.total = self.sent = 0
        self._chance = random.Random(chance.random())
        self._pace_s = pace_s
        self._sender = FrameSender(endpoint, source, series, queue=2, keys=keys)
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"film {series}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()

    def stop(self) -> None:
        """A last frame and the `end`; raises what went wrong in the thread."""
        self._stopping.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), f"the camera of {self.series} did not end within 60 s"
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            with self._sender:
                while not self._stopping.wait(self._pace_s):
                    self._send(HELD_S)
                self._send(10)  # not a gap: a viewer knows by its index that it has all
        except BaseException as error:
            self._error = error

    def _send(self, held_s: float) -> None:
        if held_s == HELD_S and self._chance.random() < GAP_SHARE:
            self._sender.skip()
        try:
            frame = frame_of(self.source, self.series, self._sender.next_frame)
            self._sender.send(frame, timeout_s=held_s)
            self.sent += 1
        except SendTimeout:
            self._sender.skip()
        self.total = self._sender.next_frame
