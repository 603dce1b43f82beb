"""Wiener's filter from a frame's own spectrum: a classical denoiser, and what networks start from.

(B,1,H,W) in, (B,1,H,W) out, in any units: a frame scaled or shifted gives a result likewise.
"""

from __future__ import annotations

import torch
from torch import Tensor

NOISE_BAND = 0.45  # cycles/px; a frame's spectrum above it is noise alone
BAND_MARGIN = 1e-6  # so that a bin right at the band's edge is on one side in every precision
NOISE_ROLL_OFF = 0.25  # cycles/px; width over which a detector's blur takes shot noise away
# Of the estimate that networks correct: the best of a grid on the tuning scenes, all doses.
WIDTH_BINS, TILT, STRENGTH = 2.5, 1.0, 2.5


def wiener_gain(signal_power: Tensor, total_power: Tensor) -> Tensor:
    """Share of each frequency to keep, 0..1.

    With the true spectra S and S + N it is S / (S + N), the linear filter of least mean square
    error (Wiener, 1949).
    """
    return (signal_power.clamp(min=0) / total_power.clamp(min=1e-30)).clamp(max=1)


def smoothed_spectrum(power: Tensor, width_bins: float) -> Tensor:
    """A periodogram (B,1,H,W) averaged over a Gaussian of width_bins; the plane wraps around."""
    lags = (torch.fft.fftfreq(n, dtype=power.dtype, device=power.device) for n in power.shape[-2:])
    rows, columns = (torch.exp(-2 * (torch.pi * width_bins * lag) ** 2) for lag in lags)
    smooth: Tensor = torch.fft.ifft2(torch.fft.fft2(power) * rows[:, None] * columns)
    return smooth.real.clamp(min=0)


def noise_spectrum(power: Tensor, tilt: float) -> Tensor:
    """Point noise power (B,1,H,W) from what lies beyond NOISE_BAND.

    White for tilt 0, else `tilt` times more at low frequencies, as behind a detector's blur.
    """
    rows, columns = (
        torch.fft.fftfreq(n, dtype=power.dtype, device=power.device) for n in power.shape[-2:]
    )
    k2 = rows[:, None] ** 2 + columns**2
    beyond = (k2 > NOISE_BAND**2 + BAND_MARGIN).to(power.dtype)
    level: Tensor = (power * beyond).sum(dim=(-2, -1), keepdim=True) / beyond.sum().clamp(min=1)
    rise: Tensor = tilt * torch.exp(-0.5 * k2 / NOISE_ROLL_OFF**2)
    return level * (1 + rise)


def wiener(
    noisy: Tensor, width_bins: float = WIDTH_BINS, tilt: float = TILT, strength: float = STRENGTH
) -> Tensor:
    """Wiener filter from each frame's own spectrum, smoothed over width_bins.

    tilt, strength: of the noise's spectrum, see `noise_spectrum`. Line noise lies on the axes of
    the spectrum: there the signal is taken from the neighbouring lines, which costs a lattice that
    lies along the frame's sides some of its contrast. In float32 at least.
    """
    wide = noisy.to(torch.promote_types(noisy.dtype, torch.float32))
    level = wide.mean(dim=(-2, -1), keepdim=True)
    spectrum = torch.fft.fft2(wide - level, norm="ortho")
    power = spectrum.real.square() + spectrum.imag.square()
    beside = power.clone()
    beside[..., 0, :] = (power[..., 1, :] + power[..., -1, :]) / 2
    beside[..., :, 0] = (beside[..., :, 1] + beside[..., :, -1]) / 2
    smooth = smoothed_spectrum(beside, width_bins)
    signal = smooth - strength * noise_spectrum(power, tilt)
    kept = spectrum * wiener_gain(signal, smooth + (power - beside).clamp(min=0))
    passed: Tensor = torch.fft.ifft2(kept, norm="ortho")
    return (level + passed.real).to(noisy.dtype)
