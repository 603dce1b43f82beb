"""Where simulated atoms sit: distances of lattices and packings, and fields of both."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from scgn.simulate.structures import (
    KINDS,
    MARGIN_PX,
    NOTHING,
    PACKING_SIDE,
    Sites,
    atoms_of_fields,
    disordered_packing,
    draw_atoms,
    draw_field,
    front_distance,
    lattice,
    liquid,
    rotation,
    together,
    wedge,
)

Floats = NDArray[np.float64]


def distances(points: Floats, period: float | None = None) -> Floats:
    """Distance of every pair, infinite on the diagonal; across the edges when periodic."""
    apart = points[:, None] - points
    if period is not None:
        apart -= period * np.round(apart / period)
    result = np.hypot(apart[..., 0], apart[..., 1])
    np.fill_diagonal(result, np.inf)
    return result


# ---- disordered ----


@pytest.mark.parametrize("seed", range(2))
def test_packing_keeps_its_distance_across_the_periodic_edge(seed) -> None:
    points = disordered_packing(seed)
    assert ((points >= 0) & (points < PACKING_SIDE)).all()
    nearest = distances(points, PACKING_SIDE).min(axis=1)
    assert nearest.min() >= 1
    inside = distances(points).min(axis=1)
    assert (nearest < inside).any(), "some nearest neighbour lies across the edge"


@pytest.mark.parametrize("seed", range(2))
def test_packing_is_dense_everywhere(seed) -> None:
    """Random sequential packing jams at 0.547 of the area; its 9000 tries come to 0.44."""
    points = disordered_packing(seed)
    coverage = len(points) * np.pi / 4 / PACKING_SIDE**2
    assert 0.42 < coverage < 0.547
    quarters = np.histogram2d(*points.T, bins=4, range=[[0, PACKING_SIDE]] * 2)[0]
    assert quarters.min() > 0.6 * quarters.mean()


def test_packing_depends_on_its_seed_alone() -> None:
    first = disordered_packing(0).copy()
    disordered_packing.cache_clear()
    np.testing.assert_array_equal(disordered_packing(0), first)
    assert disordered_packing(1).shape != first.shape or (disordered_packing(1) != first).any()


@pytest.mark.parametrize(("spacing_px", "reach_px"), [(6.0, 50.0), (3.0, 90.0), (20.0, 40.0)])
def test_liquid_keeps_its_distance_and_fills_the_field(spacing_px, reach_px) -> None:
    """Tiles of the packing meet without a gap and without two atoms in one place."""
    for seed in range(3):
        points, amplitude, species = liquid(np.random.default_rng(seed), spacing_px, reach_px)
        assert len(points) == len(amplitude) == len(species)
        assert set(species.tolist()) <= {0, 1}
        assert (np.abs(points) < reach_px).all()
        assert 0.4 <= amplitude.min() < amplitude.max() <= 1.3
        some = points[np.random.default_rng(0).permutation(len(points))[:800]]
        apart = np.hypot(*(some[:, None] - points).T)
        assert apart[apart > 0].min() >= spacing_px * (1 - 1e-9)
        probes = np.random.default_rng(1).uniform(-reach_px, reach_px, (300, 2))
        hole = np.hypot(*(probes[:, None] - points).T).min(axis=0)
        assert hole.max() < 2.5 * spacing_px


# ---- lattices ----


def test_lattice_spacing_is_right() -> None:
    """A cell of one atom has its nearest neighbours exactly one spacing away."""
    single = 0
    for seed in range(40):
        points, amplitude, species = lattice(np.random.default_rng(seed), 9.0, 60.0)
        first = points[species == 0]
        assert (amplitude[species == 0] == 1).all()
        assert ((amplitude[species == 1] >= 0.3) & (amplitude[species == 1] <= 1)).all()
        inner = np.abs(first).max(axis=1) < 40
        nearest = distances(first)[inner].min(axis=1)
        np.testing.assert_allclose(nearest, 9.0, rtol=1e-9)
        single += len(first) == len(points)
    assert 15 < single < 40, "both kinds of basis must come up"


def test_lattice_repeats_and_fills_the_field() -> None:
    for seed in range(10):
        points, _, species = lattice(np.random.default_rng(seed), 8.0, 70.0)
        first = points[species == 0]
        assert (np.abs(points) < 70).all()
        probes = np.random.default_rng(1).uniform(-70, 70, (300, 2))
        hole = np.hypot(*(probes[:, None] - first).T).min(axis=0)
        assert hole.max() < 2 * 8.0, "no hole larger than the widest cell, corners included"
        middle = first[np.hypot(*first.T).argmin()]
        step = first[distances(first)[np.hypot(*first.T).argmin()].argmin()] - middle
        moved = first[np.abs(first + step).max(axis=1) < 69] + step
        assert np.hypot(*(moved[:, None] - first).T).min(axis=0).max() < 1e-6


def test_rotation_turns_and_keeps_lengths() -> None:
    turned = rotation(np.pi / 2)
    np.testing.assert_allclose(turned @ [1, 0], [0, 1], atol=1e-12)
    np.testing.assert_allclose(turned @ turned.T, np.eye(2), atol=1e-12)


# ---- fields ----


def test_front_has_two_sides_and_depends_on_the_seed_alone() -> None:
    points = np.random.default_rng(0).uniform(-50, 50, (400, 2))
    for seed in range(20):
        signed = front_distance(np.random.default_rng(seed), points, 50.0)
        some = front_distance(np.random.default_rng(seed), points[:7], 50.0)
        np.testing.assert_allclose(some, signed[:7])
        assert 0.02 < (signed < 0).mean() < 1
        near = np.argsort(distances(points), axis=1)[:, 0]
        slope = np.abs(signed - signed[near]) / distances(points).min(axis=1)
        assert slope.max() < 1.7, "a distance cannot grow much faster than the way walked"


def test_every_kind_of_field_comes_up() -> None:
    fields = [draw_field(np.random.default_rng(seed), 10.0, 60.0) for seed in range(80)]
    counts = [len(field.position) for field in fields]
    assert counts.count(0) >= 1, "vacuum"
    assert max(counts) > 100
    assert sum(KINDS.values()) == pytest.approx(1)
    for position, amplitude, species in fields:
        assert position.shape == (len(amplitude), 2)
        assert len(amplitude) == len(species)
        assert set(species.tolist()) <= {0, 1}
    ordered = [bool((field.amplitude == 1).any()) for field in fields]
    molten = [bool((field.amplitude > 1).any()) for field in fields]
    found = {*zip(ordered, molten, strict=True)}
    assert found == {(True, True), (True, False), (False, True), (False, False)}


def test_fields_cover_their_frames_where_no_edge_is() -> None:
    """A crystal or a melt alone has an atom near any point, corners included."""
    full = 0
    for seed in range(40):
        points = draw_field(np.random.default_rng(seed), 10.0, 60.0).position
        if len(points) < 100:
            continue
        probes = np.random.default_rng(1).uniform(-60, 60, (200, 2))
        full += np.hypot(*(probes[:, None] - points).T).min(axis=0).max() < 25
    assert full > 12


def test_no_two_atoms_meet_at_a_front() -> None:
    """Crystal and melt leave a gap, so that no bright double atom marks the front."""
    mixed = 0
    for seed in range(30):
        points, amplitude, _ = draw_field(np.random.default_rng(seed), 10.0, 60.0)
        crystal, melt = points[amplitude == 1], points[amplitude > 1]  # at least a third of each
        if len(crystal) and len(melt):
            mixed += 1
            assert np.hypot(*(crystal[:, None] - melt).T).min() > 0.35 * 10
    assert mixed >= 5


def test_thickness_falls_along_one_direction() -> None:
    """Linear in position, between 0.4 and 1; half of the specimens are even."""
    y, x = np.mgrid[-50:51:10, -50:51:10].astype(float)
    points = np.stack([y.ravel(), x.ravel()], 1)
    thickness = [wedge(np.random.default_rng(seed), points, 50.0) for seed in range(60)]
    assert 15 < sum(bool((t == 1).all()) for t in thickness) < 45
    for t in thickness:
        assert 0.4 <= t.min() <= t.max() <= 1
        plane = np.linalg.lstsq(np.c_[points, np.ones(len(points))], t, rcond=None)[0]
        np.testing.assert_allclose(np.c_[points, np.ones(len(points))] @ plane, t, atol=1e-9)
    assert min(t.min() for t in thickness) < 0.6


def test_fields_are_joined_and_picked_by_atom() -> None:
    one = Sites(np.ones((2, 2)), np.array([0.5, 1.0]), np.array([0, 1]))
    both = together(one, Sites(np.zeros((1, 2)), np.array([0.7]), np.array([0])))
    assert both.amplitude.tolist() == [0.5, 1.0, 0.7]
    kept = both.where(np.array([False, True, True]))
    assert kept.species.tolist() == [1, 0]
    assert kept.position.tolist() == [[1, 1], [0, 0]]


# ---- batches ----


def test_batch_keeps_frames_apart_and_empty_ones_empty() -> None:
    some = (np.full((3, 2), 5.0), np.full(3, 2.0), np.array([1.0, 0.0, 0.5]), np.array([0, 1, 0]))
    empty = (NOTHING.position, NOTHING.amplitude, NOTHING.amplitude, NOTHING.species)
    atoms = atoms_of_fields([empty, some, empty, some], np.array([5.0, 6.0, 7.0, 8.0]))
    assert atoms.frame.tolist() == [1, 1, 1, 3, 3, 3]
    assert atoms.spacing_px.tolist() == [5, 6, 7, 8]
    assert atoms.position_px.dtype == atoms.sigma_px.dtype == torch.float32
    last = atoms.of(3)
    assert last.frame.tolist() == [0, 0, 0]
    assert last.amplitude.tolist() == [1.0, 0.0, 0.5]
    assert last.species.tolist() == [0, 1, 0]
    assert last.spacing_px.tolist() == [8]


def test_some_fields_have_vacancies() -> None:
    atoms = draw_atoms(np.random.default_rng(3), 30, 64, (8.0, 12.0))
    vacant = [float((atoms.of(i).amplitude == 0).float().mean()) for i in range(30)
              if len(atoms.of(i).frame) > 100]  # fmt: skip
    assert 3 < sum(share > 0 for share in vacant) < len(vacant) - 3
    assert max(vacant) == pytest.approx(0.06, abs=0.06)


def test_drawn_atoms_belong_to_their_frames() -> None:
    atoms = draw_atoms(np.random.default_rng(4), 12, 64, (8.0, 8.0))
    count = len(atoms.frame)
    assert atoms.position_px.shape == (count, 2)
    assert atoms.sigma_px.shape == atoms.amplitude.shape == (count,)
    assert set(atoms.frame.tolist()) <= set(range(12))
    assert len(set(atoms.frame.tolist())) >= 8
    assert float(atoms.sigma_px.min()) >= 8 * 0.16 * 0.9 - 1e-5
    assert float(atoms.sigma_px.max()) <= 8 * 0.32 * 1.1 + 1e-5
    assert float(atoms.amplitude.min()) >= 0
    inside = ((atoms.position_px >= 0) & (atoms.position_px < 64)).all(dim=1)
    assert bool(inside.any())
    assert not bool(inside.all()), "atoms just outside shine into the frame"
    assert float(atoms.position_px.min()) > -MARGIN_PX - 4
    assert float(atoms.position_px.max()) < 64 + MARGIN_PX + 4
    assert set(atoms.species.tolist()) == {0, 1}
    assert (atoms.spacing_px - 8).abs().max() < 1e-5
    again = draw_atoms(np.random.default_rng(4), 12, 64, (8.0, 8.0))
    assert torch.equal(atoms.position_px, again.position_px)
