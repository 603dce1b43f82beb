"""The state's `numbers`: counters, the track, the variance law, in one small tensor."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from scgn.stream.drift import Track
from scgn.stream.state import NUMBERS

PLACES = {
    "frame": (0, 1), "frames": (1, 2), "differences": (2, 3), "level": (3, 4),
    "waiting_at": (4, 5), "agreement": (5, 6), "position": (6, 8), "velocity": (8, 10),
    "pp": (10, 12), "pv": (12, 14), "vv": (14, 16), "law": (16, 22),
}  # fmt: skip


class Numbers(NamedTuple):
    """Each (B,1,1,1), or (B,2,1,1) of rows and columns.

    frame: number of this frame since everything was forgotten; frames: behind the means;
    differences: behind the noise; level: mean level of the long mean, counts; waiting_at: number of
    the frame whose outputs wait to be scored, 0 for none; agreement: running mean of how well
    frames matched the mean, nats, 0 while there is none; position, velocity, pp, pv, vv:
    `scgn.stream.drift.Track`; law: (B,6,1,1), `scgn.stream.law`.
    """

    frame: Tensor
    frames: Tensor
    differences: Tensor
    level: Tensor
    waiting_at: Tensor
    agreement: Tensor
    position: Tensor
    velocity: Tensor
    pp: Tensor
    pv: Tensor
    vv: Tensor
    law: Tensor

    @classmethod
    def of(cls, numbers: Tensor) -> Numbers:
        """From the state's (B,NUMBERS)."""
        column = numbers[:, :, None, None]
        return cls(**{name: column[:, low:high] for name, (low, high) in PLACES.items()})

    def packed(self) -> Tensor:
        """As the state's (B,NUMBERS)."""
        unused = torch.zeros_like(self.frame).expand(-1, NUMBERS - PLACES["law"][1], -1, -1)
        return torch.cat((*self, unused), dim=1)[:, :, 0, 0]

    @property
    def track(self) -> Track:
        """Where the specimen is."""
        return Track(self.position, self.velocity, self.pp, self.pv, self.vv)

    def kept(self, reset: Tensor) -> Numbers:
        """What a reset (0 nothing, 1 the means, 2 everything) leaves of them."""
        means, noise = (reset < 0.5).to(reset.dtype), (reset < 1.5).to(reset.dtype)
        return self._replace(
            frame=noise * self.frame, frames=means * self.frames,
            differences=noise * self.differences, law=noise * self.law,
            waiting_at=means * self.waiting_at,
        )  # fmt: skip

    def begun(self, fresh: Tensor) -> Numbers:
        """Without means where `fresh` is 1: the frame is the first of its scene."""
        left = 1 - fresh
        return self._replace(frames=self.frames * left, waiting_at=self.waiting_at * left)
