"""A frame's whole way through the network: correct, noise units, SCGN, back to counts."""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scgn.calibration import Calibration, neighbours_of_defects
from scgn.checkpoint import Checkpoint
from scgn.deploy.references import noise_law, noise_power
from scgn.stream.front import Front, Seen, State
from scgn.stream.state import LONGEST, empty_state
from scgn.units import ATOM_MAP_PEAK, NoiseUnits, noise_units

FRONTS_KEPT = 4  # shapes
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

    Called, it sees each frame alone; `series` gives one that remembers. Raises ValueError for a
    checkpoint that is not in noise units or counts.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.id = checkpoint.id
        self.device = device
        units = checkpoint.provenance.input_units
        if units not in ("noise", "counts"):
            raise ValueError(f"input_units must be 'noise' or 'counts', got {units!r}")
        self._noise_units = units == "noise"
        self._maps_atoms = checkpoint.provenance.target == "atom_map"
        self.temporal = checkpoint.network.design.residual == "stream"
        # Channels last is what the convolutions want, on CPU and GPU alike.
        self.network = checkpoint.network.to(device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.correction = functools.lru_cache(maxsize=2)(self._correction)
        self.front = functools.lru_cache(maxsize=FRONTS_KEPT)(self._front)

    def _correction(self, calibration: Calibration) -> Correction:
        return Correction(calibration, self.device)

    def _front(self, shape: tuple[int, int], dtype: str) -> Front:
        return Front(shape, dtype).float().to(self.device).requires_grad_(False)

    def series(self, longest: int = LONGEST) -> SeriesDenoiser:
        """A denoiser of one camera's frames in their order; ValueError for a network that cannot
        remember. longest: frames of its longest mean, 1 to 16.
        """
        if not self.temporal:
            raise ValueError(f"{self.id}: expected a temporal network, got one that sees one frame")
        return SeriesDenoiser(self, longest)

    @torch.inference_mode()
    def __call__(
        self, raw: NDArray[np.generic], calibration: Calibration | None = None
    ) -> NDArray[np.float32]:
        """Denoised counts, (rows, columns) float32, of one raw frame of any wire dtype.

        A network whose target is the atom map gives spots on black, 0..255, whatever the counts.

        Raises FrameError: `too_small` below SIDE_MIN pixels a side, `calibration_shape` when the
        calibration is for another, `non_finite` when the frame or the result holds NaN or infinity.
        """
        if self.temporal:
            return self.series(longest=1)(raw, calibration)
        _, frames = self.entered(raw, calibration)
        units = noise_units(frames)
        if not bool(torch.isfinite(units.level + units.scale).all()):
            raise FrameError("non_finite", "frame holds NaN or infinite values")
        return self.left(self._forward(frames, units))

    def entered(
        self, raw: NDArray[np.generic], calibration: Calibration | None
    ) -> tuple[Tensor, Tensor]:
        """Counts as sent and corrected, both (1,1,rows,columns) on the device; FrameError else."""
        if raw.ndim != 2 or min(raw.shape) < SIDE_MIN:
            raise FrameError(
                "too_small", f"expected at least {SIDE_MIN} px a side, got {raw.shape}"
            )
        counts = torch.from_numpy(raw.astype(np.float32)).to(self.device)
        frame = counts if calibration is None else self.correction(calibration)(counts)
        return counts[None, None], frame[None, None]

    def left(self, result: Tensor) -> NDArray[np.float32]:
        """A result (1,1,rows,columns) on the host; FrameError `non_finite`."""
        if not bool(torch.isfinite(result.sum())):
            raise FrameError("non_finite", "network gave NaN or infinite values")
        return np.asarray(result[0, 0].cpu().numpy())

    def _forward(self, frames: Tensor, units: NoiseUnits) -> Tensor:
        if not self._noise_units:
            counts: Tensor = self.network(frames)
            return counts
        result: Tensor = self.network(units.enter(frames))
        return ATOM_MAP_PEAK * result if self._maps_atoms else units.leave(result)


class SeriesDenoiser:
    """Frames of one camera, of one shape, in their order: what the service does, on plain arrays.

    seen: what the network saw of the last frame, in the means' coordinates (`scgn.stream.front`);
    facts: of the last frame, by name.
    """

    def __init__(self, denoiser: Denoiser, longest: int) -> None:
        if not 1 <= longest <= LONGEST:
            raise ValueError(f"longest: expected 1..{LONGEST} frames, got {longest}")
        self._denoiser, self._longest = denoiser, longest
        self._state: State | None = None
        self.seen: Seen
        self.facts: dict[str, float] = {}

    def reset(self) -> None:
        """Forget everything."""
        self._state = None

    @torch.inference_mode()
    def __call__(
        self, raw: NDArray[np.generic], calibration: Calibration | None = None
    ) -> NDArray[np.float32]:
        """Denoised counts, (rows, columns) float32; FrameError as `Denoiser`, and what was known
        stays.
        """
        denoiser = self._denoiser
        counts, frames = denoiser.entered(raw, calibration)
        if not bool(torch.isfinite(frames.sum())):
            raise FrameError("non_finite", "frame holds NaN or infinite values")
        shape = (raw.shape[0], raw.shape[1])
        front = denoiser.front(shape, raw.dtype.str)
        state = self._state
        if state is None or state.long.shape[-2:] != shape:
            state = State(*(part.to(denoiser.device) for part in empty_state(shape)))
        control = torch.tensor([[0.0, 1.0, float(self._longest), 0.0]], device=denoiser.device)
        known = None if calibration is None else self._noise_of(calibration, shape)
        seen, after, facts = front(counts, frames, known, control, state)
        there = front.corrected(seen, denoiser.network(seen.given))
        result = denoiser.left(front.back(there, seen))
        self._state = front.keep(after, (there, seen.long, seen.estimate), control)
        self.seen, self.facts = seen, {name: float(value) for name, value in facts.items()}
        return result

    def _noise_of(
        self, calibration: Calibration, shape: tuple[int, int]
    ) -> tuple[Tensor, Tensor] | None:
        model = calibration.noise
        if model is None:
            return None
        device = self._denoiser.device
        return noise_power(model, shape).to(device), noise_law(model).to(device)
