"""Reading the checkpoint layout that the paper's authors published."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from scgn.network import SCGN
from scgn.sizes import Size

# Published name -> ours, inside one unit (`body.N.convM.` there, `blocks.N.unitM.` here).
_UNIT_NAMES = {
    "ffc.convl2l": "spatial.features",
    "ffc.conv1": "spatial.gate",
    "ffc.convg2g.conv1": "frequency.features",
    "ffc.convg2g.fu.conv_layer": "frequency.fourier_unit.mix",
    "ffc.convg2g.fu.bn": "frequency.fourier_unit.norm",
    "ffc.convg2g.fu.channel_attn.conv": "frequency.fourier_unit.band_weighting.features",
    "ffc.convg2g.fu.channel_attn.fc.0": "frequency.fourier_unit.band_weighting.squeeze",
    "ffc.convg2g.fu.channel_attn.fc.2": "frequency.fourier_unit.band_weighting.excite",
    "ffc.convg2g.fu.conv_layer2": "frequency.fourier_unit.project",
    "ffc.convg2g.conv2": "frequency.merge",
    "bn_l": "spatial_norm",
    "bn_g": "frequency_norm",
}
_OUTER_NAMES = {"head_conv": "head", "tail_conv": "tail"}
_UNIT = re.compile(r"body\.(\d+)\.conv([12])\.(.+)\.(\w+)")
_FUSE = re.compile(r"body\.(\d+)\.fuse\.(\w+)")


class PublishedLayoutError(ValueError):
    """The file or mapping is not a checkpoint in the published layout."""


def own_name(published: str) -> str | None:
    """Our name of a published parameter; None for the fixed averaging kernel, which we do not keep.

    Raises PublishedLayoutError for a name that the published network does not have.
    """
    name = published.removeprefix("module.")
    if name.endswith("ffc.std.mean_kernel"):
        return None
    if (unit := _UNIT.fullmatch(name)) and unit[3] in _UNIT_NAMES:
        return f"blocks.{unit[1]}.unit{unit[2]}.{_UNIT_NAMES[unit[3]]}.{unit[4]}"
    if fuse := _FUSE.fullmatch(name):
        return f"blocks.{fuse[1]}.fuse.{fuse[2]}"
    stem, _, leaf = name.rpartition(".")
    if stem in _OUTER_NAMES:
        return f"{_OUTER_NAMES[stem]}.{leaf}"
    raise PublishedLayoutError(f"{published!r} is not a parameter of the published network")


def network_from_published(state: Mapping[str, Tensor]) -> SCGN:
    """SCGN in eval mode from a published state dict (names with or without `module.`).

    Width and depth are read from the tensors. Input and output are raw 0..255 values.
    Raises PublishedLayoutError on unknown, missing or misshapen parameters.
    """
    ours = {name: value for key, value in state.items() if (name := own_name(key)) is not None}
    if "head.weight" not in ours:
        raise PublishedLayoutError("no 'head_conv.weight' among the parameters")
    blocks = {int(name.split(".")[1]) for name in ours if name.startswith("blocks.")}
    if blocks != set(range(max(1, len(blocks)))):
        raise PublishedLayoutError(f"expected blocks 0, 1, 2, ..., got {sorted(blocks)}")
    try:
        size = Size(channels=ours["head.weight"].shape[0], blocks=len(blocks))
        network = SCGN(size, residual="feature")
        network.load_state_dict(ours)
    except (RuntimeError, ValueError, IndexError) as error:
        raise PublishedLayoutError(f"parameters do not fit the network: {error}") from error
    return network.eval()


def load_published(path: str | Path) -> SCGN:
    """SCGN in eval mode from the authors' file, a dict with `model_state_dict`.

    Read with `weights_only=True`: nothing in the file is executed.
    Raises PublishedLayoutError when the file holds something else, OSError when unreadable.
    """
    stream = io.BytesIO(Path(path).read_bytes())
    try:
        content = torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's readers raise a dozen kinds on damaged bytes
        kind = type(error).__name__
        raise PublishedLayoutError(f"{path}: damaged, or more than weights ({kind})") from error
    if not isinstance(content, dict) or "model_state_dict" not in content:
        found = list(content)[:5] if isinstance(content, dict) else type(content).__name__
        raise PublishedLayoutError(f"{path}: expected a dict with 'model_state_dict', got {found}")
    return network_from_published(_tensors(content["model_state_dict"]))


def _tensors(state: object) -> Mapping[str, Tensor]:
    if not isinstance(state, Mapping):
        raise PublishedLayoutError(f"expected a mapping of tensors, got {type(state).__name__}")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise PublishedLayoutError(f"expected a tensor by name, got {key!r}: {type(value)}")
    return state
