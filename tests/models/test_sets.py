"""Fixed sets: the same scenes at every dose through one camera, and empty beam."""

from __future__ import annotations

import math

import pytest
import torch

from scgn.simulate import evaluation_set, noise_only_set, sets

FRAMES, SIDE = 8, 64


@pytest.mark.parametrize("dose_e_per_px", sets.DOSES_E_PER_PX)
def test_scenes_are_the_same_at_every_dose(dose_e_per_px) -> None:
    one, many = (evaluation_set(dose, FRAMES, SIDE) for dose in (1.0, dose_e_per_px))
    torch.testing.assert_close(many.clean, dose_e_per_px * one.clean, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(many.beam.flatten(), torch.full((FRAMES,), 20 * dose_e_per_px))
    assert torch.equal(many.atoms.position_px, one.atoms.position_px)
    assert torch.equal(many.atom_map, one.atom_map)
    assert torch.equal(many.vacuum, one.vacuum)
    assert torch.equal(many.sign, one.sign)


def test_noise_falls_as_the_root_of_the_dose() -> None:
    """In units of the beam: shot, read and line noise of the test camera."""
    for dose in (0.5, 32.0):
        data = noise_only_set(dose, 12, 96)
        noise = (data.noisy - data.clean) / data.beam
        mtf = sets.judging_camera(1, 96, dose).noise_transfer
        assert mtf is not None
        full = torch.cat([mtf, mtf[..., 1:-1]], dim=-1)
        point = dose * float(full.square().mean()) + 0.3**2
        lines = 0.2**2 * (dose + 0.3**2)
        expected = math.sqrt(point + lines + 0.005**2 * dose**2 + 1 / 12 / 20**2) / dose
        assert float(noise.std()) == pytest.approx(expected, rel=0.03)


def test_even_frames_have_column_noise_and_odd_ones_row_noise() -> None:
    data = noise_only_set(8.0, 20, 96)
    noise = data.noisy - data.clean
    by_column, by_row = noise.mean(dim=2).var(dim=-1), noise.mean(dim=3).var(dim=-1)
    larger = (by_column > by_row).flatten().tolist()
    assert larger == [True, False] * 10


def test_same_seed_same_set_and_tuning_is_another() -> None:
    first, again = (evaluation_set(2.0, FRAMES, SIDE) for _ in range(2))
    assert torch.equal(first.noisy, again.noisy)
    tuning = evaluation_set(2.0, FRAMES, SIDE, sets.TUNING_SEED)
    assert sets.TUNING_SEED != sets.TEST_SEED
    assert all(
        not torch.equal(a, b)
        for a, b in zip(first.clean, tuning.clean, strict=True)
        if a.std() > 0 or b.std() > 0
    )
    assert not torch.equal(first.noisy, tuning.noisy)


def test_scenes_are_of_every_kind() -> None:
    data = evaluation_set(8.0, 24, 96)
    assert set(data.sign.tolist()) >= {-1.0, 1.0}
    share = data.vacuum.float().mean(dim=(1, 2, 3))
    assert bool((share == 0).any()), "full frames"
    assert bool((share > 0.1).any()), "frames with an edge"


def test_noise_only_frames_hold_nothing() -> None:
    data = noise_only_set(4.0, 5, SIDE)
    assert data.noisy.shape == (5, 1, SIDE, SIDE)
    assert len(data.atoms.frame) == 0
    assert float(data.atom_map.abs().max()) == 0
    assert bool(data.vacuum.all())
    assert data.sign.tolist() == [0.0] * 5
    torch.testing.assert_close(data.clean, torch.full_like(data.clean, 80.0))
    assert float(data.noisy.mean()) == pytest.approx(80, rel=0.01)
    assert data.pixel_nm.tolist() == pytest.approx([0.025] * 5)
    assert torch.equal(data.noisy, noise_only_set(4.0, 5, SIDE).noisy)
    assert not torch.equal(data.noisy, noise_only_set(4.0, 5, SIDE, sets.TUNING_SEED).noisy)
