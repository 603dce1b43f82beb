"""Where the specimen is: drift with the right sign, whole pixels, cuts, doses that change."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch

from scgn.evaluate.movies.judge import drift_errors, trace_of_before
from scgn.evaluate.movies.measures import mean_square
from scgn.evaluate.movies.watch import Watched, alone, opened, watched
from scgn.simulate.movies import Movies
from scgn.simulate.scenarios import scenario

SMALL_PX = 160
FOUND = 0.15  # px a frame, rms, from the twelfth frame on


@lru_cache(maxsize=8)
def shown(name: str, dose: float, seed: int, side_px: int = 256) -> tuple[Movies, Watched]:
    movies = scenario(name, dose, seed, 24, side_px)
    return movies, watched(opened(None), movies.noisy[0].numpy())


@pytest.mark.parametrize("name", ["rest", "drift-0.3", "drift-1"])
def test_drift_is_found_at_2_e_per_px(name) -> None:
    """From the twelfth frame on, in both directions alike."""
    movies, found = shown(name, 2.0, 1)
    errors = drift_errors(movies, found)
    assert errors["drift_error_px"] <= FOUND
    assert errors["drift_unknown"] == 0
    travelled = found.position_px - movies.drift_px[0].numpy()
    assert np.abs(travelled[12:]).max() < 1


def test_positive_is_towards_higher_indices() -> None:
    """A specimen moved by hand: 1 px down and 2 px to the left in every frame."""
    scene = scenario("rest", 32.0, 2, 1, 192).clean[0, 0]
    frames = [torch.roll(scene, (step, -2 * step), (0, 1))[32:160, 32:160] for step in range(14)]
    electrons = torch.stack(frames) / 20
    noisy = torch.poisson(electrons, generator=torch.Generator().manual_seed(0))
    found = watched(opened(None), noisy.numpy())
    assert found.facts[-1]["drift_rows"] == pytest.approx(1, abs=0.05)
    assert found.facts[-1]["drift_columns"] == pytest.approx(-2, abs=0.05)
    assert found.position_px[-1] == pytest.approx(np.array([13.0, -26.0]), abs=0.3)


def test_whole_pixels_are_rolled_and_nothing_is_lost() -> None:
    """After a jump by whole pixels the frame shows what it would have shown, in its new place."""
    movies = scenario("rest", 8.0, 2, 12, 256)
    noisy = movies.noisy[0].clone()
    still = watched(opened(None), noisy.numpy())
    noisy[10:] = torch.roll(noisy[10:], (5, -3), (1, 2))
    moved = watched(opened(None), noisy.numpy())
    assert np.round(moved.position_px[-1] - still.position_px[-1]).tolist() == [5, -3]
    assert moved.fact("cut").sum() == 0
    assert moved.facts[-1]["averaged"] == pytest.approx(12, abs=0.5)
    inner = slice(16, -16)
    for t in (10, 11):
        back = torch.roll(moved.output[t], (-5, 3), (0, 1))[inner, inner]
        there = still.output[t][inner, inner]
        clean = movies.clean[0, t][inner, inner]
        assert mean_square(back, clean) < 1.1 * mean_square(there, clean)


@pytest.mark.parametrize("dose", [2.0, 8.0])
def test_a_cut_leaves_no_trace(dose) -> None:
    """Less than 2 % of the scene before, from the second frame on; it is seen in the first."""
    movies, found = shown("cut", dose, 1, SMALL_PX)
    cut = int(movies.cut_frame[0])
    assert np.flatnonzero(found.fact("cut")).tolist() == [cut]
    assert found.facts[cut]["averaged"] == 1
    trace = trace_of_before(movies, opened(None), found.output)
    assert np.abs(trace[1:]).max() < 0.02


def test_the_trace_of_a_running_mean_is_seen() -> None:
    """The measure itself: half of the old scene in one stream, none in its twin, is a quarter."""
    movies, found = shown("cut", 8.0, 1, SMALL_PX)
    cut, output = int(movies.cut_frame[0]), found.output
    haunted = output.clone()
    haunted[cut:] += 0.5 * (movies.clean[0, cut - 1] - movies.clean[0, cut - 1].mean())
    both = trace_of_before(movies, opened(None), haunted) - trace_of_before(
        movies, opened(None), output
    )
    assert both == pytest.approx(np.full(len(both), 0.25), abs=1e-4)


@pytest.mark.parametrize("name", ["dose-up", "dose-down", "blanked"])
def test_another_dose_begins_anew(name) -> None:
    """The means are of one dose: the first frame of another is its own, and as good as alone."""
    movies, found = shown(name, 8.0, 1, SMALL_PX)
    step = len(found.facts) // 2
    assert found.facts[step - 1]["averaged"] == pytest.approx(step, abs=1)
    assert found.facts[step]["averaged"] == 1
    if name == "blanked":
        step += int((movies.dose_e_per_px[0] == 0).sum())
        assert found.facts[step]["averaged"] == 1
    clean, single = movies.clean[0, step], alone(opened(None), movies.noisy[0].numpy())[step]
    assert mean_square(found.output[step], clean) < 1.03 * mean_square(single, clean)
