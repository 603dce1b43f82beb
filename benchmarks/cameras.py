"""The estimate behind every camera: blur x lines x dose, 256 px, against flat and best Gaussian.

python -m benchmarks.cameras        prints the table; --save writes results/cameras.json
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict

import torch

from benchmarks.harness import arguments, save
from scgn.evaluate.movies.cameras import Cell, cells

FEW_LINES, UNDER_GAUSSIAN_DB = 0.2, 0.3


def failures(cell: Cell) -> list[str]:
    """What a cell does not hold of: never below flat, nor .3 dB below the best Gaussian."""
    least = max(cell.flat, cell.gaussian - UNDER_GAUSSIAN_DB)
    found = [] if cell.sixteen >= least else [f"sixteen frames: {cell.sixteen - least:.2f} dB"]
    if cell.lines <= FEW_LINES and cell.one < least:
        found.append(f"one frame: {cell.one - least:.2f} dB")
    return found


def main() -> None:
    """All cells; --quick: one scene of 128 px instead of four of 256."""
    args = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    begun = time.monotonic()
    found = cells(seeds=(1,), side_px=128) if args.quick else cells()
    for cell in found:
        print(
            *(f"{value:6.2f}" for value in asdict(cell).values()), *failures(cell), file=sys.stderr
        )
    rows = [asdict(cell) | {"failures": failures(cell)} for cell in found]
    save("cameras", {"cells": rows}, time.monotonic() - begun)


if __name__ == "__main__":
    main()
