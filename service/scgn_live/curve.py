"""CURVE on the service's sockets: its own key, and who may connect (a ZAP handler, RFC 27).

A camera's key opens the ingest alone, a viewer's the frames alone.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import zmq
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils import z85

from scgn_client.errors import KeyFileError
from scgn_client.keys import ClientKeys, read_pair, read_public
from scgn_live.logs import OncePerSecond
from scgn_live.settings import Settings

LOG = logging.getLogger(__name__)
CAMERAS, VIEWERS = "cameras", "viewers"  # ZAP domains
SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO}  # that may be over in a moment


@dataclass(frozen=True)
class ServerKeys:
    """public, secret: the service's own key, Z85; domain: whose keys may connect."""

    domain: str
    public: bytes
    secret: bytes = field(repr=False)

    def put_on(self, socket: zmq.Socket[bytes]) -> None:
        """Have a socket, before it binds, take none but known keys."""
        socket.curve_server = True
        socket.curve_publickey, socket.curve_secretkey = self.public, self.secret
        socket.setsockopt_string(zmq.ZAP_DOMAIN, self.domain)


def server_keys(settings: Settings, domain: str) -> ServerKeys | None:
    """What a bound socket is armed with; None without `curve_key`. KeyFileError."""
    if settings.curve_key is None:
        return None
    return ServerKeys(domain, *read_pair(settings.curve_key))


def own_client_keys(settings: Settings) -> ClientKeys | None:
    """How the service's other process looks at `latest`: as the service itself."""
    if settings.curve_key is None:
        return None
    public, secret = read_pair(settings.curve_key)
    return ClientKeys(public, public, secret)


def camera_client_keys(settings: Settings) -> ClientKeys | None:
    """For an ingest that connects to a camera which binds with the key in `ingest_key`."""
    if settings.curve_key is None or settings.ingest_key is None:
        return None
    return ClientKeys(read_public(settings.ingest_key), *read_pair(settings.curve_key))


class AllowList:
    """The public keys in a folder, read anew at each handshake: a key that is added or removed
    counts for the next connection. Counts the refused.

    While the system is out of descriptors or memory the list of before holds: libzmq would never
    try a camera again that was refused for that. A folder that is gone or closed to us is an empty
    list.
    """

    def __init__(self, name: str, folder: Path | None, own: bytes) -> None:
        self._name, self._folder, self._own = name, folder, own
        self._warn = OncePerSecond(LOG)
        self._before = {own}
        self.refused = 0

    def callback(self, _: str, key: bytes) -> bool:
        """Whether the key (Z85) is known. Never raises: the thread that asks would be lost."""
        try:
            self._before = self.keys()
        except Exception as error:
            self._warn.warn("key_folder", f"{self._name}: the list cannot be read: {error!r}")
            if getattr(error, "errno", None) not in SHORTAGES:
                self._before = {self._own}
        if key in self._before:
            return True
        self.refused += 1
        self._warn.warn(
            "unknown_key", f"{self._name}: a connection with an unknown key was refused"
        )
        return False

    def keys(self) -> set[bytes]:
        """All keys that may connect; a file that holds none is passed over, and said. OSError."""
        known = {self._own}
        for path in sorted(self._folder.iterdir()) if self._folder else []:
            if path.suffix != ".key":
                continue
            try:
                known.add(read_public(path))
            except KeyFileError as error:
                cause = error.__cause__
                if isinstance(cause, OSError) and cause.errno in SHORTAGES:
                    raise cause from None
                self._warn.warn("key_file", str(error))
        return known


class Doorkeeper:
    """Answers libzmq's question who may connect, in a thread of its own. Nothing without CURVE.

    on_death: called when that thread ends by itself: nobody could connect any more.
    """

    def __init__(self, settings: Settings, on_death: Callable[[], None] = lambda: None) -> None:
        self._settings, self._on_death = settings, on_death
        self._authenticator: ThreadAuthenticator | None = None
        self._lists: dict[str, AllowList] = {}
        self.died = False

    def open(self) -> None:
        """Before the sockets bind; KeyFileError."""
        if self._settings.curve_key is None:
            return
        public, _ = read_pair(self._settings.curve_key)
        folders = {CAMERAS: self._settings.camera_keys, VIEWERS: self._settings.viewer_keys}
        # No log of its own: it would tell keys.
        authenticator = ThreadAuthenticator(zmq.Context.instance(), log=_quiet())
        authenticator.start()
        for domain, folder in folders.items():
            self._lists[domain] = AllowList(domain, folder, z85.encode(z85.decode(public)))
            authenticator.configure_curve_callback(domain, self._lists[domain])
        self._authenticator = authenticator
        threading.Thread(
            target=self._watch, args=(authenticator,), name="keys-watch", daemon=True
        ).start()

    def _watch(self, authenticator: ThreadAuthenticator) -> None:
        authenticator.thread.join()
        if self._authenticator is authenticator:
            self.died = True
            LOG.error("nobody answers any more who may connect")
            self._on_death()

    def close(self) -> None:
        """After the sockets are closed."""
        authenticator, self._authenticator = self._authenticator, None
        if authenticator is None:
            return
        if not authenticator.is_alive():  # nobody would take its order to end
            authenticator.pipe.close(0)
            authenticator.pipe = None  # type: ignore[assignment]
        authenticator.stop()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def refused(self) -> dict[str, int]:
        """Connections refused for their key so far, by the list that it was not on."""
        return dict.fromkeys((CAMERAS, VIEWERS), 0) | {
            domain: known.refused for domain, known in self._lists.items()
        }


def _quiet() -> logging.Logger:
    logger = logging.getLogger("zmq.auth")
    logger.setLevel(logging.CRITICAL)
    return logger
