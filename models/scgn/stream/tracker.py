"""What the host makes of a stream's facts, frame by frame: what to ask for, and what to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from scgn.stream.facts import Facts
from scgn.stream.state import LONGEST

Temporal = Literal["auto", "off"] | int


@dataclass(frozen=True)
class Exposure:
    """One frame: its index, when it was taken, how long, and a pixel's size on the specimen."""

    frame: int
    t_acquired_ns: int | None = None
    exposure_ms: float | None = None
    pixel_size_nm: float | None = None


@dataclass(frozen=True)
class Controls:
    """Of one call: longest mean in frames, index of SHOWN, and the longest mean of a probe."""

    longest: int
    show: int
    probe_longest: int | None


@dataclass(frozen=True)
class StreamReport:
    """What is told of one frame."""

    shown: str
    averaged: float
    drift_px: tuple[float, float] | None
    drift_nm_s: tuple[float, float] | None
    moving: float
    dose_e_per_px: float | None
    quality: dict[str, Any] | None


class StreamTracker:
    """One stream's."""

    def __init__(self, temporal: Temporal = "auto", probe_every: int = 8) -> None:
        self.temporal, self._probe_every = temporal, probe_every
        self._frames = 0

    def controls(self) -> Controls:
        """Of the next frame."""
        if self.temporal == "off":
            return Controls(1, 0, None)
        longest = LONGEST if self.temporal == "auto" else self.temporal
        return Controls(longest, 0, None)

    def told(
        self,
        facts: Facts,
        exposure: Exposure,
        controls: Controls,
        display_range: tuple[float, float] | None = None,
    ) -> StreamReport:
        """Of the frame whose facts they are; called in order."""
        del exposure, display_range
        self._frames += 1
        drift = facts.drift_rows, facts.drift_columns
        shown = "temporal" if controls.longest > 1 else "single"
        return StreamReport(shown, facts.averaged, drift, None, facts.moving, None, None)

    def forget(self) -> None:
        """A stream of which nothing is known."""
        self._frames = 0

    def status(self) -> dict[str, Any]:
        """For people."""
        return {"temporal": self.temporal, "frames": self._frames}
