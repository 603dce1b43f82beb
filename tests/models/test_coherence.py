"""What the lens loses: focal spread, the beam's convergence, the aperture, and the grid's edge."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from lenses import LAMBDA_200_A, PIXEL_A, SIDE, grid, lens, pixel_a, weak_film
from torch import Tensor

from scgn.simulate import generator
from scgn.simulate.elements import MATERIALS
from scgn.simulate.optics import (
    PASS,
    STOP,
    Optics,
    aperture,
    draw_optics,
    envelope,
    form_image,
    frequencies,
    transfer,
)
from scgn.simulate.recipe import Recipe
from scgn.simulate.structures import draw_atoms


def test_focal_spread_is_the_deviation_of_a_normal_distribution_of_focus() -> None:
    """The mean of weak images over that distribution (Gauss-Hermite) is the damped image."""
    spread_a, phase = 40.0, weak_film(1e-4, 64)
    nothing, step = torch.zeros_like(phase), pixel_a()
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    lenses = (lens(200, -300 + spread_a * node, 1e6) for node in nodes)
    images = [form_image(phase, nothing, one, step) for one in lenses]
    mean = sum(w * image for w, image in zip(weights / weights.sum(), images, strict=True))
    damped = form_image(phase, nothing, lens(200, -300, 1e6, spread_a), step)
    torch.testing.assert_close(mean - 1, damped - 1, rtol=0, atol=2e-3 * float(damped.std()))
    sharp = form_image(phase, nothing, lens(200, -300, 1e6), step)
    assert float((sharp - damped).std()) > 0.2 * float(damped.std())


def test_focal_spread_damps_as_the_closed_form() -> None:
    k = torch.tensor([0.0, 0.5, 1.0, 1.3], dtype=torch.float64)
    damping = envelope(lens(200, spread_a=35), k**2)[0, 0]
    expected = torch.exp(-0.5 * (math.pi * LAMBDA_200_A * 35 * k**2) ** 2)
    torch.testing.assert_close(damping, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("defocus_a", "cs_a", "convergence_rad"),
    [(-300.0, 0.0, 5e-4), (400.0, 1e6, 3e-4), (-390.0, 4e6, 1.2e-3)],
)
def test_convergence_damps_as_the_closed_form(defocus_a, cs_a, convergence_rad) -> None:
    """exp(-(pi alpha / lambda (Cs (lambda k)^3 + defocus lambda k))^2), times focal spread's."""
    k = torch.tensor([0.0, 0.3, 0.5, 0.8], dtype=torch.float64)
    angle = LAMBDA_200_A * k
    shift_a = cs_a * angle**3 + defocus_a * angle
    expected = torch.exp(-((math.pi * convergence_rad / LAMBDA_200_A * shift_a) ** 2))
    optics = lens(200, defocus_a, cs_a, convergence_rad=convergence_rad)
    torch.testing.assert_close(envelope(optics, k**2)[0, 0], expected, rtol=2e-4, atol=0)
    assert float(envelope(optics, k**2)[0, 0, 0]) == 1
    spread = envelope(lens(200, spread_a=30), k**2)[0, 0]
    both = envelope(lens(200, defocus_a, cs_a, 30, convergence_rad=convergence_rad), k**2)
    torch.testing.assert_close(both[0, 0], spread * expected, rtol=2e-4, atol=0)


