"""The authors' checkpoint layout: parity with their network, and files that are something else."""

from __future__ import annotations

import io
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from scgn import load_network, load_published, network_from_published
from scgn.published import PublishedLayoutError, own_name
from scgn.sizes import Size

REFERENCE = Path(__file__).parents[3] / "shared" / "data" / "parity" / "scgn_reference.npz"
needs_reference = pytest.mark.skipif(
    not REFERENCE.is_file(), reason=f"no reference of the published network ({REFERENCE.name})"
)

# Ours -> published, written from the paper's description and not from scgn.published.
PUBLISHED = {
    "spatial.features": "ffc.convl2l",
    "spatial.gate": "ffc.conv1",
    "spatial_norm": "bn_l",
    "frequency.features": "ffc.convg2g.conv1",
    "frequency.fourier_unit.mix": "ffc.convg2g.fu.conv_layer",
    "frequency.fourier_unit.norm": "ffc.convg2g.fu.bn",
    "frequency.fourier_unit.band_weighting.features": "ffc.convg2g.fu.channel_attn.conv",
    "frequency.fourier_unit.band_weighting.squeeze": "ffc.convg2g.fu.channel_attn.fc.0",
    "frequency.fourier_unit.band_weighting.excite": "ffc.convg2g.fu.channel_attn.fc.2",
    "frequency.fourier_unit.project": "ffc.convg2g.fu.conv_layer2",
    "frequency.merge": "ffc.convg2g.conv2",
    "frequency_norm": "bn_g",
}


def published_name(own: str) -> str:
    """The published name of one of our parameters."""
    stem, _, leaf = own.rpartition(".")
    if stem in ("head", "tail"):
        return f"{stem}_conv.{leaf}"
    if fuse := re.fullmatch(r"blocks\.(\d+)\.fuse", stem):
        return f"body.{fuse[1]}.fuse.{leaf}"
    part = re.fullmatch(r"blocks\.(\d+)\.unit([12])\.(.+)", stem)
    assert part
    return f"body.{part[1]}.conv{part[2]}.{PUBLISHED[part[3]]}.{leaf}"


@pytest.fixture
def published(network_of) -> dict[str, Tensor]:
    """A small network's parameters in the published layout, averaging kernels included."""
    network = network_of(Size(channels=8, blocks=2), "feature", seed=5)
    state = {f"module.{published_name(k)}": v for k, v in network.state_dict().items()}
    for n, m in np.ndindex(2, 2):
        state[f"module.body.{n}.conv{m + 1}.ffc.std.mean_kernel"] = torch.full((4, 1, 3, 3), 1 / 9)
    return state


def written(path: Path, state: object) -> Path:
    torch.save({"model_state_dict": state, "epoch": 100}, path)
    return path


# ---- parity ----


@pytest.fixture(scope="module")
def reference() -> dict[str, Tensor]:
    """Seeded weights, inputs and outputs of the published network."""
    with np.load(REFERENCE, allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@needs_reference
def test_agrees_with_the_published_network(tmp_path, reference) -> None:
    """Bare and prefixed names load the same network, and it gives the published outputs."""
    state = {name[2:]: value for name, value in reference.items() if name.startswith("w/")}
    bare = load_published(written(tmp_path / "bare.pth", state))
    prefixed = {f"module.{name}": value for name, value in state.items()}
    network = load_published(written(tmp_path / "prefixed.pth", prefixed))
    for name, value in bare.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name
    frames = {name: value for name, value in reference.items() if name.startswith("x/")}
    assert len(frames) >= 3
    for name, frame in frames.items():
        with torch.inference_mode():
            result = network(frame)
        expected = reference[name.replace("x/", "y/")]
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-3)


