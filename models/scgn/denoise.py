"""A frame's whole way through the network: correct, noise units, SCGN, back to counts."""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scgn.calibration import Calibration, neighbours_of_defects
from scgn.checkpoint import Checkpoint
from scgn.units import ATOM_MAP_PEAK, NoiseUnits, noise_units

SIDE_MIN = 4  # px; below, reflected windows and noise estimates have nothing to stand on


class FrameError(ValueError):
    """This frame cannot be denoised; the next one can. `reason` is the word it is counted under."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Correction:
    """A calibration on a device: (raw - dark) * gain, defects filled."""

    def __init__(self, calibration: Calibration, device: torch.device) -> None:
        self.id = calibration.id
        self.shape = calibration.shape
        self._dark = None if calibration.dark is None else _on(calibration.dark, device)
        self._gain = None if calibration.gain is None else _on(calibration.gain, device)
        self._defects = tuple(_on(a, device) for a in neighbours_of_defects(calibration.mask))

    def __call__(self, counts: Tensor) -> Tensor:
        """Corrected counts, (rows, columns) float32, of a raw frame of the calibration's shape.

        Raises FrameError `calibration_shape` for another shape (one row would broadcast silently).
        """
        if tuple(counts.shape) != self.shape:
            got = f"calibration {self.id} is for {self.shape}, frame is {tuple(counts.shape)}"
            raise FrameError("calibration_shape", got)
        corrected = counts if self._dark is None else counts - self._dark
        corrected = corrected if self._gain is None else corrected * self._gain
        defects, neighbours, weights = self._defects
        if len(defects) == 0:
            return corrected
        flat = corrected.flatten()
        filled = (flat[neighbours] * weights).sum(dim=1)
        return flat.index_copy(0, defects, filled).view_as(counts)


def _on(array: NDArray[np.generic], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)


class Denoiser:
    """One network on one device, for any calibration; the tensors of the last one are kept.

    Raises ValueError for a checkpoint that is not in noise units or counts.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.id = checkpoint.id
        self.device = device
        units = checkpoint.provenance.input_units
        if units not in ("noise", "counts"):
            raise ValueError(f"input_units must be 'noise' or 'counts', got {units!r}")
        self._noise_units = units == "noise"
        self._maps_atoms = checkpoint.provenance.target == "atom_map"
        # Channels last is what the convolutions want, on CPU and GPU alike.
        self._network = checkpoint.network.to(device)
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.correction = functools.lru_cache(maxsize=2)(self._correction)

    def _correction(self, calibration: Calibration) -> Correction:
        return Correction(calibration, self.device)

    @torch.inference_mode()
    def __call__(
        self, raw: NDArray[np.generic], calibration: Calibration | None = None
    ) -> NDArray[np.float32]:
        """Denoised counts, (rows, columns) float32, of one raw frame of any wire dtype.

        A network whose target is the atom map gives spots on black, 0..255, whatever the counts.

        Raises FrameError: `too_small` below SIDE_MIN pixels a side, `calibration_shape` when the
        calibration is for another, `non_finite` when the frame or the result holds NaN or infinity.
        """
        if raw.ndim != 2 or min(raw.shape) < SIDE_MIN:
            raise FrameError(
                "too_small", f"expected at least {SIDE_MIN} px a side, got {raw.shape}"
            )
        counts = torch.from_numpy(raw.astype(np.float32)).to(self.device)
        if calibration is not None:
            counts = self.correction(calibration)(counts)
        frames = counts[None, None]
        units = noise_units(frames)
        if not bool(torch.isfinite(units.level + units.scale).all()):
            raise FrameError("non_finite", "frame holds NaN or infinite values")
        result = self._forward(frames, units)
        if not bool(torch.isfinite(result.sum())):
            raise FrameError("non_finite", "network gave NaN or infinite values")
        return np.asarray(result[0, 0].cpu().numpy())

    def _forward(self, frames: Tensor, units: NoiseUnits) -> Tensor:
        if not self._noise_units:
            counts: Tensor = self._network(frames)
            return counts
        result: Tensor = self._network(units.enter(frames))
        return ATOM_MAP_PEAK * result if self._maps_atoms else units.leave(result)
