"""Peers and ablations: what each is made of, where training starts, what half precision keeps."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import shaken
from torch import Tensor
from torch.nn import functional

from scgn.architectures import build_network, parameters
from scgn.checkpoint import CheckpointError, describe, load_checkpoint, save_checkpoint
from scgn.network import SCGN, Network, window_std
from scgn.peers.ffdnet import FFDNet
from scgn.peers.nafnet import ChannelNorm
from scgn.peers.restormer import BiasFreeNorm, TransposedAttention
from scgn.sizes import DESIGNS, PEERS, PLAIN, Design, Parts, Size, design_named
from scgn.stream.facts import SEEN
from scgn.stream.front import LONG_SCALE, Front

COMPACT = ("compact", "plain-wide", *PEERS)  # what a table compares at equal parameters
SMALL = {"scgn": Size(8, 1), **{name: Size(4, 1) for name in PEERS}}


def frames_of(*shape: int, seed: int = 0, mean: float = 0) -> Tensor:
    return mean + torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seen_of(*shape: int, seed: int = 0, mean: float = 0) -> Tensor:
    """What a row of the table is given, of frames (B,H,W)."""
    return frames_of(shape[0], len(SEEN), *shape[1:], seed=seed, mean=mean)


def built(name: str, seed: int = 0) -> Network:
    """A row of the table, every tensor random."""
    return shaken(build_network(design_named(name)), seed)


# ---- the table ----


@pytest.mark.parametrize("name", COMPACT)
def test_compared_networks_have_about_the_same_parameters(name) -> None:
    assert 100_000 < parameters(build_network(design_named(name))) < 140_000


def test_unknown_network_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'swinir'.*'compact'.*'dncnn'.*'unet'"):
        design_named("swinir")


@pytest.mark.parametrize(
    ("architecture", "size", "residual", "fact"),
    [
        ("swinir", Size(8, 1), "none", "'swinir', expected one of scgn, dncnn"),
        ("unet", Size(8, 1), "feature", "'none', 'image'.*got 'feature'"),
        ("scgn", Size(8, 1), "none", "'feature', 'image'.*got 'none'"),
        ("dncnn", Size(8, 1, PLAIN), "none", "scgn's only.*of dncnn"),
    ],
)
def test_impossible_designs_say_why(architecture, size, residual, fact) -> None:
    with pytest.raises(ValueError, match=fact):
        Design(architecture, size, residual)


# ---- every network ----


@pytest.mark.parametrize("sides", [(4, 4), (32, 32), (5, 7), (33, 18), (24, 9)])
@pytest.mark.parametrize("architecture", SMALL)
def test_any_side_keeps_its_size(architecture, sides) -> None:
    residual = "feature" if architecture == "scgn" else "none"
    network = shaken(build_network(Design(architecture, SMALL[architecture], residual)), seed=1)
    with torch.inference_mode():
        result = network(frames_of(2, 1, *sides))
    assert result.shape == (2, 1, *sides)
    assert result.isfinite().all()
    assert result[0].std() > 0


@pytest.mark.parametrize("name", DESIGNS)
def test_training_starts_from_the_estimate(name) -> None:
    """Every row of the table begins with nothing to correct, from any weights."""
    network = built(name)
    given = seen_of(1, 18, 21)
    with torch.inference_mode():
        assert network(given).abs().max() > 0.01
        network.start_flat()
        assert network(given).abs().max() == 0


@pytest.mark.parametrize("architecture", SMALL)
def test_without_an_estimate_training_starts_from_the_flat_frame(architecture) -> None:
    """A frame of zeros, from any weights: in noise units that is the frame's level."""
    frame = frames_of(1, 1, 18, 21)
    for residual in ("feature", "image") if architecture == "scgn" else ("none",):
        network = shaken(build_network(Design(architecture, SMALL[architecture], residual)), 0)
        with torch.inference_mode():
            assert network(frame).abs().max() > 0.01
            network.start_flat()
            assert network(frame).abs().max() == 0


