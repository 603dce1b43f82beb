"""SCGN rebuilt for compilers: BatchNorm folded, spectra as planes of real numbers, features small.

Features are held divided by a power of two and so exact: a spectrum's mean term is the
frame's mean times its side, which leaves half precision's range (65504) from 256 px on. Everything
that is linear does not notice; biases are divided, and what is not linear is told.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from scgn.dft import Frames, Spectrum
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

SCALE = 256.0  # for noise units up to SIDE px; four times that for counts, which are larger
SIDE = 1024


@dataclass(frozen=True)
class Form:
    """Of every layer. shape: (rows, columns) px; wide: dtype of statistics; scale: of features."""

    shape: tuple[int, int]
    wide: torch.dtype
    scale: float


def scale_of(shape: tuple[int, int], in_noise_units: bool) -> float:
    """Power of two that features are divided by: a spectrum's mean term grows with the side."""
    larger = math.ceil(math.log2(max(1.0, math.sqrt(shape[0] * shape[1]) / SIDE)))
    return SCALE * 2.0**larger * (1 if in_noise_units else 4)


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


def scaled(layer: nn.Conv2d, form: Form, norm: nn.BatchNorm2d | None = None) -> nn.Conv2d:
    """A convolution of scaled features with the BatchNorm behind it inside."""
    weight = layer.weight.detach().double()
    bias = torch.zeros(len(weight)).double() if layer.bias is None else layer.bias.detach().double()
    if norm is not None:
        scale, shift = norm_of(norm)
        weight, bias = weight * scale[:, None, None, None], bias * scale + shift
    return convolution(weight, bias / form.scale)


def plain(layer: nn.Conv2d) -> nn.Conv2d:
    """The same convolution without a bias, whatever the scale of its input."""
    return convolution(layer.weight.detach().double(), None)


class Gate(nn.Module):
    """Deviation weighting and its BatchNorm; (B,C,H,W) scaled -> the same."""

    shift: Tensor

    def __init__(self, original: DeviationWeighting, norm: nn.BatchNorm2d, form: Form) -> None:
        super().__init__()
        scale, shift = norm_of(norm)
        features = original.features
        weight = features.weight.detach().double() * scale[:, None, None, None]
        assert features.bias is not None
        self.features = convolution(weight, features.bias.detach().double() * scale / form.scale)
        self.gate = plain(original.gate)
        self.register_buffer("shift", (shift / form.scale)[:, None, None])
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        gated: Tensor = self.features(x) * torch.sigmoid(self.gate(self._deviation(x)))
        return gated + self.shift

    def _deviation(self, x: Tensor) -> Tensor:
        """`scgn.network.window_std` of the unscaled features, in float32 until its root."""
        padded = (
            functional.pad(x, (1, 1, 1, 1), mode="reflect").to(self.form.wide) * self.form.scale
        )
        mean, square = box_sum(padded) / 9, box_sum(padded * padded) / 9
        return (square - mean * mean).clamp(min=STD_EPSILON).sqrt().to(x.dtype)


