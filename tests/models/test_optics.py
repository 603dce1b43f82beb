"""The lens against closed forms: electrons, contrast transfer of a weak film, its zeros, vacuum.

chi = pi lambda k^2 (defocus + A cos 2(angle - angle_A)) + pi/2 Cs lambda^3 k^4, all A;
underfocus is negative.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from lenses import LAMBDA_200_A, PIXEL_A, SIDE, grid, lens, pixel_a, weak_film
from torch import Tensor

from scgn.simulate.optics import (
    PASS,
    Optics,
    aperture,
    draw_optics,
    form_image,
    interaction_per_v_a,
    wavelength_a,
)

ELECTRON_CHARGE, ELECTRON_MASS, PLANCK, LIGHT = (
    1.602176634e-19, 9.1093837015e-31, 6.62607015e-34, 299792458.0,
)  # fmt: skip


def contrast_transfer(optics: Optics, phase: Tensor) -> Tensor:
    """What the image holds of each frequency of the film's phase, (side,side), complex."""
    image = form_image(phase, torch.zeros_like(phase), optics, pixel_a())
    ratio = torch.fft.fft2(image - 1) / torch.fft.fft2(phase)
    ratio[0, 0, 0] = 0
    return ratio[0]


# ---- electrons ----


@pytest.mark.parametrize(
    ("voltage_kv", "picometres", "rad_per_v_nm"),
    [(80.0, 4.1757, 0.01009), (200.0, 2.5079, 0.00729), (300.0, 1.9687, 0.00653)],
)
def test_electrons_of_each_voltage(voltage_kv, picometres, rad_per_v_nm) -> None:
    voltage = torch.tensor(voltage_kv, dtype=torch.float64)
    assert 100 * float(wavelength_a(voltage)) == pytest.approx(picometres, abs=1e-4)
    assert 10 * float(interaction_per_v_a(voltage)) == pytest.approx(rad_per_v_nm, abs=5e-6)


@pytest.mark.parametrize("voltage_kv", [60.0, 120.0, 1000.0])
def test_interaction_is_that_of_the_relativistic_mass(voltage_kv) -> None:
    """2 pi m e lambda / h^2 with m and lambda in SI units."""
    energy = 1000 * voltage_kv * ELECTRON_CHARGE
    rest = ELECTRON_MASS * LIGHT**2
    wavelength = PLANCK * LIGHT / math.sqrt(energy * (energy + 2 * rest))
    mass = ELECTRON_MASS * (1 + energy / rest)
    expected = 2 * math.pi * mass * ELECTRON_CHARGE * wavelength / PLANCK**2 * 1e-10
    voltage = torch.tensor(voltage_kv, dtype=torch.float64)
    assert float(wavelength_a(voltage)) == pytest.approx(1e10 * wavelength, rel=1e-6)
    assert float(interaction_per_v_a(voltage)) == pytest.approx(expected, rel=1e-6)


# ---- contrast transfer ----


@pytest.mark.parametrize(
    "optics",
    [
        lens(200, -600, 1.2e7),
        lens(300, 80, -2e5, spread_a=30),
        lens(80, -150, 1e5, 20, astigmatism_a=60, rad=0.7),
    ],
    ids=["scherzer", "overfocus", "astigmatic"],
)
def test_weak_phase_is_imaged_with_twice_sin_chi(optics) -> None:
    k, angle = grid()
    wave = wavelength_a(optics.voltage_kv)
    focus = optics.defocus_a + optics.astigmatism_a * torch.cos(
        2 * (angle - optics.astigmatism_rad)
    )
    chi = math.pi * wave * k**2 * focus + math.pi / 2 * optics.cs_a * wave**3 * k**4
    spread = torch.exp(-0.5 * (math.pi * wave * optics.focal_spread_a * k**2) ** 2)
    expected = (2 * torch.sin(chi) * spread * aperture(PIXEL_A * k))[0]
    ratio = contrast_transfer(optics, weak_film())
    expected[0, 0] = 0
    inner = k < PASS / PIXEL_A
    weak = (ratio - expected).abs()[inner]
    assert float(weak.median()) < 2e-3
    torch.testing.assert_close(
        ratio.abs()[inner].square().mean(), expected[inner].square().mean(), rtol=1e-3, atol=0
    )


@pytest.mark.parametrize(
    ("defocus_a", "cs_a"), [(-1000.0, 0.0), (800.0, 0.0), (-900.0, 2e6), (600.0, 1e7)]
)
def test_thon_rings_vanish_where_sin_chi_does(defocus_a, cs_a) -> None:
    """Zeros at chi = n pi; only ring averages of the image's power are used, as in a microscope."""
    phase = weak_film(1e-3)
    image = form_image(phase, torch.zeros_like(phase), lens(200, defocus_a, cs_a), pixel_a())
    power = torch.fft.fft2(image - 1)[0].abs().square()
    k, _ = grid()
    step = 1 / (SIDE * PIXEL_A)
    ring = (2 * k / step).round().long()
    counts = torch.bincount(ring.flatten()).clamp(min=1)
    mean = torch.bincount(ring.flatten(), weights=power.flatten()) / counts
    for n in range(1, 5):
        zero = zero_radius(defocus_a, cs_a, n) / step
        near = torch.arange(round(2 * zero) - 2, round(2 * zero) + 3)
        lowest = float(near[mean[near].argmin()]) / 2
        assert lowest == pytest.approx(zero, abs=0.5), f"zero {n}, in steps of the spectrum"
        assert float(mean[near].min()) < 0.1 * float(mean[: 2 * round(zero)].max())


