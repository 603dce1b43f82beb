"""Every fault a few times, from fixed seeds: one more good frame, sums that hold, memory back.

`python dev.py chaos --minutes 60` is the long form; `--fault NAME --seed S` repeats a strike.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

import chaos.faults
from chaos.account import SeenFrame, account, foretell
from chaos.services import KINDS
from chaos.stage import Stage, opened
from chaos.table import FAULTS, NotHere

# Strikes that take seconds each, beside those that end a process.
SLOW = ("calibration_swaps", "subscriber_stopped", "subscribers_come_and_go", "full_disk")


class Stages:
    """One service at a time, kept from test to test while it is the same and well."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._stage: Stage | None = None

    def of(self, kind: str) -> Stage:
        if self._stage is None or self._stage.kind != kind:
            self.close()
            self._stage = self._stack.enter_context(opened(kind))
        return self._stage

    def close(self) -> None:
        self._stage = None
        self._stack.close()


@pytest.fixture(scope="module")
def stages() -> Iterator[Stages]:
    kept = Stages()
    yield kept
    kept.close()


BY_KIND = sorted(FAULTS.values(), key=lambda fault: KINDS.index(fault.kind))


@pytest.mark.parametrize("name", [fault.name for fault in BY_KIND])
def test_service_survives(name: str, stages: Stages) -> None:
    fault = FAULTS[name]
    for seed in range(1 if fault.restarts or name in SLOW else 3):
        try:
            struck = stages.of(fault.kind).strike(fault, str(seed))
        except NotHere as error:
            pytest.skip(str(error))
        if struck.wrong:
            stages.close()
        assert not struck.wrong, f"{name}, seed {seed}: " + "\n".join(struck.wrong)


def test_table_has_every_module() -> None:
    told = {fault.strike.__wrapped__.__module__ for fault in FAULTS.values()}  # type: ignore[attr-defined]
    assert told == {f"chaos.faults.{name}" for name in chaos.faults.__all__}


# The judge itself: it must see what a service could hide.


LEDGER = {
    "expected": 5, "published": 4, "missing": 1, "in_flight": 0, "dropped": {}, "failed": {},
    "rejected": {},
}  # fmt: skip
SEEN = [SeenFrame(i, {}) for i in (0, 1)] + [SeenFrame(3, {"missing": 1}), SeenFrame(4, {})]


def test_honest_account_has_nothing_uncounted() -> None:
    row = account(5, 4, SEEN, LEDGER)
    assert (row.uncounted, row.disorder, row.unseen) == (0, 0, 0)


@pytest.mark.parametrize(
    ("frames", "changes"),
    [
        (SEEN[:3], {}),  # said to be published, and never came
        (SEEN[:2] + SEEN[3:], {}),
        (SEEN, {"expected": 4, "missing": 0}),  # fewer than the camera had
        (SEEN, {"missing": 0}),  # does not add up
        (SEEN, {"in_flight": 1, "published": 3}),
        ([*SEEN[:2], SeenFrame(3, {}), SEEN[3]], {}),  # no header tells the gap
    ],
)
def test_hidden_loss_is_seen(frames: list[SeenFrame], changes: dict[str, int]) -> None:
    assert account(5, 4, frames, LEDGER | changes).uncounted > 0


def test_disorder_is_seen() -> None:
    assert account(5, 4, SEEN[::-1], LEDGER).disorder > 0
    assert account(5, 4, [SeenFrame(0, {}, whole=False), *SEEN[1:]], LEDGER).disorder == 1


def test_after_a_restart_one_gap_may_be_counted_twice_but_none_hidden() -> None:
    new = LEDGER | {"published": 1, "missing": 4}
    frames = [SEEN[0], SEEN[1], SeenFrame(4, {"missing": 4})]
    row = account(5, 5, frames, new, restarts=1)
    assert (row.uncounted, row.unseen) == (0, 0)
    assert account(5, 5, frames, new | {"expected": 4}, restarts=1).uncounted > 0


def test_foretold_ledger() -> None:
    told = foretell([0, 2, 1, 2, 5], total=8)
    assert told.published == (0, 2, 5)
    assert (told.expected, told.missing, told.duplicates) == (8, 5, 2)
