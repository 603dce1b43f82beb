"""Training on endless simulated frames: one recipe, any size, one CPU core or one GPU.

Noise units in and out, AdamW with warm-up and cosine, an average of the weights (BatchNorm makes
single checkpoints swing by decibels). Step k draws its data from (seed, k), so a run that is
resumed at any minute ends with the weights of an uninterrupted one.
"""

from __future__ import annotations

import json
import math
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from scgn.checkpoint import describe, load_network, replace_file, save_checkpoint
from scgn.network import SCGN
from scgn.simulate import Recipe, SimulatedBatch, simulate
from scgn.sizes import size_named
from scgn.units import noise_units

VALIDATION_SEED = 10**6  # no training step draws from it


@dataclass(frozen=True)
class TrainingPlan:
    """Everything that decides the weights.

    size: row of the size table; steps: optimiser steps; seed: of weights and data;
    sides_px: sides of square training frames, one drawn per step (a spectrum's peaks grow with the
    side, so a single side would teach a single size); pixels_per_step: how many frames follow;
    start_from: a network (shipped name or path) whose weights the run begins with, or None.
    """

    size: str = "tiny"
    steps: int = 1000
    sides_px: tuple[int, ...] = (64, 96, 128, 192)
    pixels_per_step: int = 4 * 96 * 96
    peak_rate: float = 1.5e-3
    warmup_steps: int = 100
    average_decay: float = 0.998
    seed: int = 0
    start_from: str | None = None
    recipe: Recipe = field(default_factory=Recipe)


class TrainingError(ValueError):
    """A run cannot begin or go on as asked."""


@dataclass
class TrainingState:
    """What a run carries from step to step."""

    network: SCGN
    average: SCGN
    optimiser: torch.optim.AdamW
    step: int = 0
    minutes: float = 0.0  # of every sitting
    origin: dict[str, Any] | None = None  # of `start_from`


def begin(plan: TrainingPlan, device: torch.device) -> TrainingState:
    """Weights to begin with: the plan's `start_from`, or fresh ones that return a flat frame."""
    torch.manual_seed(plan.seed)
    network = SCGN(size_named(plan.size), residual="image")
    start_flat(network)
    origin = None if plan.start_from is None else take_over(network, plan.start_from)
    average = SCGN(size_named(plan.size), residual="image")
    average.load_state_dict(network.state_dict())
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), lr=plan.peak_rate, weight_decay=1e-4)
    return TrainingState(network, average.to(device).eval(), optimiser, origin=origin)


def take_over(network: SCGN, start_from: str) -> dict[str, Any]:
    """Give `network` the weights of a trained one; returns that one's id and own training.

    Raises TrainingError unless it has the same size, residual and noise units.
    """
    given = load_network(start_from)
    if (given.network.size, given.network.residual) != (network.size, network.residual):
        expected = f"{network.size}, residual {network.residual}"
        got = f"{given.network.size}, residual {given.network.residual}"
        raise TrainingError(f"{start_from}: expected {expected}, got {got}")
    if given.provenance.input_units != "noise":
        raise TrainingError(f"{start_from}: expected noise units, got counts")
    network.load_state_dict(given.network.state_dict())
    return {"id": given.id, "training": given.provenance.training}


@torch.no_grad()
def start_flat(network: SCGN) -> None:
    """Let step 0 return the frame's level: the head keeps the frame, the tail takes it away.

    At the doses that matter noise is 3..10 times the signal. Starting from the noisy frame, an
    image residual spends its first hundreds of steps on learning to subtract its own input.
    """
    # The last block's fuse comes last among its parameters: weight, then bias.
    fuse = list(network.blocks[-1].parameters())[-2:]
    first_feature = (*network.head.parameters(), *fuse)
    for value in (*network.tail.parameters(), *(parameter[:1] for parameter in first_feature)):
        value.zero_()
    network.head.weight[0, 0, 1, 1] = 1
    network.tail.weight[0, 0, 1, 1] = -1


def learning_rate(plan: TrainingPlan, step: int) -> float:
    """Linear warm-up, then half a cosine down to a hundredth of the peak."""
    if step < plan.warmup_steps:
        return plan.peak_rate * (step + 1) / plan.warmup_steps
    progress = (step - plan.warmup_steps) / max(1, plan.steps - plan.warmup_steps)
    return plan.peak_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def frame_errors(network: SCGN, data: SimulatedBatch) -> Tensor:
    """Root mean square error of each frame in noise units, (B,).

    The root weighs faint and bright frames alike; a plain square would learn bright ones only.
    """
    units = noise_units(data.noisy)
    error = network(units.enter(data.noisy)) - units.enter(data.clean)
    per_frame: Tensor = (error.square().mean(dim=(1, 2, 3)) + 1e-6).sqrt()
    return per_frame


