"""Examples: what a network is given, what it should give, and what its errors are held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pairs:
    """N examples, (N,C,H,W) given and (N,1,H,W) wanted, in noise units or counts.

    missed, flat: (N,) root mean square error of a network that gives 0, and of a flat frame, in the
    units of `wanted`; None where the target is no correction of an estimate.
    """

    given: Tensor
    wanted: Tensor
    missed: Tensor | None = None
    flat: Tensor | None = None

    def to(self, device: torch.device) -> Pairs:
        """The same on a device."""
        return self._each(lambda part: part.to(device))

    def each(self) -> list[Pairs]:
        """Every example by itself, still with N of 1."""
        return [self._each(itemgetter(slice(i, i + 1))) for i in range(len(self.given))]

    def _each(self, change: Callable[[Tensor], Tensor]) -> Pairs:
        missed = None if self.missed is None else change(self.missed)
        flat = None if self.flat is None else change(self.flat)
        return Pairs(change(self.given), change(self.wanted), missed, flat)


def together(parts: Sequence[Pairs]) -> Pairs:
    """All examples of the same size as one."""
    given, wanted = (torch.cat([getattr(p, n) for p in parts]) for n in ("given", "wanted"))
    missed = [part.missed for part in parts if part.missed is not None]
    flat = [part.flat for part in parts if part.flat is not None]
    return Pairs(
        given, wanted, torch.cat(missed) if missed else None, torch.cat(flat) if flat else None
    )
