"""The ranges and shares that movies are drawn from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from scgn.simulate.recipe import Range, Recipe

Shares = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class MovieRecipe:
    """Pairs are (lowest, highest); shares are (name, weight) and need not add up to 1.

    still: ranges of one frame and of the camera; scenes: what the specimen is; aligned_share: of
    structures and growing crystals whose rows run along the frame's axes; shapes: of scenes of that
    kind; textured_share: of shapes filled with a structure; masks: what stands still before it;
    stop_level: share of the beam that passes a stop or the outside of an aperture;
    fringe_period_px, fringe_modulation: relative, fringe_aligned_share: with their wave along an
    axis; key_frames: how many frames of a growing or melting scene are drawn, those between them
    are interpolated; motion: of the specimen; speed_px: per frame; jitter_px: deviation of a step
    of the random walk on top; jump_px: length of a jump; event_share: of movies with local events;
    event_count: per movie; event_kinds; event_sigma_px; event_contrast: of the beam, either sign;
    hop_sigmas: length of a hop; cluster_share: of events that are 3 to 7 atoms;
    dose_change_share: of movies with a sudden factor of dose_factor (log-uniform); blank_share: of
    movies with the beam blanked and back; cut_share: of movies that cut to another scene;
    sparse_share: of movies of a counting camera at sparse_e_per_px; stuck_share: of movies with
    stuck_pixels pixels at the largest 16 bit number; hit_share: of movies with X-ray hits,
    hits_per_frame: their mean number.
    """

    still: Recipe = field(default_factory=Recipe)
    scenes: Shares = (
        ("structure", 0.53), ("fringes", 0.10), ("vacuum", 0.05), ("shape", 0.12),
        ("growing", 0.10), ("melting", 0.10),
    )  # fmt: skip
    aligned_share: float = 0.32
    shapes: Shares = (("step", 1.0), ("disk", 1.0), ("ramp", 0.7), ("edge", 1.0))
    textured_share: float = 0.4
    masks: Shares = (("none", 0.92), ("stop", 0.04), ("aperture", 0.04))
    stop_level: Range = (0.003, 0.05)
    fringe_period_px: Range = (5.0, 64.0)
    fringe_modulation: Range = (0.05, 0.6)
    fringe_aligned_share: float = 0.5
    key_frames: tuple[int, int] = (3, 5)
    motion: Shares = (("rest", 0.4), ("drift", 0.4), ("jump", 0.2))
    speed_px: Range = (0.0, 2.0)
    jitter_px: Range = (0.0, 0.15)
    jump_px: Range = (2.0, 8.0)
    event_share: float = 2 / 3
    event_count: tuple[int, int] = (1, 9)
    event_kinds: Shares = (("appear", 0.4), ("vanish", 0.4), ("hop", 0.15), ("flicker", 0.05))
    event_sigma_px: Range = (1.2, 3.5)
    event_contrast: Range = (0.1, 0.5)
    hop_sigmas: Range = (1.0, 3.0)
    cluster_share: float = 0.15
    dose_change_share: float = 0.10
    dose_factor: Range = (0.25, 4.0)
    blank_share: float = 0.02
    cut_share: float = 0.05
    sparse_share: float = 0.05
    sparse_e_per_px: Range = (0.002, 0.15)
    stuck_share: float = 0.03
    stuck_pixels: tuple[int, int] = (1, 20)
    hit_share: float = 0.05
    hits_per_frame: Range = (0.1, 2.0)


def one_of(rng: np.random.Generator, shares: Shares) -> str:
    """A name drawn by its share."""
    names, weights = zip(*shares, strict=True)
    return str(names[int(rng.choice(len(names), p=np.array(weights) / sum(weights)))])


def log_between(rng: np.random.Generator, bounds: Range) -> float:
    """A number with a uniform logarithm."""
    return float(np.exp(rng.uniform(*np.log(bounds))))
