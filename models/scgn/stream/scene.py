"""Whether a stream's frames are still of the scene, the dose and the noise they were of."""

from __future__ import annotations

import math

from scgn.stream.facts import Facts

STEP = 1.5  # factor of level or noise beyond which a stream is another one
DARK = 0.05  # of the point noise: levels below are dark, whatever their factor
FRAMES = 64  # over which level and noise are remembered
MAY_BE_UNKNOWN = ("drift_rows", "drift_columns", "drift_error")


def are_numbers(facts: Facts) -> bool:
    """Whether all facts are finite but those of the drift, which may be unknown."""
    named = facts._asdict().items()
    return all(math.isfinite(value) for name, value in named if name not in MAY_BE_UNKNOWN)


class Scene:
    """Level and noise of one scene, counts, as running means over its last frames."""

    def __init__(self) -> None:
        self.frames = 0
        self._level = self._noise = 0.0

    def left(self, facts: Facts) -> bool:
        """Whether a frame is of another scene: a cut, or a step of level or noise by a factor."""
        if facts.cut > 0.5:
            return True
        dark = DARK * max(facts.scale, self._noise)
        steps = _step(facts.level, self._level, dark) or _step(facts.scale, self._noise, 0.0)
        return self.frames > 0 and steps

    def add(self, facts: Facts) -> None:
        """Takes a frame of this scene."""
        self.frames += 1
        weight = 1 / min(self.frames, FRAMES)
        self._level += weight * (facts.level - self._level)
        self._noise += weight * (facts.scale - self._noise)


def _step(now: float, before: float, floor: float) -> bool:
    low, high = sorted((max(now, floor), max(before, floor)))
    return high > STEP * low
