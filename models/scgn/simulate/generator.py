"""Simulated HRTEM frames with their truth: structure, imaging, detector, each a step of its own.

The same generator state gives the same batch on the same kind of device.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from scgn.noise import NoiseModel
from scgn.simulate.atoms import Atoms, atom_map, render, vacuum
from scgn.simulate.batch import SimulatedBatch, atom_sign
from scgn.simulate.detector import (
    Detector,
    column,
    expose,
    gaussian_mtf,
    log_uniform,
    of_noise_model,
    sometimes,
    uniform,
)
from scgn.simulate.elements import MATERIALS, projected_phase
from scgn.simulate.optics import (
    Optics,
    aperture,
    draw_optics,
    form_image,
    frequencies,
    interaction_per_v_a,
)
from scgn.simulate.recipe import Recipe
from scgn.simulate.structures import draw_atoms

Rng = np.random.Generator
PAD_PX = 32  # the lens spreads atoms by about this much, and the transform wraps round
NARROW_PX = 1.0  # sigma of the spot that stands for a point on the grid; taken out again
DARKEST = 0.01


def pixel_sizes_a(rng: Rng, atoms: Atoms, recipe: Recipe) -> Tensor:
    """(B,1,1) A per px, so that the spacing is one that crystals have; 0.1..0.5 A."""
    spacing_px = atoms.spacing_px.numpy()
    low = np.clip(recipe.spacing_a[0] / spacing_px, 0.1, 0.5)
    high = np.clip(recipe.spacing_a[1] / spacing_px, low, 0.5)
    return column(rng.uniform(low, high))[:, 0]


def atomic_phase(
    atoms: Atoms, materials: list[tuple[str, str]], voltage_kv: Tensor, pixel_a: Tensor, side: int
) -> Tensor:
    """Phase shift of the atoms in rad, (B,side,side): point atoms times their form factors."""
    vertical, horizontal = frequencies(side, pixel_a.device, half=True)
    k_px = (vertical.square() + horizontal.square()).sqrt()
    sharpen = torch.exp(2 * (math.pi * NARROW_PX * k_px).square()) * aperture(k_px)
    narrow = torch.full_like(atoms.sigma_px, NARROW_PX)
    spectrum = torch.zeros(1, device=pixel_a.device)
    for species in (0, 1):
        weight = atoms.amplitude * (atoms.species == species) / (2 * math.pi * NARROW_PX**2)
        points = torch.fft.rfft2(render(atoms, weight, narrow, side))
        elements = [pair[species] for pair in materials]
        factor = _factors(elements, k_px / pixel_a, interaction_per_v_a(voltage_kv))
        spectrum = spectrum + points * factor * sharpen / pixel_a.square()
    phase: Tensor = torch.fft.irfft2(spectrum, s=(side, side))
    return phase


def _factors(elements: list[str], k_per_a: Tensor, interaction: Tensor) -> Tensor:
    """The projected phase of each frame's element, rad A^2, (B,side,side//2+1)."""
    each = zip(elements, k_per_a, interaction, strict=True)
    return torch.stack([projected_phase(element, k, strength) for element, k, strength in each])


def film_phase(strength_rad: Tensor, pixel_a: Tensor, side: int, rng: torch.Generator) -> Tensor:
    """Phase of an amorphous carbon support, (B,side,side) rad of the given rms (B,1,1)."""
    vertical, horizontal = frequencies(side, pixel_a.device, half=True)
    k_px = (vertical.square() + horizontal.square()).sqrt()
    white = torch.randn(len(pixel_a), side, side, generator=rng, device=pixel_a.device)
    shape = projected_phase("C", k_px / pixel_a, torch.ones(1, device=pixel_a.device))
    grain = torch.fft.irfft2(torch.fft.rfft2(white) * shape * aperture(k_px), s=(side, side))
    film: Tensor = strength_rad * grain / grain.std(dim=(-2, -1), keepdim=True)
    return film


