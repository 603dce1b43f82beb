"""The generator as a whole: reproducible, both targets of one draw, and what its switches say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from scgn.noise import NoiseModel
from scgn.simulate import Recipe, SimulatedBatch, simulate
from scgn.simulate.atoms import Atoms, atom_map, padded, render, vacuum
from scgn.simulate.batch import atom_sign
from scgn.simulate.generator import padded_atoms, specimen_images
from scgn.simulate.optics import Optics
from scgn.units import ATOM_MAP_PEAK

# A whole number of counts per electron: rounding a camera's 1.4 to 1 shifts the mean.
QUIET = Recipe(read_noise_e=(0, 0), line_noise=(0, 0), hot_share=(0, 0), clip_share=0,
               gain_adu_per_e=(20.0, 20.0))  # fmt: skip
SPOTS = replace(QUIET, spots_share=1.0, blob_share=0.0)


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def atoms_of(rows: list[tuple[int, float, float, float, float]], spacings: list[float]) -> Atoms:
    """From (frame, row, column, sigma, amplitude) of each atom and the spacing of each frame."""
    table = torch.tensor(rows).reshape(-1, 5)
    species = torch.zeros(len(table), dtype=torch.long)
    return Atoms(table[:, 0].long(), table[:, 1:3], table[:, 3], table[:, 4], species,
                 torch.tensor(spacings))  # fmt: skip


# ---- the whole ----


def test_same_seed_same_batch() -> None:
    first, again = (simulate(rng_of(5), 4, 48, Recipe()) for _ in range(2))
    for name in ("noisy", "clean", "atom_map", "sign", "beam", "pixel_nm", "vacuum"):
        assert torch.equal(getattr(first, name), getattr(again, name)), name
    for name, values in vars(first.atoms).items():
        assert torch.equal(values, getattr(again.atoms, name)), name


def test_other_seed_other_batch() -> None:
    first, other = (simulate(rng_of(seed), 4, 48, Recipe()) for seed in (5, 6))
    for a, b in ((first.noisy, other.noisy), (first.clean, other.clean)):
        assert all(not torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("side_px", [16, 33, 100])
def test_batch_is_what_it_says(side_px) -> None:
    data = simulate(rng_of(1), 3, side_px, Recipe()).to(torch.device("cpu"))
    for frames in (data.noisy, data.clean, data.atom_map):
        assert frames.shape == (3, 1, side_px, side_px)
        assert frames.dtype == torch.float32
        assert frames.isfinite().all()
    assert (data.clean > 0).all()
    assert data.vacuum.shape == data.clean.shape
    assert data.vacuum.dtype == torch.bool
    assert data.beam.shape == (3, 1, 1, 1)
    assert data.sign.shape == data.pixel_nm.shape == (3,)


def test_clean_is_the_mean_of_noisy() -> None:
    """Frame by frame: mean residual and its likeness to the scene within five standard errors."""
    data = simulate(rng_of(2), 40, 64, replace(QUIET, blur_px=(0, 0)))
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
    for dose in (1.0, 25.0, 80.0):
        recipe = replace(QUIET, dose_e_per_px=(dose, dose), blur_px=(0, 0), response=(0, 0))
        data = simulate(rng_of(3), 8, 96, recipe)
        relative = (data.noisy - data.clean).square().mean(dim=(1, 2, 3)) / (
            data.clean.mean(dim=(1, 2, 3)) * data.beam.flatten() / dose
        )
        torch.testing.assert_close(relative, torch.ones(8), rtol=0.1, atol=0)


def test_pixels_are_as_large_as_crystals_make_them() -> None:
    data = simulate(rng_of(4), 200, 16, Recipe())
    pixel_a = 10 * data.pixel_nm
    assert 0.0999 < float(pixel_a.min()) < 0.15
    assert 0.3 < float(pixel_a.max()) < 0.5001
    neighbours_a = pixel_a * data.atoms.spacing_px
    assert 1.39 < float(neighbours_a.min()) < float(neighbours_a.max()) < 4.11


def test_a_calibration_takes_the_detectors_place() -> None:
    camera = NoiseModel(gain_adu_per_e=7.0, read_noise_adu=3.0)
    data = simulate(rng_of(6), 6, 64, replace(QUIET, dose_e_per_px=(5.0, 5.0)), camera)
    torch.testing.assert_close(data.beam.flatten(), torch.full((6,), 35.0))
    variance = (data.noisy - data.clean).square().mean(dim=(1, 2, 3))
    expected = camera.point_sigma(data.clean.mean(dim=(1, 2, 3)).numpy()) ** 2
    np.testing.assert_allclose(variance.numpy(), expected, rtol=0.08)
    drawn = simulate(rng_of(6), 6, 64, replace(QUIET, dose_e_per_px=(5.0, 5.0)))
    assert torch.equal(drawn.atoms.position_px, data.atoms.position_px)


# ---- both targets ----


def test_atom_map_peaks_at_the_listed_atoms() -> None:
    """Every atom well inside its frame is a local maximum of the map, and vacancies are not."""
    data = simulate(rng_of(7), 16, 96, replace(SPOTS, spacing_px=(12.0, 16.0)))
    peaks = torch.nn.functional.max_pool2d(data.atom_map, 3, 1, 1) == data.atom_map
    assert 254 < float(data.atom_map.max()) <= ATOM_MAP_PEAK
    found = 0
    for frame in data.atoms.frame.unique().tolist():
        atoms = data.atoms.of(frame)
        there = atoms.position_px[atoms.amplitude > 0]
        apart = torch.cdist(there, there).fill_diagonal_(torch.inf).amin(dim=1)
        clear = (apart > 8) & ((there > 2) & (there < 93)).all(dim=1)
        listed = there[clear]
        shown = peaks[frame, 0].nonzero().float()
        assert bool((torch.cdist(listed, shown).amin(dim=1) < 1.0).all())
        found += len(listed)
        bright = shown[data.atom_map[frame, 0][peaks[frame, 0]] > 0.7 * ATOM_MAP_PEAK]
        assert float(torch.cdist(bright, there).amin(dim=1).max()) < 4.0, "no spot without an atom"
    assert found > 200


def test_sign_of_spots_is_that_of_their_contrast() -> None:
    """Spots are drawn bright or dark: clean at the atoms of a frame lies above or below vacuum."""
    recipe = replace(SPOTS, contrast=(0.5, 0.5), spacing_px=(12.0, 16.0))
    data = simulate(rng_of(8), 40, 64, recipe)
    assert {-1.0, 1.0} <= set(data.sign.tolist()) <= {-1.0, 0.0, 1.0}
    full = 0
    for frame in range(40):
        relative = data.clean[frame] / data.beam[frame]
        if len(data.atoms.of(frame).frame) == 0:
            assert data.sign[frame] == 0
        elif data.sign[frame] != 0:
            far = (relative - 1).flatten()[(relative - 1).abs().argmax()]
            assert data.sign[frame] == far.sign()
            full += 1
    assert full > 25


def test_sign_is_none_where_contrast_is_none() -> None:
    atoms = atoms_of([(0, 8.0, 8.0, 1.0, 1.0), (1, 8.0, 8.0, 1.0, 1.0)], [9.0, 9.0])
    spot = render(atoms, atoms.amplitude, atoms.sigma_px, 17)[:, None]
    flat = torch.ones_like(spot)
    assert atom_sign(100 + 20 * spot, atoms).tolist() == [1.0, 1.0]
    assert atom_sign(100 - 20 * spot, atoms).tolist() == [-1.0, -1.0]
    assert atom_sign(flat, atoms).tolist() == [0.0, 0.0]
    vacant = replace(atoms, amplitude=torch.zeros(2))
    assert atom_sign(100 + 20 * spot, vacant).tolist() == [0.0, 0.0]


def test_vacuum_is_away_from_every_atom() -> None:
    data: SimulatedBatch = simulate(rng_of(9), 24, 64, Recipe())
    y, x = torch.meshgrid(*[torch.arange(64.0)] * 2, indexing="ij")
    pixels = torch.stack([y, x], -1).view(-1, 2)
    for frame in range(24):
        atoms = data.atoms.of(frame)
        there = atoms.position_px[atoms.amplitude > 0]
        empty = data.vacuum[frame].flatten()
        if len(there) == 0:
            assert bool(empty.all())
            continue
        nearest = torch.cdist(pixels, there).amin(dim=1) / atoms.spacing_px
        assert not bool(empty[nearest < 1.5].any())
        assert bool(empty[nearest > 3].all()), "a few far atoms together count as less than one"


def test_vacuum_ends_one_and_a_half_spacings_from_a_lone_atom() -> None:
    lone = atoms_of([(0, 32.0, 32.0, 1.0, 1.0)], [10.0])
    row = vacuum(lone, 65)[0, 0, 32]
    assert not bool(row[18:47].any())
    assert bool(row[:17].all())
    assert bool(row[48:].all())


def test_lens_images_a_column_where_the_list_says() -> None:
    """Round lens, one column on a pixel's centre: contrast is strongest there and even about it."""
    lone = atoms_of([(0, 24.0, 37.0, 1.0, 1.0)], [10.0])
    zero = torch.zeros(1, 1, 1)
    for defocus_a in (-60.0, 60.0):
        lens = Optics(zero + 200, zero + defocus_a, zero, zero + 20, zero, zero, zero)
        image, absorbing = (
            specimen_images(padded_atoms(lone), [("Au", "Au")], zero + 2, zero, zero + absorbed,
                            lens, zero + 0.2, 64, zero + 1.4, torch.Generator())[0, 0]
            for absorbed in (0.0, 0.1)
        )  # fmt: skip
        contrast = image - 1
        assert divmod(int(contrast.abs().argmax()), 64) == (24, 37)
        assert contrast[24, 37].sign() == (1 if defocus_a > 0 else -1)
        around = contrast[24 - 12 : 24 + 13, 37 - 12 : 37 + 13]
        for turned in (around.flip(0), around.flip(1), around.T):
            torch.testing.assert_close(turned, around, rtol=0, atol=2e-3)
        assert float(absorbing.mean()) < float(image.mean()) - 1e-4


