"""The published training set's recipe: Gaussian spots, Perlin background, the noise of figure 3.

(Li et al., CVPR 2026, section 4.1 and figure 3; all in 8-bit units, 256x256.) The target is the
atom map; the input is a background of about 89 with 37 more at each atom, then point noise
sigma = 1.377 + 0.0358 s and column noise sigma = 0.62, rounded and cut to 0..255.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from scgn.simulate.atoms import atom_map, render, vacuum
from scgn.simulate.batch import SimulatedBatch, atom_sign
from scgn.simulate.structures import draw_atoms

LEVEL, LIFT = 89.0, 37.0
BACKGROUND_SWING = 12.0
POINT_SIGMA, POINT_SLOPE, COLUMN_SIGMA = 1.377, 0.0358, 0.62
SPACING_PX = (11.0, 15.0)
SPOT_SIGMA_PX = 3.0


def perlin(rng: np.random.Generator, count: int, side_px: int, octaves: int = 3) -> Tensor:
    """Smooth value noise of several octaves in place of Perlin's, about -1..1; (B,1,side,side)."""
    total = torch.zeros(count, 1, side_px, side_px)
    for octave in range(octaves):
        cells = 3 * 2**octave
        coarse = rng.uniform(-1, 1, (count, 1, cells + 1, cells + 1)).astype(np.float32)
        total += 0.5**octave * functional.interpolate(
            torch.from_numpy(coarse), (side_px, side_px), mode="bicubic", align_corners=True
        )
    return total / 1.75


def simulate_paper(rng: np.random.Generator, frame_count: int, side_px: int) -> SimulatedBatch:
    """A batch of the published set's kind, 8-bit values as float32; one pixel counts as 0.02 nm."""
    atoms = draw_atoms(rng, frame_count, side_px, SPACING_PX)
    width = torch.full_like(atoms.sigma_px, SPOT_SIGMA_PX)
    spots = render(atoms, atoms.amplitude.clamp(max=1), width, side_px)[:, None].clamp(max=1)
    clean = LEVEL + LIFT * spots + BACKGROUND_SWING * perlin(rng, frame_count, side_px)
    point = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
    columns = torch.from_numpy(rng.standard_normal((frame_count, 1, 1, side_px), dtype=np.float32))
    noisy = clean + (POINT_SIGMA + POINT_SLOPE * clean) * point + COLUMN_SIGMA * columns
    ones = torch.ones(frame_count)
    return SimulatedBatch(
        noisy.round().clamp(0, 255), clean, atom_map(atoms, side_px), atoms,
        atom_sign(clean, atoms),
        LEVEL * ones.view(-1, 1, 1, 1), 0.02 * ones, vacuum(atoms, side_px),
    )  # fmt: skip
