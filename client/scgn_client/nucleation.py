"""A movie to look at: a faceted crystal that grows into a liquid. Pure numpy, deterministic.

Every atom has two homes, a lattice site and a place in the liquid near it; which one it takes
depends on the front alone. So any frame can be had without the ones before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Points = NDArray[np.float64]  # (atoms, 2): row, column in px; or one number an atom

LATTICE_ANGLE = math.radians(70.53)  # between the close-packed rows of an fcc crystal along [110]
SIGMA_SPACINGS = 0.24
NUCLEUS_SPACINGS = 2.5
WINDOW_SIGMAS = 4.5
STRIP_ROWS = 32
DARKEST = 0.02  # a black atom may not ask for less than no light
PAIR_STEPS = (
    (0, 0),
    (0, 1),
    (1, -1),
    (1, 0),
    (1, 1),
)  # half of the neighbour cells: each pair once


def _rotation(angle: float) -> Points:
    return np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])


def neighbour_pairs(points: Points, cutoff: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Index pairs of every two points closer than `cutoff` (px), each pair once."""
    cells = np.floor((points - points.min(axis=0)) / cutoff).astype(np.intp) + 1
    width = int(cells[:, 1].max()) + 2
    flat = cells[:, 0] * width + cells[:, 1]
    order = np.argsort(flat, kind="stable")
    ranked = flat[order]
    deepest = int(np.bincount(flat).max())
    pairs = [
        _pairs_one_step(flat, order, ranked, row * width + column, depth)
        for row, column in PAIR_STEPS
        for depth in range(deepest)
    ]
    first, second = (np.concatenate(side) for side in zip(*pairs, strict=True))
    close = np.square(points[first] - points[second]).sum(axis=1) < cutoff**2
    return first[close], second[close]


