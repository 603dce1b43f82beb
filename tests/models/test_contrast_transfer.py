"""What is in the specimen is in the picture: fringes at every angle, wide regions' means.

A thinned grid; all of it by `python -m benchmarks.contrast`.
"""

from __future__ import annotations

import pytest
import torch

from scgn.denoise import Denoiser
from scgn.evaluate.movies.contrast import (
    SCENES,
    Transfer,
    exposures,
    fringes,
    region_errors,
    transfer_of,
)
from scgn.evaluate.movies.watch import opened

DEFAULT = "preview-clean"
SEEN_BY_GAUSSIAN = 0.8  # contrast of the best Gaussian from which on the denoiser is asked for it
LEAST, MOST = 0.9, 1.1
CELLS = [
    *((angle, period, 0.3) for angle in (0, 2, 10, 50, 90) for period in (16.0, 64.0)),
    (0, 6.0, 0.3), (1, 24.0, 0.3), (90, 32.0, 0.1), (3, 64.0, 0.1),
]  # fmt: skip


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    return opened(DEFAULT)


def failures(found: Transfer) -> list[str]:
    """Frames and ways whose contrast is not what it should be."""
    return [
        f"{way} {when}: {getattr(found, way)[index]:.3f}"
        for way in ("estimate", "network")
        for index, when in enumerate(("first", "sixteenth"))
        if found.gaussian[index] > SEEN_BY_GAUSSIAN
        and not LEAST <= getattr(found, way)[index] <= MOST
    ]


@pytest.mark.parametrize(("angle", "period", "modulation"), CELLS)
def test_fringes_keep_their_contrast(denoiser, angle, period, modulation) -> None:
    """.9 to 1.1 of the true contrast in the first frame and in the sixteenth, at any angle."""
    assert not failures(transfer_of(denoiser, angle, period, modulation))


@pytest.mark.parametrize("name", SCENES)
def test_wide_regions_keep_their_means(denoiser, name) -> None:
    """Within 2 % of the mean or half a percent of the step, whichever is larger."""
    for what, errors in region_errors(denoiser, name).items():
        assert max(map(abs, errors)) <= 1, (what, errors)


@pytest.mark.parametrize("name", ["step along rows"])
def test_lines_do_not_take_a_step_with_them(denoiser, name) -> None:
    """Column noise of half the point noise, whose axis the step has no power on; across it a step's
    regions have too few columns to be told from their noise.
    """
    for what, errors in region_errors(denoiser, name, lines=0.5).items():
        assert max(map(abs, errors)) <= 2, (what, errors)  # a region has few columns


def test_exposures_are_of_the_scene() -> None:
    scene = fringes(30.0, 20.0, 0.3, 0.0)
    noisy, clean = exposures(scene, 40, seed=1)
    inner = slice(8, -8)  # the camera's blur wraps around the frame
    assert torch.allclose(clean[inner, inner], 20 * scene[inner, inner], rtol=0.01)
    assert torch.allclose(noisy.mean(), 20 * scene.mean(), rtol=0.005)
    assert float((noisy[0] - noisy[1]).std()) > 0.5 * float(clean.std())
