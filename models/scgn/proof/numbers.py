"""What can be counted of references and frames, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scgn.calibrate.fixed_pattern import corrected
from scgn.calibrate.statistics import Statistics, statistics
from scgn.calibrate.transfer import PhotonTransfer, fit_transfer, transfer_points
from scgn.proof.posted import References
from scgn.proof.seen import Seen
from scgn.proof.surfaces import Mask, middle
from scgn.references import Array, Floats, defects_of

BARS = 64
TAIL = 0.001  # of the pixels beyond each end of the gain's histogram, counted in its last bars
TRANSFER_FRAMES, TRANSFER_PX = 9, 512  # of the middle; enough for a straight line
SIDE_MIN = 16  # px; the guides' ring must fit in
SPAN_MAX = 100.0  # of a gain, largest to smallest
MASKED_MAX = 0.1
DARKER_MAX = 0.5  # of one frame's deviation, below 0 on average


@dataclass(frozen=True)
class GainNumbers:
    """Of the gain's pixels that are no defects; span: largest to smallest without the outermost
    thousandth at each end; edges, counts: histogram, what is beyond counted in the last bars.
    """

    min: float
    max: float
    mean: float
    std: float
    span: float
    edges: list[float]
    counts: list[int]


@dataclass(frozen=True)
class MaskNumbers:
    """pixels, share: masked ones, dead by their gain included; deviating_not_masked: unlike their
    neighbours in the frames or stuck, yet not masked; masked_looking_fine: the other way round;
    both None without frames.
    """

    pixels: int
    share: float
    deviating_not_masked: int | None
    masked_looking_fine: int | None


@dataclass(frozen=True)
class LevelNumbers:
    """Counts: dark_mean; frames_mean, of what is not deviating; corrected_mean: in units of the
    gain; below_zero: share of pixels whose mean over the frames is below 0 after correction.
    """

    dark_mean: float | None
    frames_mean: float
    corrected_mean: float
    below_zero: float


@dataclass(frozen=True)
class Transfer:
    """Photon transfer of some frames: gain_adu_per_e with its standard error and read_noise_adu,
    each None where the frames do not tell; signal, variance: the points; offset, slope: the line.
    """

    gain_adu_per_e: float | None
    gain_error: float | None
    read_noise_adu: float | None
    signal: list[float]
    variance: list[float]
    offset: float
    slope: float


def gain_numbers(references: References) -> GainNumbers | None:
    """None without a gain, or where no pixel of it is usable."""
    if references.gain is None or (bad := references.unusable()).all():
        return None
    values = references.gain[~bad].astype(np.float64)
    low, high = (float(edge) for edge in np.quantile(values, (TAIL, 1 - TAIL)))
    reach = max((high - low) / 10, 1e-6 * high)
    edges = np.linspace(max(0.0, low - reach), high + reach, BARS + 1)
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    ends = float(values.min()), float(values.max())
    moments = float(values.mean()), float(values.std())
    return GainNumbers(*ends, *moments, high / low, edges.tolist(), counts.tolist())


def mask_of(references: References) -> Mask:
    """Masked pixels and those that are dead by their gain, as the calibration will have them."""
    mask = references.mask
    bad = np.zeros(references.shape, bool) if mask is None else defects_of(mask)
    return bad if references.gain is None else bad | (references.gain == 0)


def mask_numbers(bad: Mask, shown: Seen | None) -> MaskNumbers:
    """Of a mask as it lies on the frames."""
    pixels, share = int(bad.sum()), float(bad.mean())
    if shown is None:
        return MaskNumbers(pixels, share, None, None)
    missed, fine = (int(x.sum()) for x in (shown.deviating & ~bad, bad & ~shown.deviating))
    return MaskNumbers(pixels, share, missed, fine)


@dataclass(frozen=True, eq=False)
class Correction:
    """How references that lie on the frames correct them, and which pixels are filled."""

    dark: Floats
    gain: Floats | None
    bad: Mask

    def __call__(self, frames: Array) -> Floats:
        """Corrected frames (frames, rows, columns)."""
        bad = np.zeros_like(self.bad) if self.bad.all() else self.bad
        return corrected(np.ascontiguousarray(frames), self.dark, self.gain, bad)

    def middle(self, side_max: int) -> Correction:
        """Of the middle of the frames."""
        gain = None if self.gain is None else middle(self.gain, side_max)
        return Correction(middle(self.dark, side_max), gain, middle(self.bad, side_max))


def correction_of(references: References | None, also_bad: Mask) -> Correction:
    """Of references as they lie on the frames, of none at all; `also_bad`: more pixels to fill."""
    empty = np.zeros(also_bad.shape, np.float32)
    if references is None:
        return Correction(empty, None, also_bad)
    bad = references.unusable()
    dark = empty if references.dark is None else np.where(bad, 0, references.dark)
    gain = None if references.gain is None else np.where(bad, 1, references.gain)
    if gain is not None and references.gain_convention == "divide":
        gain = 1 / gain
    factor = None if gain is None else np.ascontiguousarray(gain, np.float32)
    return Correction(np.ascontiguousarray(dark, np.float32), factor, bad | also_bad)


def level_numbers(references: References, correction: Correction, shown: Seen) -> LevelNumbers:
    """Of references as they lie on the frames."""
    after = correction(shown.clean[None])[0]
    dark = references.dark
    level = None if dark is None else float(correction.dark[~correction.bad].mean())
    return LevelNumbers(
        level, float(shown.clean.mean()), float(after.mean()), float(np.mean(after < 0))
    )


def transfer_of(frames: Array, correction: Correction, offset: bool) -> Transfer | None:
    """Photon transfer of the middle of corrected frames; offset: whether they may stand on one, so
    that their read noise is unknown. None for fewer than two frames or small ones.
    """
    stack = middle(frames[:TRANSFER_FRAMES], TRANSFER_PX)
    if len(stack) < 2 or min(stack.shape[1:]) < SIDE_MIN:
        return None
    stack = correction.middle(TRANSFER_PX)(stack)
    noise = statistics([stack])
    line = fit_transfer(transfer_points(stack, noise))
    told = line.resolved
    return Transfer(
        gain_adu_per_e=line.gain if told else None,
        gain_error=float(line.gain_error) if told else None,
        read_noise_adu=None if offset else _read_noise(line, noise),
        signal=line.points.signal.tolist(),
        variance=line.points.variance.tolist(),
        offset=float(line.offset),
        slope=float(line.gain),
    )


def _read_noise(line: PhotonTransfer, noise: Statistics) -> float | None:
    """Deviation at no signal; all of it where it does not grow with the signal."""
    if not line.resolved:
        return noise.point_sigma
    return float(np.sqrt(line.offset)) if line.offset > 2 * line.offset_error else None


def doubts(
    gain: GainNumbers | None, mask: MaskNumbers, level: LevelNumbers | None, sigma: float | None
) -> list[str]:
    """Numbers that no camera's references have."""
    found: list[str] = []
    if gain and gain.span > SPAN_MAX:
        ends = f"{gain.min:.3g} to {gain.max:.3g}"
        found.append(f"the gain spans a factor of {gain.span:.3g} ({ends}): no camera's does")
    if mask.share > MASKED_MAX:
        found.append(f"{mask.share:.1%} of the pixels are masked: is 1 a defective pixel in it?")
    return found + ([] if level is None or sigma is None else _darker(level, sigma))


def _darker(level: LevelNumbers, sigma: float) -> list[str]:
    if level.dark_mean is None or level.frames_mean - level.dark_mean > -DARKER_MAX * sigma:
        return []
    return [
        f"the dark ({level.dark_mean:.5g} counts on average) is brighter than the frames "
        f"({level.frames_mean:.5g}): another exposure, or a changed dark level"
    ]
