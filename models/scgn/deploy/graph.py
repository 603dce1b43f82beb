"""The whole graph: camera's pixels and references in, denoised pixels and three facts out."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from scgn.checkpoint import Target
from scgn.deploy.body import Form, RealSCGN, scale_of
from scgn.deploy.counts import counts_of, pixels_of
from scgn.deploy.recipe import DeployRecipe
from scgn.deploy.references import corrected
from scgn.network import SCGN, Network
from scgn.peers.peer import Peer
from scgn.units import ATOM_MAP_PEAK, noise_units

# Where half precision's input saturates: noise units, four times what a 16-bit camera can show
# above its shot noise; counts, sixteen times the 8-bit range that such networks learned from.
GIVEN_MAX, COUNTS_MAX = 1024.0, 4096.0
INPUTS = ("raw", "dark", "gain", "fill", "source")
OUTPUTS = ("denoised", "facts")
FACTS = ("level", "scale", "mean")  # of the corrected frame, of it, of the result; in counts


class PeerBody(nn.Module):
    """A peer's or student's body on frames of one shape; (B,inputs,H,W) -> (B,1,H,W) of `wide`."""

    def __init__(self, original: Peer, wide: torch.dtype) -> None:
        super().__init__()
        self.body = folded(copy.deepcopy(original.body))
        self.multiple, self.wide = original.body.multiple, wide

    def forward(self, given: Tensor) -> Tensor:
        rows, columns = given.shape[-2:]
        below, right = -rows % self.multiple, -columns % self.multiple
        padded = functional.pad(given, (0, right, 0, below), mode="reflect")
        result: Tensor = self.body(padded if below or right else given)[..., :rows, :columns]
        return result.to(self.wide)


def folded(module: nn.Module) -> nn.Module:
    """The same module with every BatchNorm that follows a convolution inside of it."""
    for parent in module.modules():
        if not isinstance(parent, nn.Sequential):
            continue
        for place in range(len(parent) - 1):
            layer, norm = parent[place], parent[place + 1]
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                parent[place] = fuse_conv_bn_eval(layer, norm)
                parent[place + 1] = nn.Identity()
    return module


def widen(body: nn.Module, wide: torch.dtype) -> nn.Module:
    """The same body with what its modules name as WIDE in that dtype."""
    for module in body.modules():
        for name in getattr(module, "WIDE", ()):
            setattr(module, name, getattr(module, name).to(wide))
    return body


def body_of(network: Network, form: Form) -> nn.Module:
    """The network between its input and its residual."""
    if isinstance(network, SCGN):
        return RealSCGN(network, form)
    return PeerBody(cast(Peer, network), form.wide)


class DeployGraph(nn.Module):
    """forward(raw, dark, gain, fill, source) -> (denoised, facts), for frames of one recipe that
    are seen one by one.

    raw: see `scgn.deploy.counts.raw_shape`; the rest: `scgn.deploy.references.References`.
    denoised: `out_shape`; facts: (B,3) float32 or float64, FACTS, from which the host tells a frame
    with NaN or infinity in it.

    In half precision the network's input saturates at GIVEN_MAX noise units (COUNTS_MAX counts).
    """

    def __init__(
        self, network: Network, target: Target, in_noise_units: bool, recipe: DeployRecipe
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self.inputs: tuple[str, ...] = INPUTS
        self.outputs: tuple[str, ...] = OUTPUTS
        self.residual = network.design.residual
        self.in_noise_units, self.maps_atoms = in_noise_units, target == "atom_map"
        form = Form(recipe.shape, recipe.wide, scale_of(recipe.shape, in_noise_units))
        self.body = widen(body_of(network, form).to(recipe.dtype), recipe.wide)

    def forward(
        self, raw: Tensor, dark: Tensor, gain: Tensor, fill: Tensor, source: Tensor
    ) -> tuple[Tensor, Tensor]:
        counts = counts_of(raw, self.recipe.camera_dtype, self.recipe.wide)
        frames = corrected(counts, dark, gain, fill, source)[:, None]
        units = noise_units(frames)
        if self.in_noise_units:
            result = self._network(units.enter(frames), GIVEN_MAX)
            result = ATOM_MAP_PEAK * result if self.maps_atoms else units.leave(result)
        else:
            result = self._network(frames, COUNTS_MAX)
        facts = torch.cat((units.level, units.scale, result.mean(dim=(-2, -1), keepdim=True)), 1)
        return pixels_of(result[:, 0], self.recipe.output_dtype), facts[:, :, 0, 0]

    def _network(self, given: Tensor, most: float) -> Tensor:
        inputs = given.clamp(-most, most) if self.recipe.precision == "float16" else given
        result: Tensor = self.body(inputs.to(self.recipe.dtype))
        return given + result if self.residual == "image" else result
