"""What of a specimen's contrast arrives: fringes at any angle, and the means of wide regions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from torch import Tensor

from scgn.denoise import Denoiser
from scgn.evaluate.movies.measures import WIDTHS_PX, best_blurred, share_of
from scgn.evaluate.movies.watch import watched
from scgn.simulate.detector import read_out
from scgn.simulate.sets import judging_camera

SIDE_PX, DOSE_E_PER_PX, FRAMES = 128, 20.0, 16
ANGLES_DEG = (0, 1, 2, 3, *range(10, 90, 10), 87, 88, 89, 90)
PERIODS_PX = (6.0, 8.0, 11.0, 16.0, 22.0, 32.0, 45.0, 64.0)
MODULATIONS = (0.3, 0.1)
JUDGING_LINES = 0.2  # of the point noise, the judging camera's
AWAY_PX = 10.0  # regions end so far from an edge
Chance = torch.Generator


def exposures(
    electrons: Tensor, frames: int, seed: int, lines: float = 0.0
) -> tuple[Tensor, Tensor]:
    """(noisy (T,H,W), clean (H,W)) counts of a scene (H,W) in e/px at rest, by the judging camera;
    lines: deviation of its column noise over that of the point noise.
    """
    detector = judging_camera(1, electrons.shape[-1], float(electrons.mean()))
    detector = replace(detector, line_noise_adu=detector.line_noise_adu * (lines / JUDGING_LINES))
    chance, scene = Chance().manual_seed(seed), electrons.expand(frames, 1, -1, -1)
    noisy, clean = read_out(detector, scene, torch.poisson(scene, generator=chance), chance)
    return noisy[:, 0], clean[0, 0]


def coordinates(side_px: int = SIDE_PX) -> tuple[Tensor, Tensor]:
    """Rows (side,1) and columns (1,side) in px from the middle."""
    axis = torch.arange(side_px) - (side_px - 1) / 2
    return axis[:, None], axis[None]


def fringes(angle_deg: float, period_px: float, modulation: float, phase: float) -> Tensor:
    """Electrons (H,W) of plane fringes; at 0 degrees they change from column to column."""
    row, column = coordinates()
    angle = math.radians(angle_deg)
    along = math.cos(angle) * column + math.sin(angle) * row
    return DOSE_E_PER_PX * (1 + modulation * torch.cos(2 * math.pi * along / period_px + phase))


@dataclass(frozen=True)
class Transfer:
    """Contrast out over true of one set of fringes, in its first and in its last frame.

    gaussian: of the frame's best Gaussian; estimate, network: of the denoiser's.
    """

    angle_deg: float
    period_px: float
    modulation: float
    gaussian: tuple[float, float]
    estimate: tuple[float, float]
    network: tuple[float, float]


def transfer_of(
    denoiser: Denoiser, angle_deg: float, period_px: float, modulation: float, seed: int = 0
) -> Transfer:
    """One set of fringes, FRAMES exposures; noise and phase are of the seed and of the fringes."""
    number = [seed, round(angle_deg), round(period_px), round(100 * modulation)]
    rng = np.random.default_rng(number)
    scene = fringes(angle_deg, period_px, modulation, float(rng.uniform(0, 2 * math.pi)))
    noisy, clean = exposures(scene, FRAMES, int(rng.integers(2**62)))
    shown = watched(denoiser, noisy.numpy())
    blurred = [best_blurred(noisy[i], clean, len(WIDTHS_PX) // 2)[0] for i in (0, -1)]

    def both(frames: Tensor) -> tuple[float, float]:
        first, last = share_of(frames[[0, -1]], clean).tolist()
        return first, last

    return Transfer(
        angle_deg, period_px, modulation,
        both(torch.stack(blurred)), both(shown.estimate), both(shown.output),
    )  # fmt: skip


def transfers(
    denoiser: Denoiser, angles_deg: Iterable[float] = ANGLES_DEG,
    periods_px: Iterable[float] = PERIODS_PX, modulations: Iterable[float] = MODULATIONS,
) -> list[Transfer]:  # fmt: skip
    """Every combination."""
    cells = product(angles_deg, periods_px, modulations)
    return [transfer_of(denoiser, *cell) for cell in cells]


@dataclass(frozen=True)
class Scene:
    """A shape: electrons (H,W), masks of its regions, and its step in electrons."""

    electrons: Tensor
    regions: tuple[Tensor, ...]
    step_e: float


def step(angle_deg: float) -> Scene:
    """30 and 100 e/px on the two sides of the middle."""
    angle = math.radians(angle_deg)
    row, column = coordinates()
    along = math.cos(angle) * column + math.sin(angle) * row
    sides = (along < -AWAY_PX, along > AWAY_PX)
    inside = row.abs().maximum(column.abs()) < SIDE_PX / 2 - AWAY_PX
    return Scene(torch.where(along < 0, 30.0, 100.0), tuple(s & inside for s in sides), 70.0)


def disk() -> Scene:
    """50 e/px within 30 px of the middle, none without."""
    row, column = coordinates()
    radius = (row.square() + column.square()).sqrt()
    inner, outer = radius < 30 - AWAY_PX, radius > 30 + AWAY_PX
    return Scene(torch.where(radius < 30, 50.0, 0.0), (inner, outer), 50.0)


def ramp() -> Scene:
    """20 to 100 e/px along the rows' axis, in four strips; the frame's ends are edges."""
    row, _ = coordinates()
    way = (row / SIDE_PX + 0.5).expand(SIDE_PX, SIDE_PX)
    strips = [(way > low) & (way < low + 0.2) for low in (0.1, 0.3, 0.5, 0.7)]
    return Scene(20 + 80 * way, tuple(strips), 80.0)


def stop() -> Scene:
    """A beam stop 40 px wide, 3 e/px behind it, 1000 beside it."""
    row, column = coordinates()
    wide = (column.abs() < 20) & (row < 20)
    near = (column.abs() < 20 - AWAY_PX) & (row < 20 - AWAY_PX) & (row > -64 + AWAY_PX)
    far = (column.abs() > 20 + AWAY_PX) & (column.abs() < 64 - AWAY_PX) & (row.abs() < 64 - AWAY_PX)
    return Scene(torch.where(wide, 3.0, 1000.0), (near, far), 997.0)


SCENES: dict[str, Callable[[], Scene]] = {
    "step": lambda: step(0.0), "step along rows": lambda: step(90.0),
    "slanted step": lambda: step(25.0), "disk": disk, "ramp": ramp, "stop": stop,
}  # fmt: skip


def region_errors(
    denoiser: Denoiser, name: str, lines: float = 0.0, seed: int = 0
) -> dict[str, list[float]]:
    """Errors of the region means of a scene in what is allowed: 2 % of the region's mean or half a
    percent of the step, whichever is larger; of the estimate's and the network's first and last
    frame, all regions of one after another.
    """
    scene = SCENES[name]()
    noisy, clean = exposures(scene.electrons, FRAMES, seed, lines)
    shown = watched(denoiser, noisy.numpy())
    gain = float(clean.mean() / scene.electrons.mean())
    errors: dict[str, list[float]] = {}
    for what, frames in (("estimate", shown.estimate), ("network", shown.output)):
        for when, frame in (("first", frames[0]), ("last", frames[-1])):
            errors[f"{what} {when}"] = [
                float(frame[where].mean() - clean[where].mean())
                / max(0.02 * float(clean[where].mean()), 0.005 * gain * scene.step_e)
                for where in scene.regions
            ]
    return errors
