"""Networks for tests: seeded, and as irregular as a trained one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from scgn.checkpoint import describe, load_network, save_checkpoint
from scgn.network import SCGN, Network
from scgn.sizes import Size

LEAST_STEPS = 500
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


def single_frame_networks(folder: Path) -> list[Path]:
    """Two networks that see one frame alone, so that a frame tells which of them made it."""
    paths = [folder / f"single-{name}.safetensors" for name in ("one", "two")]
    for seed, path in enumerate(paths):
        network = shaken(SCGN(Size(channels=8, blocks=1), "image"), seed)
        save_checkpoint(path, network, describe(network, path.stem))
    return paths


def once_trained(names: Iterable[str]) -> list[Any]:
    """Parameters for what only training makes true: expected to fail of a shipped network whose own
    header says that it had next to none, or that its plan is not done.
    """

    def known(name: str) -> Any:
        training = load_network(name).provenance.training
        done, wanted = training["steps_done"], training["plan"]["steps"]
        marks = () if done == wanted >= LEAST_STEPS else pytest.mark.xfail(
            reason=f"{name} was trained {done} of {max(wanted, LEAST_STEPS)} steps"
        )  # fmt: skip
        return pytest.param(name, marks=marks)

    return [known(name) for name in names]
