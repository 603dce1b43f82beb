"""Connections that ask nothing are let go: each takes a descriptor, and health needs some too."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE_S = 10.0


class PatientProtocol(H11Protocol):
    """HTTP as uvicorn speaks it, but a connection that goes `patience_s` without the whole head of
    a request is closed, whether it says nothing or a byte now and then.

    uvicorn has a limit between two requests alone. A request under way has all the time it takes,
    and so has a WebSocket.
    """

    patience_s = PATIENCE_S

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A new connection; it has its time from here on."""
        super().connection_made(transport)
        self._answered: Any = None  # the last request that was over when we looked
        self._timer = self.loop.call_later(self.patience_s, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is left to be looked at."""
        self._timer.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            return  # a WebSocket by now
        waits = self.cycle is None or self.cycle.response_complete
        if waits and self.cycle is self._answered:
            self.transport.close()
            return
        self._answered = self.cycle if waits else self._answered
        self._timer = self.loop.call_later(self.patience_s, self._look)
