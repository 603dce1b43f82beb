"""False events: how often the past is refused somewhere in a scene at rest, where nothing happens.

    python -m benchmarks.false_events [--frames 1000]    --save writes results/false_events.json

A refusal is a pixel away from the border whose age falls though nothing was cut: one place in one
frame counts once. At most one in 1,000 frames of 256x256 is asked for.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import arguments, save
from scgn.evaluate.movies.watch import opened
from scgn.simulate.detector import read_out
from scgn.simulate.movies.staged import play
from scgn.simulate.sets import judging_camera
from scgn.stream.facts import SEEN
from scgn.stream.front import AGE_SCALE

DOSES_E_PER_PX, SIDE_PX, BORDER_PX = (2.0, 8.0, 32.0), 256, 12
SETTLED = 16  # frames


def age_of(given: Tensor) -> Tensor:
    """Frames behind each pixel away from the border, (H,W), of what a network sees."""
    age = (given[0, SEEN.index("age")] / AGE_SCALE).exp()
    return age[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX]


def at_dose(dose: float, frames: int, seed: int) -> dict[str, Any]:
    """Frames with a refusal, and the largest share of pixels refused in any."""
    series, detector = opened(None).series(), judging_camera(1, SIDE_PX, dose)
    chance, scene = (
        torch.Generator().manual_seed(seed),
        dose * play("rest", seed, 1, SIDE_PX).images,
    )
    before, refused = torch.ones(1), []
    for index in range(frames + SETTLED):
        arrived = torch.poisson(scene[None], generator=chance)
        series(read_out(detector, scene[None], arrived, chance)[0][0, 0].numpy())
        age = age_of(series.seen.given)
        if index >= SETTLED:
            refused.append(float((age < 0.7 * before).float().mean()))
        before = age
    return {
        "frames": frames, "frames_with_a_refusal": sum(share > 0 for share in refused),
        "largest_share": max(refused),
    }  # fmt: skip


def main() -> None:
    """Every dose in turn."""
    parser = arguments(__doc__)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=90411)
    args = parser.parse_args()
    torch.set_num_threads(1)
    begun, rows = time.monotonic(), {}
    for dose in DOSES_E_PER_PX:
        rows[f"{dose:g}"] = at_dose(dose, args.frames // (10 if args.quick else 1), args.seed)
        print(dose, rows[f"{dose:g}"], file=sys.stderr)
    save("false_events", {"by_dose_e_per_px": rows}, time.monotonic() - begun)


if __name__ == "__main__":
    main()
