"""The generator against abTEM, an independent multislice code: potentials, lens, whole images.

abTEM is GPL: an oracle for those who install it (extra `oracle`), never a dependency. Its first
axis is x; ours are rows and columns, so arrays are handed over transposed (x = column). It draws
atoms with bilinear weights, so it works here on a grid FINER times as fine as ours.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from scgn.simulate.atoms import Atoms
from scgn.simulate.elements import DEBYE_WALLER_A2
from scgn.simulate.generator import atomic_phase
from scgn.simulate.optics import Optics, aperture, form_image, frequencies, interaction_per_v_a

abtem = pytest.importorskip("abtem", reason="abTEM is an optional oracle: pip install .[oracle]")
ase = pytest.importorskip("ase", reason="abTEM brings ASE")

SIDE, PIXEL_A, SLICE_A = 128, 0.2, 2.0
FINER = 8
SPREAD_OF_SIGMA = math.sqrt(2)  # abTEM's focal spread is the 1/e half width, ours the deviation
THERMAL_A = math.sqrt(DEBYE_WALLER_A2 / (8 * math.pi**2))  # B = 8 pi^2 <u^2>
PARAMETRIZATIONS = {
    "peng": lambda: abtem.parametrizations.PengParametrization("peng_low.json", THERMAL_A),
    "lobato": lambda: abtem.parametrizations.LobatoParametrization(sigmas=THERMAL_A),
    "kirkland": lambda: abtem.parametrizations.KirklandParametrization(sigmas=THERMAL_A),
}
CLUSTER_PX = [(60.0, 61.0), (60.4, 72.3), (71.1, 60.2), (71.7, 71.9), (49.3, 66.25)]
CLUSTER_DEPTH = 3  # atoms in each column


def relative_error(ours: Tensor, theirs: NDArray[np.float32]) -> float:
    """Root mean square difference over the root mean square of the reference, means apart."""
    expected = torch.from_numpy(np.ascontiguousarray(theirs)).double()
    contrast = (expected - expected.mean()).square().mean()
    return float(((ours.double() - expected).square().mean() / contrast).sqrt())


def our_phase(element: str, positions: list[tuple[float, float]], depth: int) -> Tensor:
    """Phase at 200 kV of columns of `depth` atoms, (1,SIDE,SIDE)."""
    count = len(positions)
    atoms = Atoms(
        torch.zeros(count, dtype=torch.long), torch.tensor(positions), torch.ones(count),
        torch.full((count,), float(depth)), torch.zeros(count, dtype=torch.long),
        torch.tensor([12.0]),
    )  # fmt: skip
    voltage, pixel_a = torch.full((1, 1, 1), 200.0), torch.full((1, 1, 1), PIXEL_A)
    return atomic_phase(atoms, [(element, element)], voltage, pixel_a, SIDE)


def their_potential(element, positions, depth, parametrization):
    """abTEM's sliced potential of the same atoms in the same field."""
    places = [
        (PIXEL_A * column, PIXEL_A * row, SLICE_A * (layer + 0.5))
        for row, column in positions
        for layer in range(depth)
    ]
    cell = (SIDE * PIXEL_A, SIDE * PIXEL_A, SLICE_A * depth)
    atoms = ase.Atoms(element * len(places), positions=places, cell=cell, pbc=True)
    potential = abtem.Potential(
        atoms, gpts=FINER * SIDE, slice_thickness=SLICE_A, projection="infinite",
        parametrization=PARAMETRIZATIONS[parametrization](),
    )  # fmt: skip
    return potential.build(lazy=False)


def on_our_grid(frame: NDArray[np.complex64]) -> NDArray[np.complex128]:
    """A periodic frame of any finer grid on ours, through the soft aperture that ends ours."""
    finer = len(frame) // SIDE
    vertical, horizontal = frequencies(SIDE, torch.device("cpu"))
    passed = aperture(torch.hypot(vertical, horizontal)).numpy()
    kept = np.fft.fftfreq(SIDE, 1 / SIDE).astype(int)
    spectrum = np.fft.fft2(frame)[np.ix_(kept, kept)] / finer**2
    return np.asarray(np.fft.ifft2(spectrum * passed))


def their_phase(potential) -> NDArray[np.float32]:
    """sigma V of the projected potential in rad on the finer grid, as (row, column)."""
    projected = np.asarray(potential.array).sum(axis=0).T
    volts = projected - projected[0, 0]  # infinite projections are known up to a constant
    return np.asarray(abtem.core.energy.energy2sigma(200e3) * volts)


