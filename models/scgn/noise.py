"""How one camera's noise grows with its signal: the model that calibration finds and detectors use.

    y[i,j] = s[i,j] + p[i,j] + c[line]
    p ~ N(0, point_sigma(s)^2) per pixel, c ~ N(0, line_noise^2)

(Li et al., CVPR 2026, section 3.1; the physical law of the point noise is photon transfer). All in
counts (ADU) of a frame corrected for dark and gain. Nothing here needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Axis = Literal["column", "row"]
WHITE = np.ones((1, 1), np.float32)


@dataclass(frozen=True, eq=False)
class NoiseModel:
    """Noise of one camera mode.

    gain_adu_per_e: variance per count of signal, which is counts per electron where each electron
    gives the same charge, or 0 where it was not measured; read_noise_adu: deviation of the point
    noise at zero signal; line_noise_adu: deviation of the noise that a whole line shares, redrawn
    each frame; line_axis: `column` when columns share it, `row` when rows do; line_correlation: of
    neighbouring lines, -1..1; autocorrelation: (2R+1, 2R+1) float32 of the point noise, 1 in the
    middle, (1,1) = white.
    """

    gain_adu_per_e: float
    read_noise_adu: float
    line_noise_adu: float = 0.0
    line_axis: Axis = "column"
    line_correlation: float = 0.0
    autocorrelation: NDArray[np.float32] = field(default_factory=WHITE.copy)

    def point_sigma(self, signal: Any) -> Any:
        """Deviation of the point noise, counts, at a signal in counts (any shape)."""
        variance = self.read_noise_adu**2 + self.gain_adu_per_e * np.maximum(signal, 0)
        return np.sqrt(variance)
