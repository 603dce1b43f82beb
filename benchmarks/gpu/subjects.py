"""What is measured: networks, a frame of a lattice, and where engines are kept."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.rows import NotHere

if TYPE_CHECKING:
    import torch

    from scgn.checkpoint import Checkpoint
    from scgn.deploy import Graph
    from scgn.network import Network
    from scgn.pipeline.lane import Slot

# By the name in a row: the network that ships for it, else the design with seeded random weights.
NETWORKS = {
    "paper": "paper-clean", "fast": "fast-clean", "compact-clean": "compact-clean",
    "tiny": "tiny-clean",
}  # fmt: skip
SIDES_PX = (512, 256, 1024)  # the most wanted first
SPACING_PX, COUNTS = 9.0, 40.0


def engines_folder() -> Path:
    """Beside the results and not in them: engines are large and made anew anywhere."""
    return Path(tempfile.gettempdir()) / "scgn-gpu-engines"


def cuda() -> torch.device:
    """The device that stages run on; NotHere without one."""
    import torch

    if not torch.cuda.is_available():
        raise NotHere("no CUDA device on this machine")
    return torch.device("cuda")


def network_path(name: str, out: Path) -> tuple[str, str]:
    """Name or path that loads the network, and `trained` or `random`; speed is the same."""
    from scgn.checkpoint import describe, save_checkpoint, shipped_names

    for shipped in (NETWORKS[name], name):
        if shipped in shipped_names():
            return shipped, "trained"
    path = out / "networks" / f"{name}-random.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        network = random_network(name)
        save_checkpoint(path, network, describe(network, f"{name}-random"))
    return str(path), "random"


def random_network(name: str) -> Network:
    """The design with seeded weights, none of them zero: a result's error shows in dB."""
    from scgn.architectures import build_network
    from scgn.sizes import design_named

    return seeded(build_network(design_named(name)), 0)


def seeded(network: Network, seed: int) -> Network:
    """The same network with random weights and running statistics, in eval mode."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, value in network.state_dict().items():
            if value.is_floating_point():
                value.copy_(random_values(key, value, generator))
    return network.eval()


def random_values(key: str, value: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """As large as a trained layer's: features keep their size from layer to layer."""
    import torch

    uniform = torch.rand(value.shape, generator=generator)
    if key.endswith("running_var"):
        return uniform * 1.5 + 0.5
    fan_in = max(1, value[0].numel()) if value.dim() else 1
    scaled: torch.Tensor = (2 * uniform - 1) * (3 / fan_in) ** 0.5
    return scaled


@lru_cache(maxsize=4)
def checkpoint_named(name: str, out: Path) -> tuple[Checkpoint, str]:
    """The network, and `trained` or `random`."""
    from scgn.checkpoint import load_network

    path, origin = network_path(name, out)
    return load_network(path), origin


def is_temporal(name: str, out: Path) -> bool:
    """Whether the network's graph takes and gives a stream's state."""
    from scgn.pipeline.stream_denoiser import is_temporal

    return is_temporal(checkpoint_named(name, out)[0])


def tell_first(slot: Slot) -> None:
    """Calls of the slot are of a stream's first frame; of no matter where there is no stream."""
    import torch

    from scgn.pipeline.state import NO_PAST

    slot.told.control.copy_(torch.tensor([NO_PAST.control]))


def inputs_of(graph: Graph, raw: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The same without a slot: one frame, references that change nothing, an empty state."""
    import torch

    from scgn.deploy.export import sample
    from scgn.pipeline.state import NO_PAST

    given = {"raw": raw, "control": torch.tensor([NO_PAST.control])}
    named = zip(graph.inputs, sample(graph), strict=True)
    return tuple(given.get(name, value) for name, value in named)


def lattice_frame(side: int, seed: int = 0) -> NDArray[Any]:
    """Atoms on a turned square lattice under Poisson noise, counts; (side, side) `<u2`."""
    place = np.arange(side) * (2 * np.pi / SPACING_PX)
    along, down = 0.96 * place + 0.28 * place[:, None], 0.96 * place[:, None] - 0.28 * place
    clean = COUNTS * (1 + 0.35 * (np.cos(along) + np.cos(down)))
    return np.random.default_rng(seed).poisson(clean).astype("<u2")
