"""Everything the client raises, as one tree."""

from __future__ import annotations


class ClientError(Exception):
    """Base of all errors of this package."""


class WireError(ClientError, ValueError):
    """A message breaks the protocol; `reason` is the word it is counted under."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class SendTimeout(ClientError, TimeoutError):
    """The service took no message in time: it is down, or it asks the camera to slow down."""

    def __init__(self, endpoint: str, waited_ms: float, why: str = "") -> None:
        super().__init__(
            f"{endpoint} took no message within {waited_ms:.0f} ms{why and f': {why}'}"
        )
        self.endpoint = endpoint
        self.waited_ms = waited_ms


class ReceiveTimeout(ClientError, TimeoutError):
    """No message came in time; a running service sends a heartbeat every second."""

    def __init__(self, endpoint: str, waited_ms: float, why: str = "") -> None:
        super().__init__(f"{endpoint} sent nothing within {waited_ms:.0f} ms{_because(why)}")
        self.endpoint = endpoint
        self.waited_ms = waited_ms


class FileFormatError(ClientError, ValueError):
    """A file cannot be read as frames; the message names what was expected and what came."""


class KeyFileError(ClientError, ValueError):
    """A file holds no CURVE key; the message names it."""


class ServiceError(ClientError):
    """The HTTP side refused a request or could not be reached; `status` is None for the latter."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def _because(why: str) -> str:
    return f": {why}" if why else ""
