"""How many frames a network may see together, as the control socket asks: changed at once."""

from __future__ import annotations

import logging
from typing import Any

from scgn_live.control import Handler
from scgn_live.engine import Engine
from scgn_live.settings import Temporal, temporal_of

LOG = logging.getLogger(__name__)


class TemporalError(Exception):
    """It cannot be changed here; the message says why."""


class TemporalControl:
    """The setting `temporal` while frames run. A restart begins with the setting again."""

    def __init__(self) -> None:
        self.engine: Engine | None = None  # once frames can come

    def handlers(self) -> dict[str, Handler]:
        """By verb, as the control socket wants them."""
        return {"use_temporal": self._use}

    def value(self) -> Temporal | None:
        """What holds now; None where no network runs."""
        engine = self.engine
        if engine is None or not engine.state.processor.corrects:
            return None
        return engine.temporal

    def _use(self, asked: dict[str, Any]) -> dict[str, Any]:
        if self.engine is None:
            raise TemporalError("starting: the network is not there yet")
        if self.value() is None:
            raise TemporalError("expected engine = scgn, got a service that passes frames through")
        value = temporal_of(asked["temporal"])
        self.engine.use_temporal(value)
        LOG.info("temporal changed", extra={"temporal": value})
        return {"temporal": value}