def draw(plan: TrainingPlan, step: int, device: torch.device) -> SimulatedBatch:
    """The training batch of one step."""
    rng = np.random.default_rng([plan.seed, step])
    side_px = int(rng.choice(plan.sides_px))
    data = simulate(rng, max(1, plan.pixels_per_step // side_px**2), side_px, plan.recipe)
    return SimulatedBatch(data.noisy.to(device), data.clean.to(device))


def train_step(state: TrainingState, plan: TrainingPlan, device: torch.device) -> float:
    """One optimiser step and one step of the weight average; returns the loss."""
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate(plan, state.step)
    state.network.train()
    loss = frame_errors(state.network, draw(plan, state.step, device)).mean()
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), 1.0)
    state.optimiser.step()
    state.step += 1
    update_average(state, plan)
    return float(loss.detach())


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


@torch.inference_mode()
def validate(state: TrainingState, plan: TrainingPlan, device: torch.device) -> dict[str, float]:
    """Gain of the averaged weights over the noisy input on frames never trained on, in dB."""
    fixed = replace(plan, seed=VALIDATION_SEED, sides_px=(256,), pixels_per_step=16 * 256**2)
    data = draw(fixed, 0, device)
    units = noise_units(data.noisy)
    noisy = (units.enter(data.noisy) - units.enter(data.clean)).square().mean(dim=(1, 2, 3))
    # One by one: the same bits in less than half the time and memory, as each frame fits a cache.
    frames = map(SimulatedBatch, data.noisy[:, None], data.clean[:, None])
    denoised = torch.cat([frame_errors(state.average, frame) for frame in frames]).square()
    gain_db = 10 * torch.log10(noisy / denoised)
    return {"gain_db": float(gain_db.mean()), "rmse_noise_units": float(denoised.sqrt().mean())}


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


def resume(path: Path, state: TrainingState, plan: TrainingPlan, device: torch.device) -> None:
    """Bring `state` to where `save_state` left it; TrainingError when that was another plan."""
    with safe_open(path, framework="pt") as file:
        known = json.loads(file.metadata()["run"])
    asked = json.loads(json.dumps(asdict(plan)))
    if changed := sorted(key for key in asked if known["plan"].get(key) != asked[key]):
        was = {key: known["plan"].get(key) for key in changed}
        raise TrainingError(f"{path.parent} holds a run with {was}: use another folder")
    state.step, state.minutes, state.origin = known["step"], known["minutes"], known["origin"]
    tensors = load_file(path, device=str(device))
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


def commit() -> str:
    """The source tree's commit, or `unknown` outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def export(path: Path, state: TrainingState, plan: TrainingPlan) -> None:
    """The averaged weights as a checkpoint that says how they were made."""
    known = asdict(plan) | {"start_from": plan.start_from and Path(plan.start_from).name}
    training: dict[str, Any] = {
        "plan": known, "steps_done": state.step, "minutes": round(state.minutes, 1),
        "device": str(next(state.network.parameters()).device), "torch": torch.__version__,
        "commit": commit(), "data": "scgn.simulate", "started_from": state.origin,
    }  # fmt: skip
    average = state.average.cpu()
    save_checkpoint(path, average, describe(average, f"{plan.size}-clean", training))
    state.average.to(next(state.network.parameters()).device)


def checkpoints(state: TrainingState, plan: TrainingPlan, every_s: float) -> Iterator[None]:
    """Train to the plan's end; yields whenever `every_s` seconds have passed, and at the end."""
    device = next(state.network.parameters()).device
    last = time.monotonic()
    bar = tqdm(total=plan.steps, initial=state.step, mininterval=5, desc=f"train {plan.size}")
    recent: float | None = None
    while state.step < plan.steps:
        loss = train_step(state, plan, device)
        recent = loss if recent is None else 0.98 * recent + 0.02 * loss
        bar.update()
        bar.set_postfix(rmse=f"{recent:.4f}", refresh=False)
        if time.monotonic() - last >= every_s:
            yield
            last = time.monotonic()
    bar.close()
    yield


def train(plan: TrainingPlan, folder: Path, device: torch.device, every_s: float = 120.0) -> Path:
    """Run or resume the plan in `folder`; returns the path of the exported weights.

    Writes state.safetensors (to resume), weights.safetensors (averaged) and log.jsonl (one line a
    checkpoint: step, minutes, validation).
    """
    folder.mkdir(parents=True, exist_ok=True)
    state, kept = begin(plan, device), folder / "state.safetensors"
    if kept.exists():
        resume(kept, state, plan, device)
    weights, before = folder / "weights.safetensors", time.monotonic() - 60 * state.minutes
    for _ in checkpoints(state, plan, every_s):
        state.minutes = (time.monotonic() - before) / 60
        save_state(kept, state, plan)
        export(weights, state, plan)
        found = validate(state, plan, device)
        row = {"step": state.step, "minutes": round(state.minutes, 2), **found}
        with (folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(row) + "\n")
    return weights
