"""Movies to judge by: each does what its name says, twins differ by the spots alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scgn.simulate.movies.coupling import coupled
from scgn.simulate.scenarios import (
    SCENARIOS,
    camera,
    dose_of_signal,
    noise_variance_adu2,
    pixel_signal_db,
    scenario,
)

FRAMES, SIDE_PX = 6, 96
EVENTS = ("appear", "vanish", "hop", "flicker")


def short(name: str, dose_e_per_px: float = 8.0, seed: int = 1):
    return scenario(name, dose_e_per_px, seed, FRAMES, SIDE_PX)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_is_a_movie_of_finite_counts(name: str) -> None:
    movie = short(name)
    assert movie.noisy.shape == movie.clean.shape == (1, FRAMES, SIDE_PX, SIDE_PX)
    assert torch.isfinite(movie.noisy).all()
    assert (movie.twin_clean is not None) == (name in EVENTS)
    assert float(movie.clean[0, 0].std()) > 0


def test_same_seed_same_movie_and_another_seed_another() -> None:
    first, again, other = short("appear"), short("appear"), short("appear", seed=2)
    assert torch.equal(first.noisy, again.noisy)
    assert torch.equal(first.twin_noisy, again.twin_noisy)
    assert first.events == again.events
    assert not torch.allclose(first.clean, other.clean)


def test_unknown_names_say_which_there_are() -> None:
    with pytest.raises(ValueError, match="growing-front"):
        scenario("rust", 8.0, 1)


@pytest.mark.parametrize("name", ["drift-0.5", "drift-2", "jump", "dose-up", "lines-1"])
def test_the_same_scene_in_every_scenario_of_a_seed(name: str) -> None:
    rest, other = short("rest"), short(name)
    assert torch.allclose(other.clean[:, 0], rest.clean[:, 0], rtol=1e-4)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_movies_jump_too(frames: int) -> None:
    assert scenario("jump", 8.0, 1, frames, 64).clean.shape == (1, frames, 64, 64)


def test_drift_moves_the_scene_at_rest() -> None:
    """drift-1 shifted back by its own drift is rest again, away from the border."""
    rest, moved = short("rest").clean[0, -1], short("drift-1")
    shift = moved.drift_px[0, -1]
    k = torch.fft.fftfreq(SIDE_PX)
    phase = torch.exp(2j * torch.pi * (k[:, None] * shift[0] + k * shift[1]))
    back = torch.fft.ifft2(torch.fft.fft2(moved.clean[0, -1]) * phase).real
    inner = slice(24, -24)
    error = (back - rest)[inner, inner].std()
    assert float(error) < 0.15 * float((moved.clean[0, -1] - rest)[inner, inner].std())
    assert float(torch.linalg.norm(shift)) == pytest.approx(FRAMES - 1, rel=1e-5)


def test_dose_scenarios_have_their_factors() -> None:
    for name, factor in (("dose-up", 3.0), ("dose-down", 1 / 3), ("blanked", 0.0)):
        movie = short(name)
        level = movie.clean[0].mean(dim=(1, 2))
        assert float(level[FRAMES // 2] / level[0]) == pytest.approx(factor, abs=1e-4)
        assert float(movie.dose_e_per_px[0, FRAMES // 2]) == pytest.approx(8 * factor)


@pytest.mark.parametrize("name", ["rest", "vacuum-edge", "sparse-counting"])
def test_the_mean_of_many_noisy_pixels_is_the_clean_one(name: str) -> None:
    movie = short(name, 40.0)
    error = (movie.noisy - movie.clean)[0].mean(dim=(1, 2))
    lines_adu = 0.0 if name == "sparse-counting" else 0.2 * 1.4 * 20 * np.sqrt(40 / SIDE_PX)
    point_adu = 20 * np.sqrt(40) / SIDE_PX
    assert float(error.abs().max()) < 4 * (lines_adu + point_adu)


@pytest.mark.parametrize("name", EVENTS)
def test_twins_differ_by_spots_of_the_said_contrast_alone(name: str) -> None:
    movie = short(name)
    change = (movie.clean - movie.twin_clean)[0]
    middle = FRAMES // 2
    seen = middle - 1 if name == "vanish" else middle
    places = np.array([(e.row, e.column) for e in movie.events])
    starts = np.array([(e.from_row, e.from_column) for e in movie.events])
    row, column = np.mgrid[:SIDE_PX, :SIDE_PX]
    away = np.min(
        [np.hypot(row - y, column - x) for y, x in np.concatenate([places, starts])], axis=0
    )
    beam = float(movie.gain_adu_per_e) * 8
    assert len(places) >= 5
    assert float(change[:, torch.from_numpy(away > 13)].abs().max()) < 1e-3 * beam
    for event in movie.events:
        window = change[seen, round(event.row), round(event.column)]
        off2 = (round(event.row) - event.row) ** 2 + (round(event.column) - event.column) ** 2
        wide2 = event.sigma_px**2 + 0.4**2  # the camera's blur
        expected = event.contrast * event.sigma_px**2 / wide2 * np.exp(-off2 / 2 / wide2)
        assert abs(event.contrast) == pytest.approx(0.3 * beam)
        assert float(window) == pytest.approx(expected, rel=0.03)


def test_twins_share_their_noise() -> None:
    movie = short("appear", 32.0)
    noise = movie.noisy - movie.clean
    apart = noise - (movie.twin_noisy - movie.twin_clean)
    before = apart[0, : FRAMES // 2 - 1]
    assert float(before.abs().max()) <= 1.0
    assert float(apart[0, FRAMES // 2 :].std()) < 0.1 * float(noise[0, FRAMES // 2 :].std())
    changed = (movie.clean - movie.twin_clean).abs()[0, -1] > 0.1 * 32 * 20
    assert float(apart[0, -1][changed].std()) < 0.4 * float(noise[0, -1][changed].std())


@pytest.mark.parametrize(("rate", "other"), [(0.02, 0.05), (2.0, 0.0), (8.0, 11.0), (300.0, 200.0)])
def test_coupled_counts_are_poisson_and_ordered(rate: float, other: float) -> None:
    generator = torch.Generator().manual_seed(1)
    expected, wanted = torch.full((20_000,), rate), torch.full((20_000,), other)
    counts = torch.poisson(expected, generator=generator)
    twin = coupled(counts, expected, wanted, generator)
    assert float(twin.mean()) == pytest.approx(other, abs=4 * np.sqrt(other / 20_000))
    assert float(twin.var()) == pytest.approx(other, rel=0.15 if other < 1 else 0.05)
    assert ((twin - counts) * np.sign(other - rate) >= 0).all()


def test_the_dose_for_a_signal_has_that_signal() -> None:
    dose = dose_of_signal("rest", -12.0, 1, FRAMES, SIDE_PX)
    movie = short("rest", dose)
    measured = float((movie.noisy - movie.clean)[0, 0].var())
    said = float(pixel_signal_db(movie.clean[0, 0], measured))
    assert said == pytest.approx(-12.0, abs=0.3)
    with pytest.raises(ValueError, match="any dose gives"):
        dose_of_signal("rest", 300.0, 1, FRAMES, SIDE_PX)


@pytest.mark.parametrize("name", ["rest", "blur-0.8", "lines-1", "sparse-counting"])
def test_the_said_noise_variance_is_the_frames(name: str) -> None:
    movie = short(name, 20.0)
    detector, beam_e = camera(name, SIDE_PX, 20.0)
    electrons = movie.clean[0, :, None] / float(movie.gain_adu_per_e)
    assert float(movie.dose_e_per_px[0, 0]) == pytest.approx(beam_e)
    said = float(noise_variance_adu2(detector, electrons).mean())
    measured = float((movie.noisy - movie.clean)[0].square().mean())
    assert measured == pytest.approx(said, rel=0.12 if name == "lines-1" else 0.05)
