"""The wire under fuzz: decoders give a message or a WireError, and the ingest changes nothing else.

Every message is decoded as a camera's, as a published one and as one of `latest`, received as a
client would, and sent through the service's own ingest, ring, ledger and publisher over sockets;
what goes out of those must be as a client wants it.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Self

import msgpack
import zmq

from scgn_client import wire
from scgn_client.errors import WireError
from scgn_client.messages import End, FrameHeader, PublishedFrame
from scgn_client.receiver import FrameReceiver
from scgn_live.ingest import FrameIngest
from scgn_live.ledger import Ledger
from scgn_live.metrics import Metrics
from scgn_live.publish import FramePublisher
from scgn_live.ring import Ring, Slot
from scgn_live.settings import Settings

from .messages import KINDS, Messages

SIDE_MAX = 64  # px that the ingest under fuzz accepts
SLOTS = 4
SERIES_MAX = 3  # fewer than the fuzzer uses, so that the limit is met
_NUMBERS = itertools.count()


class StateChanged(AssertionError):
    """A message that was refused left something behind, or the sums do not hold."""


class WireTarget:
    """Decoders, a client's receiver, and a service without its threads: `settle` is its engine.

    outcomes: how often each word came back: `accepted`, or the reason of a WireError.
    """

    def __init__(self) -> None:
        number = next(_NUMBERS)
        ends = {name: f"inproc://fuzz-{name}-{number}" for name in ("ingest", "frames", "latest")}
        settings = Settings(**ends, engine="pass-through", max_rows=SIDE_MAX, max_columns=SIDE_MAX)
        self.ledger = Ledger(SERIES_MAX)
        self._ring = Ring(SLOTS, "latest", self._dropped)
        self._ingest = FrameIngest(settings, self._ring, self.ledger)
        metrics = Metrics(self.ledger, self._ring)
        self._publisher = FramePublisher(settings, self._ring, self.ledger, metrics)
        self._ends = ends
        self._camera: zmq.Socket[bytes]
        self._viewer: zmq.Socket[bytes]
        self._receiver = FrameReceiver()
        self._closing = ExitStack()
        self.outcomes: dict[str, Counter[str]] = {
            name: Counter()
            for name in ("decode_ingest", "decode_published", "latest", "ingest", "sent_on")
        }

    def __enter__(self) -> Self:
        log = logging.getLogger("scgn_live")  # a million rejections are nothing to tell
        self._closing.callback(log.setLevel, log.level)
        log.setLevel(logging.CRITICAL)
        for part in (self._ingest, self._publisher):
            part.open()
            self._closing.callback(part.close)
        self._camera = self._joined(zmq.PUSH, "ingest")
        self._viewer = self._joined(zmq.SUB, "frames")
        self._viewer.setsockopt(zmq.SUBSCRIBE, b"")
        self._publisher._greet()
        return self

    def _joined(self, kind: int, end: str) -> zmq.Socket[bytes]:
        socket = zmq.Context.instance().socket(kind)
        self._closing.callback(socket.close, 0)
        socket.connect(self._ends[end])
        return socket

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def try_message(self, parts: list[bytes]) -> None:
        """One message through everything; whatever comes out but WireError is a finding."""
        self._note("decode_ingest", decoded_ingest(parts[0]))
        self._note("decode_published", self._received(parts[0], parts[1:]))
        self._note("latest", self._latest(parts[0]))
        self._note("ingest", self._taken(parts))

    def _note(self, target: str, word: str) -> None:
        self.outcomes[target][word] += 1

    # A client's side.

    def _received(self, header: bytes, pixels: list[bytes]) -> str:
        try:
            message = wire.decode_published(header, pixels)
        except WireError as error:
            return _known(error)
        looked_at(self._receiver._note(message))
        if len(self._receiver._seen) > 100:  # a client remembers each series that it has seen
            self._receiver = FrameReceiver()
        return "accepted"

    def _latest(self, message: bytes) -> str:
        try:
            header, pixels = wire.split_latest(message)
        except WireError as error:
            return _known(error)
        if len(header) + len(pixels) + 4 != len(message):
            raise StateChanged("split_latest lost bytes")
        return self._received(bytes(header), [bytes(pixels)])

    # The service's side.

    def _taken(self, parts: list[bytes]) -> str:
        """Through the ingest's socket; a refused message changes its own count alone."""
        runs, totals = self._runs(), self.ledger.totals()
        self._camera.send_multipart(parts)
        self._ingest.turn()
        after = self.ledger.totals()
        rejected = {
            reason: count - totals.get((bucket, reason), 0)
            for (bucket, reason), count in after.items()
            if bucket == "rejected" and count != totals.get((bucket, reason), 0)
        }
        if not rejected:
            self._settle()
            return "accepted"
        word, _ = rejected.popitem()
        others = [key for key in after if after[key] != totals.get(key, 0)]
        if word not in wire.REASONS or others != [("rejected", word)]:
            raise StateChanged(f"rejected as {word}: totals {totals} became {after}")
        if word not in ("duplicate", "ended") and self._runs() != runs:
            raise StateChanged(f"rejected as {word}: {runs} became {self._runs()}")
        self._settle()  # the `end` of another run may be in line for a frame that was refused
        return word

    def _runs(self) -> list[tuple[Any, ...]]:
        """All that the ledger knows of its series, but for the time."""
        return [
            (run.key, run.expected, run.published, run.missing, run.in_flight, run.ended,
             run.announced, run.restart, run.start, len(run.losses), run.rejected.total())
            for run in self.ledger._runs.values()
        ]  # fmt: skip

    def _settle(self) -> None:
        """Let what is in the ring leave, as the engine and the publisher would have it."""
        while slot := self._ring.take(0):
            slot.denoised, slot.model, slot.engine = slot.raw, "pass-through", "none"
            self._ring.finish(slot)
        while entry := self._ring.next(0):
            if isinstance(entry, Slot):
                self._publisher._slot(entry)
            else:
                self._publisher._event(entry)
            self._seen_by_a_client()
        if self._ring.depths()["free"] != SLOTS:
            raise StateChanged(f"a slot was lost: {self._ring.depths()}")

    def _seen_by_a_client(self) -> None:
        """What has been published now; an `end` must add up."""
        _, header, *pixels = self._viewer.recv_multipart(zmq.DONTWAIT)
        message = self._receiver._note(wire.decode_published(header, pixels))
        looked_at(message)
        if isinstance(message, End) and not adds_up(message.ledger or {}):
            raise StateChanged(f"{message} does not add up")
        self._note("sent_on", type(message).__name__)

    def must_add_up(self) -> None:
        """Every series at this moment."""
        for run in self.ledger._runs.values():
            if not adds_up(run.buckets()):
                raise StateChanged(f"{run.key}: {run.buckets()} does not add up")

    def _dropped(self, slot: Slot) -> None:
        self.ledger.drop(slot.run, slot.header.frame, "overload")


