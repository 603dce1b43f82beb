"""A camera's pixels as they lie in memory, and counts; both ways, in operations any compiler has.

Two-byte integers travel as bytes and are put together on the device: no compiler takes uint16, and
so either byte order costs the host nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scgn.deploy.recipe import CameraDtype, DeployRecipe, OutputDtype

TWO_BYTES = ("<u2", ">u2", "<i2")
WRAP_2, WRAP_4 = 2.0**16, 2.0**32
HALF_MAX = 65504.0

# Of the tensor that holds the pixels.
RAW_DTYPES: dict[str, torch.dtype] = {
    "|u1": torch.uint8, "<u2": torch.uint8, ">u2": torch.uint8, "<i2": torch.uint8,
    "<u4": torch.int32, "<i4": torch.int32, "<f4": torch.float32,
}  # fmt: skip
OUT_DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32, "float16": torch.float16, "uint16": torch.uint8,
}  # fmt: skip


def raw_shape(recipe: DeployRecipe) -> tuple[int, ...]:
    """Of the tensor that holds a batch's pixels: two-byte ones have a last axis of bytes."""
    plane = (recipe.batch, *recipe.shape)
    return (*plane, 2) if recipe.camera_dtype in TWO_BYTES else plane


def out_shape(recipe: DeployRecipe) -> tuple[int, ...]:
    """Of the tensor that holds a batch's denoised pixels."""
    plane = (recipe.batch, *recipe.shape)
    return (*plane, 2) if recipe.output_dtype == "uint16" else plane


def as_raw(pixels: NDArray[Any], recipe: DeployRecipe) -> Tensor:
    """A camera's array, (rows, columns) or a batch of them, as the graph takes it; no copy."""
    flat = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)
    return torch.from_numpy(flat).view(RAW_DTYPES[recipe.camera_dtype]).view(raw_shape(recipe))


def as_pixels(out: Tensor, recipe: DeployRecipe) -> NDArray[Any]:
    """What the graph gives, (batch, rows, columns) of the output's dtype; no copy."""
    dtype = "<u2" if recipe.output_dtype == "uint16" else recipe.output_dtype
    return out.numpy().view(dtype).reshape(recipe.batch, *recipe.shape)


def counts_of(raw: Tensor, dtype: CameraDtype, wide: torch.dtype) -> Tensor:
    """Pixels -> counts, (B,H,W) of `wide`."""
    counts = raw.to(wide)
    if dtype in TWO_BYTES:
        low, high = (1, 256) if dtype[0] == "<" else (256, 1)
        counts = low * counts[..., 0] + high * counts[..., 1]
        return (
            torch.where(counts >= WRAP_2 / 2, counts - WRAP_2, counts) if dtype == "<i2" else counts
        )
    return torch.where(counts < 0, counts + WRAP_4, counts) if dtype == "<u4" else counts


def pixels_of(counts: Tensor, dtype: OutputDtype) -> Tensor:
    """Counts (B,H,W) -> what leaves the device."""
    if dtype == "uint16":
        whole = counts.round().clamp(0.0, WRAP_2 - 1)
        high = (whole / 256).floor()
        return torch.stack((whole - 256 * high, high), dim=-1).to(torch.uint8)
    if dtype == "float16":
        return counts.clamp(-HALF_MAX, HALF_MAX).to(torch.float16)
    return counts.to(torch.float32)
