"""Image formation: a phase object through the objective lens of a transmission microscope.

    wave = exp(i phase - absorption);  image = |F^-1[F(wave) E(k) exp(-i chi(k))]|^2
    chi = pi lambda k^2 (defocus + A cos 2(angle - angle_A)) + pi/2 Cs lambda^3 k^4

(Kirkland, Advanced Computing in Electron Microscopy, 2010, chapters 3 and 5; underfocus is
negative.) For a weak phase object the image is 1 + 2 F^-1[F(phase) E sin chi].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

REST_ENERGY_EV = 510998.95
PLANCK_C_EV_A = 12398.42
PASS, STOP = 0.36, 0.43  # cycles per px: the grid carries no more, a soft aperture ends it


@dataclass(frozen=True)
class Optics:
    """Lens of each frame of a batch; every field (B,1,1).

    voltage_kv; defocus_a (underfocus negative), cs_a: spherical aberration, focal_spread_a:
    deviation of the normal distribution of defocus, astigmatism_a: all A; astigmatism_rad: its
    direction, from the horizontal towards higher rows; convergence_rad: half angle of the beam.
    """

    voltage_kv: Tensor
    defocus_a: Tensor
    cs_a: Tensor
    focal_spread_a: Tensor
    astigmatism_a: Tensor
    astigmatism_rad: Tensor
    convergence_rad: Tensor

    def to(self, device: torch.device) -> Optics:
        """The same on a device."""
        return Optics(**{name: value.to(device) for name, value in vars(self).items()})


def wavelength_a(voltage_kv: Tensor) -> Tensor:
    """Relativistic wavelength of the electron, A (Kirkland eq. 2.5)."""
    energy = 1000 * voltage_kv
    return PLANCK_C_EV_A / (energy * (2 * REST_ENERGY_EV + energy)).sqrt()


def interaction_per_v_a(voltage_kv: Tensor) -> Tensor:
    """Phase per projected potential, rad / (V A) (Kirkland eq. 5.6)."""
    energy = 1000 * voltage_kv
    ratio = (REST_ENERGY_EV + energy) / (2 * REST_ENERGY_EV + energy)
    return 2 * math.pi / (wavelength_a(voltage_kv) * energy) * ratio


def frequencies(side_px: int, device: torch.device, half: bool = False) -> tuple[Tensor, Tensor]:
    """Vertical (side,1) and horizontal (1,side or side//2+1) frequencies, cycles per px."""
    columns = torch.fft.rfftfreq if half else torch.fft.fftfreq
    return (
        torch.fft.fftfreq(side_px, device=device)[:, None],
        columns(side_px, device=device)[None, :],
    )


def aberration(optics: Optics, k2_per_a2: Tensor, angle: Tensor) -> Tensor:
    """chi in rad, (B,H,W)."""
    wave = wavelength_a(optics.voltage_kv)
    stretch = torch.cos(2 * (angle - optics.astigmatism_rad))
    focus = optics.defocus_a + optics.astigmatism_a * stretch
    return math.pi * wave * k2_per_a2 * (focus + 0.5 * optics.cs_a * wave**2 * k2_per_a2)


def envelope(optics: Optics, k2_per_a2: Tensor) -> Tensor:
    """Damping by the spread of focus and by the beam's convergence, (B,H,W).

    (Kirkland eq. 3.41; the part of astigmatism in the convergence term is left out.)
    """
    wave, k = wavelength_a(optics.voltage_kv), k2_per_a2.sqrt()
    spread = math.pi * wave * optics.focal_spread_a * k2_per_a2
    shift_a = optics.cs_a * (wave * k) ** 3 + optics.defocus_a * wave * k  # of the beam at k
    smear = math.pi * optics.convergence_rad / wave * shift_a
    return torch.exp(-0.5 * spread.square() - smear.square())


def aperture(k_per_px: Tensor) -> Tensor:
    """1 up to PASS, 0 from STOP, half a cosine between."""
    way = ((k_per_px - PASS) / (STOP - PASS)).clamp(0, 1)
    return 0.5 * (1 + torch.cos(math.pi * way))


def transfer(optics: Optics, side_px: int, pixel_a: Tensor) -> Tensor:
    """Complex wave transfer function of each frame, (B,H,W), zero frequency first.

    pixel_a: (B,1,1), A per px.
    """
    vertical, horizontal = frequencies(side_px, pixel_a.device)
    k2_px = vertical.square() + horizontal.square()
    k2 = k2_px / pixel_a.square()
    chi = aberration(optics, k2, torch.atan2(vertical, horizontal))
    return torch.polar(envelope(optics, k2) * aperture(k2_px.sqrt()), -chi)


def form_image(phase: Tensor, absorption: Tensor, optics: Optics, pixel_a: Tensor) -> Tensor:
    """Intensity relative to the beam, (B,H,W), of phase and absorption (rad, both (B,H,W))."""
    wave = torch.polar(torch.exp(-absorption), phase)
    spectrum = torch.fft.fft2(wave) * transfer(optics, phase.shape[-1], pixel_a)
    image = torch.fft.ifft2(spectrum)
    intensity: Tensor = image.real.square() + image.imag.square()
    return intensity


def draw_optics(rng: np.random.Generator, count: int) -> Optics:
    """Lenses as they are used: most corrected, within +-12 nm of focus; the others with a Cs of 0.2
    to 0.6 mm around Scherzer's defocus, in a beam converged for millisecond exposures.
    """
    voltage = rng.choice([80.0, 200.0, 300.0], count)
    corrected = rng.random(count) < 0.8
    cs = np.where(corrected, rng.normal(0, 1e5, count), rng.uniform(2e6, 6e6, count))
    wave = wavelength_a(torch.from_numpy(voltage)).numpy()
    scherzer = -np.sqrt(1.5 * np.abs(cs) * wave) * rng.uniform(0.6, 1.4, count)
    near = rng.choice([-1, 1], count) * rng.uniform(15, 120, count)
    convergence = rng.uniform(2e-4, 5e-4, count) * np.where(corrected, 1, 2.5)
    values = (
        voltage, np.where(corrected, near, scherzer), cs, rng.uniform(10, 45, count),
        rng.exponential(8, count), rng.uniform(0, math.pi, count), convergence,
    )  # fmt: skip
    return Optics(*(torch.from_numpy(v.astype(np.float32))[:, None, None] for v in values))
