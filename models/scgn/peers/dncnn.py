"""DnCNN: a plain stack of normed convolutions (Zhang et al., IEEE TIP 26, 3142, 2017)."""

from __future__ import annotations

from torch import Tensor, nn

from scgn.peers.peer import Body
from scgn.sizes import Size


def normed_convolution(channels: int) -> nn.Sequential:
    """Convolution, BatchNorm (whose shift stands for the bias), ReLU; (B,C,H,W) -> (B,C,H,W)."""
    convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())


class DnCNN(Body):
    """Section III-B: convolution and ReLU, `blocks` normed convolutions, convolution.

    (B,inputs,H,W) -> (B,1,H,W), any H and W. The paper has 64 channels and 15 blocks, and predicts
    the noise; that is residual "image" here.
    """

    def __init__(self, size: Size, inputs: int = 1) -> None:
        super().__init__()
        self.head = nn.Conv2d(inputs, size.channels, 3, padding=1)
        self.blocks = nn.Sequential(
            *(normed_convolution(size.channels) for _ in range(size.blocks))
        )
        self.tail = nn.Conv2d(size.channels, 1, 3, padding=1)

    def forward(self, noisy: Tensor) -> Tensor:
        result: Tensor = self.tail(self.blocks(self.head(noisy).relu()))
        return result
