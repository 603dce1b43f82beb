"""Metrics against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from scgn.metrics import best_gaussian, gaussian_filter, psnr_db


def test_psnr_of_a_uniform_error() -> None:
    clean = torch.tensor([[0.0, 10.0], [10.0, 0.0]])
    assert psnr_db(clean + 1, clean) == pytest.approx(20.0)
    assert psnr_db(clean - 0.25, clean) == pytest.approx(20 * math.log10(40))
    assert psnr_db(clean + 1, clean, peak=255) == pytest.approx(20 * math.log10(255))


def test_psnr_of_one_wrong_pixel_in_four() -> None:
    clean = torch.tensor([[0.0, 2.0], [0.0, 0.0]])
    wrong = torch.tensor([[0.0, 2.0], [4.0, 0.0]])
    assert psnr_db(wrong, clean) == pytest.approx(10 * math.log10(4 / 4))
    assert psnr_db(wrong, clean, peak=4) == pytest.approx(10 * math.log10(16 / 4))


def test_psnr_of_equal_frames_is_infinite() -> None:
    clean = torch.arange(6.0).view(2, 3)
    assert psnr_db(clean, clean) == math.inf


def test_psnr_does_not_lose_small_errors_on_a_large_level() -> None:
    clean = torch.full((64, 64), 60_000.0)
    noisy = clean + 0.5
    assert psnr_db(noisy, clean, peak=1.0) == pytest.approx(10 * math.log10(4))


@pytest.mark.parametrize("shape", [(2, 3), (1, 2, 2), (4,)])
def test_psnr_of_other_shapes_is_refused(shape) -> None:
    with pytest.raises(ValueError, match=r"expected shape \(2, 2\)"):
        psnr_db(torch.ones(shape), torch.ones(2, 2))


@pytest.mark.parametrize("peak", [None, 0.0, -1.0])
def test_psnr_without_a_range_is_refused(peak) -> None:
    with pytest.raises(ValueError, match="peak must be positive"):
        psnr_db(torch.ones(2, 2), torch.ones(2, 2), peak)


@pytest.mark.parametrize(("shape", "sigma_px"), [((13, 17), 0.8), ((20, 9), 1.5), ((6, 6), 4.0)])
def test_gaussian_filter_is_a_weighted_sum(shape, sigma_px) -> None:
    frame = np.random.default_rng(1).normal(0, 1, shape)
    radius = min(math.ceil(4 * sigma_px), min(shape) - 1)
    steps = np.arange(-radius, radius + 1)
    weights = np.exp(-(steps[:, None] ** 2 + steps**2) / (2 * sigma_px**2))
    padded = np.pad(frame, radius, mode="reflect")
    expected = np.empty(shape)
    for i, j in np.ndindex(shape):
        window = padded[i : i + 2 * radius + 1, j : j + 2 * radius + 1]
        expected[i, j] = (window * weights).sum() / weights.sum()
    result = gaussian_filter(torch.from_numpy(frame)[None, None], sigma_px)
    np.testing.assert_allclose(result[0, 0].numpy(), expected, atol=1e-12)


def test_gaussian_filter_keeps_level_and_batch() -> None:
    frames = torch.tensor([2.0, -5.0]).view(2, 1, 1, 1).expand(2, 1, 9, 12)
    torch.testing.assert_close(gaussian_filter(frames, 2.0), frames)


def test_best_gaussian_is_the_best_of_its_widths() -> None:
    """A known blur makes one width the best: noise on a smooth scene, tried one by one."""
    generator = torch.Generator().manual_seed(0)
    clean = gaussian_filter(torch.randn(1, 1, 64, 64, generator=generator), 4.0) * 10
    noisy = clean + torch.randn(clean.shape, generator=generator)
    best_db, width_px = best_gaussian(noisy, clean)
    assert best_db == psnr_db(gaussian_filter(noisy, width_px), clean)
    finer = [psnr_db(gaussian_filter(noisy, 0.5 + 0.3 * k), clean) for k in range(20)]
    assert best_db > max(finer) - 0.05
    assert best_db > psnr_db(noisy, clean) + 3


def test_best_gaussian_grows_with_the_noise() -> None:
    generator = torch.Generator().manual_seed(1)
    clean = gaussian_filter(torch.randn(1, 1, 64, 64, generator=generator), 3.0) * 10
    noise = torch.randn(clean.shape, generator=generator)
    widths = [best_gaussian(clean + sigma * noise, clean)[1] for sigma in (0.01, 0.3, 3.0)]
    assert widths == sorted(set(widths))
    assert widths[0] == 0.5
