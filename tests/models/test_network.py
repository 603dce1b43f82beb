"""The network against a plain numpy restatement of the paper's section 3, and its own promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from scgn.network import SCGN, Block, window_std
from scgn.sizes import SIZES, Size, size_named

Array = NDArray[np.float64]
Weights = dict[str, Array]

# ---- the reference: numpy only, one frame of (channels, rows, columns) at a time ----


def convolved(x: Array, weights: Weights, name: str) -> Array:
    """Zero-padded convolution of any odd kernel, with bias where there is one."""
    kernel = weights[f"{name}.weight"]
    reach = kernel.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach)))
    result = np.zeros((len(kernel), *x.shape[1:]))
    for i in range(kernel.shape[2]):
        for j in range(kernel.shape[3]):
            shifted = padded[:, i : i + x.shape[1], j : j + x.shape[2]]
            result += np.tensordot(kernel[:, :, i, j], shifted, axes=1)
    return result + weights.get(f"{name}.bias", np.zeros(len(kernel)))[:, None, None]


def normed(x: Array, weights: Weights, name: str) -> Array:
    """BatchNorm with its running statistics."""
    mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
    scale = weights[f"{name}.weight"] / np.sqrt(variance + 1e-5)
    return (x - mean[:, None, None]) * scale[:, None, None] + weights[f"{name}.bias"][:, None, None]


def relu(x: Array) -> Array:
    return np.where(x > 0, x, 0.0)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def brute_force_std(x: Array) -> Array:
    """Population deviation of each 3x3 window, edges mirrored, variance at least 1e-5."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode="reflect")
    result = np.empty_like(x)
    for c, i, j in np.ndindex(x.shape):
        result[c, i, j] = np.sqrt(max(padded[c, i : i + 3, j : j + 3].var(), 1e-5))
    return result


