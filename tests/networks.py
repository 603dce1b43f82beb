"""Networks for tests: seeded, and as irregular as a trained one."""

from __future__ import annotations

from typing import TypeVar

import torch

from scgn.network import Network

AnyNetwork = TypeVar("AnyNetwork", bound=Network)


def shaken(network: AnyNetwork, seed: int) -> AnyNetwork:
    """The same network in eval mode with no parameter or running statistic left at its default."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            noise = torch.rand(value.shape, generator=generator, dtype=torch.float64)
            if name.endswith("running_var"):
                value.copy_(0.5 + 1.5 * noise)
            elif value.is_floating_point():
                fan_in = max(1, value[0].numel()) if value.dim() else 1
                value.copy_((2 * noise - 1) * (3 / fan_in) ** 0.5)
    return network.eval()