@needs_reference
def test_every_published_name_has_one_of_ours(reference) -> None:
    names = [n[2:] for n in reference if n.startswith("w/") and "mean_kernel" not in n]
    assert [published_name(own_name(name) or "") for name in names] == names


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_round_trip_through_the_published_names(tmp_path, network_of, published, prefix) -> None:
    network = network_of(Size(channels=8, blocks=2), "feature", seed=5)
    state = {prefix + name.removeprefix("module."): value for name, value in published.items()}
    loaded = load_published(written(tmp_path / "own.pth", state))
    assert not loaded.training
    assert loaded.residual == "feature"
    for name, value in network.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=0, atol=0)
    frame = 100 + 20 * torch.randn(1, 1, 17, 22, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(loaded(frame), network(frame), rtol=0, atol=0)


def test_load_network_knows_the_published_units(tmp_path, published) -> None:
    checkpoint = load_network(str(written(tmp_path / "authors.pth", published)))
    provenance = checkpoint.provenance
    assert (provenance.target, provenance.input_units) == ("atom_map", "counts")
    assert (provenance.channels, provenance.blocks, provenance.residual) == (8, 2, "feature")
    assert checkpoint.id.startswith("scgn-authors-")


# ---- what is not a published checkpoint ----


@pytest.mark.parametrize(
    "name",
    ["module.body.0.conv3.bn_l.weight", "body.0.conv1.ffc.extra.weight", "neck.weight", "weight"],
)
def test_unknown_name_is_named(published, name) -> None:
    with pytest.raises(PublishedLayoutError, match=re.escape(name)):
        network_from_published(published | {name: torch.zeros(1)})


@pytest.mark.parametrize(
    "name",
    ["module.head_conv.weight", "module.body.1.conv2.bn_g.running_var", "module.tail_conv.bias"],
)
def test_missing_parameter_is_refused(published, name) -> None:
    del published[name]
    with pytest.raises(PublishedLayoutError, match=r"head_conv\.weight|do not fit"):
        network_from_published(published)


def test_missing_block_is_refused_without_building_a_giant(published) -> None:
    """One key with a huge block number must not make a network of that many blocks."""
    state = published | {"module.body.999999999.fuse.bias": torch.zeros(8)}
    with pytest.raises(PublishedLayoutError, match="999999999"):
        network_from_published(state)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("module.body.0.fuse.weight", (8, 8, 1, 1)),
        ("module.head_conv.weight", (7, 1, 3, 3)),
        ("module.head_conv.weight", ()),
        ("module.body.0.conv1.ffc.convg2g.fu.conv_layer.weight", (8, 8, 1, 1)),
    ],
)
def test_wrong_shape_is_refused(published, name, shape) -> None:
    with pytest.raises(PublishedLayoutError, match="do not fit"):
        network_from_published(published | {name: torch.zeros(shape)})


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], {1: 2, "a": 3}])
def test_file_without_model_state_dict_says_what_it_holds(tmp_path, content) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(PublishedLayoutError, match="'model_state_dict'"):
        load_published(tmp_path / "other.pth")


@pytest.mark.parametrize("state", [3, {"module.head_conv.weight": 3}, {3: torch.zeros(1)}, []])
def test_state_that_is_no_mapping_of_tensors_is_refused(tmp_path, state) -> None:
    with pytest.raises(PublishedLayoutError, match="expected a"):
        load_published(written(tmp_path / "odd.pth", state))


class Creates:
    """Unpickling this makes a file: the harmless kin of a hostile checkpoint."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("layout", ["torch", "plain pickle"])
def test_code_in_a_pickle_is_refused_and_never_runs(tmp_path, published, layout) -> None:
    marker = tmp_path / "executed"
    content = {"model_state_dict": published, "hook": Creates(marker)}
    pickle.loads(pickle.dumps(content["hook"]))
    assert marker.exists(), "the test's own pickle is harmless"
    marker.unlink()
    stream = io.BytesIO()
    if layout == "torch":
        torch.save(content, stream)
    else:
        pickle.dump({"model_state_dict": {}, "hook": Creates(marker)}, stream)
    (tmp_path / "hostile.pth").write_bytes(stream.getvalue())
    with pytest.raises(PublishedLayoutError, match="more than weights"):
        load_published(tmp_path / "hostile.pth")
    assert not marker.exists()


@pytest.mark.parametrize("kept", [0, 2, 300, -40])
def test_damaged_file_is_refused(tmp_path, published, kept) -> None:
    path = written(tmp_path / "cut.pth", published)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(PublishedLayoutError, match=r"cut\.pth"):
        load_published(path)


def test_foreign_bytes_are_refused(tmp_path) -> None:
    (tmp_path / "notes.pth").write_bytes(b"not a checkpoint at all\n" * 40)
    with pytest.raises(PublishedLayoutError, match=r"notes\.pth"):
        load_published(tmp_path / "notes.pth")


def test_absent_file_is_an_os_error(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        load_published(tmp_path / "absent.pth")
