"""What a draw of movies gives: frames with and without noise, and what truly happened in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Event(NamedTuple):
    """One spot that changes at first_frame of movie number `movie`.

    kind: appear, vanish, hop or flicker; row, column: its centre in px in frame first_frame (it
    moves with the drift; where a vanished spot would be, where a hop arrives); sigma_px; contrast:
    peak above its surroundings before the detector's blur, counts at the dose of first_frame;
    from_row, from_column: where a hop started, in first_frame's pixels, else the same place.
    """

    movie: int
    first_frame: int
    kind: str
    row: float
    column: float
    sigma_px: float
    contrast: float
    from_row: float
    from_column: float


@dataclass(frozen=True)
class Movies:
    """B independent movies of T frames, each frame of H x W pixels, float32.

    noisy: (B,T,H,W) counts; clean: (B,T,H,W) counts without noise, after the detector's blur;
    drift_px: (B,T,2) position of the specimen relative to frame 0 in rows and columns, positive
    towards higher indices; dose_e_per_px: (B,T) electrons per pixel of the empty beam, 0 where it
    is blanked; gain_adu_per_e: (B,) counts per electron; cut_frame: (B,) int64, first frame of
    another scene, T where there is none; events: every spot that changes; flagged: (B,T,H,W) bool,
    pixels that show a defect or a hit instead of the specimen, None where there are none;
    twin_clean, twin_noisy: the same movies without any of the events' spots, or None.
    """

    noisy: Tensor
    clean: Tensor
    drift_px: Tensor
    dose_e_per_px: Tensor
    gain_adu_per_e: Tensor
    cut_frame: Tensor
    events: tuple[Event, ...] = ()
    flagged: Tensor | None = None
    twin_clean: Tensor | None = None
    twin_noisy: Tensor | None = None


def stacked(movies: Sequence[Movies]) -> Movies:
    """Movies of the same size as one, in their order; the events are numbered anew."""
    first = [sum(len(m.noisy) for m in movies[:i]) for i in range(len(movies))]
    events = [
        event._replace(movie=event.movie + start)
        for start, movie in zip(first, movies, strict=True)
        for event in movie.events
    ]
    names = ("noisy", "clean", "drift_px", "dose_e_per_px", "gain_adu_per_e", "cut_frame")
    whole = {name: torch.cat([getattr(m, name) for m in movies]) for name in names}
    return Movies(
        **whole, events=tuple(events), flagged=_flags(movies),
        twin_clean=_all_or_none([m.twin_clean for m in movies]),
        twin_noisy=_all_or_none([m.twin_noisy for m in movies]),
    )  # fmt: skip


def _all_or_none(parts: list[Tensor | None]) -> Tensor | None:
    there = [part for part in parts if part is not None]
    return torch.cat(there) if there and len(there) == len(parts) else None


def _flags(movies: Sequence[Movies]) -> Tensor | None:
    if all(m.flagged is None for m in movies):
        return None
    none = [torch.zeros_like(m.noisy, dtype=torch.bool) for m in movies]
    parts = [n if m.flagged is None else m.flagged for n, m in zip(none, movies, strict=True)]
    return torch.cat(parts)