def test_convergence_is_the_1_e_half_width_of_a_normal_distribution_of_tilts() -> None:
    """The mean of weak images over that distribution (Gauss-Hermite) is the damped image."""
    side, defocus_a, cs_a, alpha = 64, -400.0, 1e6, 3e-4
    phase = weak_film(1e-4, side)
    spectrum = torch.fft.fft2(torch.polar(torch.ones_like(phase), phase))
    vertical, horizontal = (f.double() / PIXEL_A for f in frequencies(side, torch.device("cpu")))
    ends = aperture(PIXEL_A * grid(side)[0])
    # Deviation alpha / sqrt(2) of each component of the tilt, as a frequency.
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    tilts = alpha / math.sqrt(2) / LAMBDA_200_A * nodes
    mean = torch.zeros_like(phase)
    for down, first in zip(tilts, weights / weights.sum(), strict=True):
        for right, second in zip(tilts, weights / weights.sum(), strict=True):
            k2 = (vertical + down) ** 2 + (horizontal + right) ** 2
            chi = math.pi * LAMBDA_200_A * k2 * (defocus_a + cs_a * LAMBDA_200_A**2 * k2 / 2)
            wave = torch.fft.ifft2(spectrum * torch.polar(ends, -chi))
            mean += first * second * wave.abs().square()
    sharp, damped = (
        form_image(phase, torch.zeros_like(phase), optics, pixel_a())
        for optics in (lens(200, defocus_a, cs_a),
                       lens(200, defocus_a, cs_a, convergence_rad=alpha))
    )  # fmt: skip
    assert float((sharp - damped).std()) > 0.2 * float(damped.std())
    # The rest is the second order in the tilt, which the envelope leaves out.
    assert float((mean - damped).std()) < 0.03 * float(damped.std())


def test_aperture_passes_then_stops() -> None:
    k = torch.linspace(0, 0.75, 2001)
    passed = aperture(k)
    assert (passed[k <= PASS] == 1).all()
    assert (passed[k >= STOP] == 0).all()
    assert (passed.diff() <= 0).all()
    assert float(aperture(torch.tensor((PASS + STOP) / 2))) == pytest.approx(0.5)
    k_px = PIXEL_A * grid()[0]
    wave = transfer(lens(200, -500, 1e7, 20, 30, 1.0), SIDE, pixel_a())[0]
    assert (wave[k_px > STOP] == 0).all()
    flat = transfer(lens(200, -500, 1e7, 0, 30, 1.0), SIDE, pixel_a())[0]
    torch.testing.assert_close(flat.abs(), aperture(k_px), rtol=0, atol=3e-6)


# ---- the grid's edge ----


def uncorrected(rng: np.random.Generator, count: int) -> Optics:
    """The first `count` lenses drawn without a corrector."""
    drawn = draw_optics(rng, 20 * count)
    mine = (drawn.cs_a >= 2e6).flatten().nonzero()[:count, 0]
    return Optics(**{name: value[mine] for name, value in vars(drawn).items()})


def test_little_of_an_uncorrected_lens_wraps_round_the_grid(monkeypatch) -> None:
    """Against a grid three times as wide, in shares of the image's contrast: median 2 %, nine of
    ten frames within 18 %. Without convergence, which damps the far fringes, the median is 19 %.
    """
    rng, count = np.random.default_rng(7), 60
    optics, none = uncorrected(rng, count), torch.zeros(count, 1, 1)
    atoms = draw_atoms(rng, count, 96, Recipe().spacing_px)
    pixels_a = generator.pixel_sizes_a(rng, atoms, Recipe())
    materials = [MATERIALS[i] for i in rng.integers(0, len(MATERIALS), count)]

    def images(pad_px: int, lenses: Optics) -> Tensor:
        monkeypatch.setattr(generator, "PAD_PX", pad_px)
        return generator.specimen_images(
            generator.padded_atoms(atoms), materials, none + 20, none, none, lenses, pixels_a,
            96, none + 0.8, torch.Generator(),
        )  # fmt: skip

    def wrapped(lenses: Optics) -> Tensor:
        narrow, wide = images(chosen_px, lenses), images(3 * chosen_px, lenses)
        contrast = wide.std(dim=(1, 2, 3))
        share = (narrow - wide).square().mean(dim=(1, 2, 3)).sqrt() / contrast
        return share[contrast > 1e-3]

    chosen_px = generator.PAD_PX
    shares = wrapped(optics)
    assert len(shares) > 50
    assert float(shares.median()) < 0.03
    assert float(shares.quantile(0.9)) < 0.2
    parallel = wrapped(replace(optics, convergence_rad=none))
    assert float(parallel.median()) > 4 * float(shares.median())
