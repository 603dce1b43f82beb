"""What one draw gives: frames, both targets and the list of true atoms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scgn.simulate.atoms import Atoms


@dataclass(frozen=True)
class SimulatedBatch:
    """B frames of one simulated camera; frames are (B,1,H,W) float32.

    noisy, clean: counts with and without noise; atom_map: spots on black, 0..255; atoms: the true
    list; sign: (B,) +1 where atoms are brighter than their surroundings, -1 where darker, 0 where
    neither; beam: (B,1,1,1) counts of the empty beam; pixel_nm: (B,) nm per px; vacuum: (B,1,H,W)
    bool, True where no atom is near.
    """

    noisy: Tensor
    clean: Tensor
    atom_map: Tensor
    atoms: Atoms
    sign: Tensor
    beam: Tensor
    pixel_nm: Tensor
    vacuum: Tensor

    def to(self, device: torch.device) -> SimulatedBatch:
        """The same on a device."""
        return SimulatedBatch(**{name: value.to(device) for name, value in vars(self).items()})


def atom_sign(clean: Tensor, atoms: Atoms) -> Tensor:
    """(B,) sign of the contrast at the atoms of each frame; 0 below a quarter of its deviation."""
    side = clean.shape[-1]
    place = atoms.position_px.round().long()
    inside = ((place >= 0) & (place < side)).all(dim=1) & (atoms.amplitude > 0)
    frame, (row, column) = atoms.frame[inside], place[inside].T
    level = clean.mean(dim=(1, 2, 3))
    spread = clean.std(dim=(1, 2, 3)).clamp(min=1e-9)
    lift = (clean[frame, 0, row, column] - level[frame]) / spread[frame]
    count = torch.bincount(frame, minlength=len(clean)).clamp(min=1)
    mean = torch.zeros_like(level).index_add_(0, frame, lift) / count
    return torch.where(mean.abs() > 0.25, mean.sign(), torch.zeros_like(mean))
