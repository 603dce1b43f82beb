"""The eight ways in which one frame can lie on another, by name; turns are counter-clockwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgn.references import CalibrationError

Array = NDArray[Any]

ORIENTATIONS: dict[str, Callable[[Array], Array]] = {
    "as-is": lambda frame: frame,
    "flip-up-down": np.flipud,
    "flip-left-right": np.fliplr,
    "rotate-180": lambda frame: np.rot90(frame, 2),
    "rotate-90": np.rot90,
    "rotate-270": lambda frame: np.rot90(frame, 3),
    "transpose": np.transpose,
    "anti-transpose": lambda frame: np.rot90(frame, 2).T,
}
PROBE = np.arange(6).reshape(2, 3)  # lies differently in each


def oriented(array: Array, name: str) -> Array:
    """(rows, columns) turned as named, a view; CalibrationError for a name that is none."""
    if name not in ORIENTATIONS:
        expected = f"expected one of {', '.join(ORIENTATIONS)}"
        raise CalibrationError("orientation", f"{expected}, got {name!r}")
    if array.ndim != 2:
        raise CalibrationError("orientation", f"expected rows x columns, got shape {array.shape}")
    return ORIENTATIONS[name](array)


def composed(first: str, then: str) -> str:
    """The one orientation that equals `first` and `then` after it."""
    return _name_of(oriented(oriented(PROBE, first), then))


def inverse(name: str) -> str:
    """The orientation that takes `name` back."""
    return next(back for back in ORIENTATIONS if composed(name, back) == "as-is")


def _name_of(turned: Array) -> str:
    return next(n for n, turn in ORIENTATIONS.items() if np.array_equal(turn(PROBE), turned))
