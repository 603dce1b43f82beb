"""Every way in which posted references could be meant, with what it leaves of the fixed pattern."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgn.proof.evidence import SURE, Agreement, Key, agreement
from scgn.proof.orientation import ORIENTATIONS, oriented
from scgn.proof.posted import (
    CONVENTIONS,
    PARTS,
    Patterns,
    References,
    patterns_of,
)
from scgn.proof.seen import Seen
from scgn.proof.surfaces import Mask, high_passed, middle, rough
from scgn.references import Floats, GainConvention

Array = NDArray[Any]
ERROR_MAX = 1e3
ABSENT_MAX = 0.3  # strength; below, a part has little to do with the frames
SAME = 0.02  # of a pattern's power, or of the defects; turned onto itself by less, it is the same


@dataclass(frozen=True)
class Candidate:
    """One way: the posted arrays turned by `orientation`, the gain taken by `gain_convention`.

    residual: variance of the fixed pattern that is left, 0 none, 1 as without references, above 1
    more; without dark and gain, the share of deviating pixels that are not masked; error: its
    standard error; evidence: log likelihood ratio against references that have nothing to do with
    the frames; worse: that of no correction against this one; strengths: of each part's pattern in
    the frames, 1 as it should be, with the standard error.
    """

    orientation: str
    gain_convention: GainConvention | None
    residual: float
    error: float
    evidence: float
    worse: float
    strengths: dict[str, tuple[float, float]]

    @property
    def removed(self) -> float:
        """Share of the fixed pattern's variance that it takes away; below 0 when it adds some."""
        return 1 - self.residual


@dataclass(frozen=True, eq=False)
class Search:
    """All candidates that fit the frames' shape, of references (`patterns`) against frames."""

    references: References
    patterns: Patterns
    found: Agreement
    deviating: Mask

    @cached_property
    def candidates(self) -> list[Candidate]:
        """Every orientation that fits, with every convention where there is a gain."""
        ways = [(name, c) for name in self.orientations for c in self.conventions]
        return [self._candidate(*way) for way in ways]

    @cached_property
    def orientations(self) -> list[str]:
        """Names that turn the references to the frames' shape."""
        return fitting(self.references.shape, self.deviating.shape)

    @property
    def conventions(self) -> tuple[GainConvention | None, ...]:
        """Both where there is a gain, else None alone."""
        return CONVENTIONS if self.patterns.responses else (None,)

    def keys(self, orientation: str, convention: GainConvention | None) -> list[Key]:
        """The patterns that a way predicts."""
        wanted = (Key("dark", orientation, None), Key("gain", orientation, convention))
        return [key for key in wanted if key in self.found.keys]

    @cached_property
    def _power(self) -> float:
        """Power of the camera's fixed pattern, summed counts^2: of what the parts know of it where
        that is sure, else as strong as the references say.
        """
        known = sum(self._known(part) for part in PARTS)
        if known > 0:
            return known
        ways = ((name, c) for name in self.orientations for c in self.conventions)
        return max(max(self.found.strong(self.keys(*way)) for way in ways), 1e-30)

    def _known(self, part: str) -> float:
        """Power that a part shares with the camera; a noisy reference holds more than it shares, a
        weak one less than there is.
        """
        own = [key for key in self.found.keys if key.part == part]
        best = max(own, key=lambda key: self.found.fit([key])[1], default=None)
        if best is None or self.found.fit([best])[1] <= SURE:
            return 0.0
        strength = self.found.strength(best)
        if strength < ABSENT_MAX:
            return 0.0
        return max(strength, strength**2) * self.found.strong([best])

    def _candidate(self, orientation: str, convention: GainConvention | None) -> Candidate:
        keys = self.keys(orientation, convention)
        defects = defect_evidence(self.deviating, self.defects(orientation))
        if not keys:
            residual, error = uncovered(self.deviating, self.defects(orientation))
            return Candidate(orientation, convention, residual, error, defects, 0.0, {})
        amplitudes, evidence = self.found.fit(keys)
        change = self.found.strong(keys) - 2 * self.found.shared(keys)
        doubt = [self.found.error(key) * self.found.strong([key]) for key in keys]
        return Candidate(
            orientation,
            convention,
            residual=max(0.0, 1 + change / self._power),
            error=min(ERROR_MAX, 2 * float(np.linalg.norm(doubt)) / self._power),
            evidence=evidence + defects,
            worse=self.found.worse(keys),
            strengths={key.part: (amplitudes[key], self.found.error(key)) for key in keys},
        )

    def defects(self, orientation: str) -> Mask:
        """Defects of the references on the frames."""
        return oriented(self.patterns.defects, orientation)

    def part_evidence(self, part: str) -> dict[tuple[str, GainConvention | None], float]:
        """Evidence of one part alone, `dark` or `gain` or `mask`, by orientation and convention."""
        if part == "mask":
            pairs = ((name, oriented(self.patterns.mask, name)) for name in self.orientations)
            return {(name, None): defect_evidence(self.deviating, on) for name, on in pairs}
        own = [key for key in self.found.keys if key.part == part]
        return {(key.orientation, key.convention): self.found.fit([key])[1] for key in own}

    def same(self, one: Candidate, other: Candidate) -> bool:
        """Whether both ways give the same references, as of a symmetrical pattern."""
        return self.same_turn(one, other) and self.same_gain(one, other)

    def same_turn(self, one: Candidate, other: Candidate) -> bool:
        """Whether both orientations, whatever the convention, turn the references to the same."""
        turns = one.orientation, other.orientation
        if turns[0] == turns[1]:
            return True
        first, second = (self.defects(name) for name in turns)
        if np.sum(first ^ second) > SAME * first.sum():
            return False
        return all(self._alike(surface, turns) for surface in self._surfaces())

    def _surfaces(self) -> list[Floats]:
        """Patterns that have any structure, without their slow changes, as posted."""
        found = list(self.patterns.responses.values())[:1]
        found += [] if self.patterns.dark is None else [self.patterns.dark]
        return [high_passed(surface) for surface in found if rough(surface)]

    def _alike(self, surface: Floats, turns: tuple[str, str]) -> bool:
        first, second = (oriented(surface, name) for name in turns)
        change = float(np.square(first - second, dtype=np.float64).sum())
        return change < SAME * float(np.square(first, dtype=np.float64).sum())

    def same_gain(self, one: Candidate, other: Candidate) -> bool:
        responses = self.patterns.responses
        if one.gain_convention == other.gain_convention or not responses:
            return True
        return not any(rough(response) for response in responses.values())


