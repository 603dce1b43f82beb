"""Noise units and the Wiener estimate without a complex number; what `scgn.units` and
`scgn.wiener` say, in constants made once for a shape."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scgn.dft import Frames, Spectrum
from scgn.wiener import BAND_MARGIN, NOISE_BAND, NOISE_ROLL_OFF, STRENGTH, TILT, WIDTH_BINS


def mirrored_columns(columns: int) -> Tensor:
    """How often each bin of the half spectrum stands in the whole one; (W//2+1,) float64."""
    times = torch.full((columns // 2 + 1,), 2.0, dtype=torch.float64)
    times[0] = 1
    if columns % 2 == 0:
        times[-1] = 1
    return times


def smoothing(bins: int, width_bins: float) -> Tensor:
    """Circular Gaussian average over the bins of one axis, (bins, bins) float64."""
    lags = torch.fft.fftfreq(bins, dtype=torch.float64)
    kernel: Tensor = torch.fft.ifft(torch.exp(-2 * (torch.pi * width_bins * lags) ** 2)).real
    place = torch.arange(bins)
    circulant: Tensor = kernel[(place[:, None] - place[None, :]) % bins]
    return circulant


class SmoothedPower(nn.Module):
    """`scgn.wiener.smoothed_spectrum` of half a power spectrum; (B,1,H,W//2+1)."""

    down: Tensor
    along: Tensor

    def __init__(self, rows: int, columns: int, width_bins: float) -> None:
        super().__init__()
        down = smoothing(rows, width_bins)
        opposite = (-torch.arange(rows)) % rows  # the row of the mirrored bin
        self.register_buffer("down", torch.stack((down, down[opposite])))
        along, half = smoothing(columns, width_bins), columns // 2 + 1
        mirror = torch.zeros(half, half, dtype=torch.float64)
        inner = torch.arange(1, half)[mirrored_columns(columns)[1:] == 2]
        mirror[inner] = along[(-inner) % columns][:, :half]
        self.register_buffer("along", torch.stack((along[:half, :half], mirror)))

    def forward(self, power: Tensor) -> Tensor:
        both = self.down @ power.unsqueeze(2)
        smooth: Tensor = (both @ self.along).sum(dim=2)
        return smooth.clamp(min=0)


def beside_axes(power: Tensor) -> Tensor:
    """Power with the spectrum's axes taken from their neighbours; (B,1,H,W//2+1)."""
    row = (power[..., 1:2, :] + power[..., -1:, :]) / 2
    rows = torch.cat((row, power[..., 1:, :]), dim=-2)
    first = rows[..., 1:2]
    mirror = torch.cat((first[..., :1, :], first[..., 1:, :].flip(-2)), dim=-2)
    return torch.cat(((first + mirror) / 2, rows[..., 1:]), dim=-1)


class Estimate(nn.Module):
    """`scgn.wiener.wiener` of frames (B,1,H,W), as networks are trained on it."""

    beyond: Tensor
    noise: Tensor

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.spectrum, self.frames = Spectrum(rows, columns), Frames(rows, columns)
        self.smoothed = SmoothedPower(rows, columns, WIDTH_BINS)
        down = torch.fft.fftfreq(rows, dtype=torch.float64)
        along = torch.fft.fftfreq(columns, dtype=torch.float64)[: columns // 2 + 1]
        k2 = down[:, None] ** 2 + along**2
        beyond = (k2 > NOISE_BAND**2 + BAND_MARGIN).double() * mirrored_columns(columns)
        self.register_buffer("beyond", beyond / beyond.sum().clamp(min=1))
        rise = 1 + TILT * torch.exp(-0.5 * k2 / NOISE_ROLL_OFF**2)
        self.register_buffer("noise", STRENGTH * rise)

    def forward(self, frames: Tensor) -> Tensor:
        level = frames.mean(dim=(-2, -1), keepdim=True)
        pairs = self.spectrum(frames - level)
        power = pairs[:, :, 0] * pairs[:, :, 0] + pairs[:, :, 1] * pairs[:, :, 1]
        beside = beside_axes(power)
        smooth = self.smoothed(beside)
        noise = (power * self.beyond).sum(dim=(-2, -1), keepdim=True) * self.noise
        total = (smooth + (power - beside).clamp(min=0)).clamp(min=1e-30)
        kept = ((smooth - noise).clamp(min=0) / total).clamp(max=1)
        estimate: Tensor = level + self.frames(pairs * kept.unsqueeze(2))
        return estimate
