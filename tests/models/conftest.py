"""Networks that several files share: seeded, tiny, and as irregular as a trained one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from scgn.network import SCGN
from scgn.sizes import Residual, Size

NetworkFactory = Callable[..., SCGN]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Frames here are too small for a second thread, which beside a busy core only waits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def shaken(network: SCGN, seed: int) -> SCGN:
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


@pytest.fixture
def network_of() -> NetworkFactory:
    """Builds a network of a given size whose every tensor is random but seeded."""

    def build(size: Size | None = None, residual: Residual = "image", seed: int = 0) -> SCGN:
        return shaken(SCGN(size or Size(channels=8, blocks=1), residual), seed)

    return build
