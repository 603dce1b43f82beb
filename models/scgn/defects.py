"""How defective pixels are filled: from good neighbours, found once per calibration."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float32]


REACH = 3  # px; windows up to 7x7


def neighbours_of_defects(
    mask: NDArray[np.bool_], reach: int = REACH
) -> tuple[Array, Array, Floats]:
    """How to fill defects: (K,) flat indices, (K,M) neighbours' flat indices, (K,M) weights.

    Good pixels of the smallest window (3x3, 5x5, ... up to `reach`) that has any, equally
    weighted; where there is none, the nearest good pixel alone.
    """
    bad = np.flatnonzero(mask)
    index = np.zeros((len(bad), (2 * reach + 1) ** 2), np.int64)
    weight = np.zeros(index.shape, np.float32)
    todo = np.arange(len(bad))
    for radius in range(1, reach + 1):
        left = [_fill_window(mask, bad, part, radius, index, weight) for part in _parts(todo)]
        todo = np.concatenate([*left, todo[:0]])
    for row in todo:
        line, column = divmod(int(bad[row]), mask.shape[1])
        index[row] = _nearest_good(mask, line, column, reach)
        weight[row, 0] = 1
    used = max(1, int((weight > 0).sum(axis=1).max(initial=1)))
    return bad, index[:, :used], weight[:, :used]


def _parts(rows: Array) -> list[Array]:
    """Few enough at a time that the windows of a large mask do not fill the memory."""
    return np.array_split(rows, max(1, math.ceil(len(rows) / 65536)))


def _fill_window(
    mask: NDArray[np.bool_], bad: Array, part: Array, radius: int, index: Array, weight: Floats
) -> Array:
    """Write the good pixels of each window of `radius`; returns the rows that had none."""
    steps = np.arange(-radius, radius + 1)
    rows = (bad[part] // mask.shape[1])[:, None, None] + steps[:, None]
    columns = (bad[part] % mask.shape[1])[:, None, None] + steps
    inside = (rows >= 0) & (rows < mask.shape[0]) & (columns >= 0) & (columns < mask.shape[1])
    flat = np.where(inside, rows * mask.shape[1] + columns, 0).reshape(len(part), len(steps) ** 2)
    good = inside.reshape(flat.shape) & ~mask.ravel()[flat]
    found = good.any(axis=1)
    order = np.argsort(~good[found], axis=1, kind="stable")  # the good ones first
    chosen = np.take_along_axis(flat[found], order, axis=1)
    use = np.take_along_axis(good[found], order, axis=1)
    index[part[found]] = chosen[:, :1]  # weight 0 repeats a good pixel: 0 * NaN is NaN
    index[part[found], : flat.shape[1]] = np.where(use, chosen, chosen[:, :1])
    weight[part[found], : flat.shape[1]] = use / use.sum(axis=1, keepdims=True)
    return np.asarray(part[~found])


def _nearest_good(mask: NDArray[np.bool_], row: int, column: int, radius: int) -> int:
    """Looked for in windows of doubling size; the whole frame per defect would take hours."""
    while True:
        top, left = max(0, row - radius), max(0, column - radius)
        rows, columns = np.nonzero(~mask[top : row + radius + 1, left : column + radius + 1])
        distance2 = (rows + top - row) ** 2 + (columns + left - column) ** 2
        if radius >= max(mask.shape) or (len(rows) and distance2.min() <= radius**2):
            best = np.argmin(distance2)
            return int((rows[best] + top) * mask.shape[1] + columns[best] + left)
        radius *= 2
