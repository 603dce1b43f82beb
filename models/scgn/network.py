"""SCGN: statistical characteristic-guided denoising network (Li et al., CVPR 2026, section 3).

Two branches run side by side: a spatial one whose features are weighted by the local standard
deviation, and a frequency one whose spectrum is weighted band by band.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from scgn.sizes import Design, Residual, Size

STD_EPSILON = 1e-5  # variance floor of the published network


class Network(nn.Module, ABC):
    """What every architecture is: (B,inputs,H,W) -> (B,1,H,W), and the design it was built from.

    Of residual "stream" the input is what `scgn.stream.front` sees and the result the correction of
    its estimate; of the others both are frames.
    """

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.design = design

    @abstractmethod
    def start_flat(self) -> None:
        """Set the weights so that training starts from what the design already knows.

        That is the estimate, or else a frame of zeros: the level in noise units. At the
        doses that matter noise is 3..10 times the signal: a network that starts from the noisy
        frame spends its first hundreds of steps on learning to subtract its own input.
        """


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """A context without autocast where there is one; outside of autocast it does nothing."""
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def widened(x: Tensor) -> Tensor:
    """The same values in float32 at least; (..., any float dtype) -> (..., float32 or float64)."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def window_std(x: Tensor) -> Tensor:
    """Standard deviation of each 3x3 window, reflect padded; (B,C,H,W) -> (B,C,H,W).

    Computed in float32 at least: E[x^2] - E[x]^2 loses every digit in half precision.
    """
    padded = functional.pad(widened(x), (1, 1, 1, 1), mode="reflect")
    mean = box_sum(padded) / 9
    mean_square = box_sum(padded * padded) / 9
    return (mean_square - mean * mean).clamp(min=STD_EPSILON).sqrt().to(x.dtype)


def box_sum(padded: Tensor) -> Tensor:
    """Sum of each 3x3 window, separable: twice as fast as pooling on a CPU; H and W shrink by 2."""
    rows = padded[..., :-2, :] + padded[..., 1:-1, :] + padded[..., 2:, :]
    return rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]


def coordinate_planes(like: Tensor) -> Tensor:
    """Vertical then horizontal coordinate, 0..1, as (1,2,H,W) of the dtype and device of `like`."""
    rows, columns = like.shape[-2:]
    vertical = torch.linspace(0, 1, rows, device=like.device, dtype=like.dtype)
    horizontal = torch.linspace(0, 1, columns, device=like.device, dtype=like.dtype)
    return torch.stack(torch.meshgrid(vertical, horizontal, indexing="ij")).unsqueeze(0)


class DeviationWeighting(nn.Module):
    """Features of a 3x3 convolution gated by the local deviation of their input; (B,C,H,W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = nn.Conv2d(channels, channels, 3, padding=1)
        self.gate = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weighted: Tensor = self.features(x) * torch.sigmoid(self.gate(window_std(x)))
        return weighted


class BandWeighting(nn.Module):
    """One weight in (0, 2) per spectral channel, from pooled averages and maxima; (B,C,1,1)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.features = nn.Conv2d(channels, channels, 3, padding=1)
        self.squeeze = nn.Conv2d(channels, hidden, 1, bias=False)
        self.excite = nn.Conv2d(hidden, channels, 1, bias=False)

    def _weights(self, pooled: Tensor) -> Tensor:
        return torch.sigmoid(self.excite(torch.relu(self.squeeze(pooled))))

    def forward(self, spectrum: Tensor) -> Tensor:
        features = self.features(spectrum)
        average = features.mean(dim=(-2, -1), keepdim=True)
        maximum = features.amax(dim=(-2, -1), keepdim=True)
        return self._weights(average) + self._weights(maximum)