@pytest.mark.parametrize("architecture", SMALL)
def test_all_that_a_stream_knows_is_seen(architecture) -> None:
    """A correction depends on each channel, and on which is which."""
    network = shaken(build_network(Design(architecture, SMALL[architecture], "stream")), seed=6)
    given = seen_of(1, 16, 20)
    with torch.inference_mode():
        result = network(given)
        assert result.shape == (1, 1, 16, 20)
        for channel in range(len(SEEN)):
            without = given.clone()
            without[:, channel] = 0
            assert (network(without) - result).abs().max() > 1e-4, SEEN[channel]
        assert not torch.allclose(network(given.flip(1)), result), "order tells them apart"


@pytest.mark.parametrize("name", ["compact", "plain-wide", *PEERS])
def test_a_flat_start_still_learns(name) -> None:
    """From the start's zeros, 30 steps on one small pair take the error down."""
    torch.manual_seed(3)
    network = build_network(design_named(name))
    network.start_flat()
    rows = torch.arange(24.0)
    clean = (torch.sin(rows / 2)[:, None] * torch.cos(rows / 2)).expand(2, 1, 24, 24)
    seen = Front((24, 24)).float().alone(clean + frames_of(2, 1, 24, 24))
    wanted = (clean - clean.mean() - seen.base) * LONG_SCALE / seen.scale
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    errors = []
    start = float(wanted.square().mean())
    for _ in range(30):
        error = (network(seen.given) - wanted).square().mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        errors.append(error.item())
    assert errors[0] == pytest.approx(start)
    assert errors[-1] < 0.8 * errors[0]


@pytest.mark.parametrize("name", PEERS)
def test_image_residual_of_a_peer_adds_the_input(name) -> None:
    design = replace(design_named(name), residual="none")
    plain = shaken(build_network(design), seed=2)
    image = shaken(build_network(replace(design, residual="image")), seed=2)
    frame = frames_of(1, 1, 13, 16)
    with torch.inference_mode():
        torch.testing.assert_close(image(frame), frame + plain(frame))
        image.start_flat()
        assert torch.equal(image(frame), frame)


@pytest.mark.parametrize(
    "name", ["compact-plain", "compact-frequency", "compact-deviation", *PEERS]
)
def test_round_trip_through_a_file(tmp_path, name) -> None:
    network = built(name, seed=4)
    provenance = describe(network, "own", {"seed": 4}, target="atom_map", input_units="counts")
    save_checkpoint(tmp_path / "own.safetensors", network, provenance)
    loaded = load_checkpoint(tmp_path / "own.safetensors")
    assert loaded.provenance == provenance
    assert (loaded.provenance.target, loaded.provenance.input_units) == ("atom_map", "counts")
    assert loaded.network.design == DESIGNS[name]
    given = seen_of(1, 17, 22)
    with torch.inference_mode():
        assert torch.equal(loaded.network(given), network(given))


@pytest.mark.parametrize("name", PEERS)
def test_another_architectures_weights_are_refused(tmp_path, name) -> None:
    network = built(name)
    other = "unet" if name != "unet" else "dncnn"
    lie = replace(describe(network, "lie"), architecture=other)
    save_checkpoint(tmp_path / "lie.safetensors", network, lie)
    with pytest.raises(CheckpointError, match=r"tensors do not fit.*first body\."):
        load_checkpoint(tmp_path / "lie.safetensors")


# ---- ablations: each switch removes what it says ----


def ablated(parts: Parts) -> SCGN:
    return SCGN(Size(8, 1, parts))


def names_of(network: SCGN) -> set[str]:
    return {name for name, _ in network.named_parameters()}


def test_band_switch_takes_the_band_weights_alone() -> None:
    whole, without = names_of(ablated(Parts())), names_of(ablated(Parts(band=False)))
    assert without < whole
    gone = whole - without
    assert gone
    assert all("band_weighting" in name for name in gone)


