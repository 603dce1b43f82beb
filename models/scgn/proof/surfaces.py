"""Surfaces of pixels: defects found and filled, what differs from the neighbours, the middle."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgn.calibrate.statistics import box_mean
from scgn.defects import neighbours_of_defects
from scgn.references import Floats

Array = NDArray[Any]
Mask = NDArray[np.bool_]
CENTRE_MAX = 1024  # px; a camera's larger frames tell no more than their middle
OUTLIER = 8.0  # robust deviations from the neighbours' median
USUAL_PX = 31  # over which a deviation is usual
FLAT = 1e-6  # of the level; a pattern below is rounding


def middle(array: Array, side_max: int = CENTRE_MAX) -> Array:
    """(..., rows, columns): at most so many px a side around the centre, never half a pixel off."""
    cuts = []
    for side in array.shape[-2:]:
        margin = max(0, -(-(side - side_max) // 2))
        cuts.append(slice(margin, side - margin))
    return array[..., cuts[0], cuts[1]]


def rough(surface: Floats) -> bool:
    """Whether any pixel differs from its neighbours beyond rounding."""
    scale = max(float(np.abs(surface).max()), 1e-30)
    return bool(high_passed(surface).std() > FLAT * scale)


def high_passed(surface: Floats) -> Floats:
    """A surface without its mean over 5 x 5 px."""
    return np.asarray(surface - box_mean(surface, 5, 5), np.float32)


def filled(values: Array, bad: Mask) -> Floats:
    """The same as float32, `bad` pixels from their good neighbours, or 0 where there are none."""
    result = np.ascontiguousarray(np.where(bad, 0, values), np.float32)
    if bad.all():
        return result
    index, neighbours, weights = neighbours_of_defects(bad)
    flat = result.reshape(-1)
    flat[index] = (flat[neighbours] * weights).sum(-1)
    return result


def outliers(surface: Floats) -> Mask:
    """Pixels that stand out of their eight neighbours further than is usual around there."""
    away = np.abs(surface - _median_of_eight(surface))
    deviation = 1.4826 * float(np.median(away)) or float(away.std())
    if deviation == 0:
        return np.zeros(surface.shape, bool)
    usual = 1.2533 * box_mean(np.minimum(away, 5 * deviation), USUAL_PX, USUAL_PX)
    return np.asarray(away > OUTLIER * np.maximum(usual, 0.3 * deviation))


# Compare and exchange: Batcher's network sorts eight values; 8 times faster than np.median.
_NETWORK = (
    (0, 2), (1, 3), (4, 6), (5, 7), (0, 4), (1, 5), (2, 6), (3, 7), (0, 1), (2, 3),
    (4, 5), (6, 7), (2, 4), (3, 5), (1, 4), (3, 6), (1, 2), (3, 4), (5, 6),
)  # fmt: skip


def _median_of_eight(surface: Floats) -> Floats:
    rows, columns = surface.shape
    padded = np.pad(surface, 1, mode="symmetric")
    places = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    sorted_ = [padded[i : i + rows, j : j + columns] for i, j in places]
    for low, high in _NETWORK:
        lower = np.minimum(sorted_[low], sorted_[high])
        sorted_[low], sorted_[high] = lower, np.maximum(sorted_[low], sorted_[high])
    return np.asarray((sorted_[3] + sorted_[4]) / 2)
