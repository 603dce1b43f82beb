"""Why nothing goes through, told from the handshake of a connection of its own."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import zmq

from scgn_client import FrameReceiver, ReceiveTimeout
from scgn_client.diagnosis import WAITED_S, diagnose
from scgn_client.keys import ClientKeys

KEYS = ClientKeys(zmq.curve_keypair()[0], *zmq.curve_keypair())


@contextmanager
def bound(kind: int) -> Iterator[str]:
    with zmq.Context() as context, context.socket(kind) as server:
        server.bind("tcp://127.0.0.1:0")
        yield server.getsockopt_string(zmq.LAST_ENDPOINT)


@contextmanager
def mute() -> Iterator[str]:
    """A TCP server that takes connections and says what no ZeroMQ socket would."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept = []

        def serve() -> None:
            kept.append(server.accept()[0])

        threading.Thread(target=serve, daemon=True).start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        for stranger in kept:
            stranger.close()


def test_service_that_is_there_lets_us_in() -> None:
    with bound(zmq.PULL) as endpoint:
        assert diagnose(endpoint, zmq.PUSH, None) == "it is there and lets us in"


def test_nothing_listens() -> None:
    assert diagnose("tcp://127.0.0.1:1", zmq.PUSH, None) == "nothing listens there"


def test_keys_for_a_service_without() -> None:
    with bound(zmq.PULL) as endpoint:
        found = diagnose(endpoint, zmq.PUSH, KEYS)
    assert "takes no keys, or is not the service of that key" in found


def test_socket_of_another_kind() -> None:
    with bound(zmq.PULL) as endpoint:
        assert "a socket of another kind" in diagnose(endpoint, zmq.SUB, None)


def test_what_speaks_no_zeromq() -> None:
    with mute() as endpoint:
        assert "speaks no ZeroMQ" in diagnose(endpoint, zmq.SUB, None)


def test_address_that_cannot_be_watched_is_left_alone() -> None:
    assert diagnose("inproc://somewhere", zmq.PUSH, None) == ""


def test_viewer_is_told_why_and_who_asks_often_is_not_held_up() -> None:
    with FrameReceiver("tcp://127.0.0.1:1", timeout_s=WAITED_S) as receiver:
        with pytest.raises(ReceiveTimeout, match="nothing listens there"):
            receiver.receive()
        begun_s = time.monotonic()
        with pytest.raises(ReceiveTimeout) as caught:
            receiver.receive(timeout_s=0.01)
        assert "nothing listens" not in str(caught.value)
        assert time.monotonic() - begun_s < 0.4