def test_each_switch_costs_parameters() -> None:
    steps = (PLAIN, Parts(deviation=False, band=False), Parts(band=False), Parts())
    counts = [parameters(ablated(parts)) for parts in steps]
    assert counts == sorted(set(counts))


def test_band_weights_that_are_all_one_are_no_band_weights() -> None:
    """Sigmoid(0) twice is 1: with a zero excitation both networks are the same function."""
    whole = shaken(ablated(Parts()), seed=5)
    without = ablated(Parts(band=False)).eval()
    without.load_state_dict({k: whole.state_dict()[k] for k in without.state_dict()})
    frame = frames_of(1, 1, 12, 15)
    with torch.inference_mode():
        assert (whole(frame) - without(frame)).abs().max() > 1e-3
        for name, value in whole.named_parameters():
            if "excite" in name:
                value.zero_()
        torch.testing.assert_close(whole(frame), without(frame))


def test_open_gates_are_no_deviation_weighting() -> None:
    """A gate without weights is 1/2 everywhere: the plain branch with halved features."""
    whole = shaken(ablated(Parts()), seed=6)
    without = ablated(Parts(deviation=False)).eval()
    state = {}
    for name, value in whole.state_dict().items():
        if "spatial.features" in name:
            value = value / 2
        if "spatial.gate" not in name:
            state[name.replace("spatial.features", "spatial")] = value
    without.load_state_dict(state)
    frame = frames_of(1, 1, 12, 15)
    with torch.inference_mode():
        assert (whole(frame) - without(frame)).abs().max() > 1e-3
        for name, value in whole.named_parameters():
            if "gate" in name:
                value.zero_()
        torch.testing.assert_close(whole(frame), without(frame))


def reach_px(network: Network) -> int:
    """How far from the middle of a 64x64 frame one changed pixel is felt."""
    network = copy.deepcopy(network).double()
    frame = frames_of(1, 1, 64, 64).double()
    changed = frame.clone()
    changed[0, 0, 32, 32] += 1
    with torch.inference_mode():
        felt = (network(frame) - network(changed))[0, 0] != 0
    return int((felt.nonzero() - 32).abs().max())


def test_without_the_frequency_branch_the_reach_is_the_kernels() -> None:
    """Five convolutions of 3x3 or windows in a row give 5 px; a spectrum the whole frame."""
    assert reach_px(shaken(ablated(PLAIN), 7)) == 5
    assert reach_px(shaken(ablated(Parts(frequency=False, band=False)), 7)) == 5
    assert reach_px(shaken(ablated(Parts()), 7)) == 32


@pytest.mark.parametrize("parts", [{"frequency": False}, {"deviation": "no"}])
def test_impossible_parts_are_refused(parts) -> None:
    with pytest.raises(ValueError, match="parts:"):
        Parts(**parts)


# ---- peers against their papers ----


def test_dncnn_reaches_as_far_as_its_layers() -> None:
    """Section III-A: a receptive field of 2d + 1 for d layers; here 12 + 2."""
    alone = replace(design_named("dncnn"), residual="none")  # of a frame: one channel
    assert reach_px(shaken(build_network(alone), 0)) == 14


def test_ffdnet_sees_a_noise_map_of_one() -> None:
    """With a head that hears the map alone, any frame gives the same interior."""
    body = FFDNet(Size(4, 1)).eval()
    with torch.no_grad():
        body.head.weight[:, :-1] = 0
        first, second = body(frames_of(1, 1, 16, 16)), body(frames_of(1, 1, 16, 16, seed=1))
        assert torch.equal(first, second)
        body.head.weight[:, -1] = 0
        silent = body(frames_of(1, 1, 16, 16))
    assert (first - silent).abs().max() > 1e-4


