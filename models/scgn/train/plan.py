"""What decides the weights of a run, and the recipes that have a name."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from scgn.checkpoint import InputUnits, Target
from scgn.simulate import Recipe
from scgn.sizes import Design, design_named

Loss = Literal["relative", "power", "rmse", "l1"]
RELATIVE: tuple[Loss, ...] = ("relative", "power")  # to the estimate's own error
Precision = Literal["float32", "bfloat16"]
Data = Literal["physical", "paper"]


class TrainingError(ValueError):
    """A run cannot begin or go on as asked."""


@dataclass(frozen=True)
class MoviePlan:
    """frames: most of a movie; movies: per step, of 128 px a side, and as many more of a smaller
    one as have its pixels; looks: frames of each movie that are learned from, the first and the
    last among them, at most half of `frames`.
    """

    frames: int = 18
    movies: float = 2
    looks: int = 9


@dataclass(frozen=True)
class TrainingPlan:
    """Everything that decides the weights, but for the rounding of the device.

    size: row of the table of networks; target: what it learns; input_units: what it takes;
    steps: optimiser steps; seed: of weights and data; sides_px: sides of square training frames,
    one drawn per step (a spectrum's peaks grow with the side, so a single side would teach a single
    size); movies: of temporal networks; pixels_per_step: how many frames of others follow;
    peak_rate: learning rate; constant_rate: no warm-up, no cosine; loss: of each frame, see
    `scgn.train.run.frame_errors`; precision: of the convolutions; epoch_steps: the data repeats
    after so many steps, None for never; data: `physical` frames of
    `recipe` or the `paper`'s; camera: id of the calibration whose noise replaces drawn
    detectors; start_from: a network whose weights the run begins with; teacher: a network that the
    run learns from, with `teacher_share` of what is wanted, 0..1; the truth has the rest.
    """

    size: str = "tiny"
    target: Target = "clean"
    input_units: InputUnits = "noise"
    steps: int = 1000
    sides_px: tuple[int, ...] = (96, 128, 192)
    movies: MoviePlan = field(default_factory=MoviePlan)
    pixels_per_step: int = 4 * 96 * 96
    peak_rate: float = 6e-4
    constant_rate: bool = False
    warmup_steps: int = 100
    average_decay: float = 0.998
    loss: Loss = "relative"
    precision: Precision = "float32"
    seed: int = 0
    epoch_steps: int | None = None
    data: Data = "physical"
    recipe: Recipe = field(default_factory=Recipe)
    camera: str | None = None
    start_from: str | None = None
    teacher: str | None = None
    teacher_share: float = 0.5

    @property
    def design(self) -> Design:
        """The network's design; an atom map is no correction of the frame, so no residual."""
        design = design_named(self.size)
        if self.target == "clean":
            return design
        return replace(design, residual="feature" if design.architecture == "scgn" else "none")

    @property
    def name(self) -> str:
        """For people, as in `compact-clean`."""
        return f"{self.size}-{self.target.replace('_', '-')}"


# Noise that no camera was calibrated for: shot and read noise alone, white.
WHITE_NOISE: dict[str, Any] = {
    "line_noise": (0.0, 0.0), "blur_px": (0.0, 0.0), "response": (0.0, 0.0),
    "hot_share": (0.0, 0.0), "clip_share": 0.0,
}  # fmt: skip

# Section 4.1: L1, Adam 2e-4, batch 8, 100 epochs of 1,000 whole frames. Ours has AdamW's decay of
# 1e-4 and clipped gradients, as all plans here.
PAPER: dict[str, Any] = {
    "target": "atom_map", "input_units": "counts", "steps": 12_500, "sides_px": (256,),
    "pixels_per_step": 8 * 256**2, "peak_rate": 2e-4, "constant_rate": True, "loss": "l1",
    "epoch_steps": 125, "data": "paper",
}  # fmt: skip


def named_plan(recipe: str, **changes: Any) -> TrainingPlan:
    """The plan of a recipe, `ours`, `white-noise` or `paper`, with changes; else TrainingError."""
    known: dict[str, dict[str, Any]] = {
        "ours": {},
        "white-noise": {"recipe": Recipe(**WHITE_NOISE)},
        "paper": PAPER,
    }
    if recipe not in known:
        raise TrainingError(f"unknown recipe {recipe!r}, expected one of {sorted(known)}")
    plan = TrainingPlan(**(known[recipe] | changes))
    if plan.data == "paper" and plan.target != "atom_map":
        raise TrainingError(f"recipe {recipe}: expected target atom_map, got {plan.target}")
    if plan.target == "atom_map" and plan.loss in RELATIVE:
        return replace(plan, loss="rmse")  # no estimate of a map to be relative to
    return plan


def learning_rate(plan: TrainingPlan, step: int) -> float:
    """Linear warm-up, then half a cosine to a hundredth of the peak; or the peak throughout."""
    if plan.constant_rate:
        return plan.peak_rate
    if step < plan.warmup_steps:
        return plan.peak_rate * (step + 1) / plan.warmup_steps
    progress = (step - plan.warmup_steps) / max(1, plan.steps - plan.warmup_steps)
    return plan.peak_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
