"""Examples: what a network is given, what it should give, and what its errors are held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
        return Pairs(*(None if part is None else part.to(device) for part in vars(self).values()))

    def each(self) -> list[Pairs]:
        """Every example by itself, still with N of 1."""
        return [
            Pairs(*(None if part is None else part[i : i + 1] for part in vars(self).values()))
            for i in range(len(self.given))
        ]


def together(parts: Sequence[Pairs]) -> Pairs:
    """All examples of the same size as one."""
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return Pairs(*(None if column[0] is None else torch.cat(column) for column in columns))
