"""What PyTorch's own backends promise beside their results: room for many engines, and memory that
stays as long as a captured graph may be replayed.
"""

from __future__ import annotations

import contextlib
import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from networks import shaken

from scgn.architectures import build_network
from scgn.backends.torched import captured, own_forward
from scgn.checkpoint import checkpoint_of, describe
from scgn.deploy import DeployRecipe, deploy
from scgn.deploy.export import sample
from scgn.sizes import Design, Size

FORMS_OF_ONE_CODE = 8  # torch._dynamo.config.recompile_limit


@pytest.mark.filterwarnings("ignore")  # the compiler's remarks
def test_more_shapes_are_compiled_than_pytorch_keeps_of_one_code() -> None:
    network = shaken(build_network(Design("student4", Size(8, 1), "none")), seed=0)
    checkpoint = checkpoint_of(network, describe(network, "small"))
    for place in range(FORMS_OF_ONE_CODE + 2):
        graph = deploy(checkpoint, DeployRecipe((16, 16 + 4 * place)))
        call = torch.compile(own_forward(graph), backend="eager", fullgraph=True, dynamic=False)
        inputs = sample(graph)
        with torch.inference_mode():
            torch.testing.assert_close(call(*inputs), graph(*inputs))
    torch.compiler.reset()


class FakeGraph:
    """A CUDA graph that replays nothing."""

    replays = 0

    def replay(self) -> None:
        self.replays += 1


@pytest.fixture
def _no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = SimpleNamespace(wait_stream=lambda _: None, synchronize=lambda: None)
    for name, value in {
        "Stream": lambda **_: stream, "current_stream": lambda: stream, "CUDAGraph": FakeGraph,
        "stream": lambda _: contextlib.nullcontext(),
        "graph": lambda *_, **__: contextlib.nullcontext(),
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)


class Weights:
    """What a captured graph has the address of."""


@pytest.mark.usefixtures("_no_cuda")
def test_captured_graph_holds_what_it_was_captured_from() -> None:
    weights = Weights()
    alive = weakref.ref(weights)

    def run(held: Any = weights) -> None:
        assert held

    context = captured(run)
    del weights, run
    gc.collect()
    assert alive() is not None, "a replay would read memory that is somebody else's by now"
    context.enqueue()
    assert context.graph.replays == 1  # type: ignore[attr-defined]
