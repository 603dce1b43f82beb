"""The classical peers: closed forms where they have one, and noise that really goes down."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from scgn.evaluate import classical
from scgn.evaluate.methods import CLASSICAL
from scgn.metrics import gaussian_filter, psnr_db
from scgn.units import point_noise

pytest.importorskip("skimage")
pytest.importorskip("pywt")

SIDE = 64
WORKING = {  # one sensible setting each
    "gaussian": {"sigma_px": 1.6},
    "dog": {"sigma_px": 1.4, "ratio": 6.0, "stretch": 1.0},
    "estimate": {},
    "nlm": {"patch_px": 5, "strength": 0.7},
    "wavelet": {"strength": 1.0, "levels": 3},
    "log_render": {"sigma_px": 2.0, "threshold": 4.0, "stretch": 1.0},
}


def lattice(sign: float = 1.0, turned_rad: float = 0.0) -> torch.Tensor:
    """Atoms 10 px apart on a beam of 400 counts, (1,1,64,64)."""
    at = torch.arange(-52.0, 2 * SIDE, 10.0)
    c, s = math.cos(turned_rad), math.sin(turned_rad)
    place = torch.cartesian_prod(at, at) @ torch.tensor([[c, -s], [s, c]])
    drawn = classical.spots(place, torch.full((len(place),), 160.0), 2.0, torch.Size((SIDE, SIDE)))
    return 400 + sign * drawn[None, None]


def with_noise(clean: torch.Tensor, seed: int = 0, sigma: float = 60.0) -> torch.Tensor:
    noise = np.random.default_rng(seed).normal(0, sigma, clean.shape).astype(np.float32)
    return clean + torch.from_numpy(noise)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("name", WORKING)
def test_peer_brings_white_noise_down(name, sign) -> None:
    clean = lattice(sign, 0.4)
    noisy = with_noise(clean)
    denoised = CLASSICAL[name].filter(noisy, **WORKING[name])
    assert denoised.shape == noisy.shape
    assert denoised.dtype == noisy.dtype
    assert psnr_db(denoised, clean) > psnr_db(noisy, clean) + 5


@pytest.mark.parametrize("name", WORKING)
def test_peer_follows_the_cameras_gain_and_treats_frames_alone(name) -> None:
    noisy = torch.cat([with_noise(lattice(), seed) for seed in (1, 2)])
    run, values = CLASSICAL[name].filter, WORKING[name]
    together = run(noisy, **values)
    torch.testing.assert_close(run(3 * noisy, **values), 3 * together, rtol=2e-3, atol=0.5)
    torch.testing.assert_close(run(noisy[1:], **values), together[1:], rtol=1e-4, atol=0.05)


def test_every_peer_has_a_grid_that_its_filter_takes() -> None:
    noisy = with_noise(lattice())
    for method in CLASSICAL.values():
        choices = method.choices()
        assert len(choices) == np.prod([len(values) for values in method.grid.values()])
        for values in (choices[0], choices[-1]):
            assert torch.isfinite(method.filter(noisy, **values)).all()


def test_dog_is_a_band_pass_on_the_frames_level() -> None:
    noisy = with_noise(lattice())
    expected = gaussian_filter(noisy, 1.0) - gaussian_filter(noisy, 3.0)
    torch.testing.assert_close(classical.band(noisy, 1.0, 3.0), expected)
    flat = torch.full_like(noisy, 123.0)
    torch.testing.assert_close(classical.dog(flat, 1.0, 3.0, 1.7), flat)


def test_polarity_is_that_of_the_rare_extremes() -> None:
    frames = torch.cat((lattice(1.0), lattice(-1.0)))
    assert classical.polarity(frames).flatten().tolist() == [1.0, -1.0]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_maps_have_white_spots_at_atoms_of_either_sign(sign) -> None:
    noisy = with_noise(lattice(sign), 6, 20.0)
    for found in (
        classical.dog_map(noisy, 1.4, 1.6, 0.5, 0.4),
        classical.log_render_map(noisy, 2.0, 4.0, 1.0),
    ):
        assert float(found.min()) >= 0
        assert float(found.max()) <= 255
        assert float(found[0, 0, 8::10, 8::10].mean()) > 127.5
        assert float(found[0, 0, 3::10, 3::10].mean()) < 60


def test_log_render_draws_what_it_detects() -> None:
    clean = lattice()
    drawn = classical.log_render(with_noise(clean, 7, 5.0), 2.0, 5.0, 1.0)
    inside = (..., slice(8, -8), slice(8, -8))
    assert psnr_db(drawn[inside], clean[inside]) > 20


def test_log_render_of_pure_noise_is_level() -> None:
    noise = with_noise(torch.full((1, 1, SIDE, SIDE), 50.0), 8, 10.0)
    drawn = classical.log_render(noise, 2.0, 8.0, 1.0)
    torch.testing.assert_close(drawn, noise.mean().expand_as(drawn))


def test_spots_add_up() -> None:
    place = torch.tensor([[5.0, 7.0], [5.0, 7.0]])
    frame = classical.spots(place, torch.tensor([1.0, 2.0]), 1.5, torch.Size((12, 16)))
    assert frame.shape == (12, 16)
    assert float(frame[5, 7]) == pytest.approx(3.0)
    assert float(frame[5, 10]) == pytest.approx(3 * np.exp(-2.0))


def test_noise_of_a_wavelet_result_is_lower_than_its_input() -> None:
    noise = with_noise(torch.full((1, 1, SIDE, SIDE), 50.0), 9, 10.0)
    denoised = classical.wavelet(noise, 1.0, 4)
    assert float(point_noise(denoised)) < 0.3 * float(point_noise(noise))
