"""Where atoms sit: lattices, disordered packings, and fields of both with a front between them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]
PACKING_SIDE = 40.0  # in units of the smallest distance; periodic, so that any crop can wrap
MARGIN_PX = 24.0  # atoms just outside the frame still shine into it


@dataclass(frozen=True)
class Atoms:
    """Atoms of a whole batch, N in all.

    frame: (N,) index of the frame; position_px: (N,2) row and column; sigma_px: (N,);
    amplitude: (N,) relative to a full atom.
    """

    frame: Tensor
    position_px: Tensor
    sigma_px: Tensor
    amplitude: Tensor


@cache
def disordered_packing(seed: int) -> Floats:
    """Random sequential packing: (N,2) positions at least 1 apart in a periodic square."""
    rng = np.random.default_rng(seed)
    cells: dict[tuple[int, int], list[tuple[float, float]]] = {}
    side = int(PACKING_SIDE)
    for y, x in rng.uniform(0, PACKING_SIDE, (9000, 2)):
        around = ((int(y) + dy, int(x) + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))
        near = (p for cy, cx in around for p in cells.get((cy % side, cx % side), ()))
        if all(_periodic_distance2(y - p[0], x - p[1]) >= 1 for p in near):
            cells.setdefault((int(y), int(x)), []).append((y, x))
    return np.array([p for cell in cells.values() for p in cell])


def _periodic_distance2(dy: float, dx: float) -> float:
    dy -= PACKING_SIDE * round(dy / PACKING_SIDE)
    dx -= PACKING_SIDE * round(dx / PACKING_SIDE)
    return dy * dy + dx * dx


def rotation(angle: float) -> Floats:
    """2x2 rotation by `angle` radians."""
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def lattice(rng: np.random.Generator, spacing_px: float, reach_px: float) -> tuple[Floats, Floats]:
    """Positions (N,2) and amplitudes (N,) of a random oblique lattice covering +-reach_px.

    Square, hexagonal and oblique cells in any orientation, one or two atoms in the basis.
    """
    angle = math.radians(rng.choice([60.0, 90.0, rng.uniform(60, 120)]))
    ratio = rng.choice([1.0, rng.uniform(1.0, 1.5)])
    cell = np.array([[1.0, 0.0], [ratio * math.cos(angle), ratio * math.sin(angle)]])
    cell = spacing_px * cell @ rotation(rng.uniform(0, 2 * math.pi))
    count = math.ceil(1.5 * reach_px / spacing_px / math.sin(angle)) + 1
    index = np.stack(np.meshgrid(*[np.arange(-count, count + 1)] * 2), -1).reshape(-1, 2)
    points = (index + rng.random(2)) @ cell
    amplitude = np.ones(len(points))
    if rng.random() < 0.3:
        second = points + rng.choice([0.5, 1 / 3]) * (cell[0] + cell[1])
        points = np.concatenate((points, second))
        amplitude = np.concatenate((amplitude, np.full(len(second), rng.uniform(0.3, 1.0))))
    keep = (np.abs(points) < reach_px).all(axis=1)
    return points[keep], amplitude[keep]


def liquid(rng: np.random.Generator, spacing_px: float, reach_px: float) -> tuple[Floats, Floats]:
    """Positions (N,2) and amplitudes (N,) of a disordered packing covering +-reach_px."""
    unit = disordered_packing(int(rng.integers(0, 6)))
    unit = (unit + rng.uniform(0, PACKING_SIDE, 2)) % PACKING_SIDE - PACKING_SIDE / 2
    tiles = math.ceil(1.5 * reach_px / (spacing_px * PACKING_SIDE / 2))
    shifts = [(y, x) for y in range(-tiles + 1, tiles) for x in range(-tiles + 1, tiles)]
    points = np.concatenate([unit + np.array(s) * PACKING_SIDE for s in shifts]) * spacing_px
    points = points @ rotation(rng.uniform(0, 2 * math.pi))
    points = points[(np.abs(points) < reach_px).all(axis=1)]
    return points, rng.uniform(0.4, 1.3, len(points))


def front_distance(rng: np.random.Generator, points: Floats, reach_px: float) -> Floats:
    """Signed distance (N,) of each point to a rough front: a line, or a nucleus' rim."""
    angle = rng.uniform(0, 2 * math.pi)
    along = points @ np.array([math.cos(angle), math.sin(angle)])
    across = points @ np.array([-math.sin(angle), math.cos(angle)])
    wave = 0.1 * reach_px * np.sin(across * rng.uniform(2, 6) / reach_px + rng.uniform(0, 6))
    if rng.random() < 0.5:
        return np.asarray(along + wave - rng.uniform(-0.5, 0.5) * reach_px)
    centre = rng.uniform(-0.5, 0.5, 2) * reach_px
    return np.asarray(np.hypot(*(points - centre).T) - rng.uniform(0.2, 0.9) * reach_px)


def draw_field(
    rng: np.random.Generator, spacing_px: float, reach_px: float
) -> tuple[Floats, Floats]:
    """One field around the origin: crystal, liquid, both with a front, a vacuum edge, or vacuum."""
    kind = rng.choice(5, p=[0.2, 0.2, 0.35, 0.2, 0.05])
    crystal, crystal_amplitude = lattice(rng, spacing_px, reach_px)
    loose, loose_amplitude = liquid(rng, spacing_px * rng.uniform(0.75, 1.0), reach_px)
    seed = int(rng.integers(2**32))
    ordered = front_distance(np.random.default_rng(seed), crystal, reach_px) < 0
    molten = front_distance(np.random.default_rng(seed), loose, reach_px) > 0.5 * spacing_px
    if kind == 0:
        return crystal, crystal_amplitude
    if kind == 1:
        return loose, loose_amplitude
    if kind == 2:
        return (
            np.concatenate((crystal[ordered], loose[molten])),
            np.concatenate((crystal_amplitude[ordered], loose_amplitude[molten])),
        )
    if kind == 3:
        if rng.random() < 0.5:
            return crystal[ordered], crystal_amplitude[ordered]
        return loose[molten], loose_amplitude[molten]
    return np.zeros((0, 2)), np.zeros(0)


def draw_atoms(
    rng: np.random.Generator, frame_count: int, side_px: int, spacing_range_px: tuple[float, float]
) -> Atoms:
    """Atoms of `frame_count` independent fields, each side_px square."""
    frames, positions, sigmas, amplitudes = [], [], [], []
    for frame in range(frame_count):
        spacing = float(np.exp(rng.uniform(*np.log(spacing_range_px))))
        points, amplitude = draw_field(rng, spacing, side_px / 2 + MARGIN_PX)
        points = points + rng.normal(0, rng.uniform(0, 0.06) * spacing, points.shape)
        amplitude = amplitude * (rng.random(len(points)) > rng.choice([0.0, 0.05]))  # vacancies
        sigma = spacing * rng.uniform(0.16, 0.32)
        frames.append(np.full(len(points), frame))
        positions.append(points + side_px / 2)
        sigmas.append(sigma * rng.uniform(0.9, 1.1, len(points)))
        amplitudes.append(amplitude)
    return Atoms(
        frame=torch.from_numpy(np.concatenate(frames)),
        position_px=torch.from_numpy(np.concatenate(positions)).float(),
        sigma_px=torch.from_numpy(np.concatenate(sigmas)).float(),
        amplitude=torch.from_numpy(np.concatenate(amplitudes)).float(),
    )
