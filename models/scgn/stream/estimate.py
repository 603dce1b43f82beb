"""Wiener's filter with the noise's spectrum known: a classical denoiser that networks correct.

gain = S / (S + N), the linear filter of least mean square error (Wiener, 1949), S what a frame's
own smoothed spectrum has above the noise. On the two axes of the spectrum, where a camera's line
noise lies, a single bin that stands far above the lines' own power is the specimen's (a lattice
along the frame's sides, an edge); the level itself is never touched.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scgn.stream.grid import TINY, Grid, SmoothedPower, beside_axes

WIDTH_BINS = 2.5
MARGIN = 1.3  # times the noise: chance alone lifts a smoothed spectrum so far
PEAK_BINS, PEAK = 0.8, 3.0  # a lattice's peaks are narrow; chance lifts narrow averages further
LINE_PEAK = 8.0  # times the lines' own power


class Estimate(nn.Module):
    """Gains of frames of one shape; (B,1,H,W//2+1)."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.wide = SmoothedPower(*grid.shape, WIDTH_BINS)
        self.narrow = SmoothedPower(*grid.shape, PEAK_BINS)

    def forward(self, power: Tensor, point: Tensor, lines: Tensor) -> Tensor:
        """Share of each bin to keep, 0..1.

        power: of the frame less its level; point, lines: the noise's spectra (`scgn.stream.noise`).
        """
        beside = beside_axes(power)
        return self.gain(power, beside, self.wide(beside), point, lines)

    def gain(
        self, power: Tensor, beside: Tensor, smooth: Tensor, point: Tensor, lines: Tensor
    ) -> Tensor:
        """The same where `beside_axes` of the power and its wide average are there already."""
        wide = smooth - MARGIN * point
        narrow = self.narrow(beside) - PEAK * point
        signal = torch.maximum(wide, narrow).clamp(min=0.0)
        axes = self.grid.on_row + self.grid.on_column
        noise = point + lines
        signal = torch.maximum(signal, (power - LINE_PEAK * noise) * axes)
        return signal / (signal + noise).clamp(min=TINY)
