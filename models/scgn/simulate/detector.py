"""From expected electrons to counts: shot noise, blur, gain, read and line noise, clipping."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scgn.noise import NoiseModel
from scgn.simulate.optics import frequencies

Rng = np.random.Generator


@dataclass(frozen=True)
class Detector:
    """One camera per frame of a batch; every tensor (B,1,1,1) unless said otherwise.

    gain_adu_per_e; read_noise_adu: deviation per pixel; line_noise_adu: deviation of a whole line;
    line_blend: how much of its neighbour each line repeats; along_columns: whether columns share
    it, else rows; signal_transfer, noise_transfer: what the point spread does to signal and point
    noise, (B,1,H,W//2+1), None for nothing; response: relative deviation that the gain reference
    leaves; hot_share: of pixels; clips: whether counts below 0 are lost; whole: rounded.
    """

    gain_adu_per_e: Tensor
    read_noise_adu: Tensor
    line_noise_adu: Tensor
    line_blend: Tensor
    along_columns: Tensor
    signal_transfer: Tensor | None
    noise_transfer: Tensor | None
    response: Tensor
    hot_share: Tensor
    clips: Tensor
    whole: bool = True

    def to(self, device: torch.device) -> Detector:
        """The same on a device."""
        moved: dict[str, Any] = {
            k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)
        }
        return replace(self, **moved)


def column(values: Any) -> Tensor:
    """(B,) numbers as a (B,1,1,1) float32 tensor."""
    return torch.from_numpy(np.asarray(values, np.float32)).view(-1, 1, 1, 1)


def uniform(rng: Rng, bounds: tuple[float, float], count: int) -> Tensor:
    """(count,1,1,1) uniform values."""
    return column(rng.uniform(*bounds, count))


def log_uniform(rng: Rng, bounds: tuple[float, float], count: int) -> Tensor:
    """(count,1,1,1) values with a uniform logarithm."""
    return column(np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]), count)))


def sometimes(rng: Rng, share: float, count: int) -> Tensor:
    """(count,1,1,1) of 1 with probability `share`, else 0."""
    return column(rng.random(count) < share)


def gaussian_mtf(sigma_px: Tensor, side_px: int) -> Tensor:
    """Transfer of a Gaussian point spread, (B,1,side,side//2+1), 1 at zero frequency."""
    vertical, horizontal = frequencies(side_px, sigma_px.device, half=True)
    k2 = vertical.square() + horizontal.square()
    return torch.exp(-2 * math.pi**2 * sigma_px.square() * k2)


def filtered(frames: Tensor, transfer: Tensor | None) -> Tensor:
    """Frames (B,1,H,W) through a transfer function, periodic."""
    if transfer is None:
        return frames
    spectrum = torch.fft.rfft2(frames) * transfer
    result: Tensor = torch.fft.irfft2(spectrum, s=frames.shape[-2:])
    return result


def line_noise(detector: Detector, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Noise shared by whole lines, redrawn for each frame, (B,1,H,W) of the detector's deviation.

    Each line repeats a part of its neighbour: correlation blend / (1 + blend^2), 0.4 at 0.5.
    """
    count, side = shape[0], max(shape[-2:])
    white = torch.randn(count, 1, 1, side + 1, generator=generator, device=generator.device)
    mixed = white[..., 1:] + detector.line_blend * white[..., :-1]
    lines = detector.line_noise_adu * mixed / (1 + detector.line_blend.square()).sqrt()
    by_column = lines[..., : shape[-1]].expand(shape)
    by_row = lines.transpose(-1, -2)[..., : shape[-2], :].expand(shape)
    return torch.where(detector.along_columns > 0, by_column, by_row)


def hot_pixels(detector: Detector, like: Tensor, generator: torch.Generator) -> Tensor:
    """Counts that hot pixels add, (B,1,H,W): 5..50 deviations of the frame.

    One detector for a whole series has its hot pixels where they are.
    """
    shape = (len(detector.hot_share), *like.shape[1:])
    chance = torch.rand(shape, generator=generator, device=like.device)
    height = 5 + 45 * torch.rand(shape, generator=generator, device=like.device)
    return (chance < detector.hot_share) * height * like.std(dim=(-2, -1), keepdim=True)


def expose(
    detector: Detector, electrons: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """(noisy, clean), both (B,1,H,W) counts, of expected electrons per pixel (B,1,H,W).

    Point noise passes the noise's transfer, the signal its own: a scintillator has one for both.
    """
    arrived = torch.poisson(electrons, generator=generator)
    return read_out(detector, electrons, arrived, generator)


def read_out(
    detector: Detector, electrons: Tensor, arrived: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """(noisy, clean) as `expose` gives them, of electrons (B,1,H,W) whose arrivals are known."""
    gain = detector.gain_adu_per_e
    clean = gain * filtered(electrons, detector.signal_transfer).clamp(min=0)
    shot = gain * (arrived - electrons)
    noisy = clean + filtered(shot, detector.noise_transfer)
    normal = torch.randn(electrons.shape, generator=generator, device=electrons.device)
    pixels = (len(detector.response), *electrons.shape[1:])  # one response a detector
    response = torch.randn(pixels, generator=generator, device=electrons.device)
    noisy = noisy * (1 + detector.response * response) + detector.read_noise_adu * normal
    noisy = noisy + line_noise(detector, noisy.shape, generator)
    noisy = noisy + hot_pixels(detector, noisy, generator)
    noisy = noisy.round() if detector.whole else noisy
    return torch.where(detector.clips > 0, noisy.clamp(min=0), noisy), clean


def of_noise_model(noise: NoiseModel, frame_count: int, side_px: int) -> Detector:
    """The detector that a calibration describes, the same for every frame.

    Its read noise is taken as white and its shot noise as filtered, so that the point noise has
    the calibrated deviation at every signal and, above the read noise, its autocorrelation.
    """
    same = np.ones(frame_count, np.float32)
    blend = blend_of_correlation(noise.line_correlation)
    nothing = column(0 * same)
    return Detector(
        gain_adu_per_e=column(noise.gain_adu_per_e * same),
        read_noise_adu=column(noise.read_noise_adu * same),
        line_noise_adu=column(noise.line_noise_adu * same),
        line_blend=column(blend * same),
        along_columns=column(float(noise.line_axis == "column") * same),
        signal_transfer=None,
        noise_transfer=noise_transfer(noise, side_px),
        response=nothing, hot_share=nothing, clips=nothing, whole=False,
    )  # fmt: skip


def blend_of_correlation(correlation: float) -> float:
    """The blend b of line_noise with b / (1 + b^2) = correlation, which ends at +-0.5."""
    r = max(-0.4999, min(0.4999, correlation))
    return 2 * r / (1 + math.sqrt(1 - 4 * r * r))


def noise_transfer(noise: NoiseModel, side_px: int) -> Tensor | None:
    """Root of the power spectrum of the point noise, (1,1,side,side//2+1); None for white noise.

    A correlation cut short has negative powers: they become 0, and the mean stays 1.
    """
    kernel = torch.from_numpy(noise.autocorrelation.astype(np.float32))
    if kernel.numel() == 1:
        return None
    wrapped = torch.zeros(side_px, side_px)
    reach = kernel.shape[0] // 2
    wrapped[: kernel.shape[0], : kernel.shape[1]] = kernel
    power = torch.fft.fft2(wrapped.roll((-reach, -reach), (0, 1))).real.clamp(min=0)
    root: Tensor = (power / power.mean()).sqrt()
    return root[None, None, :, : side_px // 2 + 1]
