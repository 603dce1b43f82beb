"""Atoms as phase: the table's form factors, and how they come onto the grid."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from scgn.simulate.atoms import Atoms
from scgn.simulate.elements import (
    DEBYE_WALLER_A2,
    MATERIALS,
    MOTT_V_A2,
    PENG,
    projected_phase,
    scattering_factor,
)
from scgn.simulate.generator import atomic_phase, film_phase
from scgn.simulate.optics import STOP, aperture, interaction_per_v_a

PROTONS = {
    "C": 6, "O": 8, "Al": 13, "Si": 14, "Ti": 22, "Cu": 29, "Sr": 38, "Pd": 46, "Ag": 47, "Ce": 58,
    "Pt": 78, "Au": 79,
}  # fmt: skip
# f(0) in A of another fit to the same atoms: Kirkland 2010, appendix C.
KIRKLAND_FORWARD_A = {
    "C": 2.511, "O": 1.990, "Al": 5.892, "Si": 5.814, "Ti": 8.740, "Cu": 5.581, "Sr": 13.055,
    "Pd": 7.585, "Ag": 8.672, "Ce": 17.367, "Pt": 10.807, "Au": 10.553,
}  # fmt: skip
MOTT_BETHE_PER_A = 0.0239337  # m0 e^2 / (8 pi eps0 h^2): f = this (Z - f_x) / s^2
VOLTAGE_KV = torch.full((1, 1, 1), 200.0)
SIGMA_200 = float(interaction_per_v_a(torch.tensor(200.0, dtype=torch.float64)))


def columns_at(
    positions: list[tuple[float, float]],
    amplitude: float = 1.0,
    species: int = 0,
) -> Atoms:
    """Columns of one frame."""
    count = len(positions)
    return Atoms(
        torch.zeros(count, dtype=torch.long), torch.tensor(positions).reshape(-1, 2).float(),
        torch.ones(count), torch.full((count,), amplitude),
        torch.full((count,), species), torch.tensor([10.0]),
    )  # fmt: skip


def phase_of(atoms: Atoms, pixel_a: float, side: int, material: tuple[str, str]) -> Tensor:
    return atomic_phase(atoms, [material], VOLTAGE_KV, torch.full((1, 1, 1), pixel_a), side)[0]


def exact_phase(element: str, position: tuple[float, float], pixel_a: float, side: int) -> Tensor:
    """The band-limited phase of one atom as its Fourier series, at any sub-pixel position."""
    vertical = torch.fft.fftfreq(side, dtype=torch.float64)[:, None]
    horizontal = torch.fft.fftfreq(side, dtype=torch.float64)[None]
    k = torch.hypot(vertical, horizontal)
    factor = projected_phase(element, k / pixel_a, torch.tensor(SIGMA_200)) * aperture(k)
    turn = torch.polar(
        torch.ones_like(k), -2 * math.pi * (vertical * position[0] + horizontal * position[1])
    )
    return torch.fft.ifft2(factor * turn).real / pixel_a**2


# ---- the table ----


@pytest.mark.parametrize("element", PENG)
def test_forward_scattering_is_the_sum_of_the_amplitudes(element) -> None:
    forward = float(scattering_factor(element, torch.zeros(1)))
    assert forward == pytest.approx(sum(PENG[element][0]), rel=1e-6)
    assert forward == pytest.approx(KIRKLAND_FORWARD_A[element], rel=0.006)


@pytest.mark.parametrize("element", PENG)
def test_each_element_has_its_own_nucleus(element) -> None:
    """Mott-Bethe: f s^2 counts the protons left bare by the electrons; most of them at 1.5/A."""
    assert set(PENG) == set(PROTONS)
    s = 1.5
    moving = float(scattering_factor(element, torch.tensor(2 * s, dtype=torch.float64)))
    bare = moving * math.exp(DEBYE_WALLER_A2 * s**2) * s**2 / MOTT_BETHE_PER_A
    assert 0.75 * PROTONS[element] < bare < 0.9 * PROTONS[element]


def test_potential_constant_is_that_of_nature() -> None:
    planck, mass, charge = 6.62607015e-34, 9.1093837015e-31, 1.602176634e-19
    assert pytest.approx(planck**2 / (2 * math.pi * mass * charge) * 1e20, rel=1e-5) == MOTT_V_A2


def test_elements_outside_the_table_are_named() -> None:
    with pytest.raises(KeyError, match="Xx"):
        scattering_factor("Xx", torch.zeros(1))


def test_every_material_is_in_the_table() -> None:
    assert {element for pair in MATERIALS for element in pair} <= set(PENG)
    assert all(PROTONS[heavy] >= PROTONS[light] or (heavy, light) == ("Cu", "Au")
               for heavy, light in MATERIALS)  # fmt: skip


# ---- on the grid ----


@pytest.mark.parametrize("element", ["C", "Si", "Au"])
def test_one_atom_is_the_real_space_sum_of_its_gaussians(element) -> None:
    """sigma 47.88 sum a 4 pi/b' exp(-4 pi^2 r^2 / b'), b' with thermal motion, on a fine grid."""
    pixel_a, side, (row, column) = 0.06, 256, (120.3, 131.8)
    phase = phase_of(columns_at([(row, column)]), pixel_a, side, (element, element))
    y, x = np.ogrid[:side, :side]
    r2 = ((y - row) ** 2 + (x - column) ** 2) * pixel_a**2
    expected = np.zeros((side, side))
    for a, b in zip(*PENG[element], strict=True):
        width = b + DEBYE_WALLER_A2
        expected += a * 4 * math.pi / width * np.exp(-4 * math.pi**2 * r2 / width)
    expected *= SIGMA_200 * MOTT_V_A2
    inside = np.s_[64:192, 64:192]  # the periodic images of the tails stay out of it
    np.testing.assert_allclose(phase.numpy()[inside], expected[inside], atol=4e-3 * expected.max())