def their_image(wave: NDArray[np.complex64], **lens: float) -> NDArray[np.float32]:
    """Intensity on our grid of an exit wave (row, column) of the finer one through abTEM's lens."""
    limited = np.ascontiguousarray(on_our_grid(wave).T).astype(np.complex64)
    waves = abtem.Waves(limited, energy=200e3, sampling=PIXEL_A)
    image = waves.apply_ctf(abtem.CTF(energy=200e3, **lens)).intensity()
    return np.asarray(image.compute().array).T


def lens_of(defocus_a=0.0, cs_a=0.0, spread_a=0.0, astigmatism_a=0.0, rad=0.0) -> Optics:
    parallel_rad = 0.0  # abTEM's plane wave has no convergence
    values = (200.0, defocus_a, cs_a, spread_a, astigmatism_a, rad, parallel_rad)
    return Optics(*(torch.full((1, 1, 1), v) for v in values))


def test_electrons_agree() -> None:
    for kilovolt in (80.0, 200.0, 300.0):
        theirs = abtem.core.energy.energy2sigma(1000 * kilovolt)
        assert float(interaction_per_v_a(torch.tensor(kilovolt))) == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize(
    ("parametrization", "tolerance"), [("peng", 0.004), ("lobato", 0.03), ("kirkland", 0.006)]
)
@pytest.mark.parametrize("element", ["C", "O", "Si", "Cu", "Sr", "Ce", "Pt", "Au"])
def test_one_atom_has_the_potential_of_abtem(element, parametrization, tolerance) -> None:
    where = [(63.3, 65.8)]
    theirs = their_phase(their_potential(element, where, 1, parametrization))
    ours = our_phase(element, where, 1)[0]
    assert relative_error(ours - ours[0, 0], on_our_grid(theirs).real) < tolerance


def test_columns_have_the_projected_potential_of_abtem() -> None:
    theirs = their_phase(their_potential("Au", CLUSTER_PX, CLUSTER_DEPTH, "peng"))
    ours = our_phase("Au", CLUSTER_PX, CLUSTER_DEPTH)[0]
    assert relative_error(ours - ours[0, 0], on_our_grid(theirs).real) < 0.004


LENSES = [
    ((-80.0, 1e5, 0.0, 0.0, 0.0), "corrected"),
    ((-650.0, 1.2e7, 0.0, 0.0, 0.0), "scherzer"),
    ((90.0, 0.0, 35.0, 0.0, 0.0), "spread"),
    ((-300.0, 1e6, 20.0, 60.0, 0.6), "astigmatic"),
]


@pytest.mark.parametrize("lens", [lens for lens, _ in LENSES], ids=[name for _, name in LENSES])
@pytest.mark.parametrize(("finer", "tolerance"), [(False, 0.004), (True, 0.08)])
def test_columns_are_imaged_as_by_abtem(lens, finer, tolerance) -> None:
    """Their potential, their lens; a wave made on the finer grid shows what the coarse one costs:
    most without focal spread, when the lens passes all that the grid carries.
    """
    defocus_a, cs_a, spread_a, astigmatism_a, rad = lens
    phase = their_phase(their_potential("Au", CLUSTER_PX, 1, "peng"))
    theirs = their_image(
        np.exp(1j * (phase if finer else on_our_grid(phase).real)), C10=defocus_a, Cs=cs_a,
        C12=astigmatism_a, phi12=rad, focal_spread=SPREAD_OF_SIGMA * spread_a,
    )  # fmt: skip
    ours = our_phase("Au", CLUSTER_PX, 1)
    image = form_image(ours, torch.zeros_like(ours), lens_of(*lens),
                       torch.full((1, 1, 1), PIXEL_A))[0]  # fmt: skip
    assert float(image.std()) > 0.02
    assert relative_error(image, theirs) < tolerance


@pytest.mark.parametrize(("element", "depth"), [("C", 2), ("Si", 3), ("Au", 3)])
def test_thin_columns_are_phase_objects_to_multislice(element, depth) -> None:
    """Propagation inside a column of a few atoms changes its image by a few percent."""
    potential = their_potential(element, CLUSTER_PX, depth, "peng")
    exit_wave = abtem.PlaneWave(energy=200e3).multislice(potential, lazy=False)
    wave = np.asarray(exit_wave.array).T
    theirs = their_image(wave, C10=-100.0, focal_spread=SPREAD_OF_SIGMA * 40)
    ours = our_phase(element, CLUSTER_PX, depth)
    image = form_image(ours, torch.zeros_like(ours), lens_of(-100.0, spread_a=40),
                       torch.full((1, 1, 1), PIXEL_A))[0]  # fmt: skip
    assert relative_error(image, theirs) < 0.06