def adds_up(buckets: Mapping[str, Any]) -> bool:
    """The ledger's promise, with nothing in flight."""
    lost = buckets["missing"] + sum(buckets["dropped"].values()) + sum(buckets["failed"].values())
    return bool(buckets["expected"] == buckets["published"] + lost and not buckets["in_flight"])


def decoded_ingest(header: bytes) -> str:
    """A camera's header; one that is accepted is the same after it was written and read again."""
    try:
        message = wire.decode_ingest(header)
    except WireError as error:
        return _known(error)
    written = wire.encode_ingest(message)
    if wire.encode_ingest(wire.decode_ingest(written)) != written:
        raise StateChanged(f"{message} is another one after a round trip")
    if isinstance(message, FrameHeader) and message.payload_bytes <= 0:
        raise StateChanged(f"{message} has no pixels")
    return "accepted"


def looked_at(message: Any) -> None:
    """What any viewer does with a message: it must be as its type says."""
    hash((message.source, message.series))
    if isinstance(message, PublishedFrame):
        black, white = message.display
        assert message.frame >= 0
        assert float(black) + float(white) is not None
        assert message.age_ms() is not None
        assert sum(message.lost.values()) >= 0
        assert message.denoised.ndim == 2
        assert message.raw is None or message.raw.ndim == 2
        assert 0 <= message.moving <= 1 <= 1 + message.averaged
        assert sum(message.drift_px or ()) + sum(message.drift_nm_s or ()) is not None
        assert message.quality is None or f"{message.quality['gain']:.1f}"
        assert f"{message.latency_ms:.1f} {message.model} {message.engine}"


def _known(error: WireError) -> str:
    if error.reason not in wire.REASONS:
        raise StateChanged(f"{error.reason!r} is no reason that the protocol knows") from error
    return error.reason


def fuzz_wire(messages: int, seed: int) -> dict[str, Any]:
    """Try so many messages; a finding ends the run, and says with which message it came."""
    source, kinds = Messages(seed), itertools.cycle(KINDS[:1] + KINDS)  # the ingest's twice
    begun = time.monotonic()
    with WireTarget() as target:
        for number, kind in zip(range(messages), kinds, strict=False):
            parts = source.next(kind)
            try:
                target.try_message(parts)
                if number % 1000 == 0:
                    target.must_add_up()
            except BaseException as error:
                error.add_note(f"message {number} of seed {seed}: {msgpack.packb(parts).hex()}")
                raise Found(parts) from error
        target.must_add_up()
        outcomes = {name: dict(words.most_common()) for name, words in target.outcomes.items()}
        series = len(target.ledger.snapshot())
    return {
        "messages": messages, "seed": seed, "seconds": round(time.monotonic() - begun, 1),
        "series_remembered": series, "outcomes": outcomes,
    }  # fmt: skip


class Found(Exception):
    """A message that must be kept: its parts."""

    def __init__(self, parts: list[bytes]) -> None:
        super().__init__(f"a finding, in {len(parts)} parts")
        self.parts = parts