@pytest.mark.parametrize("mean", [0, 100])
def test_channel_norms_are_the_papers(mean) -> None:
    x = frames_of(2, 6, 5, 4, mean=mean, seed=8)
    whole, bias_free = ChannelNorm(6), BiasFreeNorm(6)
    expected = functional.layer_norm(x.movedim(1, -1), (6,), eps=1e-6).movedim(-1, 1)
    with torch.inference_mode():
        torch.testing.assert_close(whole(x), expected, rtol=1e-4, atol=1e-4)
        divided = x / (x.var(dim=1, keepdim=True, correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(bias_free(x), divided)


def test_transposed_attention_is_the_papers() -> None:
    """Equation 1 in numpy: softmax over channels of normed queries and keys, per head."""
    attention = TransposedAttention(4, heads=2).eval()
    with torch.no_grad():
        attention.temperature.copy_(torch.tensor([0.7, 1.9])[:, None, None])
        x = frames_of(1, 4, 5, 6, seed=9)
        query, key, value = attention.depthwise(attention.expand(x)).double().chunk(3, dim=1)
        result = attention(x)
    expected = np.empty((4, 30))
    for head, temperature in enumerate((0.7, 1.9)):
        q, k, v = (
            part[0, 2 * head : 2 * head + 2].flatten(1).numpy() for part in (query, key, value)
        )
        q, k = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (q, k))
        scores = np.exp(temperature * q @ k.T)
        expected[2 * head : 2 * head + 2] = scores / scores.sum(axis=1, keepdims=True) @ v
    projected = attention.project.weight[:, :, 0, 0].detach().double().numpy() @ expected
    np.testing.assert_allclose(result[0].flatten(1).numpy(), projected, rtol=1e-4, atol=1e-5)


# ---- half precision and float64 ----

HALVES = [(torch.bfloat16, 0.03), (torch.float16, 0.005)]


@pytest.mark.parametrize(("dtype", "tolerance"), HALVES)
@pytest.mark.parametrize("name", COMPACT)
def test_autocast_agrees_with_float32(name, dtype, tolerance) -> None:
    """Error's deviation over the output's: bf16 has 8 bits, fp16 11."""
    network = built(name)
    given = seen_of(1, 64, 48)
    with torch.inference_mode():
        exact = network(given)
        with torch.autocast("cpu", dtype=dtype):
            half = network(given)
    assert (half - exact).std() < tolerance * exact.std()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", COMPACT)
def test_autocast_is_finite_far_from_zero(name, dtype) -> None:
    """Raw counts of mean 100, whose spectrum has a mean term of 25,600 at 256x256; and learns."""
    network = built(name).train()
    with torch.autocast("cpu", dtype=dtype):
        result = network(seen_of(1, 64, 48, mean=100))
    assert result.isfinite().all()
    result.float().abs().mean().backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


def test_spectrum_keeps_its_range_under_autocast() -> None:
    """A mean of 1000 over 128x128 has a term of 128,000, twice what fp16 can hold."""
    unit = SCGN(Size(8, 1)).blocks[0].unit1.frequency.fourier_unit.eval()
    x = frames_of(1, 4, 128, 128, mean=1000).half()
    with torch.inference_mode():
        expected = unit(x.float())
        with torch.autocast("cpu", dtype=torch.float16):
            result = unit(x)
    assert result.dtype == torch.float16
    assert result.isfinite().all()
    assert (result - expected).std() < 0.02 * expected.std()


def test_window_deviation_under_autocast_is_float32s() -> None:
    x = frames_of(1, 4, 32, 32, mean=100).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = window_std(x)
    torch.testing.assert_close(result, window_std(x.float()).bfloat16(), rtol=0, atol=0)


@pytest.mark.parametrize("name", COMPACT)
def test_float64_stays_float64(name) -> None:
    network = built(name)
    wide = copy.deepcopy(network).double()
    given = seen_of(1, 24, 30)
    with torch.inference_mode():
        exact = wide(given.double())
        result = network(given)
    assert exact.dtype == torch.float64
    assert 0 < (result - exact).abs().max() < 1e-4 * exact.std()
