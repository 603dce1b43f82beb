"""SCGN rebuilt for compilers: BatchNorm folded, spectra as planes of real numbers, features small.

Features are held divided by SCALE, a power of two and so exact: a spectrum's mean term is the
frame's mean times its side, which leaves half precision's range (65504) from 256 px on. Everything
that is linear does not notice; biases are divided, and what is not linear is told.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from scgn.deploy.dft import Frames, Spectrum
from scgn.network import (
    SCGN,
    STD_EPSILON,
    BandWeighting,
    Block,
    DeviationWeighting,
    FourierUnit,
    FrequencyBranch,
    Unit,
    box_sum,
)

SCALE = 256.0


def norm_of(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift of a BatchNorm in eval mode, per channel, float64."""
    state = {name: value.double() for name, value in norm.state_dict().items()}
    scale = state["weight"] / (state["running_var"] + norm.eps).sqrt()
    return scale, state["bias"] - state["running_mean"] * scale


def convolution(weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """A convolution of those (double) weights that keeps the frame's size."""
    outputs, inputs, side, _ = weight.shape
    layer = nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=bias is not None)
    layer.weight = nn.Parameter(weight)
    layer.bias = None if bias is None else nn.Parameter(bias)
    return layer


def scaled(layer: nn.Conv2d, norm: nn.BatchNorm2d | None = None) -> nn.Conv2d:
    """A convolution of scaled features with the BatchNorm behind it inside."""
    weight = layer.weight.detach().double()
    bias = torch.zeros(len(weight)).double() if layer.bias is None else layer.bias.detach().double()
    if norm is not None:
        scale, shift = norm_of(norm)
        weight, bias = weight * scale[:, None, None, None], bias * scale + shift
    return convolution(weight, bias / SCALE)


def plain(layer: nn.Conv2d) -> nn.Conv2d:
    """The same convolution without a bias, whatever the scale of its input."""
    return convolution(layer.weight.detach().double(), None)


class Gate(nn.Module):
    """Deviation weighting and its BatchNorm; (B,C,H,W) scaled -> the same."""

    shift: Tensor

    def __init__(
        self, original: DeviationWeighting, norm: nn.BatchNorm2d, wide: torch.dtype
    ) -> None:
        super().__init__()
        scale, shift = norm_of(norm)
        features = original.features
        weight = features.weight.detach().double() * scale[:, None, None, None]
        assert features.bias is not None
        self.features = convolution(weight, features.bias.detach().double() * scale / SCALE)
        self.gate = plain(original.gate)
        self.register_buffer("shift", (shift / SCALE)[:, None, None])
        self.wide = wide

    def forward(self, x: Tensor) -> Tensor:
        gated: Tensor = self.features(x) * torch.sigmoid(self.gate(self._deviation(x)))
        return gated + self.shift

    def _deviation(self, x: Tensor) -> Tensor:
        """`scgn.network.window_std` of the unscaled features, in float32 until its root."""
        padded = functional.pad(x, (1, 1, 1, 1), mode="reflect").to(self.wide) * SCALE
        mean, square = box_sum(padded) / 9, box_sum(padded * padded) / 9
        return (square - mean * mean).clamp(min=STD_EPSILON).sqrt().to(x.dtype)


class Bands(nn.Module):
    """Band weighting; (B,2C,H,K) scaled -> (B,2C,1,1) unscaled. The small layers stay wide."""

    WIDE = ("squeeze", "excite")
    squeeze: Tensor
    excite: Tensor

    def __init__(self, original: BandWeighting, wide: torch.dtype) -> None:
        super().__init__()
        self.features = scaled(original.features)
        self.register_buffer("squeeze", original.squeeze.weight.detach().double()[:, :, 0, 0].T)
        self.register_buffer("excite", original.excite.weight.detach().double()[:, :, 0, 0].T)
        self.wide = wide

    def forward(self, spectrum: Tensor) -> Tensor:
        features = self.features(spectrum)
        average = features.to(self.wide).mean(dim=(-2, -1)) * SCALE
        maximum = features.amax(dim=(-2, -1)).to(self.wide) * SCALE
        weights = self._weights(average) + self._weights(maximum)
        return weights.to(spectrum.dtype)[:, :, None, None]

    def _weights(self, pooled: Tensor) -> Tensor:
        return torch.sigmoid(torch.relu(pooled @ self.squeeze) @ self.excite)


