"""Networks that several files share: seeded, tiny, and as irregular as a trained one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import pytest
import torch
from networks import shaken

from scgn.network import SCGN
from scgn.sizes import Residual, Size
from scgn.train import movies as training_movies

NetworkFactory = Callable[..., SCGN]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Frames here are too small for a second thread, which beside a busy core only waits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def validation_drawn_once() -> Iterator[None]:
    """What a run validates on takes seconds to draw and is the same for all that share a recipe."""
    draw = training_movies.validation_movies
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_movies, "validation_movies", functools.cache(draw))
        yield


@pytest.fixture
def network_of() -> NetworkFactory:
    """Builds a network of a given size whose every tensor is random but seeded."""

    def build(size: Size | None = None, residual: Residual = "image", seed: int = 0) -> SCGN:
        return shaken(SCGN(size or Size(channels=8, blocks=1), residual), seed)

    return build
