"""Classical denoisers, (B,1,H,W) counts in and out; those called *_map give spots on black, 0..255.

None is told anything but the noisy frame and its own parameters, which are tuned on validation
frames. NLM and wavelets come from scikit-image (`scgn-live[evaluate]`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scgn.atoms import local_maxima, log_response, refine
from scgn.metrics import MAP_PEAK, gaussian_filter
from scgn.units import point_noise

NOISE_BAND = 0.45  # cycles/px; a frame's spectrum above it is noise alone
NOISE_ROLL_OFF = 0.25  # cycles/px; width over which a detector's blur takes shot noise away
SHIFTS_PX = (0, 3, 7, 13)  # along each axis; averaging over them hides the wavelets' grid
WAVELET = "sym4"


def noisy_itself(noisy: Tensor) -> Tensor:
    """The frame as it came."""
    return noisy


def gaussian(noisy: Tensor, sigma_px: float) -> Tensor:
    """Gaussian blur."""
    return gaussian_filter(noisy, sigma_px)


def band(noisy: Tensor, sigma_px: float, ratio: float) -> Tensor:
    """Difference of Gaussians of sigma_px and ratio times that: a band pass without level."""
    return gaussian_filter(noisy, sigma_px) - gaussian_filter(noisy, ratio * sigma_px)


def dog(noisy: Tensor, sigma_px: float, ratio: float, stretch: float) -> Tensor:
    """Difference of Gaussians, stretched, on the frame's own level."""
    level = noisy.mean(dim=(-2, -1), keepdim=True)
    return level + stretch * band(noisy, sigma_px, ratio)


def polarity(frames: Tensor) -> Tensor:
    """+1 where the rare extremes of a frame are bright, -1 where dark, by skewness; (B,1,1,1)."""
    centred = frames - frames.mean(dim=(-2, -1), keepdim=True)
    skew = centred.pow(3).mean(dim=(-2, -1), keepdim=True)
    return torch.where(skew < 0, -1.0, 1.0).to(frames)


def dog_map(noisy: Tensor, sigma_px: float, ratio: float, offset: float, stretch: float) -> Tensor:
    """Difference of Gaussians in units of its own deviation, stretched to 0..255 and clipped."""
    passed = band(noisy, sigma_px, ratio)
    passed = passed * polarity(passed) / passed.std(dim=(-2, -1), keepdim=True).clamp(min=1e-12)
    return (MAP_PEAK * stretch * (passed - offset)).clamp(0, MAP_PEAK)


def wiener_gain(signal_power: Tensor, total_power: Tensor) -> Tensor:
    """Share of each frequency to keep, 0..1.

    With the true spectra S and S + N it is S / (S + N), the linear filter of least mean square
    error (Wiener, 1949).
    """
    return (signal_power.clamp(min=0) / total_power.clamp(min=1e-30)).clamp(max=1)


def smoothed_spectrum(power: Tensor, width_bins: float) -> Tensor:
    """A periodogram (B,1,H,W) averaged over a Gaussian of width_bins; the plane wraps around."""
    lags = (torch.fft.fftfreq(n, dtype=power.dtype) for n in power.shape[-2:])
    rows, columns = (torch.exp(-2 * (torch.pi * width_bins * lag) ** 2) for lag in lags)
    smooth: Tensor = torch.fft.ifft2(torch.fft.fft2(power) * rows[:, None] * columns)
    return smooth.real.clamp(min=0)


def noise_spectrum(power: Tensor, tilt: float) -> Tensor:
    """Point noise power (B,1,H,W) from what lies beyond NOISE_BAND.

    White for tilt 0, else `tilt` times more at low frequencies, as behind a detector's blur.
    """
    rows, columns = (torch.fft.fftfreq(n, dtype=power.dtype) for n in power.shape[-2:])
    k2 = rows[:, None] ** 2 + columns**2
    level = power[..., k2 > NOISE_BAND**2].mean(dim=-1)[..., None, None]
    return level * (1 + tilt * torch.exp(-0.5 * k2 / NOISE_ROLL_OFF**2))


def wiener(noisy: Tensor, width_bins: float, tilt: float, strength: float) -> Tensor:
    """Wiener filter from each frame's own spectrum, smoothed over width_bins.

    Line noise lies on the axes of the spectrum: there the signal is taken from the neighbouring
    lines, which costs a lattice that lies along the frame's sides some of its contrast.
    """
    level = noisy.mean(dim=(-2, -1), keepdim=True)
    spectrum = torch.fft.fft2((noisy - level).double(), norm="ortho")
    power = spectrum.abs().square()
    beside = power.clone()
    beside[..., 0, :] = (power[..., 1, :] + power[..., -1, :]) / 2
    beside[..., :, 0] = (beside[..., :, 1] + beside[..., :, -1]) / 2
    smooth = smoothed_spectrum(beside, width_bins)
    signal = smooth - strength * noise_spectrum(power, tilt)
    kept = spectrum * wiener_gain(signal, smooth + (power - beside).clamp(min=0))
    passed: Tensor = torch.fft.ifft2(kept, norm="ortho")
    return level + passed.real.to(noisy.dtype)


