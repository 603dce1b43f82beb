"""A U-Net with two poolings (Ronneberger et al., MICCAI 2015), as AtomSegNet finds atoms with
(Lin et al., Scientific Reports 11, 5386, 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scgn.peers.peer import Body
from scgn.sizes import Size


def convolutions(into: int, out: int, pairs: int) -> nn.Sequential:
    """Pairs of convolution, BatchNorm and ReLU; (B,into,H,W) -> (B,out,H,W)."""
    layers: list[nn.Module] = []
    for index in range(2 * pairs):
        given = into if index == 0 else out
        layers += [nn.Conv2d(given, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(Body):
    """`blocks` pairs of convolutions at each scale; (B,inputs,H,W) -> (B,1,H,W).

    H and W are multiples of 4. Channels double at each of two poolings; scales meet by
    concatenation. The paper has 64 channels, four poolings and one pair.
    """

    multiple = 4

    def __init__(self, size: Size, inputs: int = 1) -> None:
        super().__init__()
        full, half, quarter = (size.channels * 2**scale for scale in range(3))
        self.full_down = convolutions(inputs, full, size.blocks)
        self.half_down = convolutions(full, half, size.blocks)
        self.quarter = convolutions(half, quarter, size.blocks)
        self.to_half = nn.ConvTranspose2d(quarter, half, 2, stride=2)
        self.half_up = convolutions(2 * half, half, size.blocks)
        self.to_full = nn.ConvTranspose2d(half, full, 2, stride=2)
        self.full_up = convolutions(2 * full, full, size.blocks)
        self.pool = nn.MaxPool2d(2)
        self.tail = nn.Conv2d(full, 1, 1)

    def forward(self, noisy: Tensor) -> Tensor:
        full = self.full_down(noisy)
        half = self.half_down(self.pool(full))
        quarter = self.quarter(self.pool(half))
        half = self.half_up(torch.cat((half, self.to_half(quarter)), dim=1))
        full = self.full_up(torch.cat((full, self.to_full(half)), dim=1))
        result: Tensor = self.tail(full)
        return result
