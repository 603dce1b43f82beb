"""A camera's noise as a power spectrum: of the stream's differences, a calibration, or one frame.

Point noise has a smooth spectrum N(k) (white, or falling with the detector's blur); noise that all
pixels of a column or of a row share lies on one axis of the spectrum alone. What is estimated:
N, and on each axis the lines' own power L, above N.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scgn.stream.grid import TINY, Grid, SmoothedPower, beside_axes, smoothing

WIDTH_BINS = 4.0  # of the average of the point noise's spectrum
LINE_BINS = 2.0  # of the average along an axis
# One frame alone: rings beyond what a specimen fills tell level and blur.
RINGS = ((0.36, 0.43), (0.43, 0.5), (0.55, 0.71))  # cycles/px; the third is the corners
BLUR_MAX_PX = 0.9
FLAT, LEAST = 1.3, 0.01  # of a spectrum: so much more in the first ring is a fall; of its end
LINE_CORRELATION = 0.4  # of neighbouring lines, where only one frame is known
LINES_BEYOND = 0.3  # cycles/px; on an axis, a specimen has no power there
MARGIN = 1e-6  # so that a bin right at a ring's edge is on one side in every precision


def axis_average(bins: int, times: int) -> Tensor:
    """Average along one axis of a spectrum of `bins` bins, the first (level) left out; (K,K).

    times: 2 where the axis is half of a mirrored one (columns), 1 for a whole one.
    """
    if times == 1:
        matrix = smoothing(bins, LINE_BINS)
    else:
        whole = smoothing(2 * (bins - 1) or 1, LINE_BINS)[:bins]
        matrix = whole[:, :bins].clone()
        mirror = torch.arange(bins, whole.shape[1])
        matrix[:, (whole.shape[1] - mirror)] += whole[:, mirror]
    matrix[:, 0] = 0
    sums: Tensor = matrix.sum(dim=1, keepdim=True).clamp(min=1e-12)
    return matrix / sums


class Noise(nn.Module):
    """Noise spectra of frames of one shape; powers are (B,1,H,W//2+1), counts^2."""

    along: Tensor
    down: Tensor
    ring0: Tensor
    ring1: Tensor
    ring2: Tensor
    far_on_row: Tensor
    far_on_column: Tensor

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        rows, columns = grid.shape
        self.smoothed = SmoothedPower(rows, columns, WIDTH_BINS)
        self.register_buffer("along", axis_average(columns // 2 + 1, 2))
        self.register_buffer("down", axis_average(rows, 1))
        self._rings()

    def _rings(self) -> None:
        k2, share = self.grid.radius2, self.grid.share
        off = 1 - (self.grid.on_row + self.grid.on_column)
        for index, (low, high) in enumerate(RINGS):
            inside = ((k2 > low**2 + MARGIN) & (k2 <= high**2 + MARGIN)).double() * share * off
            self.register_buffer(f"ring{index}", inside / inside.sum().clamp(min=TINY))
        far = (k2 > LINES_BEYOND**2 + MARGIN).double() * share
        for name in ("on_row", "on_column"):
            axis = getattr(self.grid, name)
            along = self.grid.horizontal if name == "on_row" else self.grid.vertical
            expected = 1 + 2 * LINE_CORRELATION * (2 * torch.pi * along).cos()
            part = far * axis * expected
            self.register_buffer(f"far_{name}", part / (part * expected).sum().clamp(min=TINY))

    def of_differences(self, power: Tensor) -> tuple[Tensor, Tensor]:
        """(N, L) of the mean power of frame differences, halved: the scene is not in it."""
        point = self.smoothed(beside_axes(power))
        excess = power - point
        row = (excess[..., :1, :] @ self.along.mT).clamp(min=0.0) * self.grid.on_row
        column = (self.down @ excess[..., :1]).clamp(min=0.0) * self.grid.on_column
        return point, row + column

    def width_px(self, point: Tensor) -> Tensor:
        """Sigma of the Gaussian blur whose noise has this spectrum's mean squared frequency, px; 0
        for white noise; (B,1,1,1).

        Power exp(-4 pi^2 s^2 k^2) has a mean k^2 of 1 / (4 pi^2 s^2); white noise on a grid 1/6.
        """
        grid = self.grid
        k2 = grid.mean(point * grid.radius2) / grid.mean(point).clamp(min=TINY)
        width2 = (1 / k2.clamp(min=1e-6) - 6) / (4 * torch.pi**2)
        return width2.clamp(min=0.0).sqrt()

    def of_calibration(self, noise: Tensor, law: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """(N, L) of a calibration (`scgn.deploy.references`) at the level of a frame, (B,1,1,1).

        noise: (H,W//2+1), mean 1; law: gain, read noise, row and column noise, correlation, known.
        """
        rows, columns = self.grid.shape
        gain, read, by_row, by_column, correlation = (law[i] for i in range(5))
        point = (gain * level.clamp(min=0.0) + read * read) * noise
        # A line's variance is that of a whole line: its power stands on one axis alone.
        beside = 1 + 2 * correlation * (2 * torch.pi * self.grid.horizontal).cos()
        below = 1 + 2 * correlation * (2 * torch.pi * self.grid.vertical).cos()
        along = rows * by_column * by_column * beside.clamp(min=0.0) * self.grid.on_row
        down = columns * by_row * by_row * below.clamp(min=0.0) * self.grid.on_column
        return point, (along + down).expand_as(point)

    def of_frame(self, power: Tensor, beside: Tensor) -> tuple[Tensor, Tensor]:
        """(N, L) of one frame's own power: the last resort. beside: a smooth average of it.

        What lies beyond CORNER is a floor; two RINGS tell how fast the rest falls with the
        detector's blur. A specimen with power there is taken for noise. Lines are taken to be like
        their neighbours (`LINE_CORRELATION`), as most cameras' are.
        """
        rings = (self.ring0, self.ring1, self.ring2)
        inner, outer, floor = ((power * ring).sum(dim=(-2, -1), keepdim=True) for ring in rings)
        k0, k1 = (((low + high) / 2) ** 2 for low, high in RINGS[:2])
        steepest = 4 * torch.pi**2 * BLUR_MAX_PX**2
        above = (inner - floor).clamp(min=0.0)
        rest = torch.maximum(outer - floor, LEAST * inner).clamp(min=TINY)
        fall = (above.clamp(min=TINY) / rest).log().div(k1 - k0).clamp(min=0.0, max=steepest)
        blurred = ((inner / floor.clamp(min=TINY) - FLAT) / FLAT).clamp(min=0.0, max=1.0)
        point = floor + blurred * above * (fall * (k0 - self.grid.radius2)).exp()
        # Never more than there is.
        most = self.grid.mean(power)
        point = point * (most / self.grid.mean(point).clamp(min=TINY)).clamp(max=1.0)
        excess = power - torch.maximum(beside, point)
        row = (excess * self.far_on_row).sum(dim=(-2, -1), keepdim=True).clamp(min=0.0)
        column = (excess * self.far_on_column).sum(dim=(-2, -1), keepdim=True).clamp(min=0.0)
        along = 1 + 2 * LINE_CORRELATION * (2 * torch.pi * self.grid.horizontal).cos()
        down = 1 + 2 * LINE_CORRELATION * (2 * torch.pi * self.grid.vertical).cos()
        return point, row * along * self.grid.on_row + column * down * self.grid.on_column