class FourierUnit(nn.Module):
    """Convolution across the whole frame through its spectrum; (B,C,H,W) -> (B,C,H,W).

    Spectrum channels are interleaved (re0, im0, re1, im1, ...) behind two coordinate planes,
    as the published weights expect. All of it stays in the weights' float32 under autocast: a
    spectrum's mean term grows with the frame's side and leaves half precision's range.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        spectral = 2 * size.branch_channels
        self.mix = nn.Conv2d(spectral + 2, spectral, 1, bias=False)
        self.norm = nn.BatchNorm2d(spectral)
        bands = BandWeighting(spectral, size.attention_channels) if size.parts.band else None
        self.band_weighting = bands
        self.project = nn.Conv2d(spectral, spectral, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        with full_precision(x):
            weighted = self.project(self._banded(x.to(self.mix.weight.dtype)))
            frames = frame_of_spectrum(weighted, x.shape[-2], x.shape[-1])
        return frames.to(x.dtype)

    def _banded(self, x: Tensor) -> Tensor:
        """Mixed spectrum channels, each by its band weight where there are any; (B,2C,H,W//2+1)."""
        spectrum = interleaved_spectrum(x)
        planes = coordinate_planes(spectrum).expand(x.shape[0], -1, -1, -1)
        mixed = torch.relu(self.norm(self.mix(torch.cat((planes, spectrum), dim=1))))
        return mixed if self.band_weighting is None else mixed * self.band_weighting(mixed)


def interleaved_spectrum(x: Tensor) -> Tensor:
    """Orthonormal half spectrum with real and imaginary parts interleaved; -> (B,2C,H,W//2+1)."""
    spectrum = torch.fft.rfft2(widened(x), norm="ortho")
    parts = torch.stack((spectrum.real, spectrum.imag), dim=2)
    return parts.flatten(1, 2).to(x.dtype)


def frame_of_spectrum(spectrum: Tensor, rows: int, columns: int) -> Tensor:
    """Inverse of `interleaved_spectrum` for a frame of rows x columns."""
    wide = widened(spectrum)
    values = torch.complex(wide[:, 0::2].contiguous(), wide[:, 1::2].contiguous())
    frames: Tensor = torch.fft.irfft2(values, s=(rows, columns), norm="ortho")
    return frames


class FrequencyBranch(nn.Module):
    """Local features beside their Fourier-weighted copy; (B,C,H,W) -> (B,C,H,W)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        channels = size.branch_channels
        self.features = nn.Conv2d(channels, channels, 3, padding=1)
        self.fourier_unit = FourierUnit(size)
        self.merge = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        merged: Tensor = self.merge(torch.cat((x, self.fourier_unit(self.features(x))), dim=1))
        return merged


def plain_branch(size: Size) -> nn.Conv2d:
    """What stands in the place of a branch that is switched off; (B,C,H,W) -> (B,C,H,W)."""
    return nn.Conv2d(size.branch_channels, size.branch_channels, 3, padding=1)


class Unit(nn.Module):
    """One step of both branches, each with BatchNorm and ReLU."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        channels, parts = size.branch_channels, size.parts
        self.spatial = DeviationWeighting(channels) if parts.deviation else plain_branch(size)
        self.spatial_norm = nn.BatchNorm2d(channels)
        self.frequency = FrequencyBranch(size) if parts.frequency else plain_branch(size)
        self.frequency_norm = nn.BatchNorm2d(channels)

    def forward(self, spatial: Tensor, frequency: Tensor) -> tuple[Tensor, Tensor]:
        return (
            torch.relu(self.spatial_norm(self.spatial(spatial))),
            torch.relu(self.frequency_norm(self.frequency(frequency))),
        )


class Block(nn.Module):
    """Two units with a skip around both branches, then the fusing convolution; (B,C,H,W)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.unit1 = Unit(size)
        self.unit2 = Unit(size)
        self.fuse = nn.Conv2d(size.channels, size.channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        spatial_in, frequency_in = x.chunk(2, dim=1)
        spatial, frequency = self.unit2(*self.unit1(spatial_in, frequency_in))
        merged = torch.cat((spatial_in + spatial, frequency_in + frequency), dim=1)
        fused: Tensor = self.fuse(merged)
        return fused


class SCGN(Network):
    """The whole network; (B,inputs,H,W) float -> (B,1,H,W) float, any H and W of at least 2.

    residual "feature": as published, the tail's output is the result.
    residual "image": the tail's output is added to the input frame.
    residual "stream": it corrects the estimate of `scgn.stream`, whose channels the head sees.
    """

    def __init__(self, size: Size, residual: Residual = "image") -> None:
        super().__init__(Design("scgn", size, residual))
        self.size = size
        self.residual: Residual = residual
        self.head = nn.Conv2d(self.design.inputs, size.channels, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(size) for _ in range(size.blocks)))
        self.tail = nn.Conv2d(size.channels, 1, 3, padding=1)

    def forward(self, noisy: Tensor) -> Tensor:
        result = self._result(noisy)
        return noisy + result if self.residual == "image" else result

    def _result(self, given: Tensor) -> Tensor:
        features = self.head(given)
        result: Tensor = self.tail(self.blocks(features) + features)
        return result

    @torch.no_grad()
    def start_flat(self) -> None:
        """Start from zeros or the estimate: an image's tail takes away what its head keeps."""
        for value in self.tail.parameters():
            value.zero_()
        if self.residual == "image":
            # The last block's fuse comes last among its parameters: weight, then bias.
            fuse = list(self.blocks[-1].parameters())[-2:]
            for value in (*self.head.parameters(), *fuse):
                value[:1].zero_()
            self.head.weight[0, 0, 1, 1] = 1
            self.tail.weight[0, 0, 1, 1] = -1