@pytest.mark.parametrize("pixel_a", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("position", [(32.0, 32.0), (32.5, 32.0), (31.7, 32.31)])
def test_sub_pixel_shifts_move_an_atom_exactly(pixel_a, position) -> None:
    phase = phase_of(columns_at([position]), pixel_a, 64, ("Pt", "Pt")).double()
    expected = exact_phase("Pt", position, pixel_a, 64)
    torch.testing.assert_close(phase, expected, rtol=0, atol=1e-3 * float(expected.max()))


@pytest.mark.parametrize("material", MATERIALS)
@pytest.mark.parametrize("species", [0, 1])
def test_total_phase_is_the_forward_scattering(material, species) -> None:
    """Phase integrated over the plane: sigma 47.88 f(0), times the atoms that are there."""
    atoms = columns_at([(20.2, 30.0), (40.0, 25.5), (33.1, 44.9)], 0.7, species)
    pixel_a = 0.22
    total = float(phase_of(atoms, pixel_a, 64, material).double().sum()) * pixel_a**2
    forward = sum(PENG[material[species]][0])
    assert total == pytest.approx(3 * 0.7 * SIGMA_200 * MOTT_V_A2 * forward, rel=1e-4)


def test_frames_keep_their_own_material_voltage_and_pixel() -> None:
    position = torch.tensor([[20.4, 24.0], [20.4, 24.0]])
    both = Atoms(
        torch.tensor([0, 1]), position, torch.ones(2), torch.ones(2), torch.tensor([0, 1]),
        torch.tensor([10.0, 10.0]),
    )  # fmt: skip
    voltage = torch.tensor([80.0, 300.0]).view(2, 1, 1)
    pixel_a = torch.tensor([0.2, 0.35]).view(2, 1, 1)
    materials = [("Au", "C"), ("Sr", "O")]
    phases = atomic_phase(both, materials, voltage, pixel_a, 48)
    for i in range(2):
        alone = atomic_phase(both.of(i), materials[i : i + 1], voltage[i : i + 1],
                             pixel_a[i : i + 1], 48)  # fmt: skip
        torch.testing.assert_close(phases[i], alone[0], rtol=0, atol=1e-6)


def test_vacant_columns_shift_no_phase() -> None:
    assert float(phase_of(columns_at([(20.0, 20.0)], 0.0), 0.2, 40, ("Au", "Au")).abs().max()) == 0


def test_film_has_the_asked_strength_and_the_grain_of_carbon() -> None:
    """Its power falls as carbon's form factor squared."""
    pixel_a, strength = torch.full((12, 1, 1), 0.2), torch.full((12, 1, 1), 0.04)
    film = film_phase(strength, pixel_a, 128, torch.Generator().manual_seed(2))
    torch.testing.assert_close(film.std(dim=(1, 2)), strength.flatten(), rtol=1e-4, atol=0)
    assert float(film.mean(dim=(1, 2)).abs().max()) < 0.01
    k_px = torch.hypot(torch.fft.fftfreq(128)[:, None], torch.fft.fftfreq(128)[None])
    power = torch.fft.fft2(film).abs().square().mean(dim=0)
    slow, fast = ((k_px > low) & (k_px < low + 0.02) for low in (0.05, 0.25))
    expected = [scattering_factor("C", torch.tensor([k / 0.2])) ** 2 for k in (0.06, 0.26)]
    measured = float(power[slow].mean() / power[fast].mean())
    assert measured == pytest.approx(float(expected[0] / expected[1]), rel=0.15)
    assert float(power[k_px > STOP].max()) < 1e-6 * float(power.max())
