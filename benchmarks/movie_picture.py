"""Pictures of what a memory is worth: a growing front at 2 e/px, and one event frame by frame.

python -m benchmarks.movie_picture [--network NAME] [--out docs/temporal.png]
python -m benchmarks.movie_picture --event [--out docs/event.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scgn.evaluate.movies.events import window
from scgn.evaluate.movies.measures import best_gaussians, decibel, mean_square, running_mean
from scgn.evaluate.movies.watch import alone, opened, watched
from scgn.evaluate.pictures import grey, sheet, window_of
from scgn.simulate.scenarios import scenario

ROOT = Path(__file__).resolve().parents[1]
ZOOM = 4  # of an event's pixels
Cells = list[list[tuple[Any, str]]]


def front(network: str | None, dose: float, seed: int, frames: list[int]) -> Any:
    """Raw, single frame, mean of 8 and best Gaussian, temporal, truth; a row per frame."""
    movies, denoiser = scenario("growing-front", dose, seed), opened(network)
    noisy, clean = movies.noisy[0, : frames[-1] + 1], movies.clean[0]
    ways = {
        "single frame": alone(denoiser, noisy.numpy()),
        "mean of 8 + Gaussian": best_gaussians(running_mean(noisy, 8), clean[: len(noisy)]),
        "temporal": watched(denoiser, noisy.numpy()).output,
    }
    cells: Cells = []
    for t in frames:
        low, high = window_of(clean[t])
        row = [(grey(noisy[t], *window_of(noisy[t])), f"raw, {dose:g} e/px")]
        for name, found in ways.items():
            db = decibel(mean_square(found[t], clean[t]), clean[t])
            row.append((grey(found[t], low, high), f"{name} {db:.1f} dB"))
        cells.append([*row, (grey(clean[t], low, high), "truth")])
    return sheet(cells, [f"frame {t}" for t in frames])


def large(frame: Tensor) -> Tensor:
    """Every pixel ZOOM times as wide."""
    return frame.repeat_interleave(ZOOM, 0).repeat_interleave(ZOOM, 1)


def event(network: str | None, dose: float, seed: int, number: int) -> Any:
    """Rows for a spot that appears and one that vanishes: raw, mean of 8, temporal, truth."""
    cells: Cells = []
    labels = []
    for kind in ("appear", "vanish"):
        movies = scenario(kind, dose, seed)
        spot, noisy, clean = movies.events[number], movies.noisy[0], movies.clean[0]
        rows, columns = window(spot, clean.shape)
        output = watched(opened(network), noisy.numpy()).output
        low, high = window_of(clean[:, rows, columns])
        for name, frames in (
            ("raw", noisy), ("mean of 8", running_mean(noisy, 8)), ("temporal", output),
            ("truth", clean),
        ):  # fmt: skip
            first = spot.first_frame
            shown = [first - 1, first, first + 1, first + 2, first + 3, first + 5, first + 8]
            parts = [(large(frames[t, rows, columns]), f"{t - first + 1}") for t in shown]
            span = window_of(noisy[:, rows, columns]) if name == "raw" else (low, high)
            cells.append([(grey(part, *span), caption) for part, caption in parts])
            labels.append(f"{kind}\n{name}")
    return sheet(cells, labels)


def main() -> int:
    """Draw one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="preview-clean", help="name, path, or `estimate`")
    parser.add_argument("--event", action="store_true", help="one event's step response instead")
    parser.add_argument("--dose", type=float, help="e/px; 2 for the front, 8 for the event")
    parser.add_argument("--seed", type=int, default=90411)
    parser.add_argument("--spot", type=int, default=0, help="number of the event's spot")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    out = args.out or ROOT / "docs" / ("event.png" if args.event else "temporal.png")
    if args.event:
        picture = event(args.network, args.dose or 8.0, args.seed, args.spot)
    else:
        picture = front(args.network, args.dose or 2.0, args.seed, [11, 19])
    picture.save(out, optimize=True)
    print(out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
