"""Training movies: what they say of drift, dose and events is what their frames show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from scgn.noise import NoiseModel
from scgn.simulate.atoms import render
from scgn.simulate.movies import Movies, draw_movies
from scgn.simulate.movies.camera import MANY_E, arrivals, draw_dose, with_defects
from scgn.simulate.movies.events import Spot, place_of, presence, spot_frames
from scgn.simulate.movies.motion import between_keys, canvas_px, draw_drift, seen, steady
from scgn.simulate.movies.recipe import MovieRecipe
from scgn.simulate.movies.shapes import fringes
from scgn.simulate.recipe import Recipe
from scgn.simulate.structures import atoms_of_fields, draw_atoms, draw_field, lattice

QUIET = MovieRecipe(
    motion=(("rest", 1.0),), event_share=0.0, dose_change_share=0.0, blank_share=0.0,
    cut_share=0.0, sparse_share=0.0, stuck_share=0.0, hit_share=0.0,
)  # fmt: skip
PLAIN_CAMERA = Recipe(
    blur_px=(1e-4, 2e-4), line_noise=(0, 0), read_noise_e=(0, 0), response=(0, 0),
    hot_share=(0, 0), clip_share=0.0, dose_e_per_px=(20.0, 20.0), gain_adu_per_e=(7.0, 7.0),
)  # fmt: skip
VACUUM = replace(QUIET, scenes=(("vacuum", 1.0),), still=PLAIN_CAMERA, masks=(("none", 1.0),))


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def centre(frame: Tensor) -> tuple[float, float]:
    """Centre of mass of one frame (H,W)."""
    row, column = (torch.arange(side, dtype=torch.float32) for side in frame.shape)
    return (
        float((frame.sum(1) * row).sum() / frame.sum()),
        float((frame.sum(0) * column).sum() / frame.sum()),
    )


def all_fields(movies: Movies) -> list[Tensor]:
    return [value for value in vars(movies).values() if isinstance(value, Tensor)]


# ---- the whole ----


def test_a_calibrated_camera_replaces_the_drawn_ones() -> None:
    """Its noise at every signal, and none of a drawn camera's blur or gain."""
    camera = NoiseModel(gain_adu_per_e=3.0, read_noise_adu=20.0)
    recipe = replace(VACUUM, still=replace(PLAIN_CAMERA, blur_px=(0.8, 0.8)))
    movies = draw_movies(rng_of(8), 2, 40, 32, recipe, camera)
    signal, noise = movies.clean[:, 0], (movies.noisy - movies.clean).std(dim=1)
    assert movies.gain_adu_per_e.tolist() == [3.0, 3.0]
    ratio = noise.numpy() / camera.point_sigma(signal.numpy())
    assert float(ratio.mean()) == pytest.approx(1, abs=0.02)


def test_same_numbers_give_the_same_movies() -> None:
    first, again = (draw_movies(rng_of(3), 3, 6, 48, MovieRecipe()) for _ in range(2))
    assert first.events == again.events
    assert all(map(torch.equal, all_fields(first), all_fields(again)))
    other = draw_movies(rng_of(4), 3, 6, 48, MovieRecipe())
    assert not torch.equal(first.clean, other.clean)


def test_movies_are_finite_counts_of_the_said_shapes() -> None:
    movies = draw_movies(rng_of(5), 24, 5, 32, MovieRecipe())
    assert movies.noisy.shape == movies.clean.shape == (24, 5, 32, 32)
    assert movies.noisy.dtype == movies.clean.dtype == movies.drift_px.dtype == torch.float32
    assert movies.drift_px.shape == (24, 5, 2)
    assert movies.dose_e_per_px.shape == (24, 5)
    assert movies.gain_adu_per_e.shape == movies.cut_frame.shape == (24,)
    assert torch.isfinite(movies.noisy).all()
    assert torch.isfinite(movies.clean).all()
    assert (movies.clean >= 0).all()
    assert (movies.drift_px[:, 0] == 0).all()
    assert {event.movie for event in movies.events} <= set(range(24))


