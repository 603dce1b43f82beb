"""What is true of a series, against what the service says of it: no frame is lost uncounted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any


@dataclass(frozen=True, slots=True)
class SeenFrame:
    """A frame as the background viewer got it; lost: frames its header tells, by reason; whole:
    the raw pixels are those that a camera makes for this index; received_s: monotonic.
    """

    frame: int
    lost: Mapping[str, int]
    whole: bool = True
    received_s: float = 0.0
    latency_ms: float = 0.0
    model: str = ""
    calibration: str | None = None


@dataclass(frozen=True)
class Account:
    """One series. total: indices that the camera used up; sent: of these, handed over; received:
    by a viewer that was there all along; the others are the service's words, in frames.

    uncounted: lost frames that no bucket and no header tells; unseen: published, but before the
    viewer was back after a restart; disorder: frames out of order, twice or with false pixels.
    """

    total: int
    sent: int
    received: int
    published: int
    missing: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)
    uncounted: int = 0
    unseen: int = 0
    disorder: int = 0

    @property
    def counted(self) -> int:
        """Lost, and said so."""
        return self.missing + sum(self.dropped.values()) + sum(self.failed.values())


def account(
    total: int, sent: int, frames: Sequence[SeenFrame], ledger: Mapping[str, Any], restarts: int = 0
) -> Account:
    """The account of a series that has ended.

    A new frame process counts what came before it as missing: after `restarts` as many gaps may be
    larger or smaller than the header behind them tells, and the sum may count too much.
    """
    sums = ("published", "missing", "in_flight")
    inside = sum(ledger[key] for key in sums) + sum(
        sum(ledger[key].values()) for key in ("dropped", "failed")
    )
    uncounted = abs(total - ledger["expected"]) + abs(ledger["expected"] - inside)
    uncounted += ledger["in_flight"] + _untold(frames, restarts)
    row = Account(
        total, sent, len(frames), ledger["published"], ledger["missing"], ledger["dropped"],
        ledger["failed"], ledger["rejected"], disorder=_disorder(frames),
    )  # fmt: skip
    hidden = total - row.received - row.counted
    if restarts:
        return replace(row, uncounted=uncounted, unseen=max(0, hidden))
    uncounted += abs(hidden) + abs(row.published - row.received)
    return replace(row, uncounted=uncounted)


def _untold(frames: Sequence[SeenFrame], restarts: int) -> int:
    """Frames between two published ones that the second one's header does not tell, or too many."""
    before, wrong = -1, []
    for seen in frames:
        difference = abs(seen.frame - before - 1 - sum(seen.lost.values()))
        wrong += [difference] if difference else []
        before = seen.frame
    return sum(sorted(wrong)[: max(0, len(wrong) - restarts)])


def _disorder(frames: Sequence[SeenFrame]) -> int:
    return sum(b.frame <= a.frame for a, b in pairwise(frames)) + sum(
        not seen.whole for seen in frames
    )


@dataclass(frozen=True)
class Foretold:
    """What docs/wire.md says must become of frames that come in this order."""

    expected: int
    published: tuple[int, ...]
    missing: int
    duplicates: int

    @property
    def ledger(self) -> dict[str, Any]:
        """As `end` tells it when nothing else goes wrong."""
        rejected = {"duplicate": self.duplicates} if self.duplicates else {}
        return {
            "expected": self.expected, "published": len(self.published), "missing": self.missing,
            "in_flight": 0, "dropped": {}, "failed": {}, "rejected": rejected,
        }  # fmt: skip


def foretell(indices: Iterable[int], total: int = 0) -> Foretold:
    """For frames on one connection, and an `end` that tells `total`."""
    expected = missing = duplicates = 0
    published = []
    for index in indices:
        if index < expected:
            duplicates += 1
            continue
        missing += index - expected
        expected = index + 1
        published.append(index)
    missing += max(0, total - expected)
    return Foretold(max(total, expected), tuple(published), missing, duplicates)