def physical_images(
    rng: Rng, atoms: Atoms, pixel_a: Tensor, side_px: int, recipe: Recipe, noise: torch.Generator
) -> Tensor:
    """Intensity relative to the beam, (B,1,side,side), of atoms on a film through a lens."""
    count, device = len(pixel_a), noise.device
    optics = draw_optics(rng, count).to(device)
    materials = [MATERIALS[i] for i in rng.integers(0, len(MATERIALS), count)]
    columns = log_uniform(rng, recipe.columns, count)[:, 0].to(device)
    film = uniform(rng, recipe.film_rad, count) * sometimes(rng, recipe.film_share, count)
    absorbed = uniform(rng, (0.0, 0.12), count)[:, 0].to(device)
    phase_max_rad = log_uniform(rng, recipe.phase_max_rad, count)[:, 0].to(device)
    return specimen_images(
        padded_atoms(atoms), materials, columns, film[:, 0].to(device), absorbed, optics,
        pixel_a, side_px, phase_max_rad, noise,
    )  # fmt: skip


def padded_atoms(atoms: Atoms) -> Atoms:
    """The same atoms on the grid that is PAD_PX wider on each side."""
    return Atoms(**(vars(atoms) | {"position_px": atoms.position_px + PAD_PX}))


def specimen_images(
    atoms: Atoms, materials: list[tuple[str, str]], columns: Tensor, film_rad: Tensor,
    absorbed: Tensor, optics: Optics, pixel_a: Tensor, side_px: int, phase_max_rad: Tensor,
    noise: torch.Generator,
) -> Tensor:  # fmt: skip
    """Intensity (B,1,side,side) of a known specimen; tensors (B,1,1), atoms on the padded grid.

    Tensors of (1,1,1) and one material are a series: one specimen, one lens and one film.
    """
    side = side_px + 2 * PAD_PX
    phase = columns * atomic_phase(atoms, materials, optics.voltage_kv, pixel_a, side)
    peak = phase.amax(dim=(-2, -1), keepdim=True).clamp(min=1e-6)
    peak = peak if len(columns) > 1 else peak.amax(dim=0, keepdim=True)
    phase = phase * (phase_max_rad / peak).clamp(max=1)
    support = film_phase(film_rad, pixel_a, side, noise)
    image = form_image(phase + support, absorbed * phase.clamp(min=0), optics, pixel_a)
    return image[:, None, PAD_PX:-PAD_PX, PAD_PX:-PAD_PX]


def spot_images(rng: Rng, atoms: Atoms, side_px: int, recipe: Recipe) -> Tensor:
    """Intensity (B,1,side,side) of atoms as Gaussian spots, bright or dark, on a level of 1."""
    count, device = len(atoms.spacing_px), atoms.frame.device
    sign = 2 * sometimes(rng, 0.6, count) - 1  # bright atoms a little oftener
    strength = (sign * uniform(rng, recipe.contrast, count)).to(device)
    return 1 + strength * render(atoms, atoms.amplitude, atoms.sigma_px, side_px)[:, None]


def smooth_field(rng: Rng, count: int, side_px: int, cells: tuple[int, int]) -> Tensor:
    """Slow random field of about unit deviation, (B,1,side,side)."""
    coarse_side = int(rng.integers(*cells))
    coarse = rng.normal(0, 1, (count, 1, coarse_side, coarse_side)).astype(np.float32)
    return functional.interpolate(
        torch.from_numpy(coarse), (side_px, side_px), mode="bicubic", align_corners=True
    )


def background(rng: Rng, count: int, side_px: int) -> Tensor:
    """Slow relative variation of illumination and film, about 0.9..1.1; (B,1,side,side)."""
    return 1 + uniform(rng, (0, 0.05), count) * smooth_field(rng, count, side_px, (3, 7))


def particles(rng: Rng, count: int, side_px: int, share: float) -> Tensor:
    """What absorbing particles let through, 0.4..1, in `share` of the frames; (B,1,side,side)."""
    inside = torch.sigmoid(12 * (smooth_field(rng, count, side_px, (4, 12)) - 0.8))
    return 1 - uniform(rng, (0.1, 0.6), count) * inside * sometimes(rng, share, count)