def search(references: References, shown: Seen) -> Search | None:
    """All ways to take references, compared to frames; None where no orientation has their shape.

    Large frames are compared in their middle.
    """
    names = fitting(references.shape, shown.mean.shape)
    if not names:
        return None
    patterns = patterns_of(references.middle())
    found = agreement(middle(shown.clean), patterns, names)
    return Search(references.middle(), patterns, found, middle(shown.deviating))


def fitting(shape: tuple[int, ...], wanted: tuple[int, ...]) -> list[str]:
    """Orientations that turn one shape into another."""
    empty = np.broadcast_to(np.zeros(1), shape)
    return [name for name in ORIENTATIONS if oriented(empty, name).shape == tuple(wanted)]


def defect_evidence(deviating: Mask, defects: Mask) -> float:
    """Log likelihood ratio of deviating pixels being more frequent under the defects than elsewhere
    against equally frequent; 0 where they are rarer.
    """
    hits, masked = int((deviating & defects).sum()), int(defects.sum())
    total, size = int(deviating.sum()), deviating.size
    if hits * size <= total * masked or masked in (0, size):
        return 0.0
    apart = _binomial(hits, masked) + _binomial(total - hits, size - masked)
    return max(0.0, apart - _binomial(total, size))


def _binomial(hits: int, number: int) -> float:
    """Largest log likelihood of so many hits."""
    parts = np.array([hits, number - hits], np.float64)
    parts = parts[parts > 0]
    return float((parts * np.log(parts / number)).sum())


def uncovered(deviating: Mask, defects: Mask) -> tuple[float, float]:
    """Share of the deviating pixels that are not among the defects, and its standard error."""
    number = int(deviating.sum())
    if not number:
        return 1.0, 1.0
    share = float((deviating & ~defects).sum()) / number
    return share, float(np.sqrt(max(share * (1 - share), 1 / number) / number))