def _pairs_one_step(
    flat: NDArray[np.intp], order: NDArray[np.intp], ranked: NDArray[np.intp], step: int, depth: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Each point with the `depth`-th point of the cell `step` further on."""
    place = np.searchsorted(ranked, flat + step) + depth
    first = np.flatnonzero(place < len(ranked))
    first = first[ranked[place[first]] == flat[first] + step]
    second = order[place[first]]
    keep = (first < second) if step == 0 else np.ones(len(first), bool)
    return first[keep], second[keep]


def pushed_apart(
    points: Points, sizes: Points, rounds: int, mobile: Points | None = None
) -> Points:
    """Points moved until hardly any two are closer than the mean of their sizes (px).

    sizes: (points,) px; mobile: (points,) how readily each one gives way, above 0, 1 when None.
    """
    moved = points.copy()
    yields = np.ones(len(points)) if mobile is None else mobile
    for turn in range(rounds):
        if turn % 8 == 0:
            first, second = neighbour_pairs(moved, 1.2 * float(sizes.max()))
        apart = moved[second] - moved[first]
        distance = np.maximum(np.hypot(apart[:, 0], apart[:, 1]), 1e-6)
        wanted = 0.5 * (sizes[first] + sizes[second])
        overlap = np.maximum(wanted / distance - 1, 0).clip(max=1)
        push = apart * (0.6 * overlap / (yields[first] + yields[second]))[:, None]
        for side, pushed in ((second, push), (first, -push)):
            for axis in (0, 1):
                weights = yields[side] * pushed[:, axis]
                moved[:, axis] += np.bincount(side, weights, minlength=len(moved))
    return moved


@dataclass(frozen=True)
class Nucleation:
    """A crystal that grows from one nucleus through a liquid, then melts back, for ever.

    shape: rows, columns; seed: another seed, another scene; growth_frames: frames from the nucleus
    until the crystal fills the field; spacing_px: distance of neighbours in px; contrast: of one
    atom relative to the background of 1; white: bright atoms on it, or dark ones.
    """

    shape: tuple[int, int] = (512, 512)
    seed: int = 0
    growth_frames: int = 1000
    spacing_px: float = 11.0
    contrast: float = 0.5
    white: bool = True
    _last: dict[int, Floats] = field(default_factory=dict, repr=False, compare=False)

    def expected(self, i: int) -> Floats:
        """Frame i as relative intensity, (rows, columns) float32, background 1; read-only."""
        cached = self._last.get(i)
        if cached is None:
            cached = self._render(*self._atoms(i))
            cached.setflags(write=False)
            self._last.clear()
            self._last[i] = cached
        return cached

    def crystalline_fraction(self, i: int) -> float:
        """Share (0..1) of the atoms in view that are on the crystal's side of the front."""
        inside = np.all((self._sites >= 0) & (self._sites < np.array(self.shape)), axis=1)
        return float(np.mean(self._crystallinity(i)[inside] > 0.5))

    def _rng(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, purpose])

    @cached_property
    def _layout(self) -> tuple[Points, Points]:
        """The nucleus' place (px) and the two lattice vectors (rows of a 2 x 2 array, px)."""
        rng = self._rng(0)
        nucleus = rng.uniform(0.38, 0.62, 2) * self.shape
        angle = rng.uniform(0, math.pi)
        directions = np.array([[0.0, 1.0] @ _rotation(angle + k * LATTICE_ANGLE) for k in (0, 1)])
        return nucleus, self.spacing_px * directions

    @cached_property
    def _sites(self) -> Points:
        """Lattice sites in view and a little around it, (atoms, 2) px."""
        nucleus, vectors = self._layout
        reach = math.ceil(1.3 * math.hypot(*self.shape) / self.spacing_px) + 4
        steps = np.arange(-reach, reach + 1)
        counts = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
        sites: Points = counts @ vectors + nucleus
        margin = 3 * self.spacing_px
        return sites[np.all((sites > -margin) & (sites < np.array(self.shape) + margin), axis=1)]

    @cached_property
    def _liquid(self) -> Points:
        """Each atom's place in the liquid, (atoms, 2) px."""
        rng = self._rng(1)
        start = self._sites + rng.normal(0, 0.45 * self.spacing_px, self._sites.shape)
        # Two sizes of atoms: equal ones would pack into a crystal by themselves.
        sizes = 0.97 * self.spacing_px * rng.choice([0.86, 1.14], len(start))
        return pushed_apart(start, sizes, rounds=48)

    @cached_property
    def _reach(self) -> Points:
        """Size at which the crystal reaches each site, (atoms,) px; facets along the dense rows."""
        nucleus, (first, second) = self._layout
        away = self._sites - nucleus
        theta = np.arctan2(away[:, 0], away[:, 1])
        rows = ((first, 1.0), (second, 1.0), (first - second, 1.12))
        facets = [
            np.abs(away @ np.array([-row[1], row[0]])) / np.hypot(*row) / size for row, size in rows
        ]
        rng = self._rng(2)
        bumps = sum(0.02 * np.sin(m * theta + rng.uniform(0, math.tau)) for m in range(2, 12))
        ragged = rng.normal(0, 0.35 * self.spacing_px, len(away))
        reach: Points = np.max(facets, axis=0) * (1 + bumps) + ragged
        return reach

    def _crystallinity(self, i: int) -> Points:
        """How far each atom has settled, (atoms,) from 0 (liquid) to 1 (on its site)."""
        turn = i % (2 * self.growth_frames) / self.growth_frames
        progress = turn if turn <= 1 else 2 - turn
        nucleus = NUCLEUS_SPACINGS * self.spacing_px
        size = nucleus + progress * (float(self._reach.max()) + self.spacing_px - nucleus)
        settled = np.clip((size - self._reach) / self.spacing_px, 0, 1)
        smooth: Points = settled * settled * (3 - 2 * settled)
        return smooth

    @cached_property
    def _motion(self) -> dict[str, Any]:
        """Random phases and periods of the atoms' own jiggle and of the liquid's slow waves."""
        rng, atoms = self._rng(3), len(self._sites)
        waves = 6
        return {
            "phase": rng.uniform(0, math.tau, (atoms, 2, 2)),
            "per_frame": math.tau / rng.uniform(25, 160, (atoms, 2, 2)),
            "wave_vector": rng.normal(0, 1, (waves, 2)) * math.tau / (14 * self.spacing_px),
            "wave_push": rng.normal(0, 0.16 * self.spacing_px, (waves, 2)),
            "wave_per_frame": math.tau / rng.uniform(150, 500, waves),
            "wave_phase": rng.uniform(0, math.tau, waves),
            "brightness": rng.normal(0, 1, atoms),
        }

    def _atoms(self, i: int) -> tuple[Points, Points]:
        """Places (atoms, 2) in px and amplitudes (atoms,) of frame i."""
        m, settled = self._motion, self._crystallinity(i)
        jiggle = np.sin(m["per_frame"] * i + m["phase"]).sum(axis=2) * self.spacing_px
        # Waves longer than the spacing carry neighbours along together: nobody collides.
        waves = self._liquid @ m["wave_vector"].T + m["wave_per_frame"] * i + m["wave_phase"]
        liquid = self._liquid + 0.04 * jiggle + np.sin(waves) @ m["wave_push"]
        crystal = self._sites + 0.012 * jiggle
        amplitude = 0.85 + 0.15 * settled + (0.09 - 0.05 * settled) * m["brightness"]
        places = liquid + settled[:, None] * (crystal - liquid)
        # Where the two meet, the liquid gives way to the crystal.
        sizes = np.full(len(places), 0.82 * self.spacing_px)
        return pushed_apart(places, sizes, rounds=6, mobile=1 - 0.9 * settled), amplitude

    def _render(self, places: Points, amplitude: Points) -> Floats:
        """Gaussian atoms as products of separable profiles, strip by strip of rows."""
        sigma = SIGMA_SPACINGS * self.spacing_px
        half = math.ceil(WINDOW_SIGMAS * sigma)
        seen = np.all((places > -half) & (places < np.array(self.shape) + half), axis=1)
        order = np.flatnonzero(seen)[np.argsort(places[seen, 0])]
        places, amplitude = places[order], amplitude[order]
        signed = (self.contrast if self.white else -self.contrast) * amplitude
        rows = _profiles(places[:, 0], signed, sigma, self.shape[0])
        columns = _profiles(places[:, 1], np.ones(len(places)), sigma, self.shape[1])
        frame = np.empty(self.shape, np.float32)
        for top in range(0, self.shape[0], STRIP_ROWS):
            strip = slice(top, top + STRIP_ROWS)
            near = slice(*np.searchsorted(places[:, 0], (top - half - 1, strip.stop + half + 1)))
            np.matmul(rows[near, strip].T, columns[near], out=frame[strip])
        return np.maximum(frame + 1, np.float32(DARKEST))


def _profiles(centres: Points, heights: Points, sigma: float, length: int) -> Floats:
    """One Gaussian a row, (atoms, length) float32, zero beyond WINDOW_SIGMAS."""
    half = math.ceil(WINDOW_SIGMAS * sigma)
    pad = 2 * half + 2
    index = np.floor(centres).astype(np.intp)[:, None] + np.arange(-half, half + 2)
    away = ((index - centres[:, None]) / sigma).astype(np.float32)
    values = heights[:, None].astype(np.float32) * np.exp(-0.5 * away * away)
    profiles = np.zeros((len(centres), length + 2 * pad), np.float32)
    np.put_along_axis(profiles, index + pad, values, axis=1)
    return profiles[:, pad : pad + length]
