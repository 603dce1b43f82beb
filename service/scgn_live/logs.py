"""Structured logs: one JSON object a line, and a limit on what repeats."""

from __future__ import annotations

import json
import logging
import sys
import time

_PLAIN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """time, level, process, logger, message, and every `extra` field by its own name."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        row = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname, "process": self._process, "logger": record.name,
            "message": record.getMessage(),
        }  # fmt: skip
        row |= {k: v for k, v in vars(record).items() if k not in _PLAIN}
        if record.exc_info:
            row["exception"] = self.formatException(record.exc_info)
        return json.dumps(row, default=str)


def set_up(level: str, process: str) -> None:
    """Log of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(process))
    logging.basicConfig(level=level, handlers=[handler], force=True)


class OncePerSecond:
    """Lets each key through at most once a second and counts what it held back."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._last: dict[str, float] = {}
        self._held: dict[str, int] = {}

    def warn(self, key: str, message: str, **fields: object) -> None:
        """Log `message` as a warning, or count it as held back."""
        now = time.monotonic()
        if now - self._last.get(key, float("-inf")) < 1:
            self._held[key] = self._held.get(key, 0) + 1
            return
        self._last[key] = now
        held = self._held.pop(key, 0)
        self._logger.warning(message, extra={"reason": key, "held_back": held, **fields})
