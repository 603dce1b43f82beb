"""NAFNet: a U-shaped network without activation functions (Chen et al., ECCV 2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scgn.network import widened
from scgn.peers.peer import Body
from scgn.sizes import Size


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each pixel, in float32 at least; (B,C,H,W) -> (B,C,H,W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        wide = widened(x)
        centred = wide - wide.mean(dim=1, keepdim=True)
        normed = centred * (centred.square().mean(dim=1, keepdim=True) + 1e-6).rsqrt()
        return (normed * self.weight + self.bias).to(x.dtype)


def simple_gate(x: Tensor) -> Tensor:
    """One half of the channels times the other (equation 4); (B,2C,H,W) -> (B,C,H,W)."""
    first, second = x.chunk(2, dim=1)
    return first * second


class NAFBlock(nn.Module):
    """Figure 3c: gated depthwise convolution with channel attention, then a gated 1x1 pair.

    (B,C,H,W) -> (B,C,H,W). Both skips carry a trained factor that starts at 0.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        double = 2 * channels
        self.norm = ChannelNorm(channels)
        self.expand = nn.Conv2d(channels, double, 1)
        self.depthwise = nn.Conv2d(double, double, 3, padding=1, groups=double)
        self.attention = nn.Conv2d(channels, channels, 1)
        self.project = nn.Conv2d(channels, channels, 1)
        self.gate_norm = ChannelNorm(channels)
        self.gate_expand = nn.Conv2d(channels, double, 1)
        self.gate_project = nn.Conv2d(channels, channels, 1)
        self.beta = nn.Parameter(torch.zeros(channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        gated = simple_gate(self.depthwise(self.expand(self.norm(x))))
        attention = self.attention(gated.mean(dim=(-2, -1), keepdim=True))  # equation 7
        x = x + self.beta * self.project(gated * attention)
        gated = simple_gate(self.gate_expand(self.gate_norm(x)))
        result: Tensor = x + self.gamma * self.gate_project(gated)
        return result


def naf_blocks(channels: int, count: int) -> nn.Sequential:
    """`count` blocks in a row; (B,C,H,W) -> (B,C,H,W)."""
    return nn.Sequential(*(NAFBlock(channels) for _ in range(count)))


def upsampling(channels: int) -> nn.Sequential:
    """1x1 convolution and pixel shuffle; (B,C,H,W) -> (B,C/2,2H,2W)."""
    return nn.Sequential(nn.Conv2d(channels, 2 * channels, 1, bias=False), nn.PixelShuffle(2))


class NAFNet(Body):
    """One block at the outer scales, `blocks` in the middle; H and W multiples of 4.

    (B,inputs,H,W) -> (B,1,H,W). Channels double at each of two strided convolutions, scales meet by
    addition. The paper (32 channels, 36 blocks, five scales) has residual "image".
    """

    multiple = 4

    def __init__(self, size: Size, inputs: int = 1) -> None:
        super().__init__()
        full, half, quarter = (size.channels * 2**scale for scale in range(3))
        self.head = nn.Conv2d(inputs, full, 3, padding=1)
        self.full_down = naf_blocks(full, 1)
        self.to_half = nn.Conv2d(full, half, 2, stride=2)
        self.half_down = naf_blocks(half, 1)
        self.to_quarter = nn.Conv2d(half, quarter, 2, stride=2)
        self.quarter = naf_blocks(quarter, size.blocks)
        self.from_quarter = upsampling(quarter)
        self.half_up = naf_blocks(half, 1)
        self.from_half = upsampling(half)
        self.full_up = naf_blocks(full, 1)
        self.tail = nn.Conv2d(full, 1, 3, padding=1)

    def forward(self, noisy: Tensor) -> Tensor:
        full = self.full_down(self.head(noisy))
        half = self.half_down(self.to_half(full))
        quarter = self.quarter(self.to_quarter(half))
        half = self.half_up(half + self.from_quarter(quarter))
        full = self.full_up(full + self.from_half(half))
        result: Tensor = self.tail(full)
        return result
