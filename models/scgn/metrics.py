"""How close a denoised frame comes to the truth, and how close it seems where there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from scgn.noise import NoiseModel

SSIM_RADIUS_PX, SSIM_SIGMA_PX = 5, 1.5  # the 11x11 window of Wang et al., 2004
MAP_PEAK = 255.0  # of an atom map


def psnr_db(frame: Tensor, clean: Tensor, peak: float | None = None) -> float:
    """Peak signal-to-noise ratio in dB; inf for equal frames.

    peak: the signal's range, in the frames' units; the clean frame's own range when None.
    Raises ValueError when the shapes differ or the range is zero.
    """
    peak = _checked_range(frame, clean, peak)
    mean_square = float((frame.double() - clean.double()).square().mean())
    return math.inf if mean_square == 0 else 10 * math.log10(peak**2 / mean_square)


def _checked_range(frame: Tensor, clean: Tensor, peak: float | None) -> float:
    if frame.shape != clean.shape:
        raise ValueError(f"expected shape {tuple(clean.shape)}, got {tuple(frame.shape)}")
    peak = float(clean.max() - clean.min()) if peak is None else peak
    if peak <= 0:
        raise ValueError(f"peak must be positive, got {peak}")
    return peak


def _gaussian_weights(radius: int, sigma_px: float, like: Tensor) -> Tensor:
    steps = torch.arange(-radius, radius + 1, dtype=like.dtype, device=like.device)
    kernel = torch.exp(-0.5 * (steps / sigma_px) ** 2)
    return kernel / kernel.sum()


def _separable(frames: Tensor, kernel: Tensor) -> Tensor:
    along = functional.conv2d(frames, kernel.view(1, 1, 1, -1))
    return functional.conv2d(along, kernel.view(1, 1, -1, 1))


def gaussian_filter(frames: Tensor, sigma_px: float) -> Tensor:
    """Separable Gaussian blur, reflect padded; (B,1,H,W) -> (B,1,H,W)."""
    radius = min(math.ceil(4 * sigma_px), frames.shape[-1] - 1, frames.shape[-2] - 1)
    padded = functional.pad(frames, (radius,) * 4, mode="reflect")
    return _separable(padded, _gaussian_weights(radius, sigma_px, frames))


def best_gaussian(noisy: Tensor, clean: Tensor) -> tuple[float, float]:
    """(PSNR in dB, sigma in px) of the Gaussian that does best on exactly these frames.

    The strongest form of the baseline: its width is chosen with the truth in hand.
    """
    widths = [0.5 * 1.15**step for step in range(24)]
    scores = [(psnr_db(gaussian_filter(noisy, width), clean), width) for width in widths]
    return max(scores)


def ssim(frame: Tensor, clean: Tensor, data_range: float | None = None) -> float:
    """Structural similarity, -1..1, mean over all whole windows; 1 for equal frames.

    (B,1,H,W), at least 11 px a side; data_range: the signal's range in the frames' units, the clean
    frame's own when None. ValueError as in `psnr_db` and for smaller frames.
    Source: Wang et al., IEEE TIP 13 (2004) 600, section III.B (K1 = 0.01, K2 = 0.03).
    """
    if min(frame.shape[-2:]) < 2 * SSIM_RADIUS_PX + 1:
        raise ValueError(f"expected at least 11 px a side, got {tuple(frame.shape[-2:])}")
    span = _checked_range(frame, clean, data_range)
    x, y = frame.double(), clean.double()
    kernel = _gaussian_weights(SSIM_RADIUS_PX, SSIM_SIGMA_PX, x)
    mean_x, mean_y = _separable(x, kernel), _separable(y, kernel)
    var_x = _separable(x * x, kernel) - mean_x**2
    var_y = _separable(y * y, kernel) - mean_y**2
    covariance = _separable(x * y, kernel) - mean_x * mean_y
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return float((luminance * structure).mean())


def iou(frame: Tensor, atom_map: Tensor, threshold: float = MAP_PEAK / 2) -> float:
    """Intersection over union of {frame > threshold} and {atom_map > threshold}; 1 if both empty.

    ValueError when the shapes differ.
    """
    _checked_range(frame, atom_map, MAP_PEAK)
    found, true = frame > threshold, atom_map > threshold
    union = int((found | true).sum())
    return 1.0 if union == 0 else int((found & true).sum()) / union


def as_displayed(frames: Tensor) -> Tensor:
    """What 8 bits keep: clipped to 0..255, then truncated (not rounded), as published."""
    return frames.clamp(0, MAP_PEAK).floor()


def atom_map_scores(frames: Tensor, atom_maps: Tensor) -> dict[str, float]:
    """psnr_db, ssim and iou as published for atom maps, mean over the frames of (B,1,H,W).

    Both sides as 8 bits, peak and range 255 (Li et al., CVPR 2026, section 4, and its code).
    """
    pairs = list(zip(as_displayed(frames)[:, None], as_displayed(atom_maps)[:, None], strict=True))
    return {
        "psnr_db": sum(psnr_db(f, m, MAP_PEAK) for f, m in pairs) / len(pairs),
        "ssim": sum(ssim(f, m, MAP_PEAK) for f, m in pairs) / len(pairs),
        "iou": sum(iou(f, m) for f, m in pairs) / len(pairs),
    }


def umse(denoised: Tensor, first: Tensor, second: Tensor, third: Tensor) -> float:
    """Mean square error without a clean frame: mean (a - f)^2 - mean (b - c)^2 / 2.

    first, second, third (a, b, c): noisy frames of the same scene that `denoised` (f) was not made
    from; unbiased when their noise is independent of f's input and alike in variance.
    Source: Marcos Morales et al., arXiv 2210.05553 (ICML 2023), section 3.
    """
    error = (first.double() - denoised.double()).square().mean()
    return float(error - (second.double() - third.double()).square().mean() / 2)


def umse_of_pair(denoised: Tensor, source: Tensor, other: Tensor) -> float:
    """`umse` where only two exposures exist: mean (y2 - f(y1))^2 - mean (y1 - y2)^2 / 2.

    denoised: made from `source` (y1) alone; other: y2. The subtracted noise does not depend on the
    method, so differences between methods are unbiased even where the two variances differ.
    """
    return umse(denoised, other, source, other)


def upsnr_db(mean_square: float, peak: float) -> float:
    """Peak signal-to-noise ratio in dB of an unsupervised mean square error.

    Raises ValueError where the estimate is not positive: too few pixels for an error this small.
    """
    if mean_square <= 0 or peak <= 0:
        raise ValueError(f"expected a positive error and peak, got {mean_square} and {peak}")
    return 10 * math.log10(peak**2 / mean_square)


@dataclass(frozen=True)
class ResidualTests:
    """What the denoiser took away, against the calibrated noise.

    variance: of the point part in noise units, 1 for a perfect denoiser, below where noise was
    left in the frame, above where signal was taken; autocorrelation_error: largest difference from
    the calibrated one over its lags, NaN where nothing was taken away; line_ratio: deviation of the
    line means over the expected one.
    """

    variance: float
    autocorrelation_error: float
    line_ratio: float


def residual_tests(noisy: Tensor, denoised: Tensor, noise: NoiseModel) -> ResidualTests:
    """Tests of noisy - denoised, (B,1,H,W) in counts, under a camera's noise model."""
    sigma = torch.from_numpy(noise.point_sigma(denoised.double().cpu().numpy()))
    residual = (noisy - denoised).double().cpu() / sigma
    along = -2 if noise.line_axis == "column" else -1
    means = residual.mean(dim=along, keepdim=True)
    expected = torch.from_numpy(noise.autocorrelation).double()
    length, reach = residual.shape[along], expected.shape[0] // 2
    on_axis = expected[:, reach] if along == -2 else expected[reach, :]
    of_mean = float(on_axis.sum()) / length  # variance that point noise leaves in a line's mean
    line = (noise.line_noise_adu * float((1 / sigma).mean())) ** 2
    point = (residual - means) / math.sqrt(1 - of_mean)
    return ResidualTests(
        variance=float(point.square().mean()),
        autocorrelation_error=_autocorrelation_error(point, expected),
        line_ratio=float(means.std()) / math.sqrt(line + of_mean),
    )


def autocorrelation(frames: Tensor, reach: int) -> Tensor:
    """Mean product of pixels by lag, 1 in the middle; (B,1,H,W) -> (2*reach+1, 2*reach+1)."""
    rows, columns = frames.shape[-2:]
    steps = range(-reach, reach + 1)
    found = torch.empty(len(steps), len(steps), dtype=frames.dtype)
    for dy in steps:
        for dx in steps:
            here = frames[..., max(0, -dy) : rows - max(0, dy), max(0, -dx) : columns - max(0, dx)]
            there = frames[..., max(0, dy) : rows + min(0, dy), max(0, dx) : columns + min(0, dx)]
            found[dy + reach, dx + reach] = (here * there).mean()
    return found / frames.square().mean()


def _autocorrelation_error(point: Tensor, expected: Tensor) -> float:
    """Over the calibrated lags, and over the eight neighbours even where noise should be white."""
    if expected.shape[0] == 1:
        expected = functional.pad(expected, (1, 1, 1, 1))
    found = autocorrelation(point, expected.shape[0] // 2)
    return float((found - expected).abs().max())
