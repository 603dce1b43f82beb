"""What goes into one call and what comes of it, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgn.denoise import FrameError
from scgn.pipeline.device import Bytes, Done
from scgn.pipeline.lane import Ticket

Array = NDArray[Any]


@dataclass(frozen=True)
class Frames:
    """One call: frames of one shape and dtype, and the host memory of each result, bytes."""

    raws: Sequence[Array]
    results: Sequence[Bytes]


@dataclass
class Results:
    """A call under way. `wait` is to be called once; word: how it ran, as the wire says it."""

    ticket: Ticket
    frames: Frames
    dtype: str
    word: str

    @property
    def ready(self) -> bool:
        """Whether there is nothing to wait for: a CPU's work is done on submission."""
        return isinstance(self.ticket.done, Done)

    def wait(self) -> list[Array | FrameError]:
        """For each frame (rows, columns) in its result's memory, or why there is none."""
        facts = self.ticket.wait()
        shape = self.ticket.lane.recipe.shape
        rows = zip(self.frames.results, facts, strict=True)
        return [_checked(pixels.view(self.dtype).reshape(shape), row) for pixels, row in rows]


def _checked(denoised: Array, facts: NDArray[np.float32]) -> Array | FrameError:
    level, scale, mean = (float(value) for value in facts)
    if not np.isfinite(level + scale):
        return FrameError("non_finite", "frame holds NaN or infinite values")
    if not np.isfinite(mean):
        return FrameError("non_finite", "network gave NaN or infinite values")
    return denoised
