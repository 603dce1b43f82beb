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
from scgn.stream.front import Front
from scgn.units import point_noise

SHIFTS_PX = (0, 3, 7, 13)  # along each axis; averaging over them hides the wavelets' grid
WAVELET = "sym4"


def noisy_itself(noisy: Tensor) -> Tensor:
    """The frame as it came."""
    return noisy


def gaussian(noisy: Tensor, sigma_px: float) -> Tensor:
    """Gaussian blur."""
    return gaussian_filter(noisy, sigma_px)


def estimate(noisy: Tensor) -> Tensor:
    """What temporal networks start from, of each frame alone (`scgn.stream.estimate`)."""
    front = Front((noisy.shape[-2], noisy.shape[-1])).to(noisy)
    seen = front.alone(noisy)
    return front.back(seen.estimate, seen)


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
