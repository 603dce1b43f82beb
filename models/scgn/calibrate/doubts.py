"""When a noise calibration must not be believed: each reason has a name and says its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgn.calibrate.statistics import (
    Floats,
    Statistics,
    box_mean,
    difference,
    differences,
    point_part,
)
from scgn.calibrate.transfer import PhotonTransfer

Array = NDArray[Any]
PILE_MIN = 1e-3  # of the pixels
PILE_RATIO = 1.5  # against the values beside
EXPLAINED_MAX = 0.01  # of the noise's power
GROWTH_MAX = 1.05  # of the mean square from one frame's distance to four
BEAM_MAX = 0.02  # of the mean
PAIRS = 8  # of frames, enough to see what changes
FRAMES_MIN = {"dark": 8, "flat": 4, "series": 2}  # a reference must not print its own noise
LINES_MIN = 100  # draws; fewer give line noise to no better than 7 %
GAIN_ERROR_MAX = 0.1
CHI2_MAX, MISFIT_MAX = 3.0, 0.05  # both, as either alone is harmless


@dataclass(frozen=True)
class Doubt:
    """reason: a name that stays; text: what was found, in numbers and words."""

    reason: str
    text: str


def doubts_of_stack(stack: Array, noise: Statistics, kind: str) -> list[Doubt]:
    """What speaks against one stack as it was stored: (frames, rows, columns), its statistics.

    kind: `dark` or `flat` or `series`, for what may be in the frames.
    """
    step = lattice_step(stack)
    found = {
        "clipping": _clipping(stack, noise.point_sigma, step, kind),
        "saturation": _saturation(stack, noise.point_sigma, step),
        "not_integer": _not_integer(step),
        "repeated": _repeated(stack),
        "quantised": _quantised(stack, noise, step),
        "scene_change": _scene_change(stack, noise),
        "drift": _drift(stack, noise) if kind == "series" else None,
        "beam_change": None if kind == "dark" else _beam_change(stack, noise),
    }
    return [Doubt(reason, text) for reason, text in found.items() if text]


def _sample(stack: Array) -> Array:
    return np.asarray(stack[np.unique(np.linspace(0, len(stack) - 1, 4).astype(int))])


def lattice_step(stack: Array) -> float:
    """Distance of neighbouring values that all values are multiples of; 0 when there is none."""
    values = np.unique(_sample(stack)).astype(np.float64)
    if len(values) < 2:
        return 1.0 if stack.dtype.kind in "iub" else 0.0
    step = float(np.diff(values).min())
    multiples = (values - values[0]) / step
    fine = step < 1e-5 * np.abs(values).max()  # near float32's own grid
    return 0.0 if fine or np.abs(multiples - np.rint(multiples)).max() > 1e-2 else step


def _pile(values: Array, sigma: float, step: float) -> float:
    """Share of the pixels at the lowest value, if those just above are much rarer; else 0."""
    lowest = float(values.min())
    share = float(np.mean(values == lowest))
    width = max(step, sigma / 2)
    beside = float(np.mean((values > lowest) & (values <= lowest + width)))
    beside *= step / width if step else 0
    noise_wide = sigma >= step  # a counting camera's lowest is zero counts, no pile
    return share if noise_wide and share > max(PILE_MIN, PILE_RATIO * beside) else 0.0


def _clipping(stack: Array, sigma: float, step: float, kind: str) -> str | None:
    values = _sample(stack)
    share = _pile(values, sigma, step)
    if kind != "dark" and step:  # sparse electrons leave empty pixels that nothing cut off
        above = box_mean(stack.mean(0), 3, 3) - values.min()
        share = share if share > PILE_RATIO * float(np.exp(-above / step).mean()) else 0.0
    if not share:
        return None
    return (
        f"{share:.1%} of the pixels are at the lowest value, "
        f"{values.min():g}; what noise took below it is lost and dark pixels look too quiet"
    )


def _saturation(stack: Array, sigma: float, step: float) -> str | None:
    values = _sample(stack)
    share = _pile(-values.astype(np.float64), sigma, step)
    if not share:
        return None
    return (
        f"{share:.1%} of the pixels are at the highest value, {values.max():g}; "
        "bright pixels look too quiet"
    )


def _not_integer(step: float) -> str | None:
    if step:
        return None
    return (
        "values are not on a lattice of whole counts: averaged, resampled or already corrected "
        "frames, whose noise is not the camera's"
    )


def _repeated(stack: Array) -> str | None:
    same = sum(bool(np.array_equal(a, b)) for a, b in pairwise(stack))
    return f"{same} of {len(stack)} frames repeat the one before" if same else None


def _quantised(stack: Array, noise: Statistics, step: float) -> str | None:
    variance, electrons = noise.point_sigma**2, float(stack.mean() - stack.min())
    if not step or variance >= step**2 / 6 or variance >= electrons * step / 2:
        return None
    return (
        f"point noise of {noise.point_sigma:.2g} counts is below the steps of {step:g} between "
        "values: rounded, averaged or compressed frames"
    )


def _scene_change(stack: Array, noise: Statistics) -> str | None:
    far = min(4, len(stack) - 1)
    if far < 2 or noise.point_sigma == 0:
        return None
    near, apart = _power(stack, 1), _power(stack, far)
    pixels = min(PAIRS, len(stack) - far) * stack[0].size
    chance = 6 * np.sqrt(4 * np.square(noise.autocorrelation).sum() / pixels)
    if apart <= near * max(GROWTH_MAX, 1 + chance):
        return None
    return (
        f"frames {far} apart differ by {apart / near - 1:.0%} more power than neighbouring ones: "
        "the scene moves, or the camera averages over time"
    )


def _power(stack: Array, distance: int) -> float:
    starts = range(min(PAIRS, len(stack) - distance))
    changes = (point_part(difference(stack[i], stack[i + distance])) for i in starts)
    return float(np.mean([np.mean(np.square(change)) for change in changes]))


def _drift(stack: Array, noise: Statistics) -> str | None:
    """Differences that look like the scene's gradient are a shift of it."""
    shifts, shares = [], []
    for index, change in enumerate(differences(stack[: PAIRS + 1])):
        around = stack[max(0, index - 1) : index + 3].mean(0, dtype=np.float64)
        shift, share = _shift(change, around)
        shifts.append(shift)
        shares.append(share)
    chance = 15 * max(1.0, float(noise.autocorrelation.sum())) / stack[0].size
    if np.mean(shares) <= max(EXPLAINED_MAX, chance):
        return None
    return (
        f"drift of {np.mean(shifts):.2g} px from frame to frame: a shift of the scene makes "
        f"{np.mean(shares):.0%} of the differences' power"
    )


