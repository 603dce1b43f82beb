"""How close a denoised frame comes to the truth."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def psnr_db(frame: Tensor, clean: Tensor, peak: float | None = None) -> float:
    """Peak signal-to-noise ratio in dB; inf for equal frames.

    peak: the signal's range, in the frames' units; the clean frame's own range when None.
    Raises ValueError when the shapes differ or the range is zero.
    """
    if frame.shape != clean.shape:
        raise ValueError(f"expected shape {tuple(clean.shape)}, got {tuple(frame.shape)}")
    peak = float(clean.max() - clean.min()) if peak is None else peak
    if peak <= 0:
        raise ValueError(f"peak must be positive, got {peak}")
    mean_square = float((frame.double() - clean.double()).square().mean())
    return math.inf if mean_square == 0 else 10 * math.log10(peak**2 / mean_square)


def gaussian_filter(frames: Tensor, sigma_px: float) -> Tensor:
    """Separable Gaussian blur, reflect padded; (B,1,H,W) -> (B,1,H,W)."""
    radius = min(math.ceil(4 * sigma_px), frames.shape[-1] - 1, frames.shape[-2] - 1)
    steps = torch.arange(-radius, radius + 1, dtype=frames.dtype, device=frames.device)
    kernel = torch.exp(-0.5 * (steps / sigma_px) ** 2)
    kernel = kernel / kernel.sum()
    padded = functional.pad(frames, (radius,) * 4, mode="reflect")
    blurred = functional.conv2d(padded, kernel.view(1, 1, 1, -1))
    return functional.conv2d(blurred, kernel.view(1, 1, -1, 1))


def best_gaussian(noisy: Tensor, clean: Tensor) -> tuple[float, float]:
    """(PSNR in dB, sigma in px) of the Gaussian that does best on exactly these frames.

    The strongest form of the baseline: its width is chosen with the truth in hand.
    """
    widths = [0.5 * 1.15**step for step in range(24)]
    scores = [(psnr_db(gaussian_filter(noisy, width), clean), width) for width in widths]
    return max(scores)
