"""Training on endless simulated frames: one loop, any network, one CPU core or one GPU.

Noise units in and out, AdamW with warm-up and cosine, an average of the weights. A run that is
resumed at any minute ends with the weights of an uninterrupted one.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from scgn.architectures import parameters
from scgn.calibration import Calibration
from scgn.checkpoint import describe, save_checkpoint
from scgn.noise import NoiseModel
from scgn.train.data import stream, validation_pairs
from scgn.train.movies import VALIDATION_TIMES
from scgn.train.pairs import Pairs
from scgn.train.plan import RELATIVE, TrainingPlan, learning_rate
from scgn.train.state import TrainingState, begin, resume, save_state, update_average
from scgn.train.teacher import Teacher

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Sitting:
    """How a run is carried out; nothing here decides the weights.

    every_s: seconds between checkpoints; stop_after_s: leave then, to be resumed; compiled: let
    torch.compile fuse the network (about a minute for each side, then faster); workers: processes
    that draw frames ahead.
    """

    every_s: float = 120.0
    stop_after_s: float = float("inf")
    compiled: bool = False
    workers: int = 0


def frame_errors(plan: TrainingPlan, forward: Forward, data: Pairs) -> Tensor:
    """Error of each frame, (B,): `rmse` in the network's units, or `l1`, the paper's.

    `relative`: the rmse over that of the estimate, so that every frame counts by what can still be
    gained on it. Over the noise alone, faint frames counted for nothing and got worse. `power`: its
    square, which weighs harm done to one frame more than as much gained on another.
    """
    half = plan.precision == "bfloat16"
    with torch.autocast(data.given.device.type, torch.bfloat16, enabled=half):
        result = forward(data.given)
    error = result.float() - data.wanted
    if plan.loss == "l1":
        return error.abs().mean(dim=(1, 2, 3))
    root: Tensor = (error.square().mean(dim=(1, 2, 3)) + 1e-6).sqrt()
    if plan.loss not in RELATIVE:
        return root
    assert data.missed is not None, "the loss is relative, and there is no estimate"
    relative = root / data.missed
    return relative.square() if plan.loss == "power" else relative


def train_step(
    state: TrainingState, plan: TrainingPlan, data: Pairs, forward: Forward | None = None
) -> Tensor:
    """One optimiser step and one step of the weight average; returns the loss, not waited for."""
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate(plan, state.step)
    state.network.train()
    whole = state.network if forward is None else forward
    loss = frame_errors(plan, whole, data.to(state.device)).mean()
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), 1.0)
    state.optimiser.step()
    state.step += 1
    update_average(state, plan)
    return loss.detach()


@torch.inference_mode()
def validate(state: TrainingState, plan: TrainingPlan, data: Pairs) -> dict[str, float]:
    """Error of the averaged weights on frames never trained on, as the plan counts it."""
    errors = errors_of_each(plan, state.average, state.device, data)
    found = {"error": float(errors.mean())}
    if plan.loss in RELATIVE:
        estimate = errors_of_each(plan, no_correction, state.device, data)
        above = above_flat_db(plan, errors, data), above_flat_db(plan, estimate, data)
        for index, time in enumerate(VALIDATION_TIMES):
            mine = slice(index, None, len(VALIDATION_TIMES))
            found[f"above_flat_db_{time}"] = float(above[0][mine].mean())
            found[f"estimate_above_flat_db_{time}"] = float(above[1][mine].mean())
    return found


def errors_of_each(
    plan: TrainingPlan, forward: Forward, device: torch.device, data: Pairs
) -> Tensor:
    """Errors of the frames, (N,) on the CPU."""
    # One by one: the same bits in less than half the time and memory, as each frame fits a cache.
    return torch.cat([frame_errors(plan, forward, one.to(device)) for one in data.each()]).cpu()


def no_correction(given: Tensor) -> Tensor:
    """What a network gives that leaves the estimate as it is."""
    return torch.zeros_like(given[:, :1])


def above_flat_db(plan: TrainingPlan, errors: Tensor, data: Pairs) -> Tensor:
    """Relative errors as decibels above a flat frame's, (N,)."""
    assert data.missed is not None
    assert data.flat is not None
    ratio = errors.sqrt() if plan.loss == "power" else errors
    return -20 * torch.log10(ratio * data.missed / data.flat)


