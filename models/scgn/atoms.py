"""Atoms found in a frame, and found atoms against true ones.

One detector and one rule for every method: local maxima of the Laplacian of a Gaussian, in
contrast relative to the beam. Truth is the atoms that the same detector finds in the noise-free
target: no denoiser can be asked for what contrast transfer hides. Other spots that the noise-free
target shows (fringes, gaps between columns) are ignored: to keep them is neither right nor wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

PM_PER_NM = 1000.0
ANGSTROM_PER_NM = 10.0


@dataclass(frozen=True)
class DetectionRule:
    """When a spot counts as an atom.

    scale_nm: sigma of the Gaussian whose Laplacian is taken, never below scale_px_min pixels;
    contrast_min: smallest response, in contrast of an atom of that sigma relative to the beam;
    separation_nm: a maximum is the largest within this radius; match_nm: greatest distance between
    a found atom and its true one.
    """

    scale_nm: float = 0.05
    scale_px_min: float = 1.0
    contrast_min: float = 0.05
    separation_nm: float = 0.06
    match_nm: float = 0.05


@dataclass(frozen=True)
class FoundAtoms:
    """Atoms of a batch: frame (N,) index, position_px (N,2) row and column, contrast (N,)."""

    frame: Tensor
    position_px: Tensor
    contrast: Tensor

    def only(self, kept: Tensor) -> FoundAtoms:
        """Those where `kept`, (N,) bool, is True."""
        return FoundAtoms(self.frame[kept], self.position_px[kept], self.contrast[kept])


def log_response(frames: Tensor, sigma_px: float) -> Tensor:
    """Negative Laplacian of a Gaussian, scaled so that an atom of that sigma gives its height.

    (B,1,H,W) -> same. A Gaussian atom of width a answers 4 a^2 sigma^2 / (a^2 + sigma^2)^2 of it.
    """
    radius = min(math.ceil(4.5 * sigma_px), frames.shape[-1] - 1, frames.shape[-2] - 1)
    steps = torch.arange(-radius, radius + 1, dtype=frames.dtype, device=frames.device)
    smooth = torch.exp(-0.5 * (steps / sigma_px) ** 2)
    smooth = smooth / smooth.sum()
    second = smooth * (steps**2 / sigma_px**2 - 1)
    second = second - smooth * second.sum()  # a flat frame gives exactly nothing
    padded = functional.pad(frames, (radius,) * 4, mode="reflect")
    rows, columns = (
        functional.conv2d(functional.conv2d(padded, a.view(1, 1, 1, -1)), b.view(1, 1, -1, 1))
        for a, b in ((smooth, second), (second, smooth))
    )
    return -2 * (rows + columns)


def local_maxima(response: Tensor, least: float, radius_px: float) -> Tensor:
    """Pixels (N,2) of (H,W) above `least` that are the largest within radius_px; not on the rim."""
    reach = max(1, int(radius_px))
    around = functional.max_pool2d(response[None, None], 2 * reach + 1, 1, reach)[0, 0]
    peak = (response == around) & (response > least)
    peak[[0, -1], :] = False
    peak[:, [0, -1]] = False
    return peak.nonzero()


def refine(response: Tensor, pixels: Tensor) -> Tensor:
    """Sub-pixel positions (N,2) of maxima: the vertex of a parabola along each axis."""
    row, column = pixels.unbind(1)
    middle = response[row, column]
    moves = []
    for dy, dx in ((1, 0), (0, 1)):
        before, after = response[row - dy, column - dx], response[row + dy, column + dx]
        bend = (2 * middle - before - after).clamp(min=torch.finfo(response.dtype).tiny)
        moves.append((0.5 * (after - before) / bend).clamp(-0.5, 0.5))
    return pixels + torch.stack(moves, dim=1)


def find_atoms(contrast: Tensor, pixel_nm: Tensor, rule: DetectionRule) -> FoundAtoms:
    """Atoms of every frame: maxima of its Laplacian of a Gaussian, refined below a pixel.

    contrast: (B,1,H,W), atoms positive, relative to the beam (`beam_contrast`); pixel_nm: (B,).
    """
    frames, positions, heights = [], [], []
    for index, (frame, pixel) in enumerate(zip(contrast, pixel_nm.tolist(), strict=True)):
        sigma_px = max(rule.scale_px_min, rule.scale_nm / pixel)
        response = log_response(frame[None], sigma_px)[0, 0]
        pixels = local_maxima(response, rule.contrast_min, rule.separation_nm / pixel)
        frames.append(torch.full((len(pixels),), index))
        positions.append(refine(response, pixels))
        heights.append(response[pixels[:, 0], pixels[:, 1]])
    return FoundAtoms(torch.cat(frames), torch.cat(positions), torch.cat(heights))


def beam_contrast(counts: Tensor, beam: Tensor, sign: Tensor) -> Tensor:
    """Contrast with atoms positive: sign * (counts / beam - 1), (B,1,H,W).

    beam: (B,1,1,1) counts; sign: (B,) +1 white atoms, -1 black; 0 is read as white, because bright
    spots are what an eye would take for atoms where the contrast is neither.
    """
    upward = torch.where(sign < 0, -1.0, 1.0).to(counts).view(-1, 1, 1, 1)
    return upward * (counts / beam - 1)


def match_atoms(found_px: Tensor, true_px: Tensor, radius_px: float) -> tuple[Tensor, Tensor]:
    """Indices (K,) into found (N,2) and true (M,2) of the pairs no further apart than radius_px.

    As many pairs as possible, each atom once, then the least total distance (Hungarian method).
    Needs SciPy (`scgn-live[evaluate]`).
    """
    from scipy.optimize import linear_sum_assignment

    apart = torch.cdist(found_px.double(), true_px.double())
    near_found = (apart <= radius_px).any(dim=1).nonzero()[:, 0]
    near_true = (apart <= radius_px).any(dim=0).nonzero()[:, 0]
    apart = apart[near_found][:, near_true]
    never = radius_px * (sum(apart.shape) + 1)  # one pair more is worth any distance
    rows, columns = linear_sum_assignment(torch.where(apart <= radius_px, apart, never).numpy())
    i, j = torch.from_numpy(rows), torch.from_numpy(columns)
    kept = apart[i, j] <= radius_px
    return near_found[i[kept]], near_true[j[kept]]


@dataclass(frozen=True)
class DetectionScore:
    """Counts over a set, and what follows from them.

    squared_nm2: summed squared distance of the matched pairs.
    """

    matched: int = 0
    found: int = 0
    true: int = 0
    squared_nm2: float = 0.0

    @property
    def precision(self) -> float:
        """Share of the found atoms that are true; 1 when none was found."""
        return self.matched / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """Share of the true atoms that were found; 1 when there is none."""
        return self.matched / self.true if self.true else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.matched / (self.found + self.true) if self.found + self.true else 1.0

    @property
    def position_rmse_pm(self) -> float:
        """Root mean square distance of matched pairs, pm; NaN without any pair."""
        if not self.matched:
            return math.nan
        return PM_PER_NM * math.sqrt(self.squared_nm2 / self.matched)


def match_set(
    found: FoundAtoms, true: FoundAtoms, pixel_nm: Tensor, rule: DetectionRule
) -> tuple[Tensor, Tensor]:
    """Indices (K,) into found and true of the pairs over all frames of a set; pixel_nm: (B,)."""
    pairs = []
    for index, pixel in enumerate(pixel_nm.tolist()):
        mine, theirs = ((atoms.frame == index).nonzero()[:, 0] for atoms in (found, true))
        place = found.position_px[mine], true.position_px[theirs]
        i, j = match_atoms(*place, rule.match_nm / pixel)
        pairs.append((mine[i], theirs[j]))
    every_i, every_j = (torch.cat(part) for part in zip(*pairs, strict=True))
    return every_i, every_j


def score_detection(
    found: FoundAtoms,
    spots: FoundAtoms,
    pixel_nm: Tensor,
    rule: DetectionRule,
    atomic: Tensor | None = None,
) -> tuple[DetectionScore, FoundAtoms]:
    """Found atoms against spots of the noise-free target, and those found that are none of these.

    pixel_nm: (B,), one per frame of the set; atomic: (N,) bool, which of the spots are atoms, all
    when None; what was found at another spot is ignored.
    """
    atomic = torch.ones(len(spots.frame), dtype=torch.bool) if atomic is None else atomic
    i, j = match_set(found, spots, pixel_nm, rule)
    away_px = (found.position_px[i] - spots.position_px[j])[atomic[j]]
    away_nm = away_px * pixel_nm[found.frame[i[atomic[j]]], None]
    matched = len(away_nm)
    ignored = len(i) - matched
    squared_nm2 = float(away_nm.square().sum())
    score = DetectionScore(matched, len(found.frame) - ignored, int(atomic.sum()), squared_nm2)
    wrong = torch.ones(len(found.frame), dtype=torch.bool)
    wrong[i] = False
    return score, found.only(wrong)


def per_nm2(atoms: FoundAtoms, region: Tensor, pixel_nm: Tensor) -> float:
    """Atoms per nm^2 of a region, (B,1,H,W) bool; NaN where it is empty. pixel_nm: (B,)."""
    row, column = atoms.position_px.round().long().unbind(1)
    count = int(region[atoms.frame, 0, row, column].sum())
    area_nm2 = float((region.sum(dim=(1, 2, 3)) * pixel_nm**2).sum())
    return count / area_nm2 if area_nm2 else math.nan


def position_bound_pm(contrast: float, dose_e_per_a2: float) -> float:
    """Least root mean square distance, pm, of any unbiased estimate of one atom's position.

    For a Gaussian atom of that contrast on a counted beam of D electrons per square angstrom:
    sqrt(2/pi) / (C sqrt(D)) angstrom along each axis (Cramer-Rao), so sqrt(2) of it as a distance.
    """
    per_axis_a = math.sqrt(2 / math.pi) / (contrast * math.sqrt(dose_e_per_a2))
    return math.sqrt(2) * per_axis_a * PM_PER_NM / ANGSTROM_PER_NM