class Fourier(nn.Module):
    """Fourier unit of frames of one shape; (B,C,H,W) scaled -> the same.

    Pairs (B,C,2,H,K) flattened are the published order of channels: re0, im0, re1, im1, ... The
    coordinate planes and BatchNorm's shift add one vector of rows and one of columns.
    """

    down: Tensor
    along: Tensor

    def __init__(
        self, original: FourierUnit, spectrum: Spectrum, frames: Frames, shape: tuple[int, int],
        wide: torch.dtype,
    ) -> None:  # fmt: skip
        super().__init__()
        self.spectrum, self.frames = spectrum, frames
        scale, shift = norm_of(original.norm)
        weight = original.mix.weight.detach().double() * scale[:, None, None, None]
        self.mix = convolution(weight[:, 2:], None)
        down = torch.linspace(0, 1, shape[0], dtype=torch.float64)[None, :, None]
        along = torch.linspace(0, 1, shape[1] // 2 + 1, dtype=torch.float64)[None, None, :]
        self.register_buffer("down", (weight[:, 0] * down + shift[:, None, None]) / SCALE)
        self.register_buffer("along", weight[:, 1] * along / SCALE)
        banded = original.band_weighting
        self.bands = None if banded is None else Bands(banded, wide)
        self.project = plain(original.project)

    def forward(self, x: Tensor) -> Tensor:
        pairs = self.spectrum(x)
        mixed = torch.relu(self.mix(pairs.flatten(1, 2)) + self.down + self.along)
        if self.bands is not None:
            mixed = mixed * self.bands(mixed)
        result: Tensor = self.frames(self.project(mixed).view(pairs.shape))
        return result


class Frequency(nn.Module):
    """Frequency branch and its BatchNorm; (B,C,H,W) scaled -> the same."""

    def __init__(self, original: FrequencyBranch, norm: nn.BatchNorm2d, fourier: Fourier) -> None:
        super().__init__()
        self.features, self.merge = scaled(original.features), scaled(original.merge, norm)
        self.fourier = fourier

    def forward(self, x: Tensor) -> Tensor:
        merged: Tensor = self.merge(torch.cat((x, self.fourier(self.features(x))), dim=1))
        return merged


class RealUnit(nn.Module):
    """One step of both branches."""

    def __init__(
        self, original: Unit, transforms: tuple[Spectrum, Frames], shape: tuple[int, int],
        wide: torch.dtype,
    ) -> None:  # fmt: skip
        super().__init__()
        spatial, frequency = original.spatial, original.frequency
        self.spatial: nn.Module
        self.frequency: nn.Module
        if isinstance(spatial, DeviationWeighting):
            self.spatial = Gate(spatial, original.spatial_norm, wide)
        else:
            self.spatial = scaled(spatial, original.spatial_norm)
        if isinstance(frequency, FrequencyBranch):
            fourier = Fourier(frequency.fourier_unit, *transforms, shape, wide)
            self.frequency = Frequency(frequency, original.frequency_norm, fourier)
        else:
            self.frequency = scaled(frequency, original.frequency_norm)

    def forward(self, spatial: Tensor, frequency: Tensor) -> tuple[Tensor, Tensor]:
        return torch.relu(self.spatial(spatial)), torch.relu(self.frequency(frequency))


class RealBlock(nn.Module):
    """Two units, the skip, the fusing convolution; (B,C,H,W) scaled -> the same."""

    def __init__(
        self, original: Block, transforms: tuple[Spectrum, Frames], shape: tuple[int, int],
        wide: torch.dtype,
    ) -> None:  # fmt: skip
        super().__init__()
        self.unit1 = RealUnit(original.unit1, transforms, shape, wide)
        self.unit2 = RealUnit(original.unit2, transforms, shape, wide)
        self.fuse = scaled(original.fuse)
        self.spatial = original.fuse.in_channels // 2

    def forward(self, x: Tensor) -> Tensor:
        spatial, frequency = self.unit2(*self.unit1(x[:, : self.spatial], x[:, self.spatial :]))
        fused: Tensor = self.fuse(x + torch.cat((spatial, frequency), dim=1))
        return fused


class RealSCGN(nn.Module):
    """SCGN between its first and last convolution, for frames of one shape.

    (B,inputs,H,W) in noise units or counts, in the features' dtype -> (B,1,H,W) of `wide`.
    """

    def __init__(self, original: SCGN, shape: tuple[int, int], wide: torch.dtype) -> None:
        super().__init__()
        transforms = (Spectrum(*shape), Frames(*shape))  # one copy of the matrices for all units
        head, tail = original.head, original.tail
        assert head.bias is not None
        assert tail.bias is not None
        self.head = convolution(
            head.weight.detach().double() / SCALE, head.bias.detach().double() / SCALE
        )
        self.blocks = nn.Sequential(
            *(RealBlock(block, transforms, shape, wide) for block in original.blocks)  # type: ignore[arg-type]
        )
        self.tail = scaled(tail)
        self.wide = wide

    def forward(self, given: Tensor) -> Tensor:
        features = self.head(given)
        result: Tensor = self.tail(self.blocks(features) + features).to(self.wide) * SCALE
        return result
