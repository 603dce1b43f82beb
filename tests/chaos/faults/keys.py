"""CURVE: strangers with wrong keys, known keys at the wrong door, and lists that change."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack

import zmq

from chaos.stage import Stage
from chaos.table import fault
from scgn_client.keys import ClientKeys
from scgn_client.sockets import open_socket

STRANGERS = 12


@fault("curve")
def wrong_keys(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Peers that know the service's public key and are on no list, or on the other one."""
    before = stage.rejected()
    viewer, camera = stage.viewer_keys, stage.camera_keys
    assert viewer is not None
    with ExitStack() as stack:
        for _ in range(STRANGERS):
            public, secret = zmq.curve_keypair()
            stranger = ClientKeys(viewer.service, public, secret)
            for kind, endpoint, known in (
                (zmq.PUSH, stage.service.ingest, viewer), (zmq.SUB, stage.service.frames, camera),
                (zmq.SUB, stage.service.latest, camera),
            ):  # fmt: skip
                own = chance.choice((stranger, known, None))
                socket = stack.enter_context(open_socket(kind, keys=own))
                if kind == zmq.SUB:
                    socket.setsockopt(zmq.SUBSCRIBE, b"")
                socket.connect(endpoint)
                if kind == zmq.PUSH:
                    socket.send(b"let me in", zmq.DONTWAIT)
                elif chance.random() < 0.3:
                    assert not socket.poll(100), "a stranger sees frames"
        yield
        assert stage.rejected() == before, "a stranger's message came in"
