"""What is fixed in a camera: dark reference, gain reference and defective pixels, from stacks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgn.calibrate.statistics import Floats, background, box_mean
from scgn.defects import neighbours_of_defects
from scgn.references import CalibrationError

Array = NDArray[Any]
Mask = NDArray[np.bool_]
OUTLIER = 8.0  # robust deviations; the fixed pattern of good pixels has tails beyond a normal's
FRAMES_FOR_NOISY = 4  # fewer tell nothing of one pixel's deviation


def dark_reference(dark: Array) -> Floats:
    """Mean of a dark stack, counts; of a single frame its background, not to print its noise."""
    return background(dark[0]) if len(dark) == 1 else dark.mean(0, dtype=np.float64).astype("f4")


def response(flats: list[Array], dark: Floats) -> Floats:
    """Each pixel's counts relative to the average pixel's, by least squares over the flats' levels.

    Illumination counts as even. Raises CalibrationError for a flat no brighter than the dark.
    """
    levels = [flat.mean(0, dtype=np.float64) - dark for flat in flats]
    for level in levels:
        if np.median(level) <= 0:
            got = f"expected flats brighter than the dark, got {np.median(level):.3g} counts more"
            raise CalibrationError("flat", got)
    means = [float(np.median(level)) for level in levels]
    power = sum(mean**2 for mean in means)
    weighted = sum(level * (mean / power) for level, mean in zip(levels, means, strict=True))
    return np.asarray(weighted, np.float32)


def hot_pixels(dark: Array) -> Mask:
    """Pixels of a dark stack whose mean stands out of their column's and row's medians."""
    mean = dark.mean(0, dtype=np.float64)
    rest = mean - np.median(mean, axis=0)
    rest -= np.median(rest, axis=1)[:, None]
    return _outliers(rest, floor=float(np.sqrt(np.median(dark.var(0)) / len(dark))))


def noisy_pixels(dark: Array) -> Mask:
    """Pixels of a dark stack whose deviation over time is beyond what chance gives.

    The cube root of a variance of n degrees of freedom is nearly normal with variance 2/(9n)
    (Wilson and Hilferty, 1931). None for stacks too short to tell.
    """
    variance = dark.var(0, dtype=np.float64)
    middle = float(np.median(variance))
    if len(dark) < FRAMES_FOR_NOISY or middle == 0:
        return np.zeros(variance.shape, bool)
    width = 2 / (9 * (len(dark) - 1))
    return np.asarray(np.cbrt(variance / middle) - 1 > OUTLIER * np.sqrt(width) / (1 - width))


def dead_pixels(relative: Floats) -> Mask:
    """Pixels that respond to light unlike their neighbourhood, or not at all."""
    local = box_mean(relative, 15, 15)
    return _outliers(relative / np.maximum(local, 1e-6) - 1, floor=1e-3) | (relative <= 0)


def _outliers(values: Array, floor: float) -> Mask:
    middle = np.median(values)
    deviation = 1.4826 * float(np.median(np.abs(values - middle)))
    return np.asarray(np.abs(values - middle) > OUTLIER * max(deviation, floor))


def corrected(stack: Array, dark: Floats, gain: Floats | None, mask: Mask) -> Floats:
    """(stack - dark) * gain, float32, masked pixels filled from their neighbours."""
    frames = stack.astype(np.float32, order="C") - np.asarray(dark, order="C")
    frames *= 1 if gain is None else gain
    bad, neighbours, weights = neighbours_of_defects(mask)
    flat = frames.reshape(len(stack), -1)  # a view, or what is filled in would be lost
    flat[:, bad] = (flat[:, neighbours] * weights).sum(-1)
    return frames
