"""The atoms (columns seen end-on) of a batch, and how they are drawn on a grid."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scgn.units import ATOM_MAP_PEAK

FOOTPRINT = (0.2, 1.0, 4.0)  # sigma of an atom map's spot: share of the spacing, least and most px


@dataclass(frozen=True)
class Atoms:
    """Atoms of a whole batch, N in all, those just outside the frames included.

    frame: (N,) index of the frame; position_px: (N,2) row and column, pixel centres at integers;
    sigma_px: (N,) where atoms are drawn as spots; amplitude: (N,) relative to a full column;
    species: (N,) 0 for the material's heavy site, 1 for its light one; spacing_px: (B,) nearest
    neighbours of each frame.
    """

    frame: Tensor
    position_px: Tensor
    sigma_px: Tensor
    amplitude: Tensor
    species: Tensor
    spacing_px: Tensor

    def to(self, device: torch.device) -> Atoms:
        """The same on a device."""
        return Atoms(**{name: value.to(device) for name, value in vars(self).items()})

    def of(self, frame: int) -> Atoms:
        """The atoms of one frame, which becomes frame 0."""
        mine = self.frame == frame
        return Atoms(
            torch.zeros_like(self.frame[mine]), self.position_px[mine], self.sigma_px[mine],
            self.amplitude[mine], self.species[mine], self.spacing_px[frame : frame + 1],
        )  # fmt: skip


def padded(values: Tensor, frame: Tensor, frame_count: int) -> Tensor:
    """(N,...) values by frame as (B, most of one frame, ...), zero where a frame has fewer."""
    order = torch.argsort(frame, stable=True)
    counts = torch.bincount(frame, minlength=frame_count)
    first = torch.cumsum(counts, 0) - counts
    place = torch.arange(len(frame), device=frame.device) - first[frame[order]]
    width = max(1, int(counts.max())) if frame_count else 1
    result = values.new_zeros(frame_count, width, *values.shape[1:])
    result[frame[order], place] = values[order]
    return result


def render(atoms: Atoms, weight: Tensor, sigma_px: Tensor, side_px: int) -> Tensor:
    """Sum of one Gaussian per atom, height = its weight; (B,side,side) float32.

    weight, sigma_px: (N,). A Gaussian is separable, so each frame is one matrix product:
    (side x atoms) (atoms x side).
    """
    count = len(atoms.spacing_px)
    parts = [padded(values, atoms.frame, count) for values in (atoms.position_px, weight, sigma_px)]
    if weight.device.type == "cuda":
        return _products(parts, side_px)
    # One by one on a CPU: padding to the fullest frame would cost more than it saves.
    full = torch.bincount(atoms.frame, minlength=count).tolist()
    each = ([part[i : i + 1, :most] for part in parts] for i, most in enumerate(full))
    return torch.cat([_products(one, side_px) for one in each])


def _products(parts: list[Tensor], side_px: int) -> Tensor:
    centre, height, sigma_px = parts
    pixels = torch.arange(side_px, dtype=torch.float32, device=height.device)
    away = (pixels - centre[..., None]) / sigma_px.clamp(min=1e-3)[:, :, None, None]
    profile = torch.exp(-0.5 * away.square())
    rows = profile[:, :, 0] * height[..., None]
    return torch.bmm(rows.transpose(1, 2), profile[:, :, 1])


def atom_map(atoms: Atoms, side_px: int) -> Tensor:
    """Spots on black, (B,1,side,side), 0..255: the paper's target. Vacant sites leave no spot."""
    share, least, most = FOOTPRINT
    sigma = (share * atoms.spacing_px).clamp(least, most)[atoms.frame]
    there = (atoms.amplitude > 0).float()
    return ATOM_MAP_PEAK * render(atoms, there, sigma, side_px).clamp(max=1)[:, None]


def vacuum(atoms: Atoms, side_px: int) -> Tensor:
    """(B,1,side,side) bool, True at least 1.5 spacings away from every atom."""
    there = (atoms.amplitude > 0).float()
    near = render(atoms, there, atoms.spacing_px[atoms.frame], side_px)
    return (near < 0.32)[:, None]  # exp(-1.5^2 / 2)
