"""What goes in and out of a stream's tracker: controls, reports, the noise in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scgn.stream.facts import NOISE_FROM, SHOWN, Facts, Kind

LINE_SHARE = 0.02  # of the point noise, below which line noise has no axis


@dataclass(frozen=True)
class Controls:
    """What the graph is told for one frame.

    longest: longest mean that the network may see, frames; show: index of `facts.SHOWN`;
    probe_longest: where not None, a second call on this frame with this longest mean.
    """

    longest: int
    show: int
    probe_longest: int | None

    @property
    def network(self) -> Kind:
        """What the network's output is under these."""
        return network_of(self.longest)

    @property
    def shown(self) -> Kind:
        """What leaves the graph under these."""
        shown: dict[str, Kind] = {"mean": "mean", "estimate": "estimate"}
        return shown.get(SHOWN[self.show], self.network)


@dataclass(frozen=True)
class StreamReport:
    """What is published beside a frame, in the wire's words.

    averaged: frames; drift_px: rows, columns a frame, drift_nm_s: the same in nm/s, None while
    unknown; moving: share of pixels; quality: of an earlier frame, None before the first.
    """

    shown: Kind
    averaged: float
    drift_px: tuple[float, float] | None
    drift_nm_s: tuple[float, float] | None
    moving: float
    dose_e_per_px: float | None
    quality: dict[str, Any] | None


def network_of(longest: int) -> Kind:
    """What the network's output is called by its longest mean, frames."""
    return "single" if longest == 1 else "temporal"


def pixels_status(facts: Facts | None) -> dict[str, int] | None:
    """Pixels of the last frame that were no measurement: filled (hot, dead, X-rays), flagged by the
    camera, saturated (left as they are).
    """
    if facts is None:
        return None
    names = ("filled", "flagged", "saturated")
    return {name: round(getattr(facts, name)) for name in names}


def noise_status(facts: Facts | None) -> dict[str, Any]:
    """The noise as /status says it; all None before the first frame."""
    names = (
        "from", "gain_adu_per_e", "read_noise_adu", "line_sigma_adu", "line_axis",
        "correlation_px", "sigma_adu",
    )  # fmt: skip
    if facts is None:
        return dict.fromkeys(names)
    line = max(facts.line_rows, facts.line_columns)
    axis = "row" if facts.line_rows >= facts.line_columns else "column"
    values = (
        NOISE_FROM[min(max(round(facts.noise_from), 0), len(NOISE_FROM) - 1)],
        facts.gain_adu_per_e if facts.gain_adu_per_e > 0 else None,
        facts.read_noise_adu, line, axis if line > 0 and line >= LINE_SHARE * facts.scale else None,
        facts.correlation_px, facts.scale,
    )  # fmt: skip
    return dict(zip(names, values, strict=True))
