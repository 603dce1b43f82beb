"""Contrast transfer of fringes at every angle: every shipped network, the whole grid.

python -m benchmarks.contrast [NETWORK ...]     prints what fails; --save writes
                                                results/contrast.json (15 minutes each)
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.harness import arguments, save
from scgn.checkpoint import shipped_names
from scgn.evaluate.movies.contrast import SCENES, Transfer, region_errors, transfers
from scgn.evaluate.movies.watch import remembering

SEEN_BY_GAUSSIAN, LEAST, MOST = 0.8, 0.9, 1.1


def failed(cells: list[Transfer], way: str) -> list[dict[str, Any]]:
    """Cells whose contrast is not within LEAST..MOST though the best Gaussian has it."""
    return [
        asdict(cell)
        for cell in cells
        for gaussian, contrast in zip(cell.gaussian, getattr(cell, way), strict=True)
        if gaussian > SEEN_BY_GAUSSIAN and not LEAST <= contrast <= MOST
    ]


def row(name: str, quick: bool) -> dict[str, Any]:
    """One network: its cells, what fails of them, and the worst region of every scene."""
    denoiser = remembering(name)
    cells = transfers(denoiser, *(((0, 2, 40), (8.0, 32.0), (0.3,)) if quick else ()))
    regions = {scene: region_errors(denoiser, scene) for scene in SCENES}
    worst = {
        scene: max(abs(error) for errors in found.values() for error in errors)
        for scene, found in regions.items()
    }
    seen = sum(gaussian > SEEN_BY_GAUSSIAN for cell in cells for gaussian in cell.gaussian)
    return {
        "id": denoiser.id, "cells": [asdict(cell) for cell in cells], "seen": seen,
        "failed": failed(cells, "network"), "estimate_failed": failed(cells, "estimate"),
        "worst_region": worst,
    }  # fmt: skip


def main() -> None:
    """All networks named, or all that are shipped."""
    parser = arguments(__doc__)
    parser.add_argument("networks", nargs="*")
    args = parser.parse_args()
    torch.set_num_threads(1)
    begun, rows = time.monotonic(), {}
    for name in args.networks or shipped_names():
        rows[name] = row(name, args.quick)
        told = rows[name]
        counts = f"{len(told['failed'])} of {told['seen']} fail, regions {told['worst_region']}"
        print(f"{name}: {counts}", file=sys.stderr)
    save("contrast", {"networks": rows}, time.monotonic() - begun)


if __name__ == "__main__":
    main()
