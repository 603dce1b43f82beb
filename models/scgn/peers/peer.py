"""What the peers share: padding to their grid, the residual, the flat start."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from scgn.network import Network
from scgn.sizes import Design


class Body(nn.Module):
    """A peer without its frame: (B,inputs,H,W) -> (B,1,H,W), H and W multiples of `multiple`."""

    multiple: int = 1
    tail: nn.Conv2d  # the last convolution


class Peer(Network):
    """A peer for any frame; (B,inputs,H,W) -> (B,1,H,W), any H and W of at least 4.

    residual "none": the body's output is the result; "image": it is added to the input frame;
    "stream": it corrects the estimate of `scgn.stream`, whose channels the body sees.
    """

    def __init__(self, design: Design, body: Body) -> None:
        super().__init__(design)
        self.body = body

    def forward(self, noisy: Tensor) -> Tensor:
        result = self._result(noisy)
        return noisy + result if self.design.residual == "image" else result

    def _result(self, given: Tensor) -> Tensor:
        rows, columns = given.shape[-2:]
        result: Tensor = self.body(padded_to(given, self.body.multiple))[..., :rows, :columns]
        return result

    @torch.no_grad()
    def start_flat(self) -> None:
        """Start from the estimate, from zeros (residual "none") or the frame ("image").

        No peer carries its input through to the tail, so an image residual cannot take it away.
        """
        for value in self.body.tail.parameters():
            value.zero_()


def padded_to(frames: Tensor, multiple: int) -> Tensor:
    """Frames reflected at the bottom and right edge until both sides are multiples."""
    below, right = -frames.shape[-2] % multiple, -frames.shape[-1] % multiple
    if not below and not right:
        return frames
    return functional.pad(frames, (0, right, 0, below), mode="reflect")
