"""What is no measurement leaves no trace: flags of unlit gaps and dead pixels, hot pixels, X-rays.

Each movie is denoised with its defects and without; away from them the two must agree, at them the
picture must not show them. What is a measurement stays.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from scgn.denoise import Denoiser
from scgn.evaluate.movies.watch import Watched, opened, watched

FRAMES, SIDE_PX = 6, 128
Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    return opened("preview-clean")


def movie(seed: int = 0, level: float = 40.0) -> Counts:
    """Poisson counts of fringes and a slow slope."""
    row, column = np.mgrid[:SIDE_PX, :SIDE_PX]
    scene = level * (1 + 0.2 * np.sin(2 * np.pi * (row + 2 * column) / 37) + 0.002 * column)
    return np.random.default_rng(seed).poisson(scene, (FRAMES, SIDE_PX, SIDE_PX))


def gaps_and_dead() -> Mask:
    """A module's gap of 4 rows, one of 3 columns, and twelve dead pixels."""
    mask = np.zeros((SIDE_PX, SIDE_PX), bool)
    mask[60:64], mask[:, 30:33] = True, True
    mask.flat[np.random.default_rng(7).choice(mask.size, 12, replace=False)] = True
    return mask


def single_pixels(count: int, seed: int = 8) -> Mask:
    """Lone pixels, none beside another or at the border."""
    mask = np.zeros((SIDE_PX, SIDE_PX), bool)
    places = np.random.default_rng(seed).integers(1, SIDE_PX // 8 - 1, (count, 2)) * 8
    mask[places[:, 0], places[:, 1]] = True
    return mask


def near(mask: Mask, reach: int) -> Tensor:
    there = torch.from_numpy(mask).float()[None, None]
    wide = torch.nn.functional.max_pool2d(there, 2 * reach + 1, 1, reach)
    return wide[0, 0] > 0


def differences(one: Watched, other: Watched, where: Tensor) -> list[float]:
    """Root mean squares of output and estimate, of the last frame, counts."""
    pairs = ((one.output, other.output), (one.estimate, other.estimate))
    return [float((a[-1] - b[-1])[where].square().mean().sqrt()) for a, b in pairs]


def assert_no_trace(denoiser: Denoiser, spoiled: NDArray[np.generic], mask: Mask) -> Watched:
    """Against the same movie without defects: noise is 6.3 counts, fringes swing by 8."""
    good, bad = watched(denoiser, movie().astype(spoiled.dtype)), watched(denoiser, spoiled)
    away, at = ~near(mask, 3), torch.from_numpy(mask)
    assert max(differences(good, bad, away)) < 0.5
    assert max(differences(good, bad, at)) < 5
    return bad


@pytest.mark.parametrize(
    ("dtype", "flag"), [("<u2", 65535), ("<u4", 2**32 - 1), ("<i4", -1), ("<i4", -2), ("|u1", 255)]
)
def test_flags_of_gaps_and_dead_pixels(denoiser, dtype, flag) -> None:
    mask = gaps_and_dead()
    spoiled = np.where(mask, flag, movie()).astype(dtype)
    shown = assert_no_trace(denoiser, spoiled, mask)
    assert shown.facts[-1]["flagged"] == mask.sum()


def test_minus_one_is_a_number_where_others_are_below() -> None:
    """Differences of frames in i4 have -1 and -2 everywhere: nothing is a flag."""
    frames = (movie()[1:] - movie()[:-1]).astype("<i4")
    assert watched(opened(None), frames).facts[-1]["flagged"] == 0


def test_hot_pixels_of_any_height(denoiser) -> None:
    """From 20 deviations of the noise on. More than a few in each block of so small a frame are
    taken for its noise; asked for is one in a thousand.
    """
    mask = single_pixels(5)
    rng = np.random.default_rng(1)
    height = np.where(mask, np.exp(rng.uniform(np.log(120), np.log(40000), mask.shape)), 0)
    shown = assert_no_trace(denoiser, (movie() + height).astype("<u2"), mask)
    assert shown.facts[-1]["filled"] >= mask.sum() - 1


def test_x_rays_of_any_height(denoiser) -> None:
    """New places in every frame; the last frame's are where the output is looked at."""
    frames = movie().astype(float)
    for index in range(FRAMES):
        frames[index][single_pixels(6, seed=20 + index)] += 10.0 ** (2.2 + index / 2)
    assert_no_trace(denoiser, frames.astype("<u2"), single_pixels(6, seed=20 + FRAMES - 1))


def test_saturated_disks_stay(denoiser) -> None:
    """A bright reflection that saturates the camera is a measurement, and is said to be one."""
    row, column = np.mgrid[:SIDE_PX, :SIDE_PX] - 64
    radius = np.hypot(row, column)
    bright = 90000 / (1 + np.exp((radius - 12) / 1.5))
    frames = np.minimum(movie() + bright, 65535).astype("<u2")
    shown = watched(denoiser, frames)
    facts = shown.facts[-1]
    assert facts["saturated"] == (frames[-1] == 65535).sum()
    assert facts["flagged"] == 0
    inner = torch.from_numpy(radius < 7)
    for result in (shown.output[-1], shown.estimate[-1]):
        assert float(result[inner].mean()) > 0.95 * 65535


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1])
def test_single_electrons_are_no_defects(denoiser, rate) -> None:
    frames = np.random.default_rng(3).poisson(rate, (FRAMES, SIDE_PX, SIDE_PX)).astype("<u2")
    shown = watched(denoiser, frames)
    assert [facts["filled"] for facts in shown.facts] == [0] * FRAMES
    means = torch.from_numpy(frames.astype(np.float32)).mean(dim=(1, 2))
    torch.testing.assert_close(shown.output.mean(dim=(1, 2)), means, rtol=0.005, atol=1e-4)
