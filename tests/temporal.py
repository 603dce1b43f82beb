"""A stand-in for a network that knows its stream: a graph so simple that a few lines of numpy say
what it gives, and a checkpoint of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scgn import compile as compiling
from scgn.checkpoint import Checkpoint
from scgn.deploy import DeployGraph, DeployRecipe
from scgn.deploy.counts import counts_of, pixels_of
from scgn.deploy.references import corrected
from scgn.deploy.signature import NEW
from scgn.stream.facts import Facts
from scgn.stream.state import RING, STATE

INPUTS = (
    "raw", "dark", "gain", "fill", "source", "noise_power", "law", "control", *STATE,
)  # fmt: skip
OUTPUTS = ("denoised", "facts", *(NEW + name for name in STATE))


class StandIn(nn.Module):
    """denoised: mean of all frames since the last reset; one that is not finite changes nothing.

    facts: averaged: frames behind it, this one included; filled, flagged, saturated, error: reset,
    steps, longest, show; scored_probe: `probe_at` that came in; gain_network: calls since all was
    forgotten, as `numbers` counts them; gain_adu_per_e: mean of `law`; line_rows: of `noise_power`.
    """

    inputs, outputs = INPUTS, OUTPUTS

    def __init__(self, recipe: DeployRecipe) -> None:
        super().__init__()
        self.recipe = recipe

    def forward(
        self, raw: Tensor, dark: Tensor, gain: Tensor, fill: Tensor, source: Tensor,
        noise_power: Tensor, law: Tensor, control: Tensor, *state: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        recipe, old = self.recipe, dict(zip(STATE, state, strict=True))
        counts = counts_of(raw, recipe.camera_dtype, recipe.wide)
        frame = corrected(counts, dark, gain, fill, source)[:, None]
        reset, longest = (control[:, i, None, None, None].to(recipe.wide) for i in (0, 2))
        means, rest = (reset < 1).to(recipe.wide), (reset < 2).to(recipe.wide)
        age = means * old["age"] + 1
        long = means * old["long"] + frame
        mean = long / age
        level = frame.mean(dim=(-2, -1))
        good = (level * 0 == 0)[:, :, None, None]
        calls = rest[:, :, 0, 0] * old["numbers"] + 1
        new = {
            "ring": torch.cat((frame, means * old["ring"][:, : RING - 1]), dim=1),
            "long": long, "age": age, "waiting": frame + 0 * old["waiting"],
            "probe": means * old["probe"] * 0 + longest + frame, "held": old["held"] + frame,
            "probe_at": (calls[:, :1] + 100 * longest[:, :, 0, 0]),
            "numbers": calls,
        }  # fmt: skip
        kept = {n: torch.where(good if v.dim() == 4 else good[:, :, 0, 0], v, old[n])
                for n, v in new.items()}  # fmt: skip
        given = [kept[n] if n in kept else rest * old[n] + good.to(recipe.wide) for n in STATE]
        words = {
            "level": level, "scale": 1 + 0 * level, "mean": mean.mean(dim=(-2, -1)),
            "averaged": age.mean(dim=(-2, -1)), "filled": control[:, 0:1],
            "flagged": control[:, 1:2], "saturated": control[:, 2:3], "error": control[:, 3:4],
            "scored_probe": old["probe_at"], "gain_network": calls[:, :1],
            "gain_adu_per_e": law.mean() + 0 * level, "line_rows": noise_power.mean() + 0 * level,
        }  # fmt: skip
        facts = [words.get(name, 0 * level).to(recipe.wide) for name in Facts._fields]
        return pixels_of(mean[:, 0], recipe.output_dtype), torch.cat(facts, dim=1), *given


class Learned(nn.Module):
    """As a checkpoint holds it: weights (of no use here) and a design."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.design = SimpleNamespace(residual="stream")


def stand_in(recipe: DeployRecipe) -> DeployGraph:
    """The graph."""
    return cast(DeployGraph, StandIn(recipe).eval())


def checkpoint() -> Checkpoint:
    """Of the stand-in."""
    known = SimpleNamespace(name="stand-in")
    return Checkpoint(cast(Any, Learned()), cast(Any, known), "scgn-stand-in-00000000")


@contextmanager
def deployed() -> Iterator[None]:
    """Whatever is deployed meanwhile is the stand-in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiling, "deploy", lambda _, recipe: stand_in(recipe))
        yield


def mean_of(frames: list[Any]) -> Any:
    """What the stand-in makes of the last of these, nothing having been reset between."""
    return np.mean([frame.astype(np.float32) for frame in frames], axis=0, dtype=np.float32)
