"""`scgn shrink`: take back a share of a network's correction, chosen where nothing else is chosen.

A network is surer of itself on frames of its training than on others. What it adds to the Wiener
estimate, times a factor below 1, errs less on a camera that it did not learn from (Stein's
shrinkage), and shows fainter what it may have invented. The factor is chosen on the tuning scenes
of `scgn evaluate`, on which the classical filters are tuned too; no network is judged on them.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scgn.checkpoint import Checkpoint, load_network, save_checkpoint
from scgn.metrics import psnr_db
from scgn.network import SCGN, Network
from scgn.peers.peer import Peer
from scgn.simulate import evaluation_set
from scgn.simulate.sets import DOSES_E_PER_PX, TUNING_SEED
from scgn.train.plan import TrainingError
from scgn.units import noise_units
from scgn.wiener import wiener

FACTORS = tuple(round(0.1 * tenth, 1) for tenth in range(1, 11))
TOLERANCE_DB = 0.1  # of the best: what is lost there keeps more of what was learned of other frames
FRAMES, SIDE_PX = 6, 256  # as the classical filters'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the verb."""
    parser.add_argument("network", help="one that corrects a Wiener estimate (name or path)")
    parser.add_argument("--factor", type=float, help="0..1 (default: chosen on tuning scenes)")
    parser.add_argument("--out", type=Path, required=True, help="file of the shrunk weights")


def run(args: argparse.Namespace) -> int:
    """Write the shrunk weights and print the factor."""
    checkpoint = load_network(args.network)
    checked(checkpoint)
    table = {} if args.factor is not None else mean_psnr(checkpoint.network)
    factor = chosen(table) if args.factor is None else args.factor
    known = checkpoint.provenance
    how: dict[str, Any] = {"factor": factor, "psnr_db_by_factor": table, "of": checkpoint.id}
    shrink(checkpoint.network, factor)
    training = known.training | {"shrunk": how}
    save_checkpoint(args.out, checkpoint.network, replace(known, training=training))
    print(
        f"{args.out}: correction times {factor:g}",
        *(f"{f:g}: {db:.2f} dB" for f, db in table.items()),
    )
    return 0


def chosen(table: dict[float, float]) -> float:
    """The largest factor whose mean PSNR is within TOLERANCE_DB of the best."""
    least = max(table.values()) - TOLERANCE_DB
    return max(factor for factor, db in table.items() if db >= least)


def checked(checkpoint: Checkpoint) -> None:
    """TrainingError for a network whose output is no correction in noise units."""
    known = checkpoint.provenance
    if (known.residual, known.input_units, known.target) != ("wiener", "noise", "clean"):
        got = (known.residual, known.input_units, known.target)
        raise TrainingError(f"{known.name}: expected ('wiener', 'noise', 'clean'), got {got}")


def tail_of(network: Network) -> nn.Conv2d:
    """The last convolution."""
    if isinstance(network, SCGN):
        return network.tail
    assert isinstance(network, Peer)
    return network.body.tail


@torch.no_grad()
def shrink(network: Network, factor: float) -> None:
    """Multiply what the network adds to its estimate; TrainingError for a factor outside 0..1."""
    if not 0 <= factor <= 1:
        raise TrainingError(f"factor: expected 0..1, got {factor}")
    for value in tail_of(network).parameters():
        value.mul_(factor)


@torch.inference_mode()
def mean_psnr(network: Network) -> dict[float, float]:
    """Mean PSNR, dB, over the tuning scenes at every dose, by factor."""
    totals = dict.fromkeys(FACTORS, 0.0)
    for dose in DOSES_E_PER_PX:
        data = evaluation_set(dose, FRAMES, SIDE_PX, TUNING_SEED)
        for noisy, clean in zip(data.noisy[:, None], data.clean[:, None], strict=True):
            for factor, db in _by_factor(network, noisy, clean).items():
                totals[factor] += db / (FRAMES * len(DOSES_E_PER_PX))
    return {factor: round(db, 3) for factor, db in totals.items()}


def _by_factor(network: Network, noisy: Tensor, clean: Tensor) -> dict[float, float]:
    units = noise_units(noisy)
    given = units.enter(noisy)
    estimate = wiener(given)
    correction = network(given) - estimate
    return {
        factor: psnr_db(units.leave(estimate + factor * correction), clean) for factor in FACTORS
    }
