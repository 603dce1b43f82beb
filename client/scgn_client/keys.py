"""CURVE keys: who a client is, and which service it will talk to (RFC 26/CurveZMQ).

Files are ZeroMQ's own certificates, made by `scgn-live keys`: `<name>.key` is public,
`<name>.key_secret` holds both halves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.auth import load_certificate

from scgn_client.errors import KeyFileError


@dataclass(frozen=True)
class ClientKeys:
    """service: the service's public key; public, secret: one's own. 40 characters of Z85 each."""

    service: bytes
    public: bytes
    secret: bytes = field(repr=False)

    def put_on(self, socket: zmq.Socket[bytes]) -> None:
        """Have a socket, before it connects, prove itself and expect that service alone."""
        socket.curve_serverkey = self.service
        socket.curve_publickey, socket.curve_secretkey = self.public, self.secret


def read_public(path: str | Path) -> bytes:
    """The public key in a file; KeyFileError names the file and what was expected."""
    return _read(path)[0]


def read_pair(path: str | Path) -> tuple[bytes, bytes]:
    """Public and secret key of a `.key_secret` file; KeyFileError for one without the secret."""
    public, secret = _read(path)
    if secret is None:
        raise KeyFileError(f"{path}: expected a secret key (.key_secret), got a public one")
    return public, secret


def client_keys(service: str | Path, own: str | Path) -> ClientKeys:
    """From the files that `scgn-live keys` hands out: service.key, and one's own .key_secret."""
    return ClientKeys(read_public(service), *read_pair(own))


def _read(path: str | Path) -> tuple[bytes, bytes | None]:
    try:
        public, secret = load_certificate(path)
    except (OSError, ValueError) as error:
        words = (isinstance(error, OSError) and error.strerror) or "no key in it"
        raise KeyFileError(f"{path}: expected a file of `scgn-live keys`, got {words}") from error
    if len(public) != 40 or (secret is not None and len(secret) != 40):
        raise KeyFileError(f"{path}: expected keys of 40 characters, got others")
    return public, secret