def _shift(change: Floats, scene: Array) -> tuple[float, float]:
    """Pixels that a scene moved by to make this difference, and the share of its power that is."""
    gradients = np.asarray(np.gradient(box_mean(scene, 3, 3)), np.float32)
    slopes = np.stack([point_part(slope).ravel() for slope in gradients]).astype(np.float64)
    values = point_part(change).ravel().astype(np.float64)
    gram, along = slopes @ slopes.T, slopes @ values
    if np.linalg.cond(gram) > 1e12:  # no scene that could move
        return 0.0, 0.0
    shift = np.linalg.solve(gram, along)
    share = float(shift @ along) / max(float(values @ values), 1e-30)
    return float(np.hypot(shift[0], shift[1]) * np.sqrt(2)), share


def _beam_change(stack: Array, noise: Statistics) -> str | None:
    means = np.asarray(stack.mean((1, 2), dtype=np.float64))
    level = float(means.mean())
    lines = np.square(noise.columns).mean() / noise.shape[1]
    lines += np.square(noise.rows).mean() / noise.shape[0]
    chance = 6 * np.sqrt(max(noise.covariance.sum(), 0) / stack[0].size + 2 * lines)
    spread = float(means.max() - means.min())
    if spread <= max(BEAM_MAX * abs(level), chance):
        return None
    return (
        f"frames' means change by {spread / abs(level):.1%}, {means.min():.4g} to {means.max():.4g}"
    )


def doubts_of_fit(
    transfer: PhotonTransfer, noise: Statistics, frames: dict[str, list[int]]
) -> list[Doubt]:
    """What speaks against the whole: its straight line, the statistics of line noise, and the
    number of frames of each stack by kind (dark, flat, series).
    """
    found = {
        "few_frames": _few_frames(noise, frames),
        "few_levels": _few_levels(transfer, frames),
        "nonlinear": _nonlinear(transfer),
        "offset": _offset(transfer),
    }
    return [Doubt(reason, text) for reason, text in found.items() if text]


def _few_frames(noise: Statistics, frames: dict[str, list[int]]) -> str | None:
    for kind, numbers in frames.items():
        if min(numbers, default=FRAMES_MIN[kind]) < FRAMES_MIN[kind]:
            got = f"{min(numbers)} {kind} frames, at least {FRAMES_MIN[kind]} are needed"
            single = ": one frame's fixed pattern counts as noise" if min(numbers) == 1 else ""
            return got + single
    draws = noise.differences * min(noise.shape)
    if draws >= LINES_MIN:
        return None
    return f"{draws} lines in all differences, at least {LINES_MIN} are needed"


def _few_levels(transfer: PhotonTransfer, frames: dict[str, list[int]]) -> str | None:
    signal = transfer.points.signal
    flats = frames.get("flat")
    if flats is not None and len(flats) < 2:
        few = "a straight line through two levels tells nothing of itself" if flats else "no flats"
        return f"{few}: gain was {'not checked' if flats else 'not measured'}"
    if transfer.resolved and transfer.gain_error <= GAIN_ERROR_MAX * transfer.gain:
        return None
    span = f"signals of {signal.min():.4g} to {signal.max():.4g} counts"
    gain = f"{transfer.gain:.3g} +- {transfer.gain_error:.2g}"
    return f"too few levels for a line: {span} give a gain of {gain}"


def _nonlinear(transfer: PhotonTransfer) -> str | None:
    if (transfer.chi2_per_dof or 0) <= CHI2_MAX or transfer.misfit <= MISFIT_MAX:
        return None
    return (
        f"variance is no straight line of the signal: off by {transfer.misfit:.1%}, "
        f"chi^2 per degree of freedom {transfer.chi2_per_dof:.1f}"
    )


def _offset(transfer: PhotonTransfer) -> str | None:
    if transfer.offset >= -3 * transfer.offset_error or not transfer.resolved:
        return None
    return (
        f"the line gives a variance of {transfer.offset:.4g} at 0 counts: the frames stand on an "
        f"offset of at least {-transfer.offset / transfer.gain:.4g} counts; read noise is unknown"
    )
