"""Wiener's filter: the least error for known spectra, and the same whatever the camera's units."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scgn.metrics import psnr_db
from scgn.wiener import noise_spectrum, smoothed_spectrum, wiener, wiener_gain

SIDE = 64


def waves(side_px: int) -> torch.Tensor:
    """A lattice of waves that lies along no side of the frame, on 400 counts; (1,1,side,side)."""
    rows, columns = torch.meshgrid(*[torch.arange(float(side_px))] * 2, indexing="ij")
    first, second = 0.62 * rows + 0.25 * columns, 0.55 * columns - 0.27 * rows
    return (400 + 60 * torch.cos(first) * torch.cos(second))[None, None]


def with_noise(clean: torch.Tensor, seed: int = 0, sigma: float = 60.0) -> torch.Tensor:
    noise = np.random.default_rng(seed).normal(0, sigma, clean.shape).astype(np.float32)
    return clean + torch.from_numpy(noise)


def test_wiener_gain_is_the_least_error_for_known_spectra() -> None:
    """On drawn spectra no other gain per frequency does better: 1 % either way is worse."""
    generator = torch.Generator().manual_seed(0)
    shape = (400, 1, 16, 16)
    rows = torch.fft.fftfreq(16)
    signal_power = 30 * torch.exp(-((rows[:, None] ** 2 + rows**2) / 0.02))
    noise_power = torch.full((16, 16), 2.0)
    white = torch.complex(*torch.randn(2, *shape, generator=generator)) / 2**0.5
    other = torch.complex(*torch.randn(2, *shape, generator=generator)) / 2**0.5
    signal, noisy = white * signal_power.sqrt(), white * signal_power.sqrt()
    noisy = noisy + other * noise_power.sqrt()
    best = wiener_gain(signal_power, signal_power + noise_power)

    def error(gain: torch.Tensor) -> float:
        return float((gain * noisy - signal).abs().square().mean())

    assert error(best) < min(error(0.8 * best), error((1.2 * best).clamp(max=1)))
    expected = (signal_power * noise_power / (signal_power + noise_power)).mean()
    assert error(best) == pytest.approx(float(expected), rel=0.05)


def test_wiener_gain_stays_between_none_and_all() -> None:
    power = torch.tensor([0.0, 1.0, 4.0])
    assert wiener_gain(power - 2, power).tolist() == [0.0, 0.0, 0.5]
    assert wiener_gain(power + 1, power).max() == 1


def test_wiener_keeps_a_lattice_and_takes_line_noise() -> None:
    clean = waves(SIDE)
    lines = torch.from_numpy(np.random.default_rng(3).normal(0, 40, (1, 1, 1, SIDE))).float()
    striped = with_noise(clean, 4, 20.0) + lines
    denoised = wiener(striped, 2.0, 0.0, 1.3)
    left = (denoised - clean).mean(dim=-2).std()
    assert left < 0.4 * (striped - clean).mean(dim=-2).std()


def test_smoothed_spectrum_keeps_the_total_and_spreads_a_spot() -> None:
    power = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    power[..., 5, 30] = 7.0
    smooth = smoothed_spectrum(power, 2.0)
    assert float(smooth.sum()) == pytest.approx(7.0)
    assert float(smooth[..., 5, 30]) == pytest.approx(7 / (2 * np.pi * 4), rel=0.01)
    assert float(smooth[..., 5, 0]) == pytest.approx(float(smooth[..., 5, 28]))


def test_noise_spectrum_of_white_noise_is_its_variance() -> None:
    noise = with_noise(torch.zeros(1, 1, 128, 128), 5, 3.0).double()
    power = torch.fft.fft2(noise, norm="ortho").abs().square()
    assert float(noise_spectrum(power, 0.0).mean()) == pytest.approx(9, rel=0.05)
    tilted = noise_spectrum(power, 2.0)
    assert float(tilted[..., 0, 0] / tilted[..., 64, 64]) == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize("shape", [(64, 64), (37, 50), (5, 4)])
def test_estimate_follows_gain_and_offset(shape) -> None:
    noisy = with_noise(torch.full((2, 1, *shape), 40.0), 6, 5.0)
    torch.testing.assert_close(wiener(3 * noisy + 70), 3 * wiener(noisy) + 70, rtol=1e-4, atol=0.02)


def test_estimate_of_a_frame_does_not_know_its_batch() -> None:
    pair = torch.cat((with_noise(waves(SIDE), 7), with_noise(torch.zeros(1, 1, SIDE, SIDE), 8)))
    torch.testing.assert_close(wiener(pair)[:1], wiener(pair[:1]), rtol=1e-5, atol=1e-3)


def test_networks_estimate_mends_a_lattice_and_empties_noise() -> None:
    """The constants that networks start from: 6 dB and more on waves, nothing made of nothing."""
    clean = waves(128)
    noisy = with_noise(clean, 9)
    assert psnr_db(wiener(noisy), clean) > psnr_db(noisy, clean) + 6
    empty = with_noise(torch.zeros(4, 1, 128, 128), 10, 1.0)
    assert float(wiener(empty).std()) < 0.1


def test_half_precision_frames_are_filtered_in_float32() -> None:
    noisy = with_noise(waves(SIDE), 11).to(torch.bfloat16)
    assert wiener(noisy).dtype == torch.bfloat16
    torch.testing.assert_close(wiener(noisy), wiener(noisy.float()).to(torch.bfloat16))