def _each(noisy: Tensor, run: Callable[[NDArray[Any]], NDArray[Any]]) -> Tensor:
    """`run` on every frame as (H,W) in units of its point noise, brought back to counts."""
    scale = point_noise(noisy).clamp(min=1e-12)
    results = np.stack([run(frame) for frame in (noisy / scale)[:, 0].double().numpy()])
    return torch.from_numpy(results)[:, None].to(noisy.dtype) * scale


def nlm(noisy: Tensor, patch_px: float, strength: float) -> Tensor:
    """Non-local means (Buades et al., 2005); strength: how alike patches must be, in sigma."""
    from skimage.restoration import denoise_nl_means

    def run(frame: NDArray[Any]) -> NDArray[Any]:
        found: NDArray[Any] = denoise_nl_means(
            frame, patch_size=int(patch_px), patch_distance=9, h=strength, sigma=1.0
        )
        return found

    return _each(noisy, run)


def wavelet(noisy: Tensor, strength: float, levels: float) -> Tensor:
    """BayesShrink (Chang et al., 2000) with symlets, averaged over shifts of the grid.

    strength: sigma over the pointwise noise, above 1 where neighbours are correlated; levels: of
    halving, no more than the frame's size allows.
    """
    from pywt import dwt_max_level
    from skimage.restoration import denoise_wavelet

    depth = min(int(levels), dwt_max_level(min(noisy.shape[-2:]), WAVELET))

    def run(frame: NDArray[Any]) -> NDArray[Any]:
        total = np.zeros_like(frame)
        for shift in ((dy, dx) for dy in SHIFTS_PX for dx in SHIFTS_PX):
            moved = np.roll(frame, shift, (0, 1))
            kept = denoise_wavelet(
                moved, sigma=strength, wavelet=WAVELET, wavelet_levels=depth, rescale_sigma=False
            )
            total += np.roll(kept, (-shift[0], -shift[1]), (0, 1))
        return total / len(SHIFTS_PX) ** 2

    return _each(noisy, run)


def spots(position_px: Tensor, height: Tensor, sigma_px: float, shape: torch.Size) -> Tensor:
    """Sum of Gaussians (H,W): position_px (N,2), height (N,)."""
    profiles = [
        torch.exp(-0.5 * ((torch.arange(n) - at[:, None]) / sigma_px) ** 2)
        for n, at in zip(shape, position_px.unbind(1), strict=True)
    ]
    return (profiles[0] * height[:, None]).T @ profiles[1]


def _detections(frame: Tensor, sigma_px: float, threshold: float) -> tuple[Tensor, Tensor, float]:
    """Positions (N,2), heights (N,) and polarity of what stands out of (1,H,W), in counts.

    threshold: in deviations of the response to white noise, sqrt(2/pi) / sigma_px of the noise's.
    """
    response = log_response(frame[None], sigma_px)
    sign = float(polarity(response))
    response = sign * response[0, 0]
    noise = float(point_noise(frame[None])) * (2 / torch.pi) ** 0.5 / sigma_px
    pixels = local_maxima(response, threshold * noise, sigma_px)
    return refine(response, pixels), response[pixels[:, 0], pixels[:, 1]], sign


def log_render(noisy: Tensor, sigma_px: float, threshold: float, stretch: float) -> Tensor:
    """Atoms detected by a Laplacian of a Gaussian, drawn as Gaussians on the frame's level."""
    results = []
    for frame in noisy:
        position, height, sign = _detections(frame, sigma_px, threshold)
        drawn = stretch * sign * spots(position, height, sigma_px, frame.shape[-2:])
        results.append(frame.mean() + drawn - drawn.mean())
    return torch.stack(results)[:, None]


def log_render_map(noisy: Tensor, sigma_px: float, threshold: float, width: float) -> Tensor:
    """Atoms detected by a Laplacian of a Gaussian, drawn as equal spots; width: over sigma_px."""
    results = []
    for frame in noisy:
        position, height, _ = _detections(frame, sigma_px, threshold)
        drawn = spots(position, torch.ones_like(height), width * sigma_px, frame.shape[-2:])
        results.append(MAP_PEAK * drawn.clamp(max=1))
    return torch.stack(results)[:, None]
