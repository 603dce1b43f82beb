"""The state of one stream: tensors that a call of the graph takes and gives back."""

from __future__ import annotations

import torch
from torch import Tensor

RING = 7  # frames kept whole; with the new one means of 2, 4 and 8 are exact
LONGEST = 16  # frames of the longest mean
KEPT = 3  # outputs that wait for a later frame: network, mean, estimate
NUMBERS = 32  # counters and estimates, see `scgn.stream.numbers`
STATE = (
    "ring", "long", "age", "waiting", "probe", "probe_at", "held", "spectra", "noise", "numbers",
)  # fmt: skip
# What a probe's call gives back; all else of its state is let go.
PROBE = ("probe", "probe_at")


def state_shapes(shape: tuple[int, int], batch: int = 1) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of STATE, float32, for frames of (rows, columns) px.

    ring: the last frames less their level, brought to the means' coordinates, newest first; long:
    their longest mean; age: frames behind it, per pixel; waiting, probe: outputs not scored yet,
    probe_at: the number of the frame that a probe is of, 0 for none; held: 1 where the frame before
    had the dtype's largest value; spectra: of the last frame and of the long mean; noise: mean
    power of frame differences, spectra of point and line noise, gain of the long mean's estimate;
    numbers: the rest. Zeros are the empty state.
    """
    rows, columns = shape
    frame = (batch, 1, rows, columns)
    half = columns // 2 + 1
    return {
        "ring": (batch, RING, rows, columns), "long": frame, "age": frame,
        "waiting": (batch, KEPT, rows, columns), "probe": frame, "probe_at": (batch, 1),
        "held": frame, "spectra": (batch, 2, 2, rows, half), "noise": (batch, 4, rows, half),
        "numbers": (batch, NUMBERS),
    }  # fmt: skip


def empty_state(
    shape: tuple[int, int], batch: int = 1, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, ...]:
    """Tensors in the order of STATE that know nothing."""
    shapes = state_shapes(shape, batch)
    return tuple(torch.zeros(shapes[name], dtype=dtype) for name in STATE)


def state_bytes(shape: tuple[int, int]) -> int:
    """Memory of one stream's state in float32, bytes."""
    sizes = (torch.Size(shape).numel() for shape in state_shapes(shape).values())
    return 4 * sum(sizes)