def zero_radius(defocus_a: float, cs_a: float, n: int) -> float:
    """k of the n-th zero, 1/A: Cs lambda^3 u^2 / 2 + lambda defocus u = +-n with u = k^2."""
    wave, sign = LAMBDA_200_A, math.copysign(1, defocus_a)
    if cs_a == 0:
        return math.sqrt(n / (wave * abs(defocus_a)))
    # Underfocus first lowers the phase: the zeros before spherical aberration turns it.
    root = math.sqrt(defocus_a**2 + 2 * cs_a * wave * sign * n)
    return math.sqrt((sign * root - defocus_a) / (cs_a * wave**2))


def test_phase_is_invisible_in_focus() -> None:
    phase = weak_film(1e-3)
    image = form_image(phase, torch.zeros_like(phase), lens(), pixel_a())
    seen = form_image(phase, torch.zeros_like(phase), lens(defocus_a=-200), pixel_a())
    # White film: the aperture alone lets the second order through.
    assert float(image.std()) < 0.01 * float(seen.std())


def test_contrast_turns_with_the_sign_of_defocus() -> None:
    phase = weak_film()
    nothing = torch.zeros_like(phase)
    under, over = (form_image(phase, nothing, lens(defocus_a=d), pixel_a()) for d in (-120, 120))
    assert float((under + over - 2).std()) < 1e-3 * float((under - over).std())
    k, _ = grid()
    seen = contrast_transfer(lens(defocus_a=-120.0), phase)[(k > 0.2) & (k < 0.5)]
    assert float(seen.real.max()) < 0, "underfocus makes what delays the wave dark"


@pytest.mark.parametrize("degrees", [0, 30, 75, 90, 140])
def test_astigmatism_stretches_the_rings_along_its_direction(degrees) -> None:
    """First zero at k^2 = 1 / (lambda |defocus + A cos 2(angle - angle_A)|)."""
    defocus_a, astigmatism_a, rad = -1000.0, 350.0, math.radians(degrees)
    k, angle = grid()
    ratio = contrast_transfer(lens(200, defocus_a, 0, 0, astigmatism_a, rad), weak_film())
    focus = defocus_a + astigmatism_a * torch.cos(2 * (angle - rad))
    ring = (1 / (LAMBDA_200_A * focus.abs())).sqrt()
    around = (k > 0.75 * ring) & (k < 1.25 * ring)
    widest = []
    for sector in range(12):
        turned = (angle - rad - math.pi * sector / 12 + math.pi / 24) % math.pi
        mine = around & (turned < math.pi / 12)
        darkest = torch.where(mine, ratio.abs(), torch.inf).argmin()
        radius = float(k.flatten()[darkest])
        assert radius == pytest.approx(float(ring.flatten()[darkest]), rel=0.04)
        widest.append(radius)
    assert int(np.argmax(widest)) in (0, 1, 11), "focus is nearest along the axis"
    assert max(widest) / min(widest) == pytest.approx(math.sqrt(1350 / 650), rel=0.06)


# ---- vacuum, and lenses as drawn ----


def test_vacuum_images_to_exactly_one() -> None:
    optics = draw_optics(np.random.default_rng(0), 16)
    empty = torch.zeros(16, 48, 48)
    image = form_image(empty, empty, optics, torch.full((16, 1, 1), 0.3))
    torch.testing.assert_close(image, torch.ones_like(image), rtol=0, atol=1e-6)


def test_a_lens_moves_electrons_and_loses_none() -> None:
    """Strong smooth phase: all of it within the aperture, so the mean stays that of the beam."""
    side = 96
    y, x = torch.meshgrid(*[torch.arange(side, dtype=torch.float64)] * 2, indexing="ij")
    phase = 1.2 * torch.exp(-((y - 40) ** 2 + (x - 51) ** 2) / (2 * 4.0**2))[None]
    image = form_image(phase, torch.zeros_like(phase), lens(300, -400, 1e6), pixel_a(0.3))
    assert float(image.mean()) == pytest.approx(1, abs=1e-6)
    assert float(image.std()) > 0.05
    absorbed = form_image(phase, torch.full_like(phase, 0.1), lens(300), pixel_a(0.3))
    assert float(absorbed.mean()) == pytest.approx(math.exp(-0.2), abs=1e-6)


def test_lenses_are_drawn_as_they_are_used() -> None:
    optics = draw_optics(np.random.default_rng(5), 800)
    assert {name: value.shape for name, value in vars(optics).items()} == dict.fromkeys(
        vars(optics), (800, 1, 1)
    )
    assert set(optics.voltage_kv.flatten().tolist()) == {80.0, 200.0, 300.0}
    uncorrected = optics.cs_a >= 2e6
    assert 0.15 < float(uncorrected.float().mean()) < 0.25
    assert 5.8e6 < float(optics.cs_a.max()) <= 6e6
    assert float(optics.cs_a[~uncorrected].abs().max()) < 5e5
    scherzer = -(1.5 * optics.cs_a * wavelength_a(optics.voltage_kv)).clamp(min=0).sqrt()
    relative = (optics.defocus_a / scherzer)[uncorrected]
    assert 0.59 < float(relative.min()) < float(relative.max()) < 1.41
    corrected = optics.defocus_a[~uncorrected]
    assert 14.9 < float(corrected.abs().min()) < float(corrected.abs().max()) < 120.1
    assert 0.4 < float((corrected > 0).float().mean()) < 0.6
    assert float(optics.focal_spread_a.min()) >= 10
    assert float(optics.focal_spread_a.max()) <= 45
    assert float(optics.astigmatism_a.min()) >= 0
    for mine, factor in ((~uncorrected, 1.0), (uncorrected, 2.5)):
        half_angle = optics.convergence_rad[mine] / factor
        assert 1.99e-4 < float(half_angle.min()) < 2.2e-4
        assert 4.8e-4 < float(half_angle.max()) < 5.01e-4
