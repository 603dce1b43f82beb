"""A camera whose noise is known: series of a structured scene and stacks of even light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def blurred(frames: Floats, sigma_px: float) -> Floats:
    """Gaussian blur over the last two axes, periodic."""
    down = np.fft.fftfreq(frames.shape[-2])[:, None]
    right = np.fft.rfftfreq(frames.shape[-1])
    transfer = np.exp(-2 * (np.pi * sigma_px) ** 2 * (down**2 + right**2))
    return np.fft.irfft2(np.fft.rfft2(frames) * transfer, s=frames.shape[-2:])


@dataclass(frozen=True)
class NoisyCamera:
    """Poisson electrons, blurred by sigma blur_px, times gain, plus read, line noise and offset.

    In counts where not said otherwise; line_correlation: of neighbouring lines, 0..0.5.
    """

    gain: float = 2.5
    read: float = 4.0
    line: float = 3.0
    axis: str = "column"
    line_correlation: float = 0.0
    blur_px: float = 0.0
    offset: float = 0.0

    @property
    def variance_per_count(self) -> float:
        """Of one pixel: blur shares each electron between pixels."""
        spread = np.zeros((32, 32))
        spread[16, 16] = 1
        return self.gain * float((blurred(spread, self.blur_px) ** 2).sum())

    def point_sigma(self, signal: Floats) -> Floats:
        """The truth, counts, with the rounding to whole counts."""
        return np.sqrt(self.read**2 + 1 / 12 + self.variance_per_count * signal)

    def take(self, rng: np.random.Generator, frames: int, electrons: Floats) -> NDArray[np.int32]:
        """Frames of a still scene of mean `electrons` per pixel."""
        shape = (frames, *electrons.shape)
        counts = blurred(rng.poisson(electrons, shape).astype(float), self.blur_px) * self.gain
        counts += rng.normal(self.offset, self.read, shape) + self._lines(rng, shape)
        return np.rint(counts).astype(np.int32)

    def _lines(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        white = rng.normal(0, self.line, (shape[0], shape[1 if self.axis == "row" else 2] + 1))
        angle = np.arcsin(2 * self.line_correlation) / 2
        lines = np.cos(angle) * white[:, 1:] + np.sin(angle) * white[:, :-1]
        return lines[:, :, None] if self.axis == "row" else lines[:, None, :]


def scene(rng: np.random.Generator, side: int, low: float, high: float) -> Floats:
    """Smooth random structure without any flat region, electrons per pixel."""
    field = blurred(rng.normal(size=(side, side)), 8.0)
    return low + (high - low) * (field - field.min()) / np.ptp(field)
