"""Students: plain residual networks on unshuffled frames, cheap enough for a live view.

A student learns from a trained SCGN (`scgn distill`) and from the truth. It has none of SCGN's
ideas, only its Wiener start: convolutions run at a quarter of the side, where each costs a
sixteenth and sees four times as far (FFDNet, section III-A, does so at half the side).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from scgn.peers.peer import Body
from scgn.sizes import Size

QUARTER = 4  # sixteen pixels a position; at half the side a lattice is too wide to be seen whole


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a ReLU, added to their input; (B,C,H,W) -> (B,C,H,W).

    Without BatchNorm: nothing to fold, and no running statistics that lag behind the weights.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        corrected: Tensor = x + self.second(self.first(x).relu())
        return corrected


def line_means(given: Tensor) -> Tensor:
    """What each column, then each row has in common: (B,1 or 2,H,W) -> (B,2,H,W).

    Of a frame less its estimate where there is one. Convolutions see no line whole; these means do,
    and the noise of a camera's lines is all that they hold of a frame well estimated.
    """
    rest = given[:, :1] if given.shape[1] == 1 else given[:, :1] - given[:, 1:]
    columns, rows = rest.mean(dim=-2, keepdim=True), rest.mean(dim=-1, keepdim=True)
    return torch.cat((columns.expand_as(rest), rows.expand_as(rest)), dim=1)


class Student(Body):
    """`blocks` residual blocks between two convolutions, at a quarter of the side.

    (B,inputs,H,W) -> (B,1,H,W), H and W multiples of 4.
    """

    multiple = QUARTER

    def __init__(self, size: Size, inputs: int = 1) -> None:
        super().__init__()
        pixels = QUARTER**2
        self.head = nn.Conv2d((inputs + 2) * pixels, size.channels, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(size.channels) for _ in range(size.blocks)))
        self.tail = nn.Conv2d(size.channels, pixels, 3, padding=1)

    def forward(self, given: Tensor) -> Tensor:
        seen = functional.pixel_unshuffle(torch.cat((given, line_means(given)), dim=1), QUARTER)
        return functional.pixel_shuffle(self.tail(self.blocks(self.head(seen))), QUARTER)
