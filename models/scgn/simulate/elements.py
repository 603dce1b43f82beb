"""How strongly atoms scatter electrons: five Gaussians an element (Peng et al. 1996).

L.-M. Peng, G. Ren, S. L. Dudarev, M. J. Whelan, Acta Cryst. A52 (1996) 257-276; International
Tables for Crystallography, volume C, table 4.3.2.2: f(s) = sum a exp(-b s^2), s = k/2, f in A,
b in A^2.
"""

from __future__ import annotations

import torch
from torch import Tensor

PENG: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "C": ((0.0893, 0.2563, 0.7570, 1.0487, 0.3575), (0.2465, 1.7100, 6.4094, 18.6113, 50.2523)),
    "O": ((0.0974, 0.2921, 0.6910, 0.6990, 0.2039), (0.2067, 1.3815, 4.6943, 12.7105, 32.4726)),
    "Al": ((0.2390, 0.6573, 1.2011, 2.5586, 1.2312), (0.3138, 2.1063, 10.4163, 34.4552, 98.5344)),
    "Si": ((0.2519, 0.6372, 1.3795, 2.5082, 1.0500), (0.3075, 2.0174, 9.6746, 29.3744, 80.4732)),
    "Ti": ((0.3825, 1.2598, 2.0008, 3.0617, 2.0694), (0.3040, 2.4863, 9.2783, 39.0751, 109.4583)),
    "Cu": ((0.4314, 1.3208, 1.5236, 1.4671, 0.8562), (0.2694, 1.9223, 7.3474, 28.9892, 90.6246)),
    "Sr": ((0.6703, 1.4926, 3.3368, 4.4600, 3.1501), (0.3190, 2.2287, 10.3504, 52.3291, 151.2216)),
    "Pd": ((0.5904, 1.1775, 2.6519, 2.2875, 0.8689), (0.2324, 1.5019, 5.1591, 15.5428, 46.8213)),
    "Ag": ((0.6377, 1.3790, 2.8294, 2.3631, 1.4553), (0.2466, 1.6974, 5.7656, 20.0943, 76.7372)),
    "Ce": ((0.8551, 2.3915, 4.5772, 5.0278, 4.5118), (0.2805, 2.1200, 10.1808, 42.0633, 130.9893)),
    "Pt": ((0.9148, 1.8096, 3.2134, 3.2953, 1.5754), (0.2263, 1.3813, 5.3243, 17.5987, 60.0171)),
    "Au": ((0.9674, 1.8916, 3.3993, 3.0524, 1.2607), (0.2358, 1.4712, 5.6758, 18.7119, 61.5286)),
}
# What a column holds: its heavy atoms and, at the second site, its light ones.
MATERIALS: tuple[tuple[str, str], ...] = (
    ("Au", "Au"), ("Pt", "Pt"), ("Pd", "Pd"), ("Ag", "Ag"), ("Cu", "Cu"), ("Al", "Al"),
    ("Si", "Si"), ("C", "C"), ("Ce", "O"), ("Sr", "O"), ("Ti", "O"), ("Cu", "Au"), ("Sr", "Ti"),
)  # fmt: skip
MOTT_V_A2 = 47.87801  # h^2 / (2 pi m0 e): from a scattering factor in A to a potential in V A^3
DEBYE_WALLER_A2 = 0.5  # thermal motion at room temperature widens every atom by this much


def scattering_factor(element: str, k_per_a: Tensor) -> Tensor:
    """f(k) in A of one atom, thermal motion included; any shape in, the same out.

    k_per_a: spatial frequency, 1/A. KeyError for an element outside the table.
    """
    amplitudes, widths = PENG[element]
    k2 = k_per_a.square() / 4
    terms = (a * torch.exp(-b * k2) for a, b in zip(amplitudes, widths, strict=True))
    total: Tensor = sum(terms, torch.zeros_like(k2))
    return total * torch.exp(-DEBYE_WALLER_A2 * k2)


def projected_phase(element: str, k_per_a: Tensor, interaction: Tensor) -> Tensor:
    """Fourier transform of one atom's phase shift, rad A^2 (Kirkland 2010, eq. 5.21).

    interaction: rad per V A, see `optics.interaction_per_v_a`; broadcasts against k_per_a.
    """
    return interaction * MOTT_V_A2 * scattering_factor(element, k_per_a)
