"""A calibration as tensors that a graph takes as inputs: another calibration needs no rebuild."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from scgn.calibration import Calibration, neighbours_of_defects
from scgn.defects import REACH
from scgn.noise import NoiseModel

WINDOWS = tuple(2 * radius + 1 for radius in range(1, REACH + 1))  # px: 3, 5, 7


@dataclass(frozen=True)
class References:
    """Inputs of a graph beside the frame, for frames of (H,W); float32 but for `source`.

    dark: (H,W) counts; gain: (H,W), to multiply with, 0 where a pixel is defective; fill: (3,H,W),
    share of the mean over each window of WINDOWS that a defect takes; source: (H,W) int32, flat
    index of the pixel each one copies: its own, but where a defect has no good pixel in any window.

    noise_power: (H,W//2+1), power spectrum of the calibrated point noise, 1 on average over the
    whole plane; law: (6,), LAW; zeros where they are not known. Only graphs that know a stream take
    these two.
    """

    dark: Tensor
    gain: Tensor
    fill: Tensor
    source: Tensor
    noise_power: Tensor
    law: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        """What corrects a frame, in the order of `corrected`."""
        return self.dark, self.gain, self.fill, self.source

    def of(self, inputs: Iterable[str]) -> tuple[Tensor, ...]:
        """Those among the names of a graph's inputs, in their order."""
        return tuple(getattr(self, name) for name in inputs if name in NAMES)

    def to(self, device: torch.device, wide: torch.dtype = torch.float32) -> References:
        """A copy on a device; `wide` is the dtype of all but `source`."""
        kept = {"source": torch.int32}
        return References(
            **{name: getattr(self, name).to(device, kept.get(name, wide), copy=True)
               for name in NAMES}
        )  # fmt: skip


NAMES = tuple(field.name for field in fields(References))
# Of `law`, counts; line_rows, line_columns: deviation of the noise that a row, a column shares.
LAW = ("gain_adu_per_e", "read_noise_adu", "line_rows", "line_columns", "line_correlation", "known")


def references(calibration: Calibration | None, shape: tuple[int, int]) -> References:
    """Of a calibration of that shape, or those that change nothing."""
    dark = torch.zeros(shape)
    gain = torch.ones(shape)
    fill, source = np.zeros((len(WINDOWS), *shape), np.float32), np.arange(shape[0] * shape[1])
    if calibration is not None:
        dark = dark if calibration.dark is None else torch.from_numpy(calibration.dark.copy())
        gain = gain if calibration.gain is None else torch.from_numpy(calibration.gain.copy())
        gain[torch.from_numpy(calibration.mask)] = 0
        _fill(calibration.mask, fill, source)
    model = None if calibration is None else calibration.noise
    return References(
        dark, gain, torch.from_numpy(fill), torch.from_numpy(source.astype(np.int32)).view(shape),
        noise_power(model, shape), noise_law(model),
    )  # fmt: skip


def noise_power(model: NoiseModel | None, shape: tuple[int, int]) -> Tensor:
    """`noise_power` of References for frames of that shape, float32.

    A correlation cut short has negative powers: they become 0. One that reaches beyond a small
    frame comes in again at its other side, as everything does in a DFT.
    """
    (rows, columns), half = shape, shape[1] // 2 + 1
    if model is None:
        return torch.zeros(rows, half)
    lags = model.autocorrelation.astype(np.float64)
    down, right = _waves(rows, rows, lags.shape[0]), _waves(half, columns, lags.shape[1])
    power = (down @ lags @ right.T).real.clip(min=0)
    stands_for = np.full(half, 2.0)  # each column for its mirror as well, but for those that are it
    stands_for[0] = 1
    if columns % 2 == 0:
        stands_for[-1] = 1
    mean = power.mean(axis=0) @ stands_for / columns
    return torch.from_numpy((power / mean if mean > 0 else np.ones_like(power)).astype(np.float32))


def _waves(count: int, side: int, lags: int) -> NDArray[np.complex128]:
    """(count, lags): the first waves of a DFT over `side` px, at lags around 0."""
    places = np.arange(lags) - lags // 2
    waves: NDArray[np.complex128] = np.exp(-2j * np.pi / side * np.arange(count)[:, None] * places)
    return waves


def noise_law(model: NoiseModel | None) -> Tensor:
    """`law` of References."""
    if model is None:
        return torch.zeros(len(LAW))
    line = model.line_noise_adu
    lines = (line, 0.0) if model.line_axis == "row" else (0.0, line)
    return torch.tensor(
        (model.gain_adu_per_e, model.read_noise_adu, *lines, model.line_correlation, 1.0)
    )


def _fill(mask: NDArray[np.bool_], fill: NDArray[np.float32], source: NDArray[np.int64]) -> None:
    """Write each defect's window and share, or the far pixel that it copies."""
    good = torch.from_numpy(~mask).float()[None]
    left = mask.copy()
    for level, window in enumerate(WINDOWS):
        count = (_window_mean(good, window)[0] * window**2).round().numpy()
        here = left & (count > 0)
        fill[level][here] = window**2 / count[here]
        left &= ~here
    if left.any():
        defects, neighbours, _ = neighbours_of_defects(mask)
        far = left.ravel()[defects]
        source[defects[far]] = neighbours[far, 0]


def _window_mean(frames: Tensor, window: int) -> Tensor:
    """Mean over each window, zeros beyond the frame counted; (B,H,W) -> (B,H,W)."""
    return functional.avg_pool2d(frames[:, None], window, 1, window // 2)[:, 0]


def corrected(counts: Tensor, dark: Tensor, gain: Tensor, fill: Tensor, source: Tensor) -> Tensor:
    """Counts corrected for dark and gain, defects filled, as `scgn.denoise.Correction` does it.

    (B,H,W) -> (B,H,W). What a defect itself holds, NaN included, goes nowhere.
    """
    good = torch.where(gain == 0, torch.zeros_like(counts), (counts - dark) * gain)
    filled = good
    for level, window in enumerate(WINDOWS):
        filled = filled + fill[level] * _window_mean(good, window)
    flat = filled.flatten(1).index_select(1, source.flatten())
    return flat.view(counts.shape)