class Bands(nn.Module):
    """Band weighting; (B,2C,H,K) scaled -> (B,2C,1,1) unscaled. The small layers stay wide."""

    WIDE = ("squeeze", "excite")
    squeeze: Tensor
    excite: Tensor

    def __init__(self, original: BandWeighting, form: Form) -> None:
        super().__init__()
        self.features = scaled(original.features, form)
        self.register_buffer("squeeze", original.squeeze.weight.detach().double()[:, :, 0, 0].T)
        self.register_buffer("excite", original.excite.weight.detach().double()[:, :, 0, 0].T)
        self.form = form

    def forward(self, spectrum: Tensor) -> Tensor:
        features = self.features(spectrum)
        average = features.to(self.form.wide).mean(dim=(-2, -1)) * self.form.scale
        maximum = features.amax(dim=(-2, -1)).to(self.form.wide) * self.form.scale
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
        self, original: FourierUnit, spectrum: Spectrum, frames: Frames, form: Form,
    ) -> None:  # fmt: skip
        super().__init__()
        self.spectrum, self.frames = spectrum, frames
        scale, shift = norm_of(original.norm)
        weight = original.mix.weight.detach().double() * scale[:, None, None, None]
        self.mix = convolution(weight[:, 2:], None)
        down = torch.linspace(0, 1, form.shape[0], dtype=torch.float64)[None, :, None]
        along = torch.linspace(0, 1, form.shape[1] // 2 + 1, dtype=torch.float64)[None, None, :]
        self.register_buffer("down", (weight[:, 0] * down + shift[:, None, None]) / form.scale)
        self.register_buffer("along", weight[:, 1] * along / form.scale)
        banded = original.band_weighting
        self.bands = None if banded is None else Bands(banded, form)
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

    def __init__(
        self, original: FrequencyBranch, norm: nn.BatchNorm2d, fourier: Fourier, form: Form
    ) -> None:
        super().__init__()
        self.features, self.merge = (
            scaled(original.features, form),
            scaled(original.merge, form, norm),
        )
        self.fourier = fourier

    def forward(self, x: Tensor) -> Tensor:
        merged: Tensor = self.merge(torch.cat((x, self.fourier(self.features(x))), dim=1))
        return merged


class RealUnit(nn.Module):
    """One step of both branches."""

    def __init__(
        self, original: Unit, transforms: tuple[Spectrum, Frames], form: Form,
    ) -> None:  # fmt: skip
        super().__init__()
        spatial, frequency = original.spatial, original.frequency
        self.spatial: nn.Module
        self.frequency: nn.Module
        if isinstance(spatial, DeviationWeighting):
            self.spatial = Gate(spatial, original.spatial_norm, form)
        else:
            self.spatial = scaled(spatial, form, original.spatial_norm)
        if isinstance(frequency, FrequencyBranch):
            fourier = Fourier(frequency.fourier_unit, *transforms, form)
            self.frequency = Frequency(frequency, original.frequency_norm, fourier, form)
        else:
            self.frequency = scaled(frequency, form, original.frequency_norm)

    def forward(self, spatial: Tensor, frequency: Tensor) -> tuple[Tensor, Tensor]:
        return torch.relu(self.spatial(spatial)), torch.relu(self.frequency(frequency))


class RealBlock(nn.Module):
    """Two units, the skip, the fusing convolution; (B,C,H,W) scaled -> the same."""

    def __init__(
        self, original: Block, transforms: tuple[Spectrum, Frames], form: Form,
    ) -> None:  # fmt: skip
        super().__init__()
        self.unit1 = RealUnit(original.unit1, transforms, form)
        self.unit2 = RealUnit(original.unit2, transforms, form)
        self.fuse = scaled(original.fuse, form)
        self.spatial = original.fuse.in_channels // 2

    def forward(self, x: Tensor) -> Tensor:
        spatial, frequency = self.unit2(*self.unit1(x[:, : self.spatial], x[:, self.spatial :]))
        fused: Tensor = self.fuse(x + torch.cat((spatial, frequency), dim=1))
        return fused


class RealSCGN(nn.Module):
    """SCGN between its first and last convolution, for frames of one shape.

    (B,inputs,H,W) in noise units or counts, in the features' dtype -> (B,1,H,W) of `wide`.
    """

    def __init__(self, original: SCGN, form: Form) -> None:
        super().__init__()
        # One copy of the matrices for all units.
        transforms = (Spectrum(*form.shape), Frames(*form.shape))
        head, tail = original.head, original.tail
        assert head.bias is not None
        assert tail.bias is not None
        self.head = convolution(
            head.weight.detach().double() / form.scale, head.bias.detach().double() / form.scale
        )
        self.blocks = nn.Sequential(
            *(RealBlock(block, transforms, form) for block in original.blocks)  # type: ignore[arg-type]
        )
        self.tail = scaled(tail, form)
        self.form = form

    def forward(self, given: Tensor) -> Tensor:
        features = self.head(given)
        result: Tensor = (
            self.tail(self.blocks(features) + features).to(self.form.wide) * self.form.scale
        )
        return result
