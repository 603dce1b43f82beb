"""A recipe's ranges and switches: what the drawn images and cameras show of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from scgn.simulate.atoms import Atoms
from scgn.simulate.detector import column, expose, log_uniform, sometimes, uniform
from scgn.simulate.generator import (
    DARKEST,
    background,
    draw_detector,
    draw_images,
    particles,
    pixel_sizes_a,
    seeded,
)
from scgn.simulate.recipe import Recipe
from scgn.simulate.structures import atoms_of_fields, draw_atoms
from scgn.units import point_noise

PLAIN = Recipe(blob_share=0.0, film_share=0.0)
SPOTS = replace(PLAIN, spots_share=1.0)
LENS = replace(PLAIN, spots_share=0.0)


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def lone_atoms(frames: int, each: int = 1) -> Atoms:
    """One full atom (or none) in the middle of each 64 px frame."""
    one = (np.full((each, 2), 32.0), np.full(each, 2.0), np.ones(each), np.zeros(each, np.int64))
    return atoms_of_fields([one] * frames, np.full(frames, 10.0))


def images_of_atoms(seed: int, atoms: Atoms, recipe: Recipe) -> Tensor:
    """Relative intensity of atoms in 64 px frames of 0.2 A pixels."""
    rng, count = rng_of(seed), len(atoms.spacing_px)
    pixel_a = torch.full((count, 1, 1), 0.2)
    return draw_images(rng, atoms, pixel_a, 64, recipe, seeded(rng, None))


def images_of(seed: int, recipe: Recipe, count: int = 6, side: int = 64) -> Tensor:
    """Relative intensity of the same atoms for any recipe of the same seed."""
    rng = rng_of(seed)
    atoms = draw_atoms(rng, count, side, (9.0, 14.0))
    return draw_images(rng, atoms, pixel_sizes_a(rng, atoms, recipe), side, recipe,
                       seeded(rng, None))  # fmt: skip


# ---- images ----


def test_spots_share_decides_between_spots_and_lens() -> None:
    """A frame of a mixed batch is exactly its image through the lens or exactly its spots."""
    never, always = (images_of(20, replace(PLAIN, spots_share=share)) for share in (0.0, 1.0))
    both = images_of(20, replace(PLAIN, spots_share=0.5))
    of_each = [
        (torch.equal(mixed, lens), torch.equal(mixed, spots))
        for mixed, lens, spots in zip(both, never, always, strict=True)
    ]
    assert all(lens != spots for lens, spots in of_each), "each frame is one or the other"
    assert {lens for lens, _ in of_each} == {True, False}


def test_spots_are_as_strong_as_their_contrast() -> None:
    """Level 1 +- contrast at full atoms, times the slow illumination (deviation below 0.05)."""
    image = images_of_atoms(21, lone_atoms(30), replace(SPOTS, contrast=(0.4, 0.4)))
    lift = image[:, 0, 32, 32] / image[:, 0, 32, 20] - 1
    assert float((lift.abs() - 0.4).abs().median()) < 0.03
    assert float((lift.abs() - 0.4).abs().max()) < 0.1
    assert 0.4 < float((lift > 0).float().mean()) < 0.85


def test_particles_absorb_in_their_share_of_the_frames() -> None:
    assert (particles(rng_of(22), 20, 48, 0.0) == 1).all()
    passed = particles(rng_of(22), 60, 48, 1.0)
    assert 0.39 < float(passed.min()) < 0.75
    assert float(passed.max()) <= 1
    with_some = particles(rng_of(22), 60, 48, 0.3).amin(dim=(1, 2, 3)) < 1
    assert 8 <= int(with_some.sum()) <= 30
    clear, absorbing = (images_of(23, replace(PLAIN, blob_share=share)) for share in (0.0, 1.0))
    assert (absorbing <= clear).all()
    assert float((clear - absorbing).amax(dim=(1, 2, 3)).min()) > 0.02


def test_film_is_in_the_vacuum_of_its_share_of_the_frames() -> None:
    """Beside the slow illumination, vacuum is smooth without a film and grainy with one."""

    def grain(recipe: Recipe) -> Tensor:
        image = images_of_atoms(24, lone_atoms(24, each=0), recipe)
        step = image[..., 2:] - image[..., :-2]
        return (step[..., 2:, :] - step[..., :-2, :]).std(dim=(1, 2, 3))

    lens = replace(LENS, film_rad=(0.1, 0.1))
    assert float(grain(replace(lens, film_share=0.0)).max()) < 0.005
    assert float(grain(replace(lens, film_share=1.0)).min()) > 0.01
    some = (grain(replace(lens, film_share=0.5)) > 0.007).sum()
    assert 5 <= int(some) <= 19


def test_thick_columns_are_scaled_down_to_the_largest_phase() -> None:
    """Contrast of strong frames falls with the limit, and with the atoms in a column."""
    thick = replace(LENS, columns=(12.0, 12.0), phase_max_rad=(1.0, 1.0))
    deep, shallow, thin = (
        images_of(25, recipe).std(dim=(1, 2, 3))
        for recipe in (
            thick,
            replace(thick, phase_max_rad=(0.05, 0.05)),
            replace(LENS, columns=(0.01, 0.01)),
        )
    )
    scattering = deep > 0.05
    assert int(scattering.sum()) >= 3
    assert (shallow[scattering] < 0.5 * deep[scattering]).all()
    assert (thin[scattering] < 0.5 * deep[scattering]).all()


def test_background_is_slow_and_faint() -> None:
    frames = background(rng_of(11), 30, 128) - 1
    assert frames.shape == (30, 1, 128, 128)
    assert float(frames.abs().max()) < 0.3
    assert float(frames.std()) > 0.005
    steps = (frames[..., 1:] - frames[..., :-1]).abs().amax(dim=(1, 2, 3))
    assert (steps < 0.2 * frames.abs().amax(dim=(1, 2, 3))).all()


def test_no_image_is_darker_than_a_hundredth() -> None:
    black = replace(SPOTS, contrast=(5.0, 5.0))
    assert float(images_of(26, black, 12).min()) == pytest.approx(DARKEST)


# ---- cameras ----


def test_drawn_cameras_stay_within_the_recipe() -> None:
    recipe = Recipe()
    dose = log_uniform(rng_of(0), recipe.dose_e_per_px, 600)
    drawn = draw_detector(rng_of(1), dose, 32, recipe)
    read_e = drawn.read_noise_adu / drawn.gain_adu_per_e
    assert 0.99 < float(drawn.gain_adu_per_e.min()) < float(drawn.gain_adu_per_e.max()) < 100.1
    assert 1.4 < float(read_e.max()) <= 1.5001
    assert float((read_e == 0).float().mean()) == pytest.approx(0.4, abs=0.08), "counting cameras"
    whole = drawn.gain_adu_per_e == drawn.gain_adu_per_e.round()
    assert torch.equal(whole, read_e == 0), "an electron is a whole number of counts where counted"
    point_adu = drawn.gain_adu_per_e * (dose + read_e.square()).sqrt()
    relative = drawn.line_noise_adu / point_adu
    assert 0.95 < float(relative.max()) <= 1.0001
    assert float((relative == 0).float().mean()) == pytest.approx(0.6, abs=0.08)
    assert float(drawn.along_columns.mean()) == pytest.approx(0.5, abs=0.08)
    assert float(drawn.clips.mean()) == pytest.approx(recipe.clip_share, abs=0.05)
    assert float(drawn.hot_share.max()) <= 5e-4
    assert drawn.to(torch.device("cpu")).whole is True


def test_drawn_line_noise_is_in_units_of_the_point_noise() -> None:
    """The units that frames are brought to see the same point noise with and without lines."""
    quiet = Recipe(line_noise=(1.0, 1.0), read_noise_e=(0, 0), blur_px=(0, 0), response=(0, 0),
                   hot_share=(0, 0), gain_adu_per_e=(20.0, 20.0), clip_share=0)  # fmt: skip
    dose = column(np.full(60, 100.0))
    noisy, _ = expose(
        draw_detector(rng_of(9), dose, 128, quiet),
        torch.full((60, 1, 128, 128), 100.0),
        torch.Generator().manual_seed(9),
    )
    torch.testing.assert_close(
        point_noise(noisy).flatten(), torch.full((60,), 200.0), rtol=0.1, atol=0
    )
    variance = noisy.var(dim=(1, 2, 3))
    lined = variance > 1.5 * 200**2
    assert 14 <= int(lined.sum()) <= 34, "four of ten"
    assert float(variance[lined].mean()) == pytest.approx(2 * 200**2, rel=0.1)


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
    assert set(sometimes(rng_of(14), 0.3, 4000).flatten().tolist()) == {0.0, 1.0}
    assert float(sometimes(rng_of(14), 0.3, 4000).mean()) == pytest.approx(0.3, abs=0.04)