def draw_images(
    rng: Rng, atoms: Atoms, pixel_a: Tensor, side_px: int, recipe: Recipe, noise: torch.Generator
) -> Tensor:
    """Intensity relative to the empty beam, (B,1,side,side): lens images and plain spots mixed."""
    count, device = len(pixel_a), noise.device
    images = physical_images(rng, atoms, pixel_a, side_px, recipe, noise)
    spots = sometimes(rng, recipe.spots_share, count).to(device)
    images = torch.where(spots > 0, spot_images(rng, atoms, side_px, recipe), images)
    slow = background(rng, count, side_px) * particles(rng, count, side_px, recipe.blob_share)
    return (images * slow.to(device)).clamp(min=DARKEST)


def draw_detector(rng: Rng, dose: Tensor, side_px: int, recipe: Recipe) -> Detector:
    """Counting and integrating cameras with and without blur, line noise, defects and clipping."""
    count = len(dose)
    integrates = sometimes(rng, 0.6, count)
    gain = log_uniform(rng, recipe.gain_adu_per_e, count)
    gain = torch.where(integrates > 0, gain, gain.round())  # whole counts an electron
    read_e = uniform(rng, recipe.read_noise_e, count) * integrates
    line = uniform(rng, recipe.line_noise, count) * sometimes(rng, 0.4, count)
    blur = uniform(rng, recipe.blur_px, count) * sometimes(rng, 0.5, count)
    mtf = gaussian_mtf(blur, side_px)
    return Detector(
        gain_adu_per_e=gain,
        read_noise_adu=gain * read_e,
        line_noise_adu=gain * line * (dose + read_e.square()).sqrt(),
        line_blend=uniform(rng, (0, 1.0), count) * sometimes(rng, 0.5, count),
        along_columns=sometimes(rng, 0.5, count),
        signal_transfer=mtf,
        noise_transfer=mtf,
        response=uniform(rng, recipe.response, count) * integrates,
        hot_share=uniform(rng, recipe.hot_share, count) * sometimes(rng, 0.2, count),
        clips=sometimes(rng, recipe.clip_share, count),
    )


def simulate(
    rng: Rng,
    frame_count: int,
    side_px: int,
    recipe: Recipe,
    camera: NoiseModel | None = None,
    device: torch.device | None = None,
) -> SimulatedBatch:
    """A batch of independent square frames on `device` (CPU when None).

    camera: the detector to use instead of drawn ones. Structures are drawn on the CPU, images and
    noise made on the device.
    """
    noise = seeded(rng, device)
    atoms = draw_atoms(rng, frame_count, side_px, recipe.spacing_px)
    pixel_a = pixel_sizes_a(rng, atoms, recipe)
    dose = log_uniform(rng, recipe.dose_e_per_px, frame_count)
    detector = draw_detector(rng, dose, side_px, recipe)
    if camera is not None:
        detector = of_noise_model(camera, frame_count, side_px)
    here = noise.device
    atoms, dose = atoms.to(here), dose.to(here)
    images = draw_images(rng, atoms, pixel_a.to(here), side_px, recipe, noise)
    return observed(atoms, dose * images, dose, pixel_a.to(here), detector.to(here), noise)


def seeded(rng: Rng, device: torch.device | None) -> torch.Generator:
    """A generator on the device, seeded by the state of `rng`."""
    return torch.Generator(device or torch.device("cpu")).manual_seed(int(rng.integers(2**62)))


def observed(
    atoms: Atoms,
    electrons: Tensor,
    dose: Tensor,
    pixel_a: Tensor,
    detector: Detector,
    noise: torch.Generator,
) -> SimulatedBatch:
    """The batch that a detector makes of expected electrons (B,1,H,W)."""
    noisy, clean = expose(detector, electrons, noise)
    side = clean.shape[-1]
    return SimulatedBatch(
        noisy, clean, atom_map(atoms, side), atoms, atom_sign(clean, atoms),
        dose * detector.gain_adu_per_e, 0.1 * pixel_a[:, 0, 0], vacuum(atoms, side),
    )  # fmt: skip
