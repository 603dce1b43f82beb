"""Networks that several files share: seeded, tiny, and as irregular as a trained one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from networks import shaken

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


@pytest.fixture
def network_of() -> NetworkFactory:
    """Builds a network of a given size whose every tensor is random but seeded."""

    def build(size: Size | None = None, residual: Residual = "image", seed: int = 0) -> SCGN:
        return shaken(SCGN(size or Size(channels=8, blocks=1), residual), seed)

    return build