def test_one_frame_is_a_movie_too() -> None:
    movies = draw_movies(rng_of(6), 4, 1, 32, MovieRecipe())
    assert movies.noisy.shape == (4, 1, 32, 32)
    assert movies.events == ()


def test_noise_averages_to_the_clean_frames() -> None:
    movies = draw_movies(rng_of(7), 2, 64, 32, VACUUM)
    error = (movies.noisy - movies.clean).mean(dim=1)
    deviation = (movies.clean[:, 0] * 7 / 64).sqrt()
    assert (error / deviation).abs().mean() == pytest.approx(np.sqrt(2 / np.pi), abs=0.06)
    assert float((error / deviation).mean()) == pytest.approx(0, abs=5 / 32 / np.sqrt(2))


# ---- motion ----


@pytest.mark.parametrize("kind", ["drift", "jump"])
def test_a_spot_moves_with_the_drift_towards_higher_indices(kind: str) -> None:
    recipe = replace(MovieRecipe(), motion=((kind, 1.0),))
    drift = draw_drift(rng_of(8), 8, recipe)
    canvas, origin = canvas_px(drift, 96)
    row, column = torch.arange(canvas)[:, None] - canvas // 2, torch.arange(canvas) - canvas // 2
    spot = torch.exp(-(row**2 + column**2) / 18.0)[None]
    frames = seen(spot.expand(8, -1, -1), drift, origin, 96)
    start = centre(frames[0])
    for frame, moved in zip(frames, drift, strict=True):
        assert centre(frame) == pytest.approx(np.add(start, moved), abs=0.01)


def test_seen_keeps_levels_and_whole_pixels() -> None:
    drift = steady(3, np.array([2.0, -1.0]))
    canvas, origin = canvas_px(drift, 32)
    scene = torch.rand(1, canvas, canvas, generator=torch.Generator().manual_seed(1))
    frames = seen(scene.expand(3, -1, -1), drift, origin, 32)
    assert torch.allclose(frames[1, 2:, :-1], frames[0, :-2, 1:], atol=1e-5)
    level = seen(torch.ones(3, canvas, canvas), 0.37 * drift, origin, 32)
    assert torch.allclose(level, torch.ones(1), atol=1e-5)


def test_between_keys_is_linear_and_ends_at_the_keys() -> None:
    keys = torch.tensor([0.0, 4.0, 2.0]).view(3, 1, 1)
    assert between_keys(keys, 5).flatten().tolist() == [0, 2, 4, 3, 2]


def test_rest_is_at_rest() -> None:
    movies = draw_movies(rng_of(9), 3, 6, 32, QUIET)
    assert (movies.drift_px == 0).all()


# ---- scenes ----


def strongest_bins(frame: Tensor) -> list[tuple[int, int]]:
    """Rows and columns of the spectrum's bins within a third of its strongest, slow ones apart."""
    side = len(frame)
    window = torch.hann_window(side, periodic=True)
    power = torch.fft.fft2((frame - frame.mean()) * window[:, None] * window).abs().square()
    bins = torch.fft.fftfreq(side).mul(side).abs()
    power = power * ((bins[:, None] > 3) | (bins > 3))
    strong = (power > power.max() / 3).nonzero().tolist()
    return [(int(row), int(column)) for row, column in strong]


def crystal_frame(rng: np.random.Generator, side_px: int) -> Tensor:
    """Spots on an aligned lattice of one kind of atom, (side,side)."""
    sites = lattice(rng, 8.0, side_px / 2 + 24, aligned=True)
    sites = sites.where(sites.species == 0)
    field = (
        sites.position + side_px / 2, np.full(len(sites.position), 2.0), sites.amplitude,
        sites.species,
    )  # fmt: skip
    atoms = atoms_of_fields([field], np.array([8.0]))
    return render(atoms, atoms.amplitude, atoms.sigma_px, side_px)[0]


