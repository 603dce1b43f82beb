"""The published set's recipe: levels, the noise of figure 3, and the 8-bit range."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from scgn.simulate import SimulatedBatch, paper
from scgn.simulate.paper import perlin, simulate_paper

SIDE = 128


def frames(seed: int, count: int = 8) -> SimulatedBatch:
    return simulate_paper(np.random.default_rng(seed), count, SIDE)


@pytest.fixture
def level_ground(monkeypatch) -> None:
    monkeypatch.setattr(paper, "BACKGROUND_SWING", 0.0)


def isolated_columns(data: SimulatedBatch) -> Tensor:
    """Values of clean at full columns with nothing within four sigma."""
    values = []
    for frame in data.atoms.frame.unique().tolist():
        atoms = data.atoms.of(frame)
        apart = torch.cdist(atoms.position_px, atoms.position_px).fill_diagonal_(torch.inf)
        alone = (apart.amin(dim=1) > 12) & (atoms.amplitude >= 1)
        place = atoms.position_px[alone].round().long()
        inside = ((place >= 0) & (place < SIDE)).all(dim=1)
        values.append(data.clean[frame, 0][tuple(place[inside].T)])
    return torch.cat(values)


@pytest.mark.usefixtures("level_ground")
def test_levels_are_those_of_the_paper() -> None:
    """89 where nothing is, 126 at the middle of a full column (its centre is off the grid)."""
    data = frames(1, 24)
    columns, empty = isolated_columns(data), data.clean[data.vacuum]
    assert len(columns) > 20
    assert 89 + 37 * 0.94 < float(columns.min()) <= float(columns.max()) <= 126.001
    assert float(columns.median()) == pytest.approx(126, abs=2)
    assert float(empty.min()) == pytest.approx(89, abs=1e-3)
    assert float(empty.median()) == pytest.approx(89, abs=0.1)


def test_background_swings_slowly_around_its_level() -> None:
    slow = perlin(np.random.default_rng(2), 40, SIDE)
    assert slow.shape == (40, 1, SIDE, SIDE)
    assert 0.5 < float(slow.abs().max()) < 1.4
    assert float(slow.mean()) == pytest.approx(0, abs=0.05)
    assert float((slow[..., 1:] - slow[..., :-1]).abs().max()) < 0.15
    fine = slow - torch.nn.functional.interpolate(
        torch.nn.functional.avg_pool2d(slow, 16), (SIDE, SIDE), mode="bilinear"
    )
    assert float(fine.std()) < 0.5 * float(slow.std())


def test_point_noise_grows_with_the_signal_and_columns_share_theirs() -> None:
    """sigma_p = 1.377 + 0.0358 s by brightness; sigma_c = 0.62; rounding adds a twelfth."""
    data = frames(3, 48)
    noise = data.noisy - data.clean
    shared = noise.mean(dim=2, keepdim=True)
    point = noise - shared
    for low in (80.0, 90.0, 100.0, 115.0):
        here = (data.clean >= low) & (data.clean < low + 8)
        sigma = 1.377 + 0.0358 * data.clean[here]
        expected = float((sigma.square() + 1 / 12).mean().sqrt())
        assert float(point[here].std()) == pytest.approx(expected, rel=0.02)
    own = (data.noisy - data.clean).var() / SIDE
    assert float(shared.var() - own) == pytest.approx(0.62**2, rel=0.08)
    assert float(noise.mean(dim=3).var()) == pytest.approx(float(own), rel=0.3), "no row noise"


def test_frames_are_eight_bit() -> None:
    data = frames(4)
    assert data.noisy.dtype == torch.float32
    assert torch.equal(data.noisy, data.noisy.round())
    assert 0 <= float(data.noisy.min()) < float(data.noisy.max()) <= 255


def test_values_beyond_eight_bits_are_cut(monkeypatch) -> None:
    monkeypatch.setattr(paper, "POINT_SLOPE", 2.0)
    data = frames(5, 2)
    assert float(data.noisy.min()) == 0
    assert float(data.noisy.max()) == 255
    assert float((data.noisy == 255).float().mean()) > 0.05


def test_target_is_spots_of_three_pixels_on_black() -> None:
    data = frames(6, 12)
    assert data.atom_map.shape == data.noisy.shape
    assert 0 <= float(data.atom_map.min()) < float(data.atom_map.max()) <= 255
    assert float(data.atom_map[data.vacuum].max()) < 2
    spacing = data.atoms.spacing_px
    assert 11 <= float(spacing.min()) < float(spacing.max()) <= 15
    assert (data.sign >= 0).all(), "atoms are bright, or there are none"
    assert (data.pixel_nm == 0.02).all()
    assert (data.beam == 89).all()


def test_same_seed_same_frames() -> None:
    first, again, other = frames(7, 2), frames(7, 2), frames(8, 2)
    assert torch.equal(first.noisy, again.noisy)
    assert torch.equal(first.atom_map, again.atom_map)
    assert not torch.equal(first.noisy, other.noisy)
