"""FFDNet: a plain stack on four half-size frames and a noise map (Zhang et al., IEEE TIP 27, 4608,
2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from scgn.peers.dncnn import normed_convolution
from scgn.peers.peer import Body
from scgn.sizes import Size

HALF = 2  # the frame is worked on at half its side, 4 pixels a position


class FFDNet(Body):
    """Section III-A: `blocks` normed convolutions between two plain ones, at half the side.

    (B,inputs,H,W) -> (B,1,H,W), H and W even. The paper has 64 channels and 13 blocks for grey
    frames, and no residual. Its noise map is 1 everywhere: what the noise is in noise units.
    """

    multiple = HALF

    def __init__(self, size: Size, inputs: int = 1) -> None:
        super().__init__()
        self.head = nn.Conv2d(inputs * HALF**2 + 1, size.channels, 3, padding=1)
        self.blocks = nn.Sequential(
            *(normed_convolution(size.channels) for _ in range(size.blocks))
        )
        self.tail = nn.Conv2d(size.channels, HALF**2, 3, padding=1)

    def forward(self, noisy: Tensor) -> Tensor:
        small = functional.pixel_unshuffle(noisy, HALF)
        with_map = torch.cat((small, torch.ones_like(small[:, :1])), dim=1)
        features = self.blocks(self.head(with_map).relu())
        return functional.pixel_shuffle(self.tail(features), HALF)
