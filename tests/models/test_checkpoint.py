"""Weights on disk: what is kept, what is refused, and the networks that come with the package."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from scgn.checkpoint import (
    Checkpoint,
    CheckpointError,
    Provenance,
    checkpoint_of,
    describe,
    load_checkpoint,
    load_network,
    network_id,
    replace_file,
    save_checkpoint,
    shipped_names,
)
from scgn.sizes import Design, Parts, Size
from scgn.stream.front import LONG_SCALE, Front

SHIPPED = shipped_names()
TRAINING = {"plan": {"seed": 3, "sides_px": [64, 96]}, "commit": "0123abc", "torch": "2.13.0"}


@pytest.fixture
def saved(tmp_path, network_of) -> tuple[Path, Checkpoint]:
    """A file with a small network, and the same held in memory."""
    network = network_of(Size(channels=8, blocks=2), "feature", seed=9)
    provenance = replace(describe(network, "own", TRAINING), target="atom_map")
    save_checkpoint(tmp_path / "own.safetensors", network, provenance)
    return tmp_path / "own.safetensors", checkpoint_of(network, provenance)


# ---- round trip ----


OWN = Provenance("own", 16, 2, "image")
FITS = {"name": "own", "channels": 8, "blocks": 2, "residual": "feature"}  # what `saved` holds


def test_round_trip_is_exact(saved) -> None:
    path, kept = saved
    loaded = load_checkpoint(path)
    assert loaded.provenance == kept.provenance
    assert loaded.provenance.training == TRAINING
    assert loaded.id == kept.id
    assert not loaded.network.training
    state = loaded.network.state_dict()
    assert state.keys() == kept.network.state_dict().keys()
    for name, value in kept.network.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=0)
    frame = torch.randn(1, 1, 13, 18, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(loaded.network(frame), kept.network(frame), rtol=0, atol=0)


def test_saving_again_gives_the_same_bytes(tmp_path, saved) -> None:
    path, kept = saved
    save_checkpoint(tmp_path / "again.safetensors", kept.network, kept.provenance)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_channels_last_weights_are_the_same_network(tmp_path, saved) -> None:
    _, kept = saved
    network = kept.network.to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path / "last.safetensors", network, kept.provenance)
    assert load_checkpoint(tmp_path / "last.safetensors").id == kept.id


def test_id_names_network_and_content(network_of) -> None:
    state = network_of(seed=1).state_dict()
    first = network_id(OWN, state)
    assert re.fullmatch(r"scgn-own-[0-9a-f]{8}", first)
    assert network_id(OWN, network_of(seed=1).state_dict()) == first
    assert network_id(OWN, dict(reversed(state.items()))) == first
    assert network_id(replace(OWN, name="other"), state)[-8:] == first[-8:]
    assert network_id(OWN, network_of(seed=2).state_dict()) != first
    # The same weights with another residual or other units are another network.
    assert network_id(replace(OWN, residual="feature"), state) != first
    assert network_id(replace(OWN, input_units="counts"), state) != first
    assert network_id(OWN, {f"a.{key}": value for key, value in state.items()}) != first


def test_id_of_another_function_differs(network_of) -> None:
    state = network_of(seed=1).state_dict()
    ids = {network_id(OWN, state), network_id(replace(OWN, architecture="dncnn"), state)}
    ids.add(network_id(replace(OWN, parts=Parts(band=False)), state))
    assert len(ids) == 3


def test_files_from_before_the_peers_are_the_same_networks(tmp_path, saved) -> None:
    """A header without architecture and parts is the published network, under its old id."""
    state = saved[1].network.state_dict()
    save_file(state, tmp_path / "old.safetensors", metadata={"scgn": json.dumps(FITS)})
    loaded = load_checkpoint(tmp_path / "old.safetensors")
    assert loaded.provenance.design == Design("scgn", Size(8, 2), "feature")
    digest = hashlib.sha256(b"feature noise")
    for name in sorted(state):
        digest.update(name.encode() + state[name].numpy().tobytes())
    assert loaded.id == f"scgn-own-{digest.hexdigest()[:8]}"


def test_loading_draws_no_random_numbers(saved) -> None:
    torch.manual_seed(0)
    load_checkpoint(saved[0])
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(0)))


def test_id_changes_with_the_last_bit_of_one_weight(network_of) -> None:
    network = network_of(seed=1)
    before = network_id(OWN, network.state_dict())
    bias = network.tail.bias
    with torch.no_grad():
        bias.copy_(torch.nextafter(bias, bias + 1))
    assert network_id(OWN, network.state_dict()) != before


# ---- files that are not ours ----


def test_damaged_files_are_refused(tmp_path, saved) -> None:
    whole = saved[0].read_bytes()
    path = tmp_path / "cut.safetensors"
    for length in (0, 4, 200, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"cut\.safetensors"):
            load_checkpoint(path)


@pytest.mark.parametrize("content", [b"PK\x03\x04" * 100, b"\xff" * 100, b'{"a": 1}' * 20])
def test_foreign_files_are_refused(tmp_path, content) -> None:
    (tmp_path / "foreign.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_checkpoint(tmp_path / "foreign.safetensors")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_file_without_our_header_is_refused(tmp_path, saved, metadata) -> None:
    path = tmp_path / "bare.safetensors"
    save_file(saved[1].network.state_dict(), path, metadata=metadata)
    with pytest.raises(CheckpointError, match="'scgn' header"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "header",
    [
        "no json",
        "[1, 2]",
        "null",
        json.dumps({"name": "own"}),
        json.dumps({"name": "own", "channels": 8, "blocks": 2, "residual": "feature", "new": 1}),
        json.dumps({"name": "own", "channels": 8, "blocks": 2, "residual": "none"}),
        json.dumps({"name": "own", "channels": 8, "blocks": 1, "residual": "feature"}),
        json.dumps({"name": "own", "channels": 10, "blocks": 2, "residual": "feature"}),
        json.dumps({"name": "own", "channels": 7, "blocks": 2, "residual": "feature"}),
        json.dumps({"name": "own", "channels": "8", "blocks": 2, "residual": "feature"}),
        json.dumps(FITS | {"channels": 8.0}),
        json.dumps(FITS | {"channels": 10**30}),
        json.dumps(FITS | {"blocks": 10**12}),
        json.dumps(FITS | {"architecture": "swinir"}),
        json.dumps(FITS | {"architecture": "unet", "residual": "none"}),
        json.dumps(FITS | {"parts": {"band": False}}),
        json.dumps(FITS | {"parts": {"glow": True}}),
        json.dumps(FITS | {"parts": [True, True, True]}),
    ],
)
def test_header_that_does_not_fit_is_refused(tmp_path, saved, header) -> None:
    path = tmp_path / "odd.safetensors"
    save_file(saved[1].network.state_dict(), path, metadata={"scgn": header})
    with pytest.raises(CheckpointError, match="do not fit"):
        load_checkpoint(path)


def test_network_of_the_replaced_estimate_says_so(tmp_path, saved) -> None:
    path, header = tmp_path / "old.safetensors", json.dumps(FITS | {"residual": "wiener"})
    save_file(saved[1].network.state_dict(), path, metadata={"scgn": header})
    with pytest.raises(CheckpointError) as caught:
        load_network(str(path))
    assert str(caught.value) == (
        f"{path}: this network starts from an estimate that was replaced (residual 'wiener'), "
        "so it must be trained anew"
    )


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_weights_that_do_not_fit_are_refused(tmp_path, saved, change) -> None:
    state = dict(saved[1].network.state_dict())
    if change == "missing":
        del state["head.bias"]
    elif change == "extra":
        state["neck.bias"] = torch.zeros(1)
    else:
        state["head.bias"] = torch.zeros(9)
    save_file(state, tmp_path / "odd.safetensors", metadata={"scgn": json.dumps(FITS)})
    with pytest.raises(CheckpointError, match=r"head\.bias|neck\.bias"):
        load_checkpoint(tmp_path / "odd.safetensors")


# ---- by name and by path ----


def test_load_network_by_path(saved) -> None:
    path, kept = saved
    assert load_network(str(path)).id == kept.id


@pytest.mark.parametrize("name", ["no-such-network", "absent/file.safetensors", ""])
def test_unknown_network_lists_the_shipped_names(name) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_network(name)
    assert all(repr(shipped) in str(caught.value) for shipped in SHIPPED)
    assert repr(name) in str(caught.value)


def test_the_default_network_is_shipped() -> None:
    assert "tiny-clean" in SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_network_is_small_loads_and_runs(name) -> None:
    file = resources.files("scgn") / "weights" / f"{name}.safetensors"
    assert len(file.read_bytes()) < 2_000_000
    checkpoint = load_network(name)
    assert checkpoint.provenance.name == name
    assert checkpoint.id.startswith(f"scgn-{name}-")
    assert {"commit", "torch", "plan"} <= checkpoint.provenance.training.keys()
    frame = torch.randn(1, 1, 37, 51, generator=torch.Generator().manual_seed(0))
    front = Front((37, 51)).float()
    with torch.inference_mode():
        seen = front.alone(frame)
        result = seen.base + checkpoint.network(seen.given) * seen.scale / LONG_SCALE
    assert result.shape == frame.shape
    assert 0 < float(result.std()) < float(frame.std()), "noise alone must come out calmer"


# ---- replacing files ----


def test_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path) -> None:
    path = tmp_path / "kept"
    path.write_text("old")

    def fails_half_way(beside: Path) -> None:
        beside.write_text("ha")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_file(path, fails_half_way)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path) -> None:
    path = tmp_path / "kept"
    path.write_text("old")
    seen = []

    def write(beside: Path) -> None:
        beside.write_text("new")
        seen.append((path.read_text(), beside.parent))

    replace_file(path, write)
    assert seen == [("old", tmp_path)]
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_failed_save_keeps_the_loadable_checkpoint(saved) -> None:
    path, kept = saved
    unwritable = Provenance("x", 8, 2, "feature", training={"array": np.zeros(2)})
    with pytest.raises(TypeError):
        save_checkpoint(path, kept.network, unwritable)
    assert load_checkpoint(path).id == kept.id
