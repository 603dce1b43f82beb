"""Two counts of electrons from one chance: what differs between twins is the scene alone."""

from __future__ import annotations

import torch
from torch import Tensor

MOST_STEPS = 200


def chance_of(counts: Tensor, expected: Tensor, uniform: Tensor) -> Tensor:
    """The u in 0..1 whose Poisson quantile at `expected` is `counts`, all (N,) float64.

    uniform: (N,) where in that count's own step of the distribution it lies.
    """
    below = torch.where(counts > 0, cumulative(counts - 1, expected), torch.zeros_like(expected))
    return below + uniform * (cumulative(counts, expected) - below)


def cumulative(counts: Tensor, expected: Tensor) -> Tensor:
    """P(N <= counts) of a Poisson number."""
    share = torch.special.gammaincc(counts.clamp(min=0) + 1, expected)
    return torch.where(counts < 0, torch.zeros_like(share), share)


def quantile(chance: Tensor, expected: Tensor, start: Tensor) -> Tensor:
    """Smallest count whose cumulative probability reaches `chance`, (N,), searched from `start`."""
    counts = start.clone()
    for _ in range(MOST_STEPS):
        high = (counts > 0) & (cumulative(counts - 1, expected) >= chance)
        low = cumulative(counts, expected) < chance
        if not bool((high | low).any()):
            break
        counts = counts - high.double() + low.double()
    return counts


def coupled(counts: Tensor, expected: Tensor, other: Tensor, generator: torch.Generator) -> Tensor:
    """Poisson counts at `other` from the same chance as `counts` at `expected`; any one shape.

    Each count is brought to its uniform number (the distribution function, uniform within its
    step) and from there to the other's quantile: exact Poisson numbers that differ as little as
    two can. Where both expect the same they are the same.
    """
    differs = (expected - other).abs() > 1e-4 * expected.clamp(min=1e-3)
    result = counts.clone()
    n, a, b = (values[differs].double() for values in (counts, expected, other))
    uniform = torch.rand(n.shape, generator=generator, dtype=torch.float64)
    chance = chance_of(n, a, uniform)
    start = (b + (n - a) * (b / a.clamp(min=1e-12)).sqrt()).round().clamp(min=0)
    result[differs] = quantile(chance, b, start).to(result.dtype)
    return result