def fourier_unit(x: Array, weights: Weights, name: str) -> Array:
    rows, columns = x.shape[1:]
    spectrum = np.fft.rfft2(x, norm="ortho")
    channels = [np.broadcast_to(np.linspace(0, 1, rows)[:, None], spectrum.shape[1:])]
    channels.append(np.broadcast_to(np.linspace(0, 1, columns // 2 + 1), spectrum.shape[1:]))
    for plane in spectrum:
        channels += [plane.real, plane.imag]
    mixed = convolved(np.stack(channels), weights, f"{name}.mix")
    mixed = relu(normed(mixed, weights, f"{name}.norm"))
    bands = f"{name}.band_weighting"
    features = convolved(mixed, weights, f"{bands}.features")
    weight = np.zeros(len(mixed))
    for pooled in (features.mean(axis=(1, 2)), features.max(axis=(1, 2))):
        squeezed = relu(weights[f"{bands}.squeeze.weight"][:, :, 0, 0] @ pooled)
        weight += sigmoid(weights[f"{bands}.excite.weight"][:, :, 0, 0] @ squeezed)
    projected = convolved(mixed * weight[:, None, None], weights, f"{name}.project")
    return np.fft.irfft2(projected[0::2] + 1j * projected[1::2], s=(rows, columns), norm="ortho")


def unit(spatial: Array, frequency: Array, weights: Weights, name: str) -> tuple[Array, Array]:
    gate = convolved(brute_force_std(spatial), weights, f"{name}.spatial.gate")
    weighted = convolved(spatial, weights, f"{name}.spatial.features") * sigmoid(gate)
    local = convolved(frequency, weights, f"{name}.frequency.features")
    whole = fourier_unit(local, weights, f"{name}.frequency.fourier_unit")
    merged = convolved(np.concatenate((frequency, whole)), weights, f"{name}.frequency.merge")
    return (
        relu(normed(weighted, weights, f"{name}.spatial_norm")),
        relu(normed(merged, weights, f"{name}.frequency_norm")),
    )


def block(x: Array, weights: Weights, name: str = "") -> Array:
    half = len(x) // 2
    first = unit(x[:half], x[half:], weights, f"{name}unit1")
    second = unit(*first, weights, f"{name}unit2")
    return convolved(x + np.concatenate(second), weights, f"{name}fuse")


def numpy_weights(module: torch.nn.Module) -> Weights:
    return {k: v.double().numpy() for k, v in module.state_dict().items()}


def random_features(shape: tuple[int, int, int]) -> Array:
    """Features with a flat corner, so that the variance floor counts."""
    features = np.random.default_rng(3).normal(0, 1, shape)
    features[:, :5, :5] = 0.5
    return features


# ---- the network ----


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
@pytest.mark.parametrize("sides", [(16, 16), (12, 22), (13, 17), (9, 14)])
def test_block_is_the_papers(network_of, sides, dtype, tolerance) -> None:
    torch_block: Block = network_of(Size(channels=12, blocks=1)).blocks[0].to(dtype)
    x = random_features((12, *sides))
    with torch.inference_mode():
        result = torch_block(torch.from_numpy(x)[None].to(dtype))[0]
    expected = block(x, numpy_weights(torch_block))
    assert expected.std() > 0.1
    np.testing.assert_allclose(result.double().numpy(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("residual", ["feature", "image"])
def test_whole_network_is_the_papers(network_of, residual) -> None:
    network: SCGN = network_of(Size(channels=8, blocks=2), residual).double()
    frame = np.random.default_rng(4).normal(0, 1, (1, 11, 14))
    weights = numpy_weights(network)
    features = convolved(frame, weights, "head")
    body = block(block(features, weights, "blocks.0."), weights, "blocks.1.")
    expected = convolved(body + features, weights, "tail") + (frame if residual == "image" else 0)
    with torch.inference_mode():
        result = network(torch.from_numpy(frame)[None])[0]
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=1e-9)


def test_paper_size_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        network = SCGN(SIZES["paper"], residual="feature")
    assert sum(p.numel() for p in network.parameters()) == 1_640_641


@pytest.mark.parametrize("count", [1, 2, 3])
def test_frames_of_a_batch_do_not_mix(network_of, count) -> None:
    network = network_of(SIZES["tiny"])
    frames = torch.randn(count, 1, 24, 33, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        together = network(frames)
        alone = torch.cat([network(frame[None]) for frame in frames])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_image_residual_adds_the_input(network_of) -> None:
    feature = network_of(residual="feature", seed=7)
    image = network_of(residual="image", seed=7)
    frame = torch.randn(1, 1, 15, 20, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        torch.testing.assert_close(image(frame), frame + feature(frame), rtol=0, atol=1e-6)


@pytest.mark.parametrize("sides", [(2, 2), (2, 3), (3, 2), (5, 64), (31, 31), (1 + 32, 2)])
def test_any_side_of_two_or_more_keeps_its_size(network_of, sides) -> None:
    with torch.inference_mode():
        result = network_of()(torch.ones(1, 1, *sides))
    assert result.shape == (1, 1, *sides)
    assert result.isfinite().all()


def test_unknown_residual_is_refused() -> None:
    with pytest.raises(ValueError, match="'none'"):
        SCGN(SIZES["tiny"], residual="none")  # type: ignore[arg-type]


@pytest.mark.parametrize("sides", [(2, 2), (7, 10), (16, 5)])
def test_window_std_is_the_windows_deviation(sides) -> None:
    x = 2 + random_features((3, *sides))
    result = window_std(torch.from_numpy(x)[None])[0]
    np.testing.assert_allclose(result.numpy(), brute_force_std(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_window_std_survives_half_precision(dtype) -> None:
    """In half precision E[x^2] - E[x]^2 of mean 100, deviation 1 is off by more than its value."""
    generator = torch.Generator().manual_seed(0)
    x = (100 + torch.randn(1, 4, 32, 32, generator=generator)).to(dtype)
    result = window_std(x)
    assert result.dtype == dtype
    expected = brute_force_std(x[0].double().numpy())
    np.testing.assert_allclose(result[0].double().numpy(), expected, rtol=0.02)


@pytest.mark.parametrize("autocast", [False, True])
def test_compiles_without_a_graph_break(network_of, autocast) -> None:
    network = network_of().train()
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    frame = torch.randn(1, 1, 16, 18, generator=torch.Generator().manual_seed(3))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        result, expected = compiled(frame), network(frame)
    torch.testing.assert_close(result, expected, rtol=0, atol=0)
    result.square().mean().backward()
    assert all(value.grad is not None for value in network.parameters())


# ---- the table of sizes ----


@pytest.mark.parametrize(
    ("channels", "blocks", "fact"),
    [(7, 1, "7"), (2, 1, "2"), (0, 1, "0"), (-4, 1, "-4"), (16, 0, "blocks .* 0")],
)
def test_impossible_sizes_say_what_came(channels, blocks, fact) -> None:
    with pytest.raises(ValueError, match=f"got {fact}|{fact}"):
        Size(channels, blocks)


def test_unknown_size_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"huge.*compact.*paper.*tiny"):
        size_named("huge")


def test_paper_row_has_the_papers_widths() -> None:
    size = size_named("paper")
    assert (size.branch_channels, size.attention_channels, size.blocks) == (32, 4, 8)
