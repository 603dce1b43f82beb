"""What a run carries from step to step, and how it is kept: safetensors, never pickle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from scgn.architectures import build_network
from scgn.checkpoint import load_network, replace_file
from scgn.network import Network
from scgn.train.plan import TrainingError, TrainingPlan

Optimiser = torch.optim.AdamW


@dataclass
class TrainingState:
    """network: being trained; average: moving average of its weights (BatchNorm makes single
    checkpoints swing by decibels); minutes: of work in every sitting, core-minutes on a CPU;
    origin: of `start_from`; taught_by: id of the plan's teacher.
    """

    network: Network
    average: Network
    optimiser: Optimiser
    step: int = 0
    minutes: float = 0.0
    origin: dict[str, Any] | None = None
    taught_by: str | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device


def begin(plan: TrainingPlan, device: torch.device) -> TrainingState:
    """Weights to begin with: the plan's `start_from`, or fresh ones that return a flat frame."""
    torch.manual_seed(plan.seed)
    network = build_network(plan.design)
    network.start_flat()
    origin = None if plan.start_from is None else take_over(network, plan)
    average = build_network(plan.design)
    average.load_state_dict(network.state_dict())
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = Optimiser(network.parameters(), lr=plan.peak_rate, weight_decay=1e-4)
    return TrainingState(network, average.to(device).eval(), optimiser, origin=origin)


def take_over(network: Network, plan: TrainingPlan) -> dict[str, Any]:
    """Give `network` the weights of a trained one; returns that one's id and own training.

    Raises TrainingError unless it has the same design, target and units.
    """
    given = load_network(str(plan.start_from))
    expected = (network.design, plan.target, plan.input_units)
    got = (given.network.design, given.provenance.target, given.provenance.input_units)
    if got != expected:
        raise TrainingError(f"{plan.start_from}: expected {expected}, got {got}")
    network.load_state_dict(given.network.state_dict())
    return {"id": given.id, "training": given.provenance.training}


@torch.no_grad()
def update_average(state: TrainingState, plan: TrainingPlan) -> None:
    """Exponential moving average of every parameter and running statistic; faster at the start."""
    decay = min(plan.average_decay, (1 + state.step) / (10 + state.step))
    current = state.network.state_dict()
    for name, value in state.average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(current[name], 1 - decay)
        else:
            value.copy_(current[name])


def save_state(path: Path, state: TrainingState, plan: TrainingPlan) -> None:
    """Everything that `resume` needs, as safetensors; the plan stands in the header."""
    tensors: dict[str, Tensor] = {}
    for prefix, module in (("network", state.network), ("average", state.average)):
        tensors |= {f"{prefix}/{k}": v.contiguous() for k, v in module.state_dict().items()}
    for index, moments in state.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{k}": v.contiguous() for k, v in moments.items()}
    known = {"step": state.step, "minutes": state.minutes, "origin": state.origin}
    header = {"run": json.dumps(known | {"plan": asdict(plan)})}
    replace_file(path, lambda beside: save_file(tensors, beside, metadata=header))


def resume(path: Path, state: TrainingState, plan: TrainingPlan) -> None:
    """Bring `state` to where `save_state` left it; TrainingError when that was another plan."""
    with safe_open(path, framework="pt") as file:
        known = json.loads(file.metadata()["run"])
    asked = json.loads(json.dumps(asdict(plan)))
    begun = asdict(TrainingPlan()) | known["plan"]  # older runs lack what plans did not have yet
    if changed := sorted(key for key in asked if begun[key] != asked[key]):
        was = {key: begun[key] for key in changed}
        raise TrainingError(f"{path.parent} holds a run with {was}: use another folder")
    state.step, state.minutes, state.origin = known["step"], known["minutes"], known["origin"]
    tensors = load_file(path)  # on the CPU: the optimiser moves moments and leaves its counters
    for prefix, module in (("network", state.network), ("average", state.average)):
        module.load_state_dict(_below(tensors, prefix))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in _below(tensors, "optimiser").items():
        index, key = name.split("/")
        moments.setdefault(int(index), {})[key] = value
    groups = state.optimiser.state_dict()["param_groups"]
    state.optimiser.load_state_dict({"state": moments, "param_groups": groups})


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) + 1 :]: v for k, v in tensors.items() if k.startswith(prefix + "/")}
