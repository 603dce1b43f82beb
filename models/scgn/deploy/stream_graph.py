"""The graph of a temporal network: a stream's state goes in and out with every frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scgn.deploy.body import Form, scale_of
from scgn.deploy.counts import counts_of, pixels_of
from scgn.deploy.graph import GIVEN_MAX, INPUTS, OUTPUTS, body_of, widen
from scgn.deploy.recipe import DeployRecipe
from scgn.deploy.references import corrected
from scgn.deploy.signature import NEW
from scgn.network import Network
from scgn.stream.facts import CONTROL, Facts
from scgn.stream.front import Front, State
from scgn.stream.state import STATE

FINITE = 3e38


class StreamGraph(nn.Module):
    """forward(raw, dark, gain, fill, source, noise_power, law, control, *state) ->
    (denoised, facts, *state), for frames of one recipe, each of a stream of its own.

    raw and references as in `scgn.deploy.graph.DeployGraph`; control: (B,len(CONTROL)); state:
    tensors of `scgn.stream.state.STATE`; facts: (B,len(Facts._fields)). A frame with NaN or
    infinity in it has such a level, and leaves the state as it was.
    """

    def __init__(self, network: Network, recipe: DeployRecipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.inputs: tuple[str, ...] = (*INPUTS, "noise_power", "law", "control", *STATE)
        self.outputs: tuple[str, ...] = (*OUTPUTS, *(NEW + name for name in STATE))
        self.front = Front(recipe.shape, recipe.camera_dtype).to(recipe.wide)
        form = Form(recipe.shape, recipe.wide, scale_of(recipe.shape, in_noise_units=True))
        self.body = widen(body_of(network, form).to(recipe.dtype), recipe.wide)

    def forward(
        self, raw: Tensor, dark: Tensor, gain: Tensor, fill: Tensor, source: Tensor,
        noise_power: Tensor, law: Tensor, control: Tensor, *state: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        counts = counts_of(raw, self.recipe.camera_dtype, self.recipe.wide)
        frames = corrected(counts, dark, gain, fill, source)[:, None]
        finite = frames.abs() < FINITE
        whole = finite.to(frames.dtype).amin(dim=(-2, -1), keepdim=True)
        clean = torch.where(finite, frames, torch.zeros_like(frames))
        control = control.to(self.recipe.wide)
        before = State(*state)
        seen, after, facts = self.front(counts[:, None], clean, (noise_power, law), control, before)
        there = self.front.corrected(seen, self.correction(seen.given))
        after = self.front.keep(after, (there, seen.long, seen.estimate), control)
        show = control[:, CONTROL.index("show"), None, None, None]
        other = torch.where(show > 1.5, seen.estimate, seen.long)
        result = self.front.back(torch.where(show > 0.5, other, there), seen)
        # Without a dark reference a camera's fixed pattern passes for signal whose noise does not
        # grow: the gain found is none.
        corrected_for = torch.maximum((dark.abs().amax(dim=(-2, -1)) > 0).to(clean.dtype), law[5])
        facts |= {
            "gain_adu_per_e": facts["gain_adu_per_e"] * corrected_for,
            "level": torch.where(whole > 0.5, facts["level"], frames.mean((-2, -1), keepdim=True)),
            "mean": result.mean(dim=(-2, -1), keepdim=True),
        }
        row = torch.cat([facts[name] for name in Facts._fields], dim=1)[:, :, 0, 0]
        kept = tuple(
            torch.where(whole.view(-1, *[1] * (new.dim() - 1)) > 0.5, new, old)
            for old, new in zip(before, after, strict=True)
        )
        return (pixels_of(result[:, 0], self.recipe.output_dtype), row, *kept)

    def correction(self, given: Tensor) -> Tensor:
        """What the network adds to the estimate, in its own units."""
        if self.recipe.precision == "float16":
            given = given.clamp(-GIVEN_MAX, GIVEN_MAX)
        result: Tensor = self.body(given.to(self.recipe.dtype)).to(self.recipe.wide)
        return result
