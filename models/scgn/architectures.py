"""Networks by their design: SCGN, its ablations, peers and students under one name space."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from scgn.network import SCGN, Network
from scgn.peers.dncnn import DnCNN
from scgn.peers.ffdnet import FFDNet
from scgn.peers.nafnet import NAFNet
from scgn.peers.peer import Body, Peer
from scgn.peers.restormer import Restormer
from scgn.peers.unet import UNet
from scgn.sizes import Architecture, Design, Size
from scgn.student import Student

BODIES: dict[Architecture, Callable[[Size, int], Body]] = {
    "dncnn": DnCNN,
    "ffdnet": FFDNet,
    "nafnet": NAFNet,
    "restormer": Restormer,
    "unet": UNet,
    "student4": Student,
}


def build_network(design: Design) -> Network:
    """A network with fresh random weights; `scgn.sizes.design_named` gives designs by name."""
    if design.architecture == "scgn":
        return SCGN(design.size, design.residual)
    return Peer(design, BODIES[design.architecture](design.size, design.inputs))


def parameters(network: nn.Module) -> int:
    """How many trained numbers a network has; running statistics do not count."""
    return sum(parameter.numel() for parameter in network.parameters())
