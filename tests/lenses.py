"""Lenses and films that tests of the optics share, in double precision."""

from __future__ import annotations

import torch
from torch import Tensor

from scgn.simulate.optics import Optics, frequencies

SIDE, PIXEL_A = 256, 0.25
LAMBDA_200_A = 0.0250793


def lens(
    voltage_kv=200.0, defocus_a=0.0, cs_a=0.0, spread_a=0.0, astigmatism_a=0.0, rad=0.0,
    convergence_rad=0.0,
):  # fmt: skip
    """One lens in double precision."""
    values = (voltage_kv, defocus_a, cs_a, spread_a, astigmatism_a, rad, convergence_rad)
    return Optics(*(torch.full((1, 1, 1), v, dtype=torch.float64) for v in values))


def pixel_a(value: float = PIXEL_A) -> Tensor:
    return torch.full((1, 1, 1), value, dtype=torch.float64)


def weak_film(rms_rad: float = 1e-4, side: int = SIDE) -> Tensor:
    """A white phase film, so that its spectrum has something at every frequency."""
    rng = torch.Generator().manual_seed(3)
    return rms_rad * torch.randn(1, side, side, generator=rng, dtype=torch.float64)


def grid(side: int = SIDE, step_a: float = PIXEL_A) -> tuple[Tensor, Tensor]:
    """Length (1/A) and angle (rad, from the horizontal towards higher rows) of each frequency."""
    vertical, horizontal = frequencies(side, torch.device("cpu"))
    return torch.hypot(vertical, horizontal).double() / step_a, torch.atan2(vertical, horizontal)
