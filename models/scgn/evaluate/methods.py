"""Methods by name: classical peers with their grids of parameters, networks by name or path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from scgn.architectures import parameters
from scgn.checkpoint import Checkpoint, Target, load_network
from scgn.denoise import Denoiser
from scgn.evaluate import classical
from scgn.simulate import SimulatedBatch

Filter = Callable[..., Tensor]  # (noisy, **parameters) -> denoised, both (B,1,H,W)
Parameters = dict[str, float]


@dataclass(frozen=True)
class Method:
    """One denoiser of the table.

    grid: values that tuning tries for each parameter; facts: what the table says of it (for a
    network: id, size, number of parameters, minutes and device of training).
    """

    name: str
    filter: Filter
    grid: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    target: Target = "clean"
    facts: dict[str, Any] = field(default_factory=dict)
    learned: bool = False

    def choices(self) -> list[Parameters]:
        """Every combination of the grid; one empty one where nothing is to be tuned."""
        return [
            dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())
        ]


GAUSSIAN_PX = tuple(0.5 * 1.2**step for step in range(24))  # to 33 px
BAND_PX = (1.0, 1.4, 2.0, 2.8, 4.0)
SPOTS_PX = (1.4, 2.0, 2.8, 4.0)

CLASSICAL = {
    method.name: method
    for method in (
        Method("noisy", classical.noisy_itself),
        Method("gaussian", classical.gaussian, {"sigma_px": GAUSSIAN_PX}),
        Method("dog", classical.dog, {
            "sigma_px": BAND_PX, "ratio": (1.6, 3.0, 6.0), "stretch": (0.35, 0.6, 1.0, 1.7),
        }),
        Method("estimate", classical.estimate),
        Method("nlm", classical.nlm, {
            "patch_px": (5.0, 9.0), "strength": (0.5, 0.7, 1.0, 1.5, 2.5, 4.0),
        }),
        Method("wavelet", classical.wavelet, {
            "strength": (0.8, 1.0, 1.5, 2.0, 3.0), "levels": (2.0, 3.0, 4.0, 5.0),
        }),
        Method("log_render", classical.log_render, {
            "sigma_px": SPOTS_PX, "threshold": (0.5, 1.0, 2.0, 3.0, 4.0),
            "stretch": (0.25, 0.5, 0.75, 1.0),
        }),
        Method("dog_map", classical.dog_map, {
            "sigma_px": SPOTS_PX, "ratio": (1.6, 3.0), "offset": (-1.0, -0.5, 0.0, 0.5, 1.0),
            "stretch": (0.1, 0.2, 0.4, 0.8),
        }, "atom_map"),
        Method("log_render_map", classical.log_render_map, {
            "sigma_px": SPOTS_PX, "threshold": (2.0, 3.0, 4.0, 5.0, 6.0),
            "width": (0.4, 0.7, 1.0),
        }, "atom_map"),
    )
}  # fmt: skip


def method_named(name: str, device: torch.device) -> Method:
    """A classical peer, a shipped network, or LABEL=PATH (or PATH) of one; CheckpointError else.

    Without a label a network goes by the name in its own header.
    """
    if name in CLASSICAL:
        return CLASSICAL[name]
    label, _, where = name.rpartition("=")
    checkpoint = load_network(where)
    return learned(checkpoint, label or checkpoint.provenance.name, device)


def learned(checkpoint: Checkpoint, name: str, device: torch.device) -> Method:
    """A network as a method: each frame as the service denoises it."""
    training = checkpoint.provenance.training
    facts = {
        "id": checkpoint.id,
        "parameters": parameters(checkpoint.network),
        "training_minutes": training_minutes(training),
        "training_device": training.get("device"),
    }
    run = partial(_denoise, Denoiser(checkpoint, device))
    return Method(name, run, target=checkpoint.provenance.target, facts=facts, learned=True)


def training_minutes(training: dict[str, Any]) -> float | None:
    """Minutes of a training and of all that it started from; None where they are not known."""
    before = (training.get("started_from") or {}).get("training")
    earlier = training_minutes(before) if before else 0.0
    own = training.get("minutes")
    return None if own is None or earlier is None else own + earlier


def _denoise(denoiser: Denoiser, noisy: Tensor) -> Tensor:
    frames = [torch.from_numpy(denoiser(frame[0].cpu().numpy())) for frame in noisy]
    return torch.stack(frames)[:, None]


def truth(method: Method, data: SimulatedBatch) -> Tensor:
    """What the method is asked for: the noise-free intensity, or spots on black."""
    return data.clean if method.target == "clean" else data.atom_map
