"""Atom detection on drawn atoms, matching on constructed sets, and the bound on positions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scgn.atoms import (
    DetectionRule,
    DetectionScore,
    FoundAtoms,
    beam_contrast,
    find_atoms,
    local_maxima,
    log_response,
    match_atoms,
    per_nm2,
    position_bound_pm,
    refine,
    score_detection,
)

pytest.importorskip("scipy")
PIXEL_NM = 0.02
SIGMA_PX = 2.5  # the rule's 0.05 nm


def drawn(positions: list[tuple[float, float]], contrast: float, side: int = 64) -> torch.Tensor:
    """Gaussian atoms of the rule's own width, (1,1,side,side) in contrast."""
    grid = torch.arange(side, dtype=torch.float64)
    frame = torch.zeros(side, side, dtype=torch.float64)
    for row, column in positions:
        away = (grid[:, None] - row) ** 2 + (grid - column) ** 2
        frame += contrast * torch.exp(-away / (2 * SIGMA_PX**2))
    return frame[None, None]


def atoms_at(*positions: tuple[float, float], frame: int = 0) -> FoundAtoms:
    count = len(positions)
    place = torch.tensor(positions, dtype=torch.float64).view(count, 2)
    return FoundAtoms(torch.full((count,), frame), place, torch.ones(count))


@pytest.mark.parametrize("width_px", [1.5, 2.5, 4.0])
def test_response_of_a_gaussian_atom_is_its_closed_form(width_px) -> None:
    grid = torch.arange(65, dtype=torch.float64) - 32
    atom = torch.exp(-(grid[:, None] ** 2 + grid**2) / (2 * width_px**2))[None, None]
    found = float(log_response(atom, SIGMA_PX)[0, 0, 32, 32])
    expected = 4 * width_px**2 * SIGMA_PX**2 / (width_px**2 + SIGMA_PX**2) ** 2
    assert found == pytest.approx(expected, rel=0.01)


def test_response_to_a_level_and_a_slope_is_nothing() -> None:
    slope = 7 + 0.3 * torch.arange(64, dtype=torch.float64).expand(1, 1, 64, 64)
    assert float(log_response(slope, 2.0)[..., 12:-12, 12:-12].abs().max()) < 1e-9


def test_atoms_are_found_below_a_pixel() -> None:
    places = [(12.3, 15.75), (30.0, 40.5), (50.6, 20.1)]
    found = find_atoms(drawn(places, 0.3), torch.tensor([PIXEL_NM]), DetectionRule())
    assert len(found.frame) == 3
    order = found.position_px[:, 0].argsort()
    away = found.position_px[order] - torch.tensor(places, dtype=torch.float64)
    assert float(away.abs().max()) < 0.05
    assert found.contrast.numpy() == pytest.approx([0.3] * 3, abs=0.02)


def test_atoms_below_the_contrast_are_not_found() -> None:
    rule = DetectionRule(contrast_min=0.05)
    for contrast, count in ((0.04, 0), (0.06, 1)):
        found = find_atoms(drawn([(30.0, 30.0)], contrast), torch.tensor([PIXEL_NM]), rule)
        assert len(found.frame) == count


def test_black_atoms_are_white_in_contrast_and_gain_cancels() -> None:
    pattern = drawn([(30.0, 30.0)], 0.4)
    beam, sign = torch.tensor([300.0]).view(1, 1, 1, 1), torch.tensor([-1.0])
    torch.testing.assert_close(beam_contrast(beam * (1 - pattern), beam, sign), pattern)
    torch.testing.assert_close(beam_contrast(beam * (1 + pattern), beam, 0 * sign), pattern)


def test_each_frame_has_its_own_pixel_size() -> None:
    """The same 0.1 nm atom at two magnifications."""
    coarse, fine = drawn([(32.0, 32.0)], 0.3), torch.zeros(1, 1, 64, 64, dtype=torch.float64)
    found = find_atoms(torch.cat((coarse, fine)), torch.tensor([0.02, 0.01]), DetectionRule())
    assert found.frame.tolist() == [0]


def test_maxima_are_apart_and_not_on_the_rim() -> None:
    response = torch.zeros(9, 9)
    response[0, 4], response[4, 4], response[4, 6], response[7, 1] = 9.0, 5.0, 4.0, 3.0
    assert local_maxima(response, 1.0, 2).tolist() == [[4, 4], [7, 1]]
    assert local_maxima(response, 1.0, 1).tolist() == [[4, 4], [4, 6], [7, 1]]


@given(st.floats(-0.45, 0.45), st.floats(-0.45, 0.45))
@settings(max_examples=25, deadline=None)
def test_refinement_finds_the_vertex_of_a_parabola(dy, dx) -> None:
    grid = torch.arange(5, dtype=torch.float64) - 2
    response = 10 - (grid[:, None] - dy) ** 2 - 2 * (grid - dx) ** 2
    found = refine(response, torch.tensor([[2, 2]]))
    assert found[0].tolist() == pytest.approx([2 + dy, 2 + dx])


