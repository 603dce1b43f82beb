"""How the noise grows with the signal: variance = a + gain * signal, from frames that follow.

Photon transfer on a live stream (Janesick, 2007): the squared difference of two frames against a
mean that shares no noise with either.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from scgn.stream.grid import TINY
from scgn.stream.means import lineless
from scgn.stream.state import LONGEST

FRAMES = 64.0  # behind the law, at most
OLD = 6.0  # frames behind a pixel's mean before it says what the signal is
SURE2 = 25.0  # squared standard errors that a gain must be above 0


class Law(NamedTuple):
    """gain: variance per count of signal, 0 while signal varies too little to tell; base: variance
    at level 0, counts^2; both (B,1,1,1).
    """

    gain: Tensor
    base: Tensor


def law_of(sums: Tensor, variance: Tensor, pixels: int) -> Law:
    """The straight line through what was learned; sums: (B,6,1,1) of `learned`."""
    weight, m, mm, d, md, own = (sums[:, i : i + 1] for i in range(6))
    spread = mm - own - m * m  # the mean's own noise would flatten the slope
    gain = (md - m * d) / spread.clamp(min=TINY)
    # Of the slope; a squared normal deviate has twice its mean's square as variance.
    error2 = 2 * d * d * (spread + own)
    error2 = error2 / (pixels * weight.clamp(min=1.0) * (spread * spread).clamp(min=TINY))
    sure = (gain > 0) & (gain * gain > SURE2 * error2) & (spread > 0)
    gain = torch.where(sure, gain, torch.zeros_like(gain))
    return Law(gain, torch.where(d > 0, (d - gain * m).clamp(min=0.0), variance))


def learned(
    sums: Tensor, frame: Tensor, last: Tensor, long: Tensor, age: Tensor, level: Tensor
) -> Tensor:
    """The sums (weight, and means of m, m^2, d^2, m d^2, m's own noise) with the difference of two
    frames in them.

    frame, last: this and the one before, less their level; long: the mean with `last` in it and
    without `frame`; age: frames behind it; all (B,1,H,W).
    """
    square = lineless(frame - last).square() / 2
    share = 1 / age.clamp(min=1.0, max=float(LONGEST))
    signal = level + (long - share * last) / (1 - share).clamp(min=0.5)
    there = (age >= OLD).to(frame.dtype)
    count = there.mean(dim=(-2, -1), keepdim=True)

    def mean(values: Tensor) -> Tensor:
        return (there * values).mean(dim=(-2, -1), keepdim=True) / count.clamp(min=1e-3)

    own = mean(square) * mean(1 / (age - 1).clamp(min=1.0))
    new = torch.cat(
        (mean(signal), mean(signal * signal), mean(square), mean(signal * square), own), dim=1
    )
    enough = (count > 0.5).to(frame.dtype)
    weight = (sums[:, :1] + enough).clamp(max=FRAMES)
    means = sums[:, 1:] + enough / weight.clamp(min=1.0) * (new - sums[:, 1:])
    return torch.cat((weight, means), dim=1)
