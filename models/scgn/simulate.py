"""Simulated HRTEM frames: atoms of crystals and liquids, a moving front, counted electrons, noise.

One draw gives a noisy frame, its noise-free intensity (`clean`) and the noise it was made with.
Structure, imaging and detector are three separate steps, so that each can be replaced alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from scgn.structures import Atoms, draw_atoms


@dataclass(frozen=True)
class SimulatedBatch:
    """One batch; tensors are (B,1,H,W) float32 in counts of the simulated camera."""

    noisy: Tensor
    clean: Tensor


@dataclass(frozen=True)
class Recipe:
    """Ranges that frames are drawn from; each pair is (lowest, highest).

    spacing_px: nearest-neighbour distance of the atoms.
    dose_e_per_px: electrons per pixel of the empty beam, drawn log-uniformly.
    read_noise_e: additive Gaussian noise per pixel, electrons.
    line_noise: deviation of column (or row) noise relative to the pointwise noise.
    contrast: peak of one atom relative to the beam.
    """

    spacing_px: tuple[float, float] = (6.0, 18.0)
    dose_e_per_px: tuple[float, float] = (1.0, 40.0)
    read_noise_e: tuple[float, float] = (0.0, 2.0)
    line_noise: tuple[float, float] = (0.0, 1.2)
    contrast: tuple[float, float] = (0.2, 0.8)


def render(atoms: Atoms, frame_count: int, side_px: int) -> Tensor:
    """Sum of one Gaussian per atom; (B,1,side,side), height = the atom's amplitude.

    A Gaussian is separable, so each frame is one matrix product: (side x atoms) (atoms x side).
    """
    pixels = torch.arange(side_px, dtype=torch.float32)
    frames = torch.zeros(frame_count, 1, side_px, side_px)
    for index in range(frame_count):
        mine = atoms.frame == index
        distance = pixels - atoms.position_px[mine][..., None]  # (N, 2, side)
        profile = torch.exp(-0.5 * (distance / atoms.sigma_px[mine][:, None, None]) ** 2)
        frames[index, 0] = (profile[:, 0] * atoms.amplitude[mine][:, None]).T @ profile[:, 1]
    return frames


def background(rng: np.random.Generator, frame_count: int, side_px: int) -> Tensor:
    """Slow relative variation of the support film, about -0.1..0.1; (B,1,side,side)."""
    cells = int(rng.integers(3, 7))
    coarse = torch.from_numpy(rng.normal(0, 1, (frame_count, 1, cells, cells)).astype(np.float32))
    smooth = functional.interpolate(coarse, (side_px, side_px), mode="bicubic", align_corners=True)
    strength = torch.from_numpy(rng.uniform(0, 0.05, (frame_count, 1, 1, 1)).astype(np.float32))
    return smooth * strength


def line_noise(rng: np.random.Generator, frame_count: int, side_px: int) -> Tensor:
    """Unit-variance noise shared by a whole column or a whole row; (B,1,side,side) broadcastable.

    Neighbouring lines are correlated by 0..0.4, redrawn for each frame.
    """
    white = rng.normal(0, 1, (frame_count, side_px + 1))
    blend = rng.uniform(0, 0.5, (frame_count, 1))
    mixed = white[:, 1:] + blend * white[:, :-1]
    lines = torch.from_numpy((mixed / np.sqrt(1 + blend**2)).astype(np.float32))
    along_columns = torch.from_numpy(rng.random(frame_count) < 0.5)[:, None, None, None]
    shape = (frame_count, 1, side_px, side_px)
    by_column = lines[:, None, None, :].expand(shape)
    by_row = lines[:, None, :, None].expand(shape)
    return torch.where(along_columns, by_column, by_row)


def log_uniform(rng: np.random.Generator, bounds: tuple[float, float], count: int) -> Tensor:
    """(count,1,1,1) values with a uniform logarithm."""
    values = np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]), (count, 1, 1, 1)))
    return torch.from_numpy(values.astype(np.float32))


def uniform(rng: np.random.Generator, bounds: tuple[float, float], count: int) -> Tensor:
    """(count,1,1,1) uniform values."""
    return torch.from_numpy(rng.uniform(*bounds, (count, 1, 1, 1)).astype(np.float32))


def detect(rng: np.random.Generator, electrons: Tensor, recipe: Recipe) -> Tensor:
    """Expected electrons -> one noisy frame in electrons: shot, read and line noise."""
    count, side = electrons.shape[0], electrons.shape[-1]
    read_noise_e = uniform(rng, recipe.read_noise_e, count)
    shot = torch.from_numpy(rng.poisson(electrons.numpy()).astype(np.float32))
    read = torch.from_numpy(rng.standard_normal(electrons.shape, dtype=np.float32)) * read_noise_e
    level = electrons.mean(dim=(-2, -1), keepdim=True)
    point_sigma = (level + read_noise_e**2).sqrt()
    line_sigma = uniform(rng, recipe.line_noise, count) * point_sigma
    # Half of all cameras have none to speak of.
    line_sigma *= torch.from_numpy(rng.random((count, 1, 1, 1)) < 0.5)
    return shot + read + line_sigma * line_noise(rng, count, side)


def simulate(
    rng: np.random.Generator, frame_count: int, side_px: int, recipe: Recipe
) -> SimulatedBatch:
    """A batch of independent square frames; the same generator state gives the same batch."""
    atoms = draw_atoms(rng, frame_count, side_px, recipe.spacing_px)
    contrast = uniform(rng, recipe.contrast, frame_count)
    sign = torch.from_numpy(rng.choice(np.array([-1, 1], np.float32), (frame_count, 1, 1, 1)))
    pattern = sign * contrast * render(atoms, frame_count, side_px)
    relative = (1 + pattern + background(rng, frame_count, side_px)).clamp(min=0.02)
    clean = log_uniform(rng, recipe.dose_e_per_px, frame_count) * relative
    noisy = detect(rng, clean, recipe)
    gain_adu_per_e = log_uniform(rng, (1.0, 100.0), frame_count)
    return SimulatedBatch(noisy=noisy * gain_adu_per_e, clean=clean * gain_adu_per_e)
