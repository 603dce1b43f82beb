"""The simulator: reproducible, and each of its parts with the statistics it promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scgn.simulate import (
    Recipe,
    background,
    detect,
    line_noise,
    log_uniform,
    render,
    simulate,
    uniform,
)
from scgn.structures import Atoms
from scgn.units import point_noise

QUIET = Recipe(read_noise_e=(0.0, 0.0), line_noise=(0.0, 0.0))


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def atoms_of(rows: list[tuple[int, float, float, float, float]]) -> Atoms:
    """From (frame, row, column, sigma, amplitude) of each atom."""
    table = torch.tensor(rows).reshape(-1, 5)
    return Atoms(table[:, 0].long(), table[:, 1:3], table[:, 3], table[:, 4])


# ---- the whole ----


def test_same_seed_same_batch() -> None:
    first, again = (simulate(rng_of(5), 4, 48, Recipe()) for _ in range(2))
    torch.testing.assert_close(first.noisy, again.noisy, rtol=0, atol=0)
    torch.testing.assert_close(first.clean, again.clean, rtol=0, atol=0)


def test_other_seed_other_batch() -> None:
    first, other = (simulate(rng_of(seed), 4, 48, Recipe()) for seed in (5, 6))
    for a, b in ((first.noisy, other.noisy), (first.clean, other.clean)):
        assert all(not torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("side_px", [16, 33, 100])
def test_batch_is_what_it_says(side_px) -> None:
    data = simulate(rng_of(1), 3, side_px, Recipe())
    for frames in (data.noisy, data.clean):
        assert frames.shape == (3, 1, side_px, side_px)
        assert frames.dtype == torch.float32
        assert frames.isfinite().all()
    assert (data.clean > 0).all()


def test_clean_is_the_mean_of_noisy() -> None:
    """Frame by frame: the mean residual is zero within five standard errors."""
    data = simulate(rng_of(2), 40, 64, QUIET)
    residual = data.noisy - data.clean
    error = residual.std(dim=(1, 2, 3)) / 64
    assert (residual.mean(dim=(1, 2, 3)).abs() < 5 * error).all()
    pattern = data.clean - data.clean.mean(dim=(2, 3), keepdim=True)
    power = pattern.square().sum(dim=(1, 2, 3))
    slope = (residual * pattern).sum(dim=(1, 2, 3)) / power
    slope_error = residual.std(dim=(1, 2, 3)) / power.sqrt()
    assert (slope.abs() < 5 * slope_error).all(), "noise must not know the scene"


def test_dose_range_decides_the_noise() -> None:
    """At D electrons per pixel the noise of a counting camera is 1/sqrt(D) of the level."""
    for dose in (1.0, 25.0, 100.0):
        recipe = Recipe(dose_e_per_px=(dose, dose), read_noise_e=(0, 0), line_noise=(0, 0))
        data = simulate(rng_of(3), 8, 96, recipe)
        level = data.clean.mean(dim=(1, 2, 3), keepdim=True)
        relative = (data.noisy - data.clean).std(dim=(1, 2, 3)) / level.flatten()
        electrons = 1 / relative.square()
        assert float(electrons.mean()) == pytest.approx(dose, rel=0.3)


# ---- the parts ----


def test_render_is_a_sum_of_gaussians_pixel_by_pixel() -> None:
    rng = rng_of(4)
    rows = [
        (int(f), *rng.uniform(-3, 15, 2), rng.uniform(0.8, 3), rng.uniform(0.3, 1))
        for f in rng.integers(0, 3, 12)
        if f != 1
    ]
    result = render(atoms_of(rows), 3, 12)
    expected = np.zeros((3, 1, 12, 12))
    for frame, row, column, sigma, amplitude in rows:
        for i, j in np.ndindex(12, 12):
            distance2 = (i - row) ** 2 + (j - column) ** 2
            expected[frame, 0, i, j] += amplitude * np.exp(-distance2 / (2 * sigma**2))
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)
    assert not result[1].any(), "a frame without atoms is empty"


def test_render_puts_the_first_coordinate_along_rows() -> None:
    frame = render(atoms_of([(0, 2.0, 7.0, 1.0, 0.6)]), 1, 12)[0, 0]
    assert divmod(int(frame.argmax()), 12) == (2, 7)
    assert float(frame.max()) == pytest.approx(0.6)


def test_shot_noise_is_poisson() -> None:
    for electrons in (0.5, 4.0, 60.0):
        expected = torch.full((4, 1, 128, 128), electrons)
        noisy = detect(rng_of(7), expected, QUIET)
        count = noisy.numel()
        assert torch.equal(noisy, noisy.round())
        assert float(noisy.min()) >= 0
        assert float(noisy.mean()) == pytest.approx(electrons, abs=5 * (electrons / count) ** 0.5)
        variance_error = electrons * ((2 + 1 / electrons) / count) ** 0.5
        assert float(noisy.var()) == pytest.approx(electrons, abs=5 * variance_error)


def test_read_noise_adds_its_variance() -> None:
    recipe = Recipe(read_noise_e=(3.0, 3.0), line_noise=(0.0, 0.0))
    noisy = detect(rng_of(8), torch.full((4, 1, 128, 128), 10.0), recipe)
    assert float(noisy.var()) == pytest.approx(10 + 9, rel=0.05)


def test_line_noise_of_half_the_cameras_in_units_of_the_point_noise() -> None:
    recipe = Recipe(read_noise_e=(0.0, 0.0), line_noise=(1.0, 1.0))
    electrons = torch.full((60, 1, 128, 128), 100.0)
    noisy = detect(rng_of(9), electrons, recipe)
    torch.testing.assert_close(
        point_noise(noisy).flatten(), torch.full((60,), 10.0), rtol=0.1, atol=0
    )
    with_lines = noisy.var(dim=(1, 2, 3)) > 150
    assert 15 <= int(with_lines.sum()) <= 45
    assert float(noisy.var(dim=(1, 2, 3))[with_lines].mean()) == pytest.approx(200, rel=0.1)


def test_line_noise_is_constant_along_its_line() -> None:
    frames = line_noise(rng_of(10), 60, 200)[:, 0]
    by_column = (frames == frames[:, :1]).all(dim=2).all(dim=1)
    by_row = (frames == frames[:, :, :1]).all(dim=2).all(dim=1)
    assert (by_column ^ by_row).all(), "each frame along exactly one axis"
    assert 15 <= int(by_column.sum()) <= 45
    lines = torch.where(by_column[:, None], frames[:, 0], frames[:, :, 0])
    assert float(lines.var()) == pytest.approx(1, rel=0.05)
    assert float(lines.mean()) == pytest.approx(0, abs=0.06)
    neighbours = (lines[:, 1:] * lines[:, :-1]).mean(dim=1)
    assert -0.25 < float(neighbours.min()) < float(neighbours.max()) < 0.4 + 0.25
    assert float(neighbours.mean()) == pytest.approx(0.22, abs=0.06)
    assert float((lines[:, 2:] * lines[:, :-2]).mean()) == pytest.approx(0, abs=0.06)


def test_background_is_slow_and_faint() -> None:
    frames = background(rng_of(11), 30, 128)
    assert frames.shape == (30, 1, 128, 128)
    assert float(frames.abs().max()) < 0.6
    assert float(frames.std()) > 0.005
    steps = (frames[..., 1:] - frames[..., :-1]).abs().amax(dim=(1, 2, 3))
    assert (steps < 0.2 * frames.abs().amax(dim=(1, 2, 3))).all()


def test_ranges_are_drawn_as_they_say() -> None:
    values = log_uniform(rng_of(12), (0.5, 50.0), 4000).flatten()
    assert values.dtype == torch.float32
    assert 0.499 < float(values.min()) < 0.52
    assert 48 < float(values.max()) < 50.1
    assert float(values.median()) == pytest.approx(5, rel=0.15)
    flat = uniform(rng_of(13), (2.0, 4.0), 4000)
    assert flat.shape == (4000, 1, 1, 1)
    assert float(flat.mean()) == pytest.approx(3, abs=0.05)
    assert float(flat.var()) == pytest.approx(4 / 12, rel=0.1)
