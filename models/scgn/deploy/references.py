"""A calibration as tensors that a graph takes as inputs: another calibration needs no rebuild."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from scgn.calibration import Calibration, neighbours_of_defects
from scgn.defects import REACH

WINDOWS = tuple(2 * radius + 1 for radius in range(1, REACH + 1))  # px: 3, 5, 7
NAMES = ("dark", "gain", "fill", "source")


@dataclass(frozen=True)
class References:
    """Inputs of a graph beside the frame, for frames of (H,W); float32 but for `source`.

    dark: (H,W) counts; gain: (H,W), to multiply with, 0 where a pixel is defective; fill: (3,H,W),
    share of the mean over each window of WINDOWS that a defect takes; source: (H,W) int32, flat
    index of the pixel each one copies: its own, but where a defect has no good pixel in any window.
    """

    dark: Tensor
    gain: Tensor
    fill: Tensor
    source: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        """In the order of NAMES."""
        return self.dark, self.gain, self.fill, self.source


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
    return References(
        dark, gain, torch.from_numpy(fill), torch.from_numpy(source.astype(np.int32)).view(shape)
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
