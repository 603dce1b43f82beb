"""A running mean that forgets, and how far it may be from the truth."""

from __future__ import annotations

import math

import numpy as np

# Student's t, 97.5 %, by degrees of freedom; straight lines in 1/dof between them.
_DOF = (1.0, 1.2, 1.4, 1.6, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0, 20.0, 40.0, math.inf)
_MINUS_INVERSE = -1 / np.array(_DOF)
_T95 = np.array(
    [12.706, 8.649, 6.657, 5.517, 4.303, 3.575, 3.182, 2.776, 2.447, 2.228, 2.086, 2.021, 1.960]
)
NORMAL95 = 1.960


def student95(dof: float) -> float:
    """Half-width of a 95 % interval in standard errors that `dof` degrees of freedom tell."""
    return float(np.interp(-1 / max(dof, 1.0), _MINUS_INVERSE, _T95))


class Running:
    """Mean of samples whose weight falls by time, in ticks of whoever adds them.

    Its standard error comes from differences between consecutive samples (von Neumann's estimate of
    the variance), so that a mean that truly wanders does not pass for noise.
    """

    def __init__(self, window: float) -> None:
        """window: effective number of samples when one comes every tick."""
        self.keep = (window - 1) / (window + 1)
        self._tick = 0
        self._weight = self._squares = self._sum = 0.0
        self._steps = self._step_weight = 0.0
        self.last: float | None = None

    def add(self, sample: float, tick: int) -> None:
        """Takes a sample, weight 1 now; the earlier ones have aged by the ticks between."""
        self._age(self.keep ** max(0, tick - self._tick))
        self._tick = max(tick, self._tick)
        self._weight, self._squares, self._sum = (
            self._weight + 1,
            self._squares + 1,
            self._sum + sample,
        )
        if self.last is not None:
            self._steps += (sample - self.last) ** 2 / 2
            self._step_weight += 1
        self.last = sample

    def _age(self, factor: float) -> None:
        self._weight, self._sum = self._weight * factor, self._sum * factor
        self._squares *= factor**2
        self._steps, self._step_weight = self._steps * factor, self._step_weight * factor

    @property
    def count(self) -> float:
        """Effective number of samples: as many of equal weight have the same standard error."""
        return self._weight**2 / self._squares if self._squares > 0 else 0.0

    @property
    def mean(self) -> float:
        """Weighted mean, in the samples' unit; 0 without a sample."""
        return self._sum / self._weight if self._weight > 0 else 0.0

    @property
    def deviation(self) -> float:
        """Standard error of ONE sample; infinite before the second."""
        return math.sqrt(self._steps / self._step_weight) if self._step_weight > 0 else math.inf

    @property
    def error(self) -> float:
        """Standard error of the mean; infinite before the second sample."""
        return self.deviation / math.sqrt(self.count) if self.count > 0 else math.inf

    @property
    def dof(self) -> float:
        """Degrees of freedom of the error: 2 (n - 1)^2 / (3 n - 4), of differences of n samples."""
        n = max(self.count, 2.0)
        return 2 * (n - 1) ** 2 / (3 * n - 4)

    @property
    def reach(self) -> float:
        """Half-width of the mean's 95 % interval."""
        return student95(self.dof) * self.error
