"""Weights on disk: safetensors with their provenance in the header, never pickle."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from scgn.architectures import build_network
from scgn.network import Network
from scgn.published import load_published
from scgn.sizes import PUBLISHED, Architecture, Design, Parts, Residual, Size

HEADER = "scgn"  # the one metadata key; its value is JSON
Target = Literal["clean", "atom_map"]
InputUnits = Literal["noise", "counts"]


class CheckpointError(ValueError):
    """The file is not one of our checkpoints, or does not fit its own header."""


class ReplacedError(CheckpointError):
    """The network was trained to correct an estimate that is no more."""


@dataclass(frozen=True)
class Provenance:
    """What a network is and where it came from.

    name: for people, as in `compact-clean`; target: `clean` (intensity) or `atom_map`;
    input_units: `noise` (see scgn.units) or `counts`, what forward() takes and gives;
    training: recipe, seed, steps, commit, torch: whatever made the weights;
    architecture and parts (SCGN's ablation switches): the published network where a file says none.
    """

    name: str
    channels: int
    blocks: int
    residual: Residual
    target: Target = "clean"
    input_units: InputUnits = "noise"
    training: dict[str, Any] = field(default_factory=dict)
    architecture: Architecture = "scgn"
    parts: Parts = PUBLISHED

    @property
    def design(self) -> Design:
        """What is built for it; ValueError when there is no such network."""
        size = Size(self.channels, self.blocks, self.parts)
        return Design(self.architecture, size, self.residual)


@dataclass(frozen=True)
class Checkpoint:
    """A network in eval mode, its provenance, and an id made of name and content."""

    network: Network
    provenance: Provenance
    id: str


def network_id(provenance: Provenance, state: dict[str, Tensor]) -> str:
    """`scgn-NAME-` and eight hex digits of the SHA-256 over all that decides the output."""
    deciding: list[str] = [provenance.residual, provenance.input_units]
    if (provenance.architecture, provenance.parts) != ("scgn", PUBLISHED):
        deciding += [provenance.architecture, str(provenance.parts)]
    digest = hashlib.sha256(" ".join(deciding).encode())
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].detach().cpu().contiguous().numpy().tobytes())
    return f"scgn-{provenance.name}-{digest.hexdigest()[:8]}"


def describe(
    network: Network,
    name: str,
    training: dict[str, Any] | None = None,
    target: Target = "clean",
    input_units: InputUnits = "noise",
) -> Provenance:
    """Provenance of a network trained by us."""
    design, size = network.design, network.design.size
    return Provenance(
        name, size.channels, size.blocks, design.residual, target, input_units,
        training or {}, design.architecture, size.parts,
    )  # fmt: skip


def checkpoint_of(network: Network, provenance: Provenance) -> Checkpoint:
    """A checkpoint held in memory, in eval mode."""
    return Checkpoint(network.eval(), provenance, network_id(provenance, network.state_dict()))


def replace_file(path: Path, write: Any) -> None:
    """Write beside `path` and rename, so that a reader never sees half a file."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(beside)
        beside.chmod(0o644)  # safetensors writes 0600, which a service's user may not read
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def save_checkpoint(path: str | Path, network: Network, provenance: Provenance) -> None:
    """Write weights and provenance to a .safetensors file, atomically."""
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    header = {HEADER: json.dumps(asdict(provenance), sort_keys=True)}
    replace_file(Path(path), lambda beside: save_file(state, beside, metadata=header))


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a .safetensors checkpoint; CheckpointError says what is wrong with the file."""
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER)
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file: {error}") from error
    if header is None:
        raise CheckpointError(f"{path}: expected a {HEADER!r} header, got none")
    return _assemble(path, header, state)


def _assemble(path: str | Path, header: str, state: dict[str, Tensor]) -> Checkpoint:
    try:
        provenance = _provenance(json.loads(header))
        network = _network(provenance.design, state)
    except ReplacedError as error:
        raise ReplacedError(f"{path}: {error}") from None
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: header and weights do not fit: {error}") from error
    return checkpoint_of(network, provenance)


def _provenance(header: Any) -> Provenance:
    """A header's content with its claims checked; the network's design is checked when built."""
    if not isinstance(header, dict):
        raise ValueError(f"header: expected an object, got {type(header).__name__}")
    if header.get("residual") == "wiener":
        raise ReplacedError(
            "this network starts from an estimate that was replaced (residual 'wiener'), "
            "so it must be trained anew"
        )
    provenance = Provenance(**header | {"parts": Parts(**header.get("parts", {}))})
    if provenance.target not in get_args(Target):
        raise ValueError(f"target: expected one of {get_args(Target)}, got {provenance.target!r}")
    if provenance.input_units not in get_args(InputUnits):
        raise ValueError(f"input_units: expected noise or counts, got {provenance.input_units!r}")
    return provenance


def _network(design: Design, state: dict[str, Tensor]) -> Network:
    """The design filled with `state`; a header must not make us build what the tensors do not fill.

    The outline has shapes and no memory; each block of any architecture holds tensors of its own.
    """
    if design.size.blocks > len(state):
        raise ValueError(f"header says {design.size.blocks} blocks, file has {len(state)} tensors")
    with torch.device("meta"):
        network = build_network(design)
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    names = sorted(expected.keys() | found.keys())
    if odd := [name for name in names if expected.get(name) != found.get(name)]:
        first = f"{odd[0]}: expected {expected.get(odd[0])}, got {found.get(odd[0])}"
        raise ValueError(f"{len(odd)} tensors do not fit {design}, first {first}")
    network.to_empty(device="cpu").load_state_dict(state)
    return network


def shipped_names() -> list[str]:
    """Names of the networks that come with the package."""
    folder = resources.files("scgn") / "weights"
    return sorted(Path(f.name).stem for f in folder.iterdir() if f.name.endswith(".safetensors"))


def load_network(name_or_path: str) -> Checkpoint:
    """A shipped network by name, or a checkpoint by path; CheckpointError lists the names."""
    if name_or_path in shipped_names():
        with resources.as_file(resources.files("scgn") / "weights") as folder:
            return load_checkpoint(folder / f"{name_or_path}.safetensors")
    if not Path(name_or_path).is_file():
        raise CheckpointError(
            f"no network {name_or_path!r}: expected a file or one of {shipped_names()}"
        )
    if Path(name_or_path).suffix in (".pth", ".pt"):
        return _published_checkpoint(Path(name_or_path))
    return load_checkpoint(name_or_path)


def _published_checkpoint(path: Path) -> Checkpoint:
    """The authors' file: raw 0..255 counts in, spots on black out."""
    network = load_published(path)
    origin = {"file": path.name, "layout": "published"}
    return checkpoint_of(network, describe(network, path.stem, origin, "atom_map", "counts"))
