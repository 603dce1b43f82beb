"""Metrics against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from scgn.metrics import (
    as_displayed,
    atom_map_scores,
    autocorrelation,
    best_gaussian,
    gaussian_filter,
    iou,
    psnr_db,
    residual_tests,
    ssim,
    umse,
    umse_of_pair,
    upsnr_db,
)
from scgn.noise import NoiseModel


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


def frames(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 1, (*shape,)))


def test_ssim_of_equal_frames_is_one() -> None:
    clean = 100 + 20 * frames(0, 2, 1, 20, 31)
    assert ssim(clean, clean) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(("a", "b"), [(10.0, 30.0), (200.0, 100.0), (0.0, 255.0)])
def test_ssim_of_flat_frames_is_the_luminance_term(a, b) -> None:
    c1 = (0.01 * 255) ** 2
    flat = torch.ones(1, 1, 16, 16)
    expected = (2 * a * b + c1) / (a * a + b * b + c1)
    assert ssim(a * flat, b * flat, 255) == pytest.approx(expected, rel=1e-6)


def test_ssim_of_an_inverted_frame_is_negative() -> None:
    pattern = 20 * frames(1, 1, 1, 40, 40)
    assert ssim(100 - pattern, 100 + pattern) < -0.8


def test_ssim_agrees_with_scikit_image() -> None:
    skimage = pytest.importorskip("skimage.metrics")
    clean = 50 * gaussian_filter(frames(2, 1, 1, 48, 60), 2.0)
    noisy = clean + 3 * frames(3, 1, 1, 48, 60)
    span = float(clean.max() - clean.min())
    theirs = skimage.structural_similarity(
        noisy[0, 0].numpy(), clean[0, 0].numpy(), data_range=span, gaussian_weights=True,
        sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    assert ssim(noisy, clean) == pytest.approx(theirs, abs=1e-6)


def test_ssim_of_a_frame_below_its_window_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 11 px a side, got \(10, 40\)"):
        ssim(torch.ones(1, 1, 10, 40), torch.ones(1, 1, 10, 40), 1.0)


def test_iou_counted_by_hand() -> None:
    atom_map = torch.tensor([[255.0, 255.0, 0.0, 0.0]])
    assert iou(torch.tensor([[255.0, 0.0, 128.0, 127.5]]), atom_map) == pytest.approx(1 / 3)
    assert iou(atom_map, atom_map) == 1
    assert iou(255 - atom_map, atom_map) == 0
    assert iou(0 * atom_map, 0 * atom_map) == 1


def test_eight_bits_truncate_after_clipping() -> None:
    displayed = as_displayed(torch.tensor([-3.0, 0.9, 127.99, 254.999, 300.0]))
    assert displayed.tolist() == [0, 0, 127, 254, 255]


def test_atom_map_scores_are_taken_on_eight_bits_and_averaged_by_frame() -> None:
    maps = torch.zeros(2, 1, 12, 12)
    maps[:, :, 3:6, 3:6] = 200.0
    wrong = maps + torch.tensor([10.9, 20.2]).view(2, 1, 1, 1)  # counts as 10 and 20
    found = atom_map_scores(wrong, maps)
    expected = (20 * math.log10(255 / 10) + 20 * math.log10(255 / 20)) / 2
    assert found["psnr_db"] == pytest.approx(expected)
    assert found["iou"] == 1
    assert 0 < found["ssim"] < 1


def test_umse_is_unbiased() -> None:
    """Three exposures tell the true error of a filter to a few standard errors."""
    clean = 10 * gaussian_filter(frames(4, 1, 1, 128, 128), 3.0)
    source, *others = (clean + frames(10 + k, *clean.shape) for k in range(4))
    for width_px in (0.8, 1.5, 3.0):
        denoised = gaussian_filter(source, width_px)
        true = float((denoised - clean).square().mean())
        assert umse(denoised, *others) == pytest.approx(true, abs=0.05)


def test_umse_of_pairs_is_unbiased_over_many() -> None:
    clean = 5 * gaussian_filter(frames(5, 1, 1, 64, 64), 3.0)
    off = []
    for k in range(40):
        first, second = (clean + 2 * frames(100 + 2 * k + j, *clean.shape) for j in (0, 1))
        denoised = gaussian_filter(first, 1.5)
        off.append(umse_of_pair(denoised, first, second) - (denoised - clean).square().mean())
    error = torch.stack(off)
    assert abs(float(error.mean())) < 4 * float(error.std()) / math.sqrt(len(off))
    assert abs(float(error.mean())) < 0.1


def test_umse_of_a_pair_compares_methods_without_its_constant() -> None:
    """The difference of two methods is that of their errors against the other exposure."""
    first, second = frames(6, 1, 1, 32, 32), frames(7, 1, 1, 32, 32)
    a, b = gaussian_filter(first, 1.0), gaussian_filter(first, 4.0)
    difference = umse_of_pair(a, first, second) - umse_of_pair(b, first, second)
    expected = (second - a).square().mean() - (second - b).square().mean()
    assert difference == pytest.approx(float(expected))


def test_upsnr_in_db_and_its_refusal() -> None:
    assert upsnr_db(0.01, 1.0) == pytest.approx(20)
    with pytest.raises(ValueError, match=r"positive error and peak, got -0\.5 and 1"):
        upsnr_db(-0.5, 1.0)


COLUMNS = NoiseModel(gain_adu_per_e=3.0, read_noise_adu=4.0, line_noise_adu=5.0)


def exposed(clean: torch.Tensor, noise: NoiseModel, seed: int) -> torch.Tensor:
    """One frame under the noise model, drawn as it is written."""
    point = torch.from_numpy(noise.point_sigma(clean.numpy())) * frames(seed, *clean.shape)
    shape = list(clean.shape)
    shape[-2 if noise.line_axis == "column" else -1] = 1
    return clean + point + noise.line_noise_adu * frames(seed + 1, *shape)


@pytest.mark.parametrize("axis", ["column", "row"])
def test_residuals_of_the_truth_pass_every_test(axis) -> None:
    noise = NoiseModel(3.0, 4.0, 5.0, axis)
    clean = 100 + 40 * gaussian_filter(frames(8, 1, 1, 256, 256), 4.0)
    found = residual_tests(exposed(clean, noise, 20), clean, noise)
    assert found.variance == pytest.approx(1, abs=0.03)
    assert found.autocorrelation_error < 0.03
    assert found.line_ratio == pytest.approx(1, abs=0.12)


def test_residuals_tell_noise_left_and_signal_taken() -> None:
    clean = 100 + 400 * gaussian_filter(frames(8, 1, 1, 256, 256), 4.0)
    noisy = exposed(clean, COLUMNS, 30)
    assert residual_tests(noisy, (noisy + clean) / 2, COLUMNS).variance < 0.35
    flattened = residual_tests(noisy, torch.full_like(clean, 100.0), COLUMNS)
    assert flattened.variance > 1.5
    assert flattened.autocorrelation_error > 0.3
    assert residual_tests(noisy, clean, NoiseModel(3.0, 4.0, 0.5)).line_ratio > 3


def test_residuals_of_correlated_noise_are_held_against_its_calibration() -> None:
    kernel = torch.tensor([[0.0, 0.1, 0.0], [0.1, 1.0, 0.1], [0.0, 0.1, 0.0]]).double()
    blurred = torch.nn.functional.conv2d(
        frames(40, 1, 1, 258, 258), kernel[None, None] / kernel.square().sum().sqrt()
    )
    reach = torch.nn.functional.conv2d(
        torch.nn.functional.pad(kernel, (2,) * 4)[None, None], kernel[None, None]
    )[0, 0]
    calibrated = (reach / reach.max()).float().numpy()
    clean = torch.full_like(blurred, 50.0)
    right = residual_tests(
        clean + 4 * blurred, clean, NoiseModel(0, 4.0, 0.0, "column", 0, calibrated)
    )
    white = residual_tests(clean + 4 * blurred, clean, NoiseModel(0, 4.0))
    assert right.autocorrelation_error < 0.03
    assert right.variance == pytest.approx(1, abs=0.03)
    assert right.line_ratio == pytest.approx(1, abs=0.12)
    assert white.autocorrelation_error == pytest.approx(0.2 / 1.04, abs=0.03)


def test_autocorrelation_of_a_stripe_pattern() -> None:
    stripes = torch.tensor([1.0, -1.0]).repeat(8).expand(1, 1, 16, 16)
    expected = torch.tensor([[-1.0, 1.0, -1.0]]).expand(3, 3)
    torch.testing.assert_close(autocorrelation(stripes, 1), expected)
