"""References as an operator posts them, and the patterns that they claim to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgn.calibration import MASKED_MAX
from scgn.proof.orientation import inverse, oriented
from scgn.proof.surfaces import Mask, filled, middle, outliers, rough
from scgn.references import CalibrationError, Floats, GainConvention, common_shape, defects_of

Array = NDArray[Any]
PARTS = ("dark", "gain", "mask")
CONVENTIONS: tuple[GainConvention, ...] = ("multiply", "divide")


@dataclass(frozen=True, eq=False)
class References:
    """Arrays as posted, (rows, columns), and how the operator says that they are meant.

    orientation: what turns them onto the camera's frames; gain_convention: needed to apply a gain.
    Raises CalibrationError without any array, for different shapes, other than real numbers and
    unknown names.
    """

    dark: Array | None = None
    gain: Array | None = None
    mask: Array | None = None
    orientation: str = "as-is"
    gain_convention: GainConvention | None = None

    def __post_init__(self) -> None:
        if not self.given:
            raise CalibrationError("calibration", "expected dark, gain or mask, got none")
        common_shape(self.given)
        for name, array in self.given.items():
            oriented(array, self.orientation)
            if array.dtype.kind not in "fiub":
                raise CalibrationError(name, f"expected real numbers, got dtype {array.dtype}")
        if self.gain_convention not in (None, *CONVENTIONS):
            got = f"expected gain_convention multiply or divide, got {self.gain_convention!r}"
            raise CalibrationError("gain_convention", got)

    @classmethod
    def from_turned(
        cls,
        dark: Array | None = None,
        gain: Array | None = None,
        mask: Array | None = None,
        orientation: str = "as-is",
        gain_convention: GainConvention | None = None,
    ) -> References:
        """The same from arrays that were turned by `orientation` already."""
        turned = cls(dark, gain, mask, inverse(orientation), gain_convention)
        return replace(turned.turned(), orientation=orientation)

    @property
    def given(self) -> dict[str, Array]:
        """The arrays that there are, by name."""
        pairs = zip(PARTS, self._arrays, strict=True)
        return {name: array for name, array in pairs if array is not None}

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns as posted."""
        return common_shape(self.given)

    @property
    def applicable(self) -> bool:
        """Whether it is said how to apply them."""
        return self.gain is None or self.gain_convention is not None

    def turned(
        self, orientation: str | None = None, gain_convention: GainConvention | None = None
    ) -> References:
        """As they lie on the camera's frames, as said or in another way; `as-is` from then on."""
        name = orientation or self.orientation
        turned = self._each(lambda array: oriented(array, name))
        return replace(
            turned, orientation="as-is", gain_convention=gain_convention or self.gain_convention
        )

    def middle(self) -> References:
        """At most 1024 px a side around the centre, the same ones in every orientation."""
        return self._each(middle)

    def _each(self, change: Callable[[Array], Array]) -> References:
        dark, gain, mask = (None if a is None else change(a) for a in self._arrays)
        return replace(self, dark=dark, gain=gain, mask=mask)

    @property
    def _arrays(self) -> tuple[Array | None, Array | None, Array | None]:
        return self.dark, self.gain, self.mask

    def unusable(self) -> Mask:
        """Pixels, as posted, that are masked, not finite, or of a gain that is not above 0.

        Raises CalibrationError when most are: a mask the wrong way round, or no reference.
        """
        bad = np.zeros(self.shape, bool) if self.mask is None else defects_of(self.mask)
        for name, array in self.given.items():
            with np.errstate(invalid="ignore"):
                good = np.isfinite(array) & ((array > 0) if name == "gain" else True)
            bad = bad | ~good
            if bad.mean() > MASKED_MAX:
                got = f"got {1 - bad.mean():.1%} (masked is 1, a dead pixel's gain 0)"
                raise CalibrationError(name, f"expected most pixels to be usable, {got}")
        return bad


@dataclass(frozen=True, eq=False)
class Patterns:
    """What references claim to know of the pixels, as posted; all (rows, columns).

    dark: counts, or None; responses: relative to the average pixel, by the convention that gives
    them, empty without a gain; mask: masked pixels; defects: these, those dead by their gain, and
    those unlike their neighbours in a reference. Defects are filled from their neighbours in dark
    and responses.
    """

    dark: Floats | None
    responses: dict[GainConvention, Floats]
    mask: Mask
    defects: Mask

    @cached_property
    def flat(self) -> bool:
        """Whether no pixel differs from its neighbours in any of them."""
        surfaces = [*self.responses.values(), *([] if self.dark is None else [self.dark])]
        return not self.defects.any() and not any(rough(surface) for surface in surfaces)


def patterns_of(references: References) -> Patterns:
    """The patterns of posted arrays; what is not finite, or a gain of 0 or less, is a defect."""
    dark, gain, mask = references.dark, references.gain, references.mask
    masked = np.zeros(references.shape, bool) if mask is None else defects_of(mask)
    defects, level = masked.copy(), None
    responses: dict[GainConvention, Floats] = {}
    if dark is not None:
        level, found = _cleaned(dark, masked | ~np.isfinite(dark))
        defects |= found
    if gain is not None:
        with np.errstate(invalid="ignore"):
            factor, found = _cleaned(gain, masked | ~(np.isfinite(gain) & (gain > 0)))
        defects |= found
        responses = {"multiply": _relative(np.float32(1) / factor), "divide": _relative(factor)}
    return Patterns(level, responses, masked, defects)


def _relative(response: Floats) -> Floats:
    return np.asarray(response / np.float32(response.mean(dtype=np.float64)), np.float32)


def _cleaned(values: Array, bad: Mask) -> tuple[Floats, Mask]:
    """float32 with defects filled, and where they are; a reference of defects alone is all 1."""
    if bad.all():
        return np.ones(values.shape, np.float32), bad
    found = bad | outliers(filled(values, bad))
    return filled(values, found), found
