"""A fixed set on disk: pairs and true atoms as .npz files, with a card that says what they are."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from scgn.calibration import Calibration, load_noisy_calibration
from scgn.noise import NoiseModel
from scgn.simulate.batch import SimulatedBatch
from scgn.simulate.generator import simulate
from scgn.simulate.movie import MOVIE_RECIPE, MoviePlan, simulate_movie
from scgn.simulate.paper import simulate_paper
from scgn.simulate.recipe import Recipe

BATCH = 10
# What each kind is drawn from, for the card.
RECIPES: dict[str, Any] = {
    "physical": asdict(Recipe()),
    "paper": "Li et al., CVPR 2026, section 4.1 and figure 3: see scgn.simulate.paper",
    "movie": {"recipe": asdict(MOVIE_RECIPE), "movie": asdict(MoviePlan())},
}
KINDS = tuple(RECIPES)


class DatasetError(ValueError):
    """A set cannot be written as asked."""


@dataclass(frozen=True)
class DatasetPlan:
    """kind: `physical`, `paper` or `movie`; train, test: pairs of each part; side_px; seed; device:
    of the images and the noise. Part p, batch k is drawn from (seed, p, k); each batch of a
    `movie` is a series of its own.
    """

    kind: str = "physical"
    train: int = 1000
    test: int = 100
    side_px: int = 256
    seed: int = 0
    device: str = "cpu"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `scgn dataset`."""
    plan = DatasetPlan()
    parser.add_argument("--kind", choices=KINDS, default=plan.kind)
    parser.add_argument("--train", type=int, default=plan.train, help="pairs, default 1000")
    parser.add_argument("--test", type=int, default=plan.test, help="pairs, default 100")
    parser.add_argument("--side-px", type=int, default=plan.side_px)
    parser.add_argument("--seed", type=int, default=plan.seed)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--calibration", type=Path, help="this camera's noise (.npz)")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")


def run(args: argparse.Namespace) -> int:
    """Write the set; prints the card."""
    device = args.device if args.kind == "physical" else "cpu"
    plan = DatasetPlan(args.kind, args.train, args.test, args.side_px, args.seed, device)
    camera = None if args.calibration is None else load_noisy_calibration(args.calibration)
    print(json.dumps(write_dataset(plan, args.out, camera), indent=2))
    return 0


def write_dataset(
    plan: DatasetPlan, folder: Path, camera: Calibration | None = None
) -> dict[str, Any]:
    """Write train/ and test/, README.md and card.json; returns the card.

    Raises DatasetError when the folder holds anything: two sets must not mix.
    """
    if plan.kind == "paper" and camera is not None:
        raise DatasetError("kind paper: expected no calibration, its noise is the paper's figure 3")
    if folder.exists() and any(folder.iterdir()):
        raise DatasetError(f"{folder}: expected a new or empty folder, it holds files")
    begun, noisy_db = time.monotonic(), []
    noise = None if camera is None else camera.noise
    for part, (name, count) in enumerate((("train", plan.train), ("test", plan.test))):
        (folder / name).mkdir(parents=True)
        for first in tqdm(range(0, count, BATCH), desc=name, mininterval=2):
            data = draw_part(plan, part, first // BATCH, min(BATCH, count - first), noise)
            each = range(len(data.noisy))
            noisy_db += [save_pair(folder / name, first + i, data, i) for i in each]
    seconds = time.monotonic() - begun
    card = card_of(plan, camera, noisy_db, seconds)
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    (folder / "README.md").write_text(card_text(card))
    return card


def draw_part(
    plan: DatasetPlan, part: int, batch: int, count: int, camera: NoiseModel | None
) -> SimulatedBatch:
    """`count` frames of one batch, on the CPU."""
    rng = np.random.default_rng([plan.seed, part, batch])
    if plan.kind == "paper":
        return simulate_paper(rng, count, plan.side_px)
    if plan.kind == "movie":
        movie = MoviePlan(frames=count, side_px=plan.side_px)
        return simulate_movie(rng, movie, camera=camera)
    device = torch.device(plan.device)
    return simulate(rng, count, plan.side_px, Recipe(), camera, device).to(torch.device("cpu"))


def save_pair(folder: Path, index: int, data: SimulatedBatch, i: int) -> float:
    """One .npz of a pair with its atoms; returns the noisy frame's signal to noise, dB."""
    atoms = data.atoms.of(i)
    noisy, clean = data.noisy[i, 0].numpy(), data.clean[i, 0].numpy()
    np.savez_compressed(
        folder / f"{index:05d}.npz",
        noisy=noisy,
        clean=clean,
        atom_map=data.atom_map[i, 0].round().to(torch.uint8).numpy(),
        atoms_px=atoms.position_px[atoms.amplitude > 0].numpy(),
        pixel_nm=np.float32(data.pixel_nm[i]),
        beam=np.float32(float(data.beam[i])),
        sign=np.int8(data.sign[i]),
    )
    return float(10 * np.log10(clean.var() / np.square(noisy - clean).mean() + 1e-12))


def card_of(
    plan: DatasetPlan, camera: Calibration | None, noisy_db: list[float], seconds: float
) -> dict[str, Any]:
    """What the set is and how it was made."""
    return {
        "plan": asdict(plan),
        "recipe": RECIPES[plan.kind],
        "calibration": None if camera is None else camera.id,
        "signal_to_noise_db": dict(
            zip(("p10", "p50", "p90"), np.percentile(noisy_db, (10, 50, 90)).round(1), strict=True)
        ),
        "frames_per_s": round(len(noisy_db) / seconds, 1),
        "torch": torch.__version__,
    }


def card_text(card: dict[str, Any]) -> str:
    """The card as a page."""
    plan = card["plan"]
    sizes = f"--train {plan['train']} --test {plan['test']} --side-px {plan['side_px']}"
    where = f"--seed {plan['seed']} --device {plan['device']}"
    camera = f" --calibration (of id {card['calibration']})" if card["calibration"] else ""
    command = f"scgn dataset --kind {plan['kind']} {sizes} {where}{camera}"
    return f"""# {plan["train"]} + {plan["test"]} simulated HRTEM pairs, {plan["side_px"]} px square

Made by `{command}`; the same command gives the same pairs. Each `.npz` holds

| array | meaning |
|---|---|
| `noisy`, `clean` | counts with and without noise, float32 |
| `atom_map` | spots on black at the atoms, uint8 |
| `atoms_px` | (N,2) row and column of every atom, those just outside the frame included |
| `pixel_nm`, `beam` | nm per px; counts of the empty beam |
| `sign` | +1 where atoms are brighter than their surroundings, -1 darker, 0 neither |

`card.json` has the ranges that were drawn from. Simulated frames only: no camera took them.
"""
