"""Movies of a nucleating field: the crystal only grows, and nothing but atoms and noise changes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from scgn.noise import NoiseModel
from scgn.simulate import Recipe, movie
from scgn.simulate.movie import MoviePlan, nucleation_fields, rough_radius, simulate_movie
from scgn.simulate.structures import NOTHING, Sites

PLAN = MoviePlan(frames=6, side_px=96, spacing_px=10.0)
Floats = NDArray[np.float64]
Field = tuple[Floats, Floats, Floats, NDArray[np.int64]]


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def places(positions: Floats) -> set[tuple[float, float]]:
    return {(float(y), float(x)) for y, x in positions}


def crystals_of(fields: list[Field]) -> list[Floats]:
    """Crystal atoms of each frame but the last: melt never stands still, so these stay for good."""
    for_good = places(fields[-1][0])
    return [np.array([p for p in field[0] if tuple(p) in for_good]) for field in fields[:-1]]


def distances(points: Floats, others: Floats) -> Floats:
    return np.asarray(np.hypot(*(points[:, None] - others).transpose(2, 0, 1)))


# ---- structure ----


@pytest.mark.parametrize("seed", range(4))
def test_crystal_only_grows(seed, monkeypatch) -> None:
    """Without thermal motion a crystal atom never leaves; the rim reaches what the plan says."""
    monkeypatch.setattr(movie, "CRYSTAL_JIGGLE", 0.0)
    crystals = crystals_of(nucleation_fields(rng_of(seed), replace(PLAN, growth=(0.15, 0.5))))
    grown = [places(crystal) for crystal in crystals]
    assert all(small < large for small, large in pairwise(grown))
    for share, crystal in zip((0.15, 0.36), (crystals[0], crystals[-2]), strict=True):
        extent = np.ptp(crystal, axis=0).mean() / 2
        assert extent == pytest.approx(share * PLAN.side_px, abs=PLAN.spacing_px)


@pytest.mark.parametrize("seed", range(4))
def test_melt_keeps_its_gap_from_the_crystal(seed, monkeypatch) -> None:
    monkeypatch.setattr(movie, "CRYSTAL_JIGGLE", 0.0)
    fields = nucleation_fields(rng_of(seed), PLAN)
    for field, crystal in zip(fields, crystals_of(fields), strict=False):
        melt = np.array(sorted(places(field[0]) - places(crystal)))
        nearest = distances(melt, crystal).min(axis=1)
        assert nearest.min() > movie.GAP * PLAN.spacing_px
        assert nearest.min() < 2 * PLAN.spacing_px, "it comes as close as that"


def test_melt_without_a_crystal_is_whole() -> None:
    melt = Sites(np.zeros((3, 2)), np.ones(3), np.zeros(3, np.int64))
    assert movie.melt_of_frame(melt, NOTHING, 10.0) is melt
    crystal = Sites(np.array([[0.0, 7.9]]), np.ones(1), np.zeros(1, np.int64))
    assert len(movie.melt_of_frame(melt, crystal, 10.0).position) == 0
    assert len(movie.melt_of_frame(melt, crystal, 9.8).position) == 3


def test_atoms_jiggle_by_their_share_of_the_spacing(monkeypatch) -> None:
    """The same draw with and without thermal motion; in the melt steps add up, frame by frame."""
    warm = nucleation_fields(rng_of(2), PLAN)
    monkeypatch.setattr(movie, "CRYSTAL_JIGGLE", 0.0)
    cold = nucleation_fields(rng_of(2), PLAN)
    moved = np.concatenate([a[0] - b[0] for a, b in zip(warm, cold, strict=True)])
    assert moved.std() == pytest.approx(0.03 * PLAN.spacing_px, rel=0.05)
    monkeypatch.setattr(movie, "melt_of_frame", lambda melt, *_: melt)
    fields = nucleation_fields(rng_of(2), replace(PLAN, growth=(0.0, 0.0)))
    for later in (1, 4):
        walked = (fields[later][0] - fields[0][0]).std()
        assert walked == pytest.approx(0.08 * PLAN.spacing_px * later**0.5, rel=0.1)


def test_rim_is_rough_about_its_radius() -> None:
    angle = np.linspace(-np.pi, np.pi, 721)
    rims = np.array([rough_radius(rng_of(seed), angle) for seed in range(60)])
    assert rims.mean() == pytest.approx(1, abs=0.02)
    assert 0.03 < rims.std(axis=1).mean() < 0.1
    np.testing.assert_allclose(rims[:, 0], rims[:, -1], atol=1e-12)


# ---- frames ----


def test_movie_is_a_batch_in_the_order_of_time() -> None:
    data = simulate_movie(rng_of(3), PLAN)
    assert data.noisy.shape == data.clean.shape == data.atom_map.shape == (6, 1, 96, 96)
    assert torch.equal(data.beam, data.beam[:1].expand(6, 1, 1, 1)), "one camera, one dose"
    assert torch.equal(data.pixel_nm, data.pixel_nm[:1].expand(6))
    assert data.atoms.spacing_px.tolist() == [10.0] * 6
    assert bool(data.noisy.isfinite().all())
    assert float(data.clean.min()) > 0


def test_same_seed_same_movie() -> None:
    first, again = (simulate_movie(rng_of(4), PLAN) for _ in range(2))
    for name in ("noisy", "clean", "atom_map", "sign", "beam", "pixel_nm", "vacuum"):
        assert torch.equal(getattr(first, name), getattr(again, name)), name
    assert torch.equal(first.atoms.position_px, again.atoms.position_px)
    other = simulate_movie(rng_of(5), PLAN)
    assert not any(torch.equal(a, b) for a, b in zip(first.clean, other.clean, strict=True))


def still_field(*extra_px: tuple[float, float]) -> Field:
    """One atom that stays, with others beside it."""
    position = np.array([(20.0, 20.0), *extra_px])
    count = len(position)
    return position, np.full(count, 2.2), np.ones(count), np.zeros(count, np.int64)


def test_frames_differ_by_atoms_and_noise_alone(monkeypatch) -> None:
    """Film, lens, illumination and camera stay: the same atoms give the same noise-free frame, and
    one more atom changes it around itself.
    """
    fields = [still_field(), still_field(), still_field((70.0, 70.0))]
    monkeypatch.setattr(movie, "nucleation_fields", lambda *_: fields)
    recipe = Recipe(film_rad=(0.1, 0.1), columns=(3.0, 3.0), phase_max_rad=(9.0, 9.0))
    plan = replace(PLAN, frames=3)
    data = simulate_movie(rng_of(6), plan, recipe)
    assert torch.equal(data.clean[0], data.clean[1])
    bare = simulate_movie(rng_of(6), plan, replace(recipe, film_rad=(0.0, 0.0)))
    assert float((data.clean[0] - bare.clean[0]).std()) > 0.01 * float(data.beam[0])
    change = (data.clean[2] - data.clean[1])[0].abs()
    assert float(change[58:83, 58:83].max()) > 0.1 * float(data.beam[0])
    assert float(change[:40, :40].max()) < 2e-3 * float(data.beam[0])
    noise = (data.noisy - data.clean).flatten(1)
    likeness = torch.corrcoef(noise)[~torch.eye(3, dtype=torch.bool)]
    assert float(likeness.abs().max()) < 0.05


def test_a_calibration_takes_the_cameras_place() -> None:
    camera = NoiseModel(gain_adu_per_e=7.0, read_noise_adu=3.0)
    data = simulate_movie(rng_of(7), replace(PLAN, dose_e_per_px=5.0), camera=camera)
    torch.testing.assert_close(data.beam.flatten(), torch.full((6,), 35.0))
    variance = (data.noisy - data.clean).square().mean(dim=(1, 2, 3))
    expected = camera.point_sigma(data.clean.mean(dim=(1, 2, 3)).numpy()) ** 2
    np.testing.assert_allclose(variance.numpy(), expected, rtol=0.06)
    drawn = simulate_movie(rng_of(7), replace(PLAN, dose_e_per_px=5.0))
    assert torch.equal(drawn.atoms.position_px, data.atoms.position_px)
