"""Where atoms sit: lattices, disordered packings, and fields of both with a front between them."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from scgn.simulate.atoms import Atoms

Floats = NDArray[np.float64]
PACKING_SIDE = 40.0  # in units of the smallest distance; periodic, so that any crop can wrap
MARGIN_PX = 24.0  # atoms just outside the frame still shine into it
KINDS = {"crystal": 0.2, "disordered": 0.2, "two_phase": 0.35, "edge": 0.2, "vacuum": 0.05}


class Sites(NamedTuple):
    """Atoms of one field: position (N,2) around the origin in px, amplitude (N,), species (N,)."""

    position: Floats
    amplitude: Floats
    species: NDArray[np.int64]

    def where(self, keep: NDArray[np.bool_]) -> Sites:
        """Those of a boolean (N,)."""
        return Sites(self.position[keep], self.amplitude[keep], self.species[keep])


NOTHING = Sites(np.zeros((0, 2)), np.zeros(0), np.zeros(0, np.int64))


def together(first: Sites, second: Sites) -> Sites:
    """Atoms of both."""
    return Sites(*(np.concatenate(pair) for pair in zip(first, second, strict=True)))


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


def quarter_turn(quarters: int) -> Floats:
    """2x2 rotation by quarter turns without rounding."""
    return np.linalg.matrix_power(np.array([[0.0, -1.0], [1.0, 0.0]]), quarters % 4)


def lattice(
    rng: np.random.Generator, spacing_px: float, reach_px: float, aligned: bool = False
) -> Sites:
    """A random oblique lattice covering +-reach_px.

    Square, hexagonal and oblique cells in any orientation, one or two atoms in the basis. aligned:
    its densest rows run exactly along the rows or the columns of the frame.
    """
    angle = math.radians(rng.choice([60.0, 90.0, rng.uniform(60, 120)]))
    ratio = rng.choice([1.0, rng.uniform(1.0, 1.5)])
    cell = np.array([[1.0, 0.0], [ratio * math.cos(angle), ratio * math.sin(angle)]])
    turn = rng.uniform(0, 2 * math.pi)
    quarters = math.floor(turn / (math.pi / 2))
    cell = spacing_px * cell @ (quarter_turn(quarters) if aligned else rotation(turn))
    count = math.ceil(1.5 * reach_px / spacing_px / math.sin(angle)) + 1
    index = np.stack(np.meshgrid(*[np.arange(-count, count + 1)] * 2), -1).reshape(-1, 2)
    points = (index + rng.random(2)) @ cell
    sites = Sites(points, np.ones(len(points)), np.zeros(len(points), np.int64))
    if rng.random() < 0.3:
        second = points + rng.choice([0.5, 1 / 3]) * (cell[0] + cell[1])
        faint = np.full(len(second), rng.uniform(0.3, 1.0))
        sites = together(sites, Sites(second, faint, np.ones(len(second), np.int64)))
    return sites.where(np.asarray((np.abs(sites.position) < reach_px).all(axis=1)))


def liquid(rng: np.random.Generator, spacing_px: float, reach_px: float) -> Sites:
    """A disordered packing covering +-reach_px, its columns of uneven weight."""
    unit = disordered_packing(int(rng.integers(0, 6)))
    unit = (unit + rng.uniform(0, PACKING_SIDE, 2)) % PACKING_SIDE - PACKING_SIDE / 2
    tiles = math.ceil(1.5 * reach_px / (spacing_px * PACKING_SIDE / 2))
    shifts = [(y, x) for y in range(-tiles + 1, tiles) for x in range(-tiles + 1, tiles)]
    points = np.concatenate([unit + np.array(s) * PACKING_SIDE for s in shifts]) * spacing_px
    points = points @ rotation(rng.uniform(0, 2 * math.pi))
    points = points[(np.abs(points) < reach_px).all(axis=1)]
    species = (rng.random(len(points)) < rng.choice([0.0, 0.3])).astype(np.int64)
    return Sites(points, rng.uniform(0.4, 1.3, len(points)), species)


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
    rng: np.random.Generator, spacing_px: float, reach_px: float, aligned: bool = False
) -> Sites:
    """One field around the origin: crystal, liquid, both with a front, a vacuum edge, or vacuum.

    aligned: a crystal, with or without a front, whose rows run along the frame's rows or columns.
    """
    kind = rng.choice(list(KINDS), p=list(KINDS.values()))
    kind = ("crystal", "two_phase")[int(rng.integers(2))] if aligned else kind
    crystal = lattice(rng, spacing_px, reach_px, aligned)
    loose = liquid(rng, spacing_px * rng.uniform(0.75, 1.0), reach_px)
    seed = int(rng.integers(2**32))
    ordered = front_distance(np.random.default_rng(seed), crystal.position, reach_px) < 0
    depth = front_distance(np.random.default_rng(seed), loose.position, reach_px)
    molten = depth > 0.5 * spacing_px
    if kind == "crystal":
        return crystal
    if kind == "disordered":
        return loose
    if kind == "two_phase":
        return together(crystal.where(ordered), loose.where(molten))
    if kind == "edge":
        return crystal.where(ordered) if rng.random() < 0.5 else loose.where(molten)
    return NOTHING


def wedge(rng: np.random.Generator, points: Floats, reach_px: float) -> Floats:
    """Relative thickness (N,) of a specimen that grows thicker along one direction, 0.4..1."""
    angle = rng.uniform(0, 2 * math.pi)
    along = points @ np.array([math.cos(angle), math.sin(angle)]) / (1.5 * reach_px)
    slope = float(rng.choice([0.0, rng.uniform(0, 0.6)]))
    return np.asarray(1 - slope * (0.5 + 0.5 * along.clip(-1, 1)))


def draw_atoms(
    rng: np.random.Generator,
    frame_count: int,
    side_px: int,
    spacing_range_px: tuple[float, float],
    aligned: bool = False,
) -> Atoms:
    """Atoms of `frame_count` independent fields, each side_px square; aligned as in draw_field."""
    fields = []
    low, high = np.log(spacing_range_px)
    spacings = np.exp(rng.uniform(low, high, frame_count))
    reach_px = side_px / 2 + MARGIN_PX
    for spacing in spacings:
        sites = draw_field(rng, float(spacing), reach_px, aligned)
        count = len(sites.position)
        points = sites.position + rng.normal(0, rng.uniform(0, 0.06) * spacing, (count, 2))
        there = rng.random(count) > rng.choice([0.0, 0.05])  # vacancies
        amplitude = sites.amplitude * there * wedge(rng, points, reach_px)
        sigma = spacing * rng.uniform(0.16, 0.32) * rng.uniform(0.9, 1.1, count)
        fields.append((points + side_px / 2, sigma, amplitude, sites.species))
    return atoms_of_fields(fields, spacings)


def atoms_of_fields(
    fields: list[tuple[Floats, Floats, Floats, NDArray[np.int64]]], spacings: Floats
) -> Atoms:
    """One batch from (position, sigma, amplitude, species) of each frame."""
    position, sigma, amplitude, species = (
        torch.from_numpy(np.concatenate(part)) for part in zip(*fields, strict=True)
    )
    frame = np.repeat(np.arange(len(fields)), [len(field[0]) for field in fields])
    return Atoms(
        torch.from_numpy(frame), position.float(), sigma.float(), amplitude.float(), species,
        torch.from_numpy(spacings.astype(np.float32)),
    )  # fmt: skip
