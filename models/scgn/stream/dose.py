"""Electrons on the specimen, and its drift in nm: from counts and px and what the camera says."""

from __future__ import annotations

import math
from dataclasses import dataclass

ANGSTROM_PER_NM = 10.0


@dataclass(frozen=True)
class Exposure:
    """What the service knows of a frame beside its pixels.

    frame: index within its series; t_acquired_ns: Unix time of the exposure's end, ns.
    """

    frame: int
    t_acquired_ns: int | None = None
    exposure_ms: float | None = None
    pixel_size_nm: float | None = None


def positive(value: float | None) -> float | None:
    """The value where it is a number above zero, else None."""
    return value if value is not None and math.isfinite(value) and value > 0 else None


class Dose:
    """Dose of a stream's last frame and since its series' start.

    Counts are summed and brought to electrons with the gain of today, so that a gain that becomes
    known late, or better, holds for the frames before. A missing frame had its successor's counts.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forgets the accumulated dose."""
        self._counts = self._level = self._gain = 0.0
        self._exposure: Exposure | None = None

    def add(self, level: float, gain_adu_per_e: float, exposure: Exposure) -> float | None:
        """Takes a frame of mean `level` counts; its dose, e/px, None while the gain is unknown."""
        before = self._exposure
        steps = 1 if before is None else max(1, exposure.frame - before.frame)
        self._level, self._gain, self._exposure = max(0.0, level), gain_adu_per_e, exposure
        self._counts += steps * self._level
        return self.e_per_px

    def _electrons(self, counts: float) -> float | None:
        return counts / self._gain if self._gain > 0 else None

    @property
    def e_per_px(self) -> float | None:
        """Dose of the last frame, e/px; None without a gain or a frame."""
        return self._electrons(self._level)

    def status(self) -> dict[str, float | None]:
        """Dose and accumulated dose, e/px and e/A^2, and the rate while exposing, e/(A^2 s)."""
        exposure = self._exposure or Exposure(0)
        dose, total = self.e_per_px, self._electrons(self._counts)
        milliseconds = positive(exposure.exposure_ms)
        per_a2 = _per_a2(dose, exposure)
        rate = None if per_a2 is None or milliseconds is None else per_a2 * 1e3 / milliseconds
        return {
            "e_per_px": dose, "e_per_a2_s": rate,
            "accumulated_e_per_px": total, "accumulated_e_per_a2": _per_a2(total, exposure),
        }  # fmt: skip


def _per_a2(per_px: float | None, exposure: Exposure) -> float | None:
    pixel_nm = positive(exposure.pixel_size_nm)
    if per_px is None or pixel_nm is None:
        return None
    return per_px / (pixel_nm * ANGSTROM_PER_NM) ** 2


def drift_nm_s(
    drift_px: tuple[float, float] | None, now: Exposure, before: Exposure | None
) -> tuple[float, float] | None:
    """Drift in nm/s from px a frame (rows, columns); None without pixel size and both times."""
    pixel_nm = positive(now.pixel_size_nm)
    seconds = _seconds_a_frame(now, before)
    if drift_px is None or pixel_nm is None or seconds is None:
        return None
    factor = pixel_nm / seconds
    return drift_px[0] * factor, drift_px[1] * factor


def _seconds_a_frame(now: Exposure, before: Exposure | None) -> float | None:
    if before is None or now.t_acquired_ns is None or before.t_acquired_ns is None:
        return None
    frames = now.frame - before.frame
    nanoseconds = now.t_acquired_ns - before.t_acquired_ns
    return nanoseconds * 1e-9 / frames if frames > 0 and nanoseconds > 0 else None
