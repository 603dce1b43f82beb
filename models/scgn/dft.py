"""Discrete Fourier transforms as real matrix products: what every compiler has and none breaks at.

A spectrum is a pair: real parts and imaginary parts along an axis of two in front of the rows,
(B,C,2,H,W//2+1), half of it as `torch.fft.rfft2` gives, orthonormal. Exact for any H and W.
Axes up to DENSE are one product; longer ones that can be split as n1 x n2 take two (Cooley and
Tukey, 1965), the twiddle factors inside the second one's matrices.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

DENSE = 512  # longer axes are split: 4 sqrt(n) instead of n products a value

Sign = Literal[-1, 1]  # of the exponent: -1 forward, 1 back


def split_of(n: int, dense: int = DENSE) -> tuple[int, int]:
    """Factors n1 * n2 = n nearest to each other; (1, n) where one product is better."""
    if n <= dense:
        return 1, n
    n1 = max(f for f in range(1, math.isqrt(n) + 1) if n % f == 0)
    return (n1, n // n1) if 2 * (n1 + n // n1) < n else (1, n)


def waves(rows: Tensor, columns: Tensor, period: int, sign: Sign) -> tuple[Tensor, Tensor]:
    """cos and sin of sign 2 pi rows columns / period, (len(rows), len(columns)) float64.

    The product is reduced modulo the period first, in integers: large angles lose digits.
    """
    angle = (rows[:, None] * columns[None, :] % period).double() * (2 * math.pi / period)
    return angle.cos(), sign * angle.sin()


def as_real(re: Tensor, im: Tensor) -> Tensor:
    """The complex matrix (...,M,N) as the real (...,2M,2N) that acts on stacked (re; im)."""
    return torch.cat((torch.cat((re, -im), -1), torch.cat((im, re), -1)), -2)


class RowTransform(nn.Module):
    """Complex transform along the rows of pairs; (B,C,2,H,K) -> (B,C,2,H,K)."""

    first: Tensor
    second: Tensor

    def __init__(self, rows: int, sign: Sign, dense: int = DENSE) -> None:
        super().__init__()
        self.n1, self.n2 = split_of(rows, dense)
        k1, k2 = torch.arange(self.n1), torch.arange(self.n2)
        norm = 1 / math.sqrt(rows)
        if self.n1 == 1:
            first, second = None, as_real(*waves(k2, k2, rows, sign)) * norm
        else:
            first = as_real(*waves(k1, k1, self.n1, sign))
            # Bin k1 + n1 k2 of sample n2 within residue k1: (k1 + n1 k2) n2 / rows.
            bins = k1[:, None] + self.n1 * k2[None, :]
            parts = [as_real(*waves(row, k2, rows, sign)) for row in bins]
            second = torch.stack(parts) * norm
        self.register_buffer("first", first)
        self.register_buffer("second", second)

    def forward(self, pairs: Tensor) -> Tensor:
        batch, channels, _, rows, width = pairs.shape
        if self.n1 == 1:
            return (self.second @ pairs.flatten(2, 3)).view(pairs.shape)
        # Sample n2 * a + b lies at (a, b); the first product is over a.
        begun = self.first @ pairs.reshape(batch, channels, 2 * self.n1, self.n2 * width)
        parted = begun.view(batch, channels, 2, self.n1, self.n2, width).transpose(2, 3)
        done = self.second @ parted.reshape(batch, channels, self.n1, 2 * self.n2, width)
        ordered = done.view(batch, channels, self.n1, 2, self.n2, width).permute(0, 1, 3, 4, 2, 5)
        return ordered.reshape(batch, channels, 2, rows, width)


class ColumnSpectrum(nn.Module):
    """Real rows to half spectra; (B,C,H,W) -> (B,C,2,H,W//2+1)."""

    first: Tensor
    second: Tensor

    def __init__(self, columns: int, dense: int = DENSE) -> None:
        super().__init__()
        self.kept = columns // 2 + 1
        self.n1, self.n2 = split_of(columns, dense)
        k1, k2 = torch.arange(self.n1), torch.arange(self.n2)
        norm = 1 / math.sqrt(columns)
        if self.n1 == 1:
            first = None
            second = torch.stack(waves(k2, torch.arange(self.kept), columns, -1)) * norm
        else:
            self.bins = self.kept // self.n1 + 1  # of k2, enough for the half
            first = torch.cat(waves(k1, k1, self.n1, -1), dim=1)  # (n1, 2 n1)
            bins = k1[:, None] + self.n1 * torch.arange(self.bins)[None, :]
            # Rows times matrix: the transpose of what acts on a column.
            second = torch.stack([as_real(*waves(row, k2, columns, -1)).mT for row in bins]) * norm
        self.register_buffer("first", first)
        self.register_buffer("second", second)

    def forward(self, frames: Tensor) -> Tensor:
        if self.n1 == 1:
            return frames.unsqueeze(2) @ self.second
        batch, channels, rows, _ = frames.shape
        parted = frames.reshape(batch, channels, rows, self.n1, self.n2).transpose(3, 4)
        begun = parted @ self.first  # (B,C,H,n2, 2 n1)
        pairs = begun.view(batch, channels, rows, self.n2, 2, self.n1)
        by_residue = pairs.permute(0, 1, 5, 2, 4, 3)  # (B,C,k1,H,2,n2)
        done = by_residue.reshape(batch, channels, self.n1, rows, 2 * self.n2) @ self.second
        spread = done.view(batch, channels, self.n1, rows, 2, self.bins)
        ordered = spread.permute(0, 1, 4, 3, 5, 2)  # (B,C,2,H,k2,k1)
        return ordered.reshape(batch, channels, 2, rows, -1)[..., : self.kept]


class ColumnFrames(nn.Module):
    """Half spectra back to real rows; (B,C,2,H,W//2+1) -> (B,C,H,W).

    As irfft does: the other half is the mirror of this one, and the imaginary parts of the first
    bin and of an even length's last go nowhere.
    """

    first: Tensor
    second: Tensor

    def __init__(self, columns: int, dense: int = DENSE) -> None:
        super().__init__()
        self.kept, self.columns = columns // 2 + 1, columns
        self.n1, self.n2 = split_of(columns, dense)
        k1, k2 = torch.arange(self.n1), torch.arange(self.n2)
        norm = 1 / math.sqrt(columns)
        if self.n1 == 1:
            cosine, sine = waves(torch.arange(self.kept), k2, columns, 1)
            twice = torch.full((self.kept, 1), 2.0, dtype=torch.float64)
            twice[0] = 1
            if columns % 2 == 0:
                twice[-1] = 1
            first, second = None, torch.stack((cosine, -sine)) * twice * norm
        else:
            # Bin n2 * a + b (all bins, mirrored) lies at (a, b); the first product is over a.
            first = as_real(*waves(k1, k1, self.n1, 1)).mT
            places = k1[:, None] + self.n1 * k2[None, :]
            parts = []
            for row in places:  # only the real part of the result
                cosine, sine = waves(k2, row, columns, 1)
                parts.append(torch.cat((cosine, -sine), dim=0))  # (2 n2, n2)
            second = torch.stack(parts) * norm
        self.register_buffer("first", first)
        self.register_buffer("second", second)

    def forward(self, pairs: Tensor) -> Tensor:
        if self.n1 == 1:
            return (pairs @ self.second).sum(dim=2)
        batch, channels, _, rows, _ = pairs.shape
        whole = self._mirrored(pairs)
        # (B,C,2,H,a,b) -> (B,C,H,b, 2 a)
        parted = whole.view(batch, channels, 2, rows, self.n1, self.n2).permute(0, 1, 3, 5, 2, 4)
        begun = parted.reshape(batch, channels, rows, self.n2, 2 * self.n1) @ self.first
        split = begun.view(batch, channels, rows, self.n2, 2, self.n1)
        by_residue = split.permute(0, 1, 5, 2, 4, 3)  # (B,C,a',H,2,b)
        done = by_residue.reshape(batch, channels, self.n1, rows, 2 * self.n2) @ self.second
        return done.permute(0, 1, 3, 4, 2).reshape(batch, channels, rows, self.columns)

    def _mirrored(self, pairs: Tensor) -> Tensor:
        """All W bins from the half, as if each row were a real row's spectrum."""
        last = self.kept - 1 if self.columns % 2 == 0 else self.kept
        re, im = pairs[:, :, 0], pairs[:, :, 1]
        mirror_re, mirror_im = re[..., 1:last].flip(-1), -im[..., 1:last].flip(-1)
        whole_re = torch.cat((re, mirror_re), dim=-1)
        whole_im = torch.cat((im, mirror_im), dim=-1)
        return torch.stack((whole_re, whole_im), dim=2)


class Spectrum(nn.Module):
    """`rfft2(norm="ortho")` of (B,C,H,W) as pairs (B,C,2,H,W//2+1)."""

    def __init__(self, rows: int, columns: int, dense: int = DENSE) -> None:
        super().__init__()
        self.columns = ColumnSpectrum(columns, dense)
        self.rows = RowTransform(rows, -1, dense)

    def forward(self, frames: Tensor) -> Tensor:
        pairs: Tensor = self.rows(self.columns(frames))
        return pairs


class Frames(nn.Module):
    """`irfft2(norm="ortho")` of pairs (B,C,2,H,W//2+1); (B,C,H,W)."""

    def __init__(self, rows: int, columns: int, dense: int = DENSE) -> None:
        super().__init__()
        self.rows = RowTransform(rows, 1, dense)
        self.columns = ColumnFrames(columns, dense)

    def forward(self, pairs: Tensor) -> Tensor:
        frames: Tensor = self.columns(self.rows(pairs))
        return frames