# ---- atoms on a grid ----


def test_render_is_a_sum_of_gaussians_pixel_by_pixel() -> None:
    rng = rng_of(4)
    rows = [
        (int(f), *rng.uniform(-3, 15, 2), rng.uniform(0.8, 3), rng.uniform(0.3, 1))
        for f in rng.integers(0, 3, 12)
        if f != 1
    ]
    atoms = atoms_of(rows, [9.0] * 3)
    result = render(atoms, atoms.amplitude, atoms.sigma_px, 12)
    expected = np.zeros((3, 12, 12))
    for frame, row, column, sigma, amplitude in rows:
        for i, j in np.ndindex(12, 12):
            distance2 = (i - row) ** 2 + (j - column) ** 2
            expected[frame, i, j] += amplitude * np.exp(-distance2 / (2 * sigma**2))
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)
    assert not result[1].any(), "a frame without atoms is empty"


def test_padding_keeps_each_frames_values_in_order() -> None:
    frame = torch.tensor([2, 0, 2, 2])
    result = padded(torch.tensor([5.0, 6.0, 7.0, 8.0]), frame, 3)
    assert result.tolist() == [[6, 0, 0], [0, 0, 0], [5, 7, 8]]


def test_spots_are_a_fifth_of_the_spacing_and_cut_at_the_peak() -> None:
    close = [(0, 20.0, 20.0, 1.0, 1.0), (0, 20.5, 20.0, 1.0, 0.5), (1, 20.0, 20.0, 1.0, 0.0)]
    lone = [(2, 20.0, 20.0, 1.0, 0.4)]
    maps = atom_map(atoms_of(close + lone, [10.0, 10.0, 10.0]), 41)[:, 0]
    assert float(maps[0].max()) == ATOM_MAP_PEAK
    assert float(maps[1].max()) == 0, "a vacant site"
    across = (torch.arange(41.0) - 20).square() / (2 * 2.0**2)
    torch.testing.assert_close(maps[2, 20], ATOM_MAP_PEAK * torch.exp(-across))
