"""The table of faults: what is done, to which service, and what it may cost."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chaos.stage import Stage

Strike = Callable[["Stage", random.Random], Iterator[None]]


class NotHere(Exception):
    """This machine does not allow the fault; the message says why."""


@dataclass(frozen=True)
class Fault:
    """One way to fail.

    strike: does it, up to its `yield`, while the background camera films; what comes behind the
    `yield` runs when the film has ended. kind: of the service. costs: buckets of the film's ledger
    that may grow beyond what the camera itself gave up. restarts: frame processes that end.
    says: what the log may say at ERROR. pace_s: between two frames of the film, None: the kind's.
    keeps_mb: memory that the frame process needed for it and may keep for the next time.
    """

    name: str
    strike: Callable[[Stage, random.Random], AbstractContextManager[None]]
    kind: str = "plain"
    costs: tuple[str, ...] = ()
    restarts: int = 0
    says: tuple[str, ...] = ()
    pace_s: float | None = None
    keeps_mb: float = 0.0


FAULTS: dict[str, Fault] = {}
FULL_LOAD_S = 0.0


def fault(
    *kinds: str,
    costs: tuple[str, ...] = (),
    restarts: int = 0,
    says: tuple[str, ...] = (),
    pace_s: float | None = None,
    keeps_mb: float = 0.0,
) -> Callable[[Strike], Strike]:
    """Enter a function under its name, once for each kind of service."""

    def enter(strike: Strike) -> Strike:
        first, *others = kinds or ("plain",)
        names = {first: strike.__name__} | {kind: f"{strike.__name__}_{kind}" for kind in others}
        for kind, name in names.items():
            FAULTS[name] = Fault(
                name, contextmanager(strike), kind, costs, restarts, says, pace_s, keeps_mb
            )
        return strike

    return enter
