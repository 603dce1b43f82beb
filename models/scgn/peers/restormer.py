"""Restormer: transposed attention in a U shape (Zamir et al., CVPR 2022), in its small."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from scgn.network import widened
from scgn.peers.peer import Body
from scgn.sizes import Size

EXPANSION = 2.66  # of the feed-forward part, as in section 4


class BiasFreeNorm(nn.Module):
    """Each pixel over the deviation of its channels, in float32 at least; (B,C,H,W).

    Without shift, as its authors denoise: brighter input gives brighter output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        wide = widened(x)
        variance = wide.var(dim=1, keepdim=True, correction=0)
        return (wide * (variance + 1e-5).rsqrt() * self.weight).to(x.dtype)


class TransposedAttention(nn.Module):
    """Attention between channels, not pixels (section 3.1); (B,C,H,W) -> (B,C,H,W)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.expand = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.depthwise = nn.Conv2d(
            3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=False
        )
        self.project = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        features = self.depthwise(self.expand(x))
        # (B, 3 * heads * channels a head, H, W) -> three of (B, heads, channels a head, pixels)
        query, key, value = features.unflatten(1, (3, self.heads, -1)).flatten(-2).unbind(1)
        query, key = functional.normalize(query, dim=-1), functional.normalize(key, dim=-1)
        weights = (query @ key.transpose(-2, -1) * self.temperature).softmax(dim=-1)
        attended: Tensor = self.project((weights @ value).flatten(1, 2).unflatten(-1, x.shape[-2:]))
        return attended


class GatedFeedForward(nn.Module):
    """One half through a GELU gates the other (section 3.2); (B,C,H,W) -> (B,C,H,W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = int(channels * EXPANSION)
        self.expand = nn.Conv2d(channels, 2 * hidden, 1, bias=False)
        self.depthwise = nn.Conv2d(
            2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False
        )
        self.project = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, features = self.depthwise(self.expand(x)).chunk(2, dim=1)
        gated: Tensor = self.project(functional.gelu(gate) * features)
        return gated


class TransformerBlock(nn.Module):
    """Attention and feed-forward, each normed and skipped; (B,C,H,W) -> (B,C,H,W)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = BiasFreeNorm(channels)
        self.attention = TransposedAttention(channels, heads)
        self.feed_norm = BiasFreeNorm(channels)
        self.feed = GatedFeedForward(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        fed: Tensor = x + self.feed(self.feed_norm(x))
        return fed


def transformer_blocks(channels: int, heads: int, count: int) -> nn.Sequential:
    """`count` blocks in a row; (B,C,H,W) -> (B,C,H,W)."""
    return nn.Sequential(*(TransformerBlock(channels, heads) for _ in range(count)))


def downsampling(channels: int) -> nn.Sequential:
    """Convolution and pixel unshuffle; (B,C,H,W) -> (B,2C,H/2,W/2)."""
    narrow = nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False)
    return nn.Sequential(narrow, nn.PixelUnshuffle(2))


def upsampling(channels: int) -> nn.Sequential:
    """Convolution and pixel shuffle; (B,C,H,W) -> (B,C/2,2H,2W)."""
    wide = nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False)
    return nn.Sequential(wide, nn.PixelShuffle(2))


class Restormer(Body):
    """`blocks` transformer blocks at each of three scales and as many to refine.

    (B,inputs,H,W) -> (B,1,H,W), H and W multiples of 4; heads 1, 2, 4; figure 2, whose decoder
    keeps twice the channels at full resolution. The paper (48 channels, four scales, 4 to 8
    blocks) has residual "image".
    """

    multiple = 4

    def __init__(self, size: Size, inputs: int = 1) -> None:
        super().__init__()
        full, half, quarter = (size.channels * 2**scale for scale in range(3))
        self.head = nn.Conv2d(inputs, full, 3, padding=1, bias=False)
        self.full_down = transformer_blocks(full, 1, size.blocks)
        self.to_half = downsampling(full)
        self.half_down = transformer_blocks(half, 2, size.blocks)
        self.to_quarter = downsampling(half)
        self.quarter = transformer_blocks(quarter, 4, size.blocks)
        self.from_quarter = upsampling(quarter)
        self.narrow = nn.Conv2d(2 * half, half, 1, bias=False)
        self.half_up = transformer_blocks(half, 2, size.blocks)
        self.from_half = upsampling(half)
        self.full_up = transformer_blocks(2 * full, 1, size.blocks)
        self.refine = transformer_blocks(2 * full, 1, size.blocks)
        self.tail = nn.Conv2d(2 * full, 1, 3, padding=1, bias=False)

    def forward(self, noisy: Tensor) -> Tensor:
        full = self.full_down(self.head(noisy))
        half = self.half_down(self.to_half(full))
        quarter = self.quarter(self.to_quarter(half))
        half = self.half_up(self.narrow(torch.cat((half, self.from_quarter(quarter)), dim=1)))
        full = self.full_up(torch.cat((full, self.from_half(half)), dim=1))
        result: Tensor = self.tail(self.refine(full))
        return result
