"""How good earlier outputs were, by raw pixels that came after them: no truth is needed.

Mean of (flat - y)^2 - (output - y)^2 over a later frame y, whose noise the output does not share,
is what the output gains over a flat frame, unbiased (after uMSE, arXiv 2210.05553).
"""

from __future__ import annotations

import torch
from torch import Tensor

LAG = 2  # frames; neighbours may share noise


def gain(output: Tensor, frame: Tensor) -> Tensor:
    """Paired gain of an output over a flat frame, counts^2, (B,1,1,1); both less their level."""
    return (2 * output * frame - output * output).mean(dim=(-2, -1), keepdim=True)


def scores(
    frame: Tensor, between: Tensor, waiting: Tensor, probe: Tensor, waited: Tensor, probed: Tensor
) -> dict[str, Tensor]:
    """Facts that are scores, by name, each (B,1,1,1).

    frame: this one's, between: the one's before; waiting: (B,3,H,W) outputs of an earlier frame,
    probe: (B,1,H,W); waited, probed: how many frames ago those were, 0 for never.
    """
    due, probe_due = ((count > LAG - 0.5).to(frame.dtype) for count in (waited, probed))
    network, mean, estimate = waiting[:, :1], waiting[:, 1:2], waiting[:, 2:3]
    error = ((between - network) * (frame - network)).mean(dim=(-2, -1), keepdim=True)
    return {
        "scored": due * waited, "error": due * error, "gain_network": due * gain(network, frame),
        "gain_mean": due * gain(mean, frame), "gain_estimate": due * gain(estimate, frame),
        "scored_probe": probe_due * probed, "gain_probe": probe_due * gain(probe, frame),
    }  # fmt: skip


def since(number: Tensor, stamp: Tensor) -> Tensor:
    """Frames since a stamp, 0 where there is none."""
    return torch.where(stamp > 0.5, number - stamp, torch.zeros_like(number))
