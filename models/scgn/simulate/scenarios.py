"""Movies to judge by: one thing happens in each, seen by the judging camera, its seed its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from scgn.simulate.detector import Detector, column, filtered, gaussian_mtf, read_out
from scgn.simulate.movies.coupling import coupled
from scgn.simulate.movies.series import Movies
from scgn.simulate.movies.staged import SALT, SCENARIOS, SPARSER, play
from scgn.simulate.sets import judging_camera

__all__ = [
    "SCENARIOS", "dose_of_signal", "noise_variance_adu2", "pixel_signal_db", "scenario",
]  # fmt: skip
DOSES_E_PER_PX = (1e-3, 1e5)  # where dose_of_signal looks


def scenario(
    name: str, dose_e_per_px: float, seed: int, frames: int = 24, side_px: int = 256
) -> Movies:
    """One movie (B = 1) of a name in SCENARIOS; what happens, happens at frame frames // 2.

    A seed shows the same scene in every scenario but those whose scene is the point (growing-front,
    diffusion, lattice-on-axes, vacuum-edge) and has the same noise in all: drift-0.5 is rest,
    moved. appear, vanish, hop and flicker have a twin, the movie without any of their spots
    (a spot that vanishes was never there). Its counts come from the same chance: each pixel's
    electrons are brought to their uniform number and from there to the quantile of the twin's rate,
    so both are exactly Poisson and differ as little as two can; the other noise is the same.
    sparse-counting has a fiftieth of the dose and a camera that counts single electrons.
    """
    staged = play(name, seed, frames, side_px)
    detector, beam_e = camera(name, side_px, dose_e_per_px)
    dose = column(beam_e * staged.factor)
    electrons = dose * staged.with_spots()[:, None]
    arrived = torch.poisson(electrons, generator=chance(seed, 1))
    noisy, clean = read_out(detector, electrons, arrived, chance(seed, 2))
    gain = float(detector.gain_adu_per_e)
    still = torch.ones(side_px, side_px)
    movies = Movies(
        noisy[None, :, 0], clean[None, :, 0], torch.from_numpy(staged.drift_px).float()[None],
        dose.view(1, -1), torch.tensor([gain]), torch.tensor([staged.cut]),
        tuple(spot.event(gain * beam_e * staged.factor, still) for spot in staged.spots),
    )  # fmt: skip
    if not staged.spots:
        return movies
    empty = dose * staged.images[:, None]
    arrived = coupled(arrived, electrons, empty, chance(seed, 3))
    noisy, clean = read_out(detector, empty, arrived, chance(seed, 2))
    return replace(movies, twin_noisy=noisy[None, :, 0], twin_clean=clean[None, :, 0])


def chance(seed: int, what: int) -> torch.Generator:
    """The generator of one kind of noise of a seed."""
    state = np.random.SeedSequence([SALT, seed, what]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def camera(name: str, side_px: int, dose_e_per_px: float) -> tuple[Detector, float]:
    """(detector of a scenario, its dose in e/px): the judging camera unless the name says more."""
    detector = judging_camera(1, side_px, dose_e_per_px)
    if name == "blur-0.8":
        blur = gaussian_mtf(column([0.8]), side_px)
        return replace(detector, signal_transfer=blur, noise_transfer=blur), dose_e_per_px
    if name == "lines-1":
        return replace(detector, line_noise_adu=detector.line_noise_adu / 0.2), dose_e_per_px
    if name != "sparse-counting":
        return detector, dose_e_per_px
    none = column([0.0])
    counting = replace(
        detector, gain_adu_per_e=column([1.0]), read_noise_adu=none, line_noise_adu=none,
        response=none, signal_transfer=None, noise_transfer=None,
    )  # fmt: skip
    return counting, dose_e_per_px / SPARSER


def noise_variance_adu2(detector: Detector, electrons: Tensor) -> Tensor:
    """Mean variance (T,) in counts^2 of the noise of frames that expect electrons (T,1,H,W).

    One detector; shot noise after its blur, read noise, lines, fixed pattern, and rounding where
    there is anything but whole electrons.
    """
    side_px = electrons.shape[-1]
    point = torch.zeros(1, 1, side_px, side_px)
    point[..., 0, 0] = 1
    kept = filtered(point, detector.noise_transfer).square().sum()
    mean, square = electrons.mean(dim=(1, 2, 3)), electrons.square().mean(dim=(1, 2, 3))
    pattern = detector.response.square() * square
    counts = detector.gain_adu_per_e.square() * (kept * mean + pattern)
    others = detector.read_noise_adu.square() + detector.line_noise_adu.square()
    rounding = (others > 0) * float(detector.whole) / 12
    variance: Tensor = counts + others + rounding
    return variance.reshape(-1)


def pixel_signal_db(clean: Tensor, noise_variance: Tensor | float) -> Tensor:
    """10 log10(variance of each clean frame (...,H,W) / mean noise variance of one frame), (...).

    noise_variance: in counts^2, a number or (...).
    """
    return 10 * torch.log10(clean.var(dim=(-2, -1), correction=0) / noise_variance)


def signal_at(name: str, images: Tensor, dose_e_per_px: float) -> float:
    """Signal in dB per pixel of the first of `images` (T,H,W), relative to the beam, at a dose."""
    detector, beam_e = camera(name, images.shape[-1], dose_e_per_px)
    electrons = beam_e * images[:1, None]
    clean = detector.gain_adu_per_e * filtered(electrons, detector.signal_transfer)
    return float(pixel_signal_db(clean[:, 0], noise_variance_adu2(detector, electrons)))


def dose_of_signal(
    name: str, signal_db: float, seed: int, frames: int = 24, side_px: int = 256
) -> float:
    """The dose_e_per_px at which frame 0 of `scenario` has signal_db per pixel.

    ValueError where no dose within DOSES_E_PER_PX has it.
    """
    images = play(name, seed, frames, side_px).with_spots()[:1]
    low, high = np.log(DOSES_E_PER_PX)
    reach = [signal_at(name, images, dose) for dose in DOSES_E_PER_PX]
    if not reach[0] <= signal_db <= reach[1]:
        raise ValueError(f"{name}, seed {seed}: {signal_db} dB, any dose gives {reach}")
    for _ in range(40):
        middle = (low + high) / 2
        below = signal_at(name, images, float(np.exp(middle))) < signal_db
        low, high = (middle, high) if below else (low, middle)
    return float(np.exp(middle))