@pytest.mark.parametrize("seed", range(6))
def test_aligned_lattices_have_their_rows_along_an_axis(seed: int) -> None:
    points = lattice(rng_of(seed), 9.0, 60.0, aligned=True).position
    apart = points[:, None] - points
    one_step = np.isclose(np.hypot(*np.moveaxis(apart, 2, 0)), 9.0)
    along = (np.abs(apart) < 1e-9).any(axis=2) & one_step
    assert along.any(axis=1).mean() > 0.5


@pytest.mark.parametrize("seed", range(8))
def test_aligned_crystals_have_a_strongest_peak_exactly_on_an_axis(seed: int) -> None:
    bins = strongest_bins(crystal_frame(rng_of(seed), 128))
    assert any(0 in place for place in bins)


@pytest.mark.parametrize("seed", range(8))
def test_aligned_structures_are_crystals(seed: int) -> None:
    """Neither vacuum nor a melt alone: rows along an axis are in every aligned frame."""
    points = draw_field(rng_of(seed), 9.0, 60.0, aligned=True).position
    apart = np.abs(points[:, None] - points)
    in_row = (apart < 1e-9).any(axis=2) & (apart.max(axis=2) > 1)
    assert in_row.any(axis=1).mean() > 0.05


def test_what_is_not_aligned_is_drawn_as_before() -> None:
    """Numbers of the commit before lattices could be aligned: every seed keeps its scenes."""
    points = lattice(rng_of(1), 9.0, 40.0).position
    assert points[[0, -1]].ravel() == pytest.approx([25.716425, -37.960334, -19.906605, 38.342732])
    places = draw_atoms(rng_of(1), 2, 64, (8.0, 12.0)).position_px
    assert places.sum(dim=0).tolist() == pytest.approx([11692.11, 11952.05], abs=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_aligned_fringes_vary_along_one_axis_alone(seed: int) -> None:
    recipe = replace(MovieRecipe(), fringe_aligned_share=1.0)
    frame = fringes(rng_of(seed), 64, recipe)
    assert min(float(frame.std(dim=axis).max()) for axis in (0, 1)) < 1e-5
    assert float(frame.std()) > 0.02


# ---- events ----


def spot(kind: str, drift: np.ndarray) -> Spot:  # type: ignore[type-arg]
    place = place_of(kind, 3, np.array([15.0, 20.0]), drift, np.array([0.0, 6.0]))
    return Spot(kind, 3, 2.0, 0.3, place, presence(rng_of(1), kind, 3, len(drift)))


@pytest.mark.parametrize(("kind", "before", "after"), [("appear", 0, 1), ("vanish", 1, 0)])
def test_spots_come_and_go_at_their_frame(kind: str, before: int, after: int) -> None:
    frames = spot_frames([spot(kind, np.zeros((6, 2)))], 6, 40)
    assert frames[:, 15, 20].tolist() == pytest.approx([0.3 * before] * 3 + [0.3 * after] * 3)


def test_a_hop_arrives_where_its_record_says_and_moves_with_the_drift() -> None:
    hop = spot("hop", steady(6, np.array([0.5, 0.0])))
    event = hop.event(np.full(6, 100.0), torch.ones(40, 40))
    frames = spot_frames([hop], 6, 40)
    assert event[:7] == (0, 3, "hop", 15.0, 20.0, 2.0, pytest.approx(30.0))
    assert centre(frames[3]) == pytest.approx((15.0, 20.0), abs=0.01)
    assert centre(frames[5]) == pytest.approx((16.0, 20.0), abs=0.01)
    assert centre(frames[2]) == pytest.approx((event.from_row, event.from_column), abs=0.01)
    assert (event.from_row, event.from_column) == (14.5, 14.0)


def test_events_of_drawn_movies_have_the_contrast_they_say() -> None:
    """In vacuum a spot alone stands out by its contrast, within the illumination's slow change."""
    recipe = replace(
        VACUUM, event_share=1.0, event_count=(1, 1), cluster_share=0.0,
        event_kinds=(("appear", 1.0),),
    )  # fmt: skip
    movies = draw_movies(rng_of(12), 8, 6, 64, recipe)
    assert len(movies.events) == 8
    for event in movies.events:
        row, column = round(event.row), round(event.column)
        change = movies.clean[event.movie, event.first_frame] - movies.clean[event.movie, 0]
        off2 = (row - event.row) ** 2 + (column - event.column) ** 2
        expected = event.contrast * np.exp(-off2 / 2 / event.sigma_px**2)
        assert float(change[row, column]) == pytest.approx(expected, rel=0.03)


# ---- camera ----


def test_dose_changes_by_a_factor_and_blanks_come_back() -> None:
    always = replace(MovieRecipe(), dose_change_share=1.0, blank_share=0.0)
    dose = draw_dose(rng_of(1), 12, 5.0, always)
    assert dose[0] == 5.0
    assert 0.25 <= dose[-1] / 5.0 <= 4.0
    assert len(set(dose.tolist())) == 2
    blank = draw_dose(rng_of(2), 12, 5.0, replace(always, dose_change_share=0.0, blank_share=1.0))
    assert blank[0] == 5.0
    assert 1 <= (blank == 0).sum() <= 4


def test_clean_counts_follow_the_dose() -> None:
    movies = draw_movies(rng_of(3), 1, 12, 32, replace(VACUUM, dose_change_share=1.0))
    dose = movies.dose_e_per_px[0]
    level = movies.clean[0].mean(dim=(1, 2))
    assert torch.allclose(level / level[0], dose / dose[0], rtol=1e-4)
    assert float(level[0] / dose[0]) == pytest.approx(7.0, rel=0.1)


@pytest.mark.parametrize("expected", [0.003, 0.7, MANY_E, 30.0, 400.0])
def test_arrivals_have_poissons_mean_variance_and_skewness(expected: float) -> None:
    drawn = arrivals(torch.full((200_000,), expected), torch.Generator().manual_seed(1)).double()
    error = np.sqrt(expected / 200_000)
    centred = drawn - drawn.mean()
    assert float(drawn.mean()) == pytest.approx(expected, abs=4 * error)
    assert float(drawn.var()) == pytest.approx(expected, rel=0.15 if expected < 0.1 else 0.02)
    skew = float(centred.pow(3).mean()) / expected**1.5
    assert skew == pytest.approx(expected**-0.5, rel=0.3, abs=0.03)
    assert (drawn == drawn.round()).all()


def test_blanked_frames_hold_no_electrons() -> None:
    movies = draw_movies(rng_of(4), 1, 8, 32, replace(VACUUM, blank_share=1.0))
    blanked = movies.dose_e_per_px[0] == 0
    assert blanked.any()
    assert (movies.noisy[0, blanked] == 0).all()


def test_flags_are_where_counts_are_not_the_specimens() -> None:
    noisy = torch.full((4, 32, 32), 100.0) + torch.arange(32)
    always = replace(MovieRecipe(), hit_share=1.0, hits_per_frame=(2.0, 2.0), stuck_share=1.0)
    shown, flagged = with_defects(rng_of(5), noisy, 0.01, always)
    assert flagged is not None
    assert torch.equal(shown != noisy, flagged)
    full = (shown == 65535).all(dim=0)
    assert 1 <= int(full.sum()) <= 20
    same, none = with_defects(rng_of(5), noisy, 0.0, QUIET)
    assert none is None
    assert torch.equal(same, noisy)


def test_hot_pixels_of_a_counting_camera_count_at_least_one() -> None:
    """Where a frame's deviation is a fraction of an electron, a hot pixel still shows."""
    noisy = torch.zeros(4, 32, 32)
    noisy[0, 3, 4] = 1
    shown, flagged = with_defects(rng_of(6), noisy, 0.02, QUIET)
    assert flagged is not None
    assert torch.equal(shown - noisy >= 1, flagged)
