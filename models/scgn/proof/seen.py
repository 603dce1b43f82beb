"""What raw frames show on average: their mean, and pixels that deviate in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgn.proof.surfaces import Mask, filled, outliers
from scgn.references import CalibrationError, Floats

Array = NDArray[Any]
ROWS_AT_ONCE = 512  # of large frames, not to fill the memory
ROWS_BESIDE = 16  # of the strip's neighbours, for what is usual around a pixel


@dataclass(frozen=True, eq=False)
class Seen:
    """count: frames; mean: (rows, columns) float32 counts; deviating: pixels unlike their
    neighbours in the mean, stuck at one value, or not finite; clean: the mean with these filled;
    sigma: what one frame's pixels change by, counts, None for a single frame.
    """

    count: int
    mean: Floats
    deviating: Mask
    clean: Floats
    sigma: float | None


def seen(frames: Array) -> Seen:
    """What frames (frames, rows, columns) of any real dtype show; CalibrationError for others."""
    if frames.ndim != 3 or frames.size == 0 or frames.dtype.kind not in "fiub":
        expected = "expected real numbers (frames, rows, columns)"
        raise CalibrationError("frames", f"{expected}, got {frames.dtype} {frames.shape}")
    with np.errstate(all="ignore"):  # what is not finite is a defect
        mean = frames.mean(0, dtype=np.float64).astype(np.float32)
    lost = ~np.isfinite(mean)
    if lost.all():
        raise CalibrationError("frames", "expected finite values, got none")
    deviating = lost | _stuck(frames) | _outliers(filled(mean, lost))
    clean = filled(mean, deviating)
    return Seen(len(frames), np.where(lost, clean, mean), deviating, clean, _sigma(frames))


def _outliers(mean: Floats) -> Mask:
    """In strips that overlap."""
    found = np.zeros(mean.shape, bool)
    for top in range(0, len(mean), ROWS_AT_ONCE):
        above = max(0, top - ROWS_BESIDE)
        strip = outliers(mean[above : top + ROWS_AT_ONCE + ROWS_BESIDE])
        found[top : top + ROWS_AT_ONCE] = strip[top - above : top - above + ROWS_AT_ONCE]
    return found


def _stuck(frames: Array) -> Mask:
    """Pixels with one value in all frames, where noise would not do that to a single one."""
    still = np.asarray(frames.max(0) == frames.min(0))
    if len(frames) < 2 or still.all():
        return np.zeros(still.shape, bool)
    # A value of probability p comes n times in a row with p^n, and p <= sqrt(sum of all p^2).
    alike = float(np.mean(frames[0] == frames[1]))
    by_chance = still.size * alike ** ((len(frames) - 1) / 2)
    return still if by_chance < 0.5 else np.zeros(still.shape, bool)


def _sigma(frames: Array) -> float | None:
    if len(frames) < 2:
        return None
    with np.errstate(all="ignore"):
        change = frames[1].astype(np.float64) - frames[0]
    finite = change[np.isfinite(change)]
    return float(finite.std() / np.sqrt(2)) if finite.size else None
