"""Frames of counts, of e/ms, of 1e-6 of anything: the unit changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from scgn.denoise import Denoiser
from scgn.evaluate.movies.watch import Watched, opened, watched
from scgn.simulate.scenarios import scenario

FACTORS = (1e-6, 1e-3, 7.3, 1e6)
SPARSE = (0.0005, 0.005, 0.05)
FRAMES, SIDE_PX = 6, 96


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    return opened("preview-clean")


def dense() -> NDArray[np.float32]:
    return scenario("drift-0.5", 8.0, 3, FRAMES, SIDE_PX).noisy[0].numpy()


def sparse(share: float) -> NDArray[np.float32]:
    """Single electrons, twice as many in one half of the frame."""
    rate = np.full((FRAMES, SIDE_PX, SIDE_PX), share * 2 / 3)
    rate[:, :, SIDE_PX // 2 :] *= 2
    return np.random.default_rng(1).poisson(rate).astype(np.float32)


def assert_scaled(one: Watched, other: Watched, factor: float) -> None:
    for before, after in ((one.output, other.output), (one.estimate, other.estimate)):
        spread = float(before.std())
        torch.testing.assert_close(after / factor, before, rtol=2e-3, atol=5e-3 * spread)


@pytest.mark.parametrize("factor", FACTORS)
def test_dense_frames_in_any_unit(denoiser, factor) -> None:
    frames = dense()
    assert_scaled(
        watched(denoiser, frames), watched(denoiser, (frames * factor).astype(np.float32)), factor
    )


@pytest.mark.parametrize("share", SPARSE)
@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_sparse_frames_in_any_unit(denoiser, share, factor) -> None:
    frames = sparse(share)
    assert_scaled(
        watched(denoiser, frames), watched(denoiser, (frames * factor).astype(np.float32)), factor
    )


@pytest.mark.parametrize("share", SPARSE)
def test_the_mean_of_sparse_frames_is_kept(denoiser, share) -> None:
    """Within half a percent, in every frame, and two electrons a frame."""
    frames = sparse(share)
    shown = watched(denoiser, frames)
    mean = torch.from_numpy(frames).mean(dim=(1, 2))
    for result in (shown.output, shown.estimate):
        few = 2 / SIDE_PX**2
        torch.testing.assert_close(result.mean(dim=(1, 2)), mean, rtol=0.005, atol=few)


def test_the_mean_of_dense_frames_is_kept(denoiser) -> None:
    shown, mean = watched(denoiser, dense()), torch.from_numpy(dense()).mean(dim=(1, 2))
    for result in (shown.output, shown.estimate):
        torch.testing.assert_close(result.mean(dim=(1, 2)), mean, rtol=0.005, atol=0)
