"""A movie through a denoiser, frame by frame in its order: what the service does, kept whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scgn.checkpoint import Checkpoint, Provenance, load_network
from scgn.denoise import Denoiser
from scgn.evaluate import EvaluationError
from scgn.network import Network
from scgn.sizes import Design, Size
from scgn.stream.drift import Drift, Match, Track
from scgn.stream.front import Front, State
from scgn.stream.state import LONGEST

Floats = NDArray[np.float64]
ESTIMATE = "estimate"


class Uncorrected(Network):
    """Corrects nothing, so that what is shown is the estimate itself."""

    def __init__(self) -> None:
        super().__init__(Design("student4", Size(4, 1), "stream"))

    def start_flat(self) -> None:
        """Nothing is learned."""

    def forward(self, given: Tensor) -> Tensor:
        return torch.zeros_like(given[:, :1])


class AtRest(Drift):
    """Registration that never moves anything: what running means alone are worth."""

    def match(
        self, frame: Tensor, mean: Tensor, gain: Tensor, noise: Tensor, prior: Track, known: Tensor,
        agreement: Tensor,
    ) -> tuple[Track, Match]:  # fmt: skip
        _, match = super().match(frame, mean, gain, noise, prior, known, agreement)
        still = Track(0 * prior.position, 0 * prior.velocity, prior.pp, prior.pv, prior.vv)
        return still, match


def opened(network: str | None, device: torch.device | None = None) -> Denoiser:
    """A shipped network by name, one by path, or with None the estimate; CheckpointError else."""
    device = device or torch.device("cpu")
    if network is not None and network != ESTIMATE:
        return Denoiser(load_network(network), device)
    nothing = Provenance(ESTIMATE, 4, 1, "stream", architecture="student4")
    return Denoiser(Checkpoint(Uncorrected().eval(), nothing, ESTIMATE), device)


def remembering(network: str | None, device: torch.device | None = None) -> Denoiser:
    """The same, but EvaluationError for a network that cannot remember."""
    denoiser = opened(network, device)
    if not denoiser.temporal:
        raise EvaluationError(f"{denoiser.id}: expected a temporal network, got one of one frame")
    return denoiser


@dataclass(frozen=True)
class Watched:
    """A movie's results, (T,H,W) float32 counts, each in its own frame's coordinates.

    output: what is shown; estimate: what the network corrected; mean: the longest mean; facts: of
    every frame, by name; position_px: (T,2) of the specimen, positive towards higher indices, from
    the first frame on.
    """

    output: Tensor
    estimate: Tensor
    mean: Tensor
    facts: list[dict[str, float]]
    position_px: Floats

    def fact(self, name: str) -> Floats:
        """One fact of every frame, (T,)."""
        return np.array([facts[name] for facts in self.facts])


@torch.inference_mode()
def watched(
    denoiser: Denoiser, frames: NDArray[np.generic], longest: int = LONGEST, at_rest: bool = False
) -> Watched:
    """Every frame of (T,H,W) counts in its order; longest: 1 for each frame without its past.

    at_rest: without registration; it stays so for this denoiser and this shape.
    """
    front = denoiser.front((frames.shape[1], frames.shape[2]), frames.dtype.str)
    if at_rest:
        front.drift = AtRest(front.grid).float().to(denoiser.device)
    series = denoiser.series(longest)
    results, facts, places = [], [], []
    with rolls_of(front) as whole:
        for frame in frames:
            output = torch.from_numpy(series(frame))
            seen = series.seen
            rest = [front.back(part, seen)[0, 0].cpu() for part in (seen.base, seen.long)]
            results.append(torch.stack([output, *rest]))
            facts.append(series.facts)
            places.append(seen.position[0, :, 0, 0].double().cpu().numpy())
    output, estimate, mean = torch.stack(results, dim=1).clone()
    cut = np.array([told["cut"] for told in facts])
    position_px = travelled(np.array(places), np.array(whole), cut)
    return Watched(output, estimate, mean, facts, position_px)


@contextmanager
def rolls_of(front: Front) -> Iterator[list[Floats]]:
    """The whole pixels (2,) by which a front rolls its means, frame by frame."""
    found: list[Floats] = []

    def rolled(state: State, whole: Tensor, fresh: Tensor) -> State:
        found.append(whole[0, :, 0, 0].double().cpu().numpy())
        return Front.rolled(front, state, whole, fresh)

    front.__dict__["rolled"] = rolled
    try:
        yield found
    finally:
        del front.__dict__["rolled"]


def travelled(places: Floats, whole: Floats, cut: Floats) -> Floats:
    """Positions (T,2) of what stands at `places` (T,2) after means were rolled by `whole` (T,2);
    after a cut nothing is known, so that it counts as no step.
    """
    step = (np.diff(places, axis=0, prepend=places[:1]) + whole) * (cut[:, None] < 0.5)
    return np.asarray(step.cumsum(axis=0))


def alone(denoiser: Denoiser, frames: NDArray[np.generic]) -> Tensor:
    """Each frame by itself, (T,H,W): the noise of the stream is known, its past is not shown."""
    if denoiser.temporal:
        series = denoiser.series(longest=1)
        return torch.stack([torch.from_numpy(series(frame)) for frame in frames])
    return torch.stack([torch.from_numpy(denoiser(frame)) for frame in frames])