def commit() -> str:
    """The source tree's commit, or `unknown` outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def clock_of(device: torch.device) -> Callable[[], float]:
    """Seconds of work: of this process on all cores together on a CPU (workers that draw ahead are
    not counted), of the wall clock on a GPU.
    """
    return time.process_time if device.type == "cpu" else time.monotonic


def device_name(device: torch.device) -> str:
    """`CPU, n threads` or the GPU's own name."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"CPU, {torch.get_num_threads()} thread(s)"


def export(path: Path, state: TrainingState, plan: TrainingPlan) -> None:
    """The averaged weights as a checkpoint that says how they were made."""
    paths = {"start_from": plan.start_from, "teacher": plan.teacher}
    known = asdict(plan) | {key: path and Path(path).name for key, path in paths.items()}
    training: dict[str, Any] = {
        "plan": known, "steps_done": state.step, "minutes": round(state.minutes, 1),
        "device": device_name(state.device), "torch": torch.__version__,
        "parameters": parameters(state.average), "commit": commit(),
        "data": "scgn.simulate", "started_from": state.origin, "taught_by": state.taught_by,
    }  # fmt: skip
    device, average = state.device, state.average.cpu()
    provenance = describe(average, plan.name, training, plan.target, plan.input_units)
    save_checkpoint(path, average, provenance)
    state.average.to(device)


def checkpoints(
    state: TrainingState, plan: TrainingPlan, camera: NoiseModel | None, sitting: Sitting
) -> Iterator[float | None]:
    """Train to the end of plan or sitting; yields the recent loss whenever a checkpoint is due.

    The last yield is the end of either.
    """
    forward: Forward = torch.compile(state.network) if sitting.compiled else state.network
    begun = last = time.monotonic()
    recent: Tensor | None = None
    bar = tqdm(total=plan.steps, initial=state.step, mininterval=5, desc=f"train {plan.name}")
    teacher = None if plan.teacher is None else Teacher(plan, state.device, sitting.compiled)
    state.taught_by = None if teacher is None else teacher.id
    for data in stream(plan, camera, state.step, sitting.workers):
        loss = train_step(state, plan, data if teacher is None else teacher(data), forward)
        recent = loss if recent is None else 0.98 * recent + 0.02 * loss
        bar.update()
        now = time.monotonic()
        if now - begun >= sitting.stop_after_s:
            break
        if now - last >= sitting.every_s:
            bar.set_postfix(loss=f"{float(recent):.4f}", refresh=False)
            yield float(recent)
            last = time.monotonic()
    bar.close()
    yield None if recent is None else float(recent)


def train(
    plan: TrainingPlan,
    folder: Path,
    device: torch.device,
    sitting: Sitting | None = None,
    camera: Calibration | None = None,
) -> Path:
    """Run or resume the plan in `folder`; returns the path of the exported weights.

    Writes state.safetensors (to resume), weights.safetensors (averaged) and log.jsonl (one line a
    checkpoint: step, minutes, loss, validation). camera: its noise replaces drawn detectors.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state, kept = begin(plan, device), folder / "state.safetensors"
    if kept.exists():
        resume(kept, state, plan)
    weights = folder / "weights.safetensors"
    if state.step >= plan.steps and weights.exists():
        return weights  # its header tells of the training, not of today
    noise = None if camera is None else camera.noise
    held_out = validation_pairs(plan, noise)
    clock = clock_of(device)
    before = clock() - 60 * state.minutes
    for loss in checkpoints(state, plan, noise, sitting or Sitting()):
        state.minutes = (clock() - before) / 60
        save_state(kept, state, plan)
        export(weights, state, plan)
        found = validate(state, plan, held_out)
        row = {"step": state.step, "minutes": round(state.minutes, 2), "loss": loss, **found}
        with (folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(row) + "\n")
    return weights