def test_matching_prefers_more_pairs_over_nearer_ones() -> None:
    """Greedy matching would join 1 with its nearest and leave two atoms alone."""
    found = torch.tensor([[0.0, 0.0], [0.0, 1.9]])
    true = torch.tensor([[0.0, 1.0], [0.0, -0.95]])
    i, j = match_atoms(found, true, 1.0)
    assert sorted(zip(i.tolist(), j.tolist(), strict=True)) == [(0, 1), (1, 0)]


def test_matching_of_nothing_is_nothing() -> None:
    none, one = torch.zeros(0, 2), torch.zeros(1, 2)
    for found, true in ((none, one), (one, none), (none, none), (one, one + 5)):
        i, j = match_atoms(found, true, 2.0)
        assert len(i) == len(j) == 0


@given(st.integers(0, 10**6), st.integers(1, 30))
@settings(max_examples=25, deadline=None)
def test_matching_undoes_a_permutation_and_a_small_shift(seed, count) -> None:
    rng = np.random.default_rng(seed)
    place = 10.0 * np.stack(np.unravel_index(rng.permutation(100)[:count], (10, 10)), 1)
    order = rng.permutation(count)
    moved = place[order] + rng.uniform(-0.5, 0.5, (count, 2))
    i, j = match_atoms(torch.from_numpy(moved), torch.from_numpy(place), 1.0)
    assert dict(zip(i.tolist(), j.tolist(), strict=True)) == dict(enumerate(order.tolist()))


def test_score_of_a_constructed_set() -> None:
    """Three true, three found: one exact, one 0.04 nm off, one wrong."""
    true = atoms_at((10, 10), (20, 20), (30, 30))
    found = atoms_at((10, 10), (22, 20), (50, 50))
    score, false = score_detection(found, true, torch.tensor([PIXEL_NM]), DetectionRule())
    assert (score.matched, score.found, score.true) == (2, 3, 3)
    assert score.precision == score.recall == score.f1 == pytest.approx(2 / 3)
    assert score.position_rmse_pm == pytest.approx(40 / math.sqrt(2))
    assert false.position_px.tolist() == [[50.0, 50.0]]


def test_atoms_match_within_their_own_frame_only() -> None:
    score, false = score_detection(
        atoms_at((10, 10), frame=0), atoms_at((10, 10), frame=1), torch.full((2,), PIXEL_NM),
        DetectionRule(),
    )  # fmt: skip
    assert score == DetectionScore(0, 1, 1, 0.0)
    assert len(false.frame) == 1


def test_spots_that_are_no_atoms_are_ignored() -> None:
    """Found or not, they change neither precision nor recall, and are no false atoms."""
    spots, atomic = atoms_at((10, 10), (20, 20), (30, 30)), torch.tensor([True, True, False])
    for found in (atoms_at((10, 10), (50, 50)), atoms_at((10, 10), (50, 50), (31, 30))):
        score, false = score_detection(
            found, spots, torch.tensor([PIXEL_NM]), DetectionRule(), atomic
        )
        assert score == DetectionScore(1, 2, 2, 0.0)
        assert false.position_px.tolist() == [[50.0, 50.0]]


def test_a_score_of_nothing() -> None:
    nothing = DetectionScore()
    assert (nothing.precision, nothing.recall, nothing.f1) == (1, 1, 1)
    assert math.isnan(nothing.position_rmse_pm)
    assert DetectionScore(found=3).f1 == DetectionScore(true=3).f1 == 0


def test_false_atoms_per_area_of_vacuum() -> None:
    vacuum = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    vacuum[..., :32, :] = True
    found = atoms_at((5, 5), (30.6, 9), (31.4, 60), (40, 40))
    area_nm2 = 32 * 64 * PIXEL_NM**2
    assert per_nm2(found, vacuum, torch.tensor([PIXEL_NM])) == pytest.approx(3 / area_nm2)
    assert math.isnan(per_nm2(found, ~vacuum & vacuum, torch.tensor([PIXEL_NM])))


def test_the_bound_on_positions_is_reached_by_maximum_likelihood() -> None:
    """Counted atoms on a beam: the best estimate scatters as the Fisher information says."""
    contrast, dose_e_per_px, side = 0.5, 200.0, 31
    grid = torch.arange(side, dtype=torch.float64) - side // 2
    atom = torch.exp(-(grid[:, None] ** 2 + grid**2) / (2 * SIGMA_PX**2))
    beam = torch.full((side, side), dose_e_per_px, dtype=torch.float64)
    slope = beam * contrast * atom * grid / SIGMA_PX**2
    information = (slope**2 / beam).sum()  # noise of the beam alone, as in the bound
    noise = np.random.default_rng(0).poisson(beam.numpy(), (2000, side, side)) - dose_e_per_px
    estimate = (torch.from_numpy(noise) * slope / beam).sum(dim=(1, 2)) / information
    dose_e_per_a2 = dose_e_per_px / (10 * PIXEL_NM) ** 2
    as_distance_pm = math.sqrt(2) * float(estimate.std()) * 1000 * PIXEL_NM
    assert as_distance_pm == pytest.approx(position_bound_pm(contrast, dose_e_per_a2), rel=0.06)
