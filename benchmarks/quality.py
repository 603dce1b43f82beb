"""The quality table: train the compared networks where they are missing, then judge all alike.

    python -m benchmarks.quality            trains into runs/quality (an hour on one core), writes
                                            results/quality.json and .md
Every network has the same frames, steps and start (a Wiener estimate); the ablation learns from
white noise but for its last row, which is SCGN itself.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import torch

from scgn.train import Sitting, TrainingPlan, named_plan, train

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
STEPS = 500  # of 36,864 px: what an hour on one core allows all of them
SHIPPED = ("tiny-clean", "compact-clean", "preview-clean", "fast-clean")


@dataclass(frozen=True)
class Run:
    """name: of the folder; label: in the table; size: row of the networks; recipe: of training."""

    name: str
    label: str
    size: str
    recipe: str = "ours"


PEERS = tuple(Run(name, name, name) for name in ("unet", "nafnet", "ffdnet", "dncnn", "restormer"))
ABLATION = (
    Run("plain", "ablation-0-plain-cnn", "compact-plain", "white-noise"),
    Run("frequency", "ablation-1-frequency-branch", "compact-frequency", "white-noise"),
    Run("deviation", "ablation-2-deviation-weighting", "compact-deviation", "white-noise"),
    Run("band", "ablation-3-band-weighting", "compact", "white-noise"),
)
RUNS = (Run("scgn", "scgn-compact", "compact"), *PEERS, *ABLATION)


def plan_of(run: Run) -> TrainingPlan:
    """The same budget for each."""
    return named_plan(
        run.recipe, size=run.size, steps=STEPS, sides_px=(96, 128, 192), precision="bfloat16"
    )


def trained(run: Run, folder: Path) -> str:
    """The run's weights as `scgn evaluate` wants them; trains or goes on where they are missing."""
    weights = train(plan_of(run), folder / run.name, torch.device("cpu"), Sitting())
    return f"{run.label}={weights}"


def name_command(out: Path) -> None:
    """Let the result say that it came from here."""
    from scgn.evaluate.table import report

    found = json.loads(out.with_suffix(".json").read_text())
    found["command"] = "python -m benchmarks.quality"
    out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    out.with_suffix(".md").write_text(report(found))


def main() -> int:
    """Train, then write the table; returns the exit status of `scgn evaluate`."""
    # Here, because the GPU stages import this file on machines without these libraries.
    from scgn.__main__ import main as scgn
    from scgn.evaluate.methods import CLASSICAL

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "quality")
    parser.add_argument("--out", type=Path, default=RESULTS / "quality")
    args = parser.parse_args()
    torch.set_num_threads(1)
    networks = [trained(run, args.folder) for run in RUNS]
    methods = [*CLASSICAL, *SHIPPED, *networks]
    status = scgn(["evaluate", *methods, "--threads", "1", "--out", str(args.out)])
    if status == 0:
        name_command(args.out)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
