"""The frequencies of one shape, and how its spectra are averaged: constants made once.

Spectra are half planes of pairs (B,1,2,H,W//2+1), orthonormal, as `scgn.dft` makes them; a power
spectrum is (B,1,H,W//2+1). The mean over a whole plane of a power spectrum is a variance.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scgn.dft import Frames, Spectrum

DENSE = 64  # one frame a time: on a CPU a split transform is five times faster at 256 px
TINY = 1e-30  # of a power in units of the noise


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
    """A periodogram averaged over a Gaussian of `width_bins`; the plane wraps around."""

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
        return smooth.clamp(min=0.0)


class Grid(nn.Module):
    """Transforms, frequencies and weights of frames of (rows, columns) px.

    vertical (H,1), horizontal (1,W//2+1): cycles/px; share (1,W//2+1): of the whole plane that a
    bin stands for, so that a sum over bins with it is a mean over the plane; level_row,
    level_column: 1 on the axis of the spectrum that holds what all rows share (a column's own
    value) and what all columns share, without their common bin.
    """

    vertical: Tensor
    horizontal: Tensor
    share: Tensor
    on_row: Tensor
    on_column: Tensor

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.shape = (rows, columns)
        self.spectrum = Spectrum(rows, columns, DENSE)
        self.frames = Frames(rows, columns, DENSE)
        half = columns // 2 + 1
        self.register_buffer("vertical", torch.fft.fftfreq(rows, dtype=torch.float64)[:, None])
        self.register_buffer("horizontal", torch.arange(half).double()[None] / columns)
        self.register_buffer("share", mirrored_columns(columns)[None] / (rows * columns))
        on_row, on_column = torch.zeros(2, rows, half, dtype=torch.float64)
        on_row[0, 1:], on_column[1:, 0] = 1, 1
        self.register_buffer("on_row", on_row)
        self.register_buffer("on_column", on_column)

    @property
    def radius2(self) -> Tensor:
        """Squared distance of each bin from zero frequency, (H,W//2+1) cycles^2/px^2."""
        return self.vertical * self.vertical + self.horizontal * self.horizontal

    def mean(self, power: Tensor) -> Tensor:
        """Mean over the whole plane of a power spectrum (B,1,H,W//2+1); (B,1,1,1)."""
        return (power * self.share).sum(dim=(-2, -1), keepdim=True)


def power_of(pairs: Tensor) -> Tensor:
    """Squared magnitude of a spectrum; (B,C,2,H,K) -> (B,C,H,K)."""
    return pairs[:, :, 0] * pairs[:, :, 0] + pairs[:, :, 1] * pairs[:, :, 1]


def beside_axes(power: Tensor) -> Tensor:
    """Power with the spectrum's axes taken from their neighbours; (B,1,H,W//2+1)."""
    row = (power[..., 1:2, :] + power[..., -1:, :]) / 2
    rows = torch.cat((row, power[..., 1:, :]), dim=-2)
    first = rows[..., 1:2]
    mirror = torch.cat((first[..., :1, :], first[..., 1:, :].flip(-2)), dim=-2)
    return torch.cat(((first + mirror) / 2, rows[..., 1:]), dim=-1)


def turned(pairs: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """A spectrum times exp(i phase), given as cosine and sine (B,1,H,K)."""
    re, im = pairs[:, :, 0], pairs[:, :, 1]
    return torch.stack((re * cosine - im * sine, re * sine + im * cosine), dim=2)


def phase(grid: Grid, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine, (B,1,H,K), of 2 pi (k . shift) for a shift of (B,1,1,1) px each.

    A spectrum times exp(i phase) is that of the frame read `shift` further on: f(x + shift).
    """
    down, along = 2 * torch.pi * grid.vertical * rows, 2 * torch.pi * grid.horizontal * columns
    c1, s1, c2, s2 = down.cos(), down.sin(), along.cos(), along.sin()
    return c1 * c2 - s1 * s2, s1 * c2 + c1 * s2
