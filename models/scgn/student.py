"""Students: plain residual networks on unshuffled frames, cheap enough for a live view.

A student learns from a trained SCGN (`scgn distill`) and from the truth. It has none of SCGN's
ideas, only its start: convolutions run at a quarter of the side, where each costs a
sixteenth and sees four times as far (FFDNet, section III-A, does so at half the side).
"""

from __future__ import annotations

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


class Student(Body):
    """`blocks` residual blocks between two convolutions, at a quarter of the side.

    (B,inputs,H,W) -> (B,1,H,W), H and W multiples of 4.
    """

    multiple = QUARTER

    def __init__(self, size: Size, inputs: int = 1) -> None:
        super().__init__()
        pixels = QUARTER**2
        self.head = nn.Conv2d(inputs * pixels, size.channels, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(size.channels) for _ in range(size.blocks)))
        self.tail = nn.Conv2d(size.channels, pixels, 3, padding=1)

    def forward(self, given: Tensor) -> Tensor:
        seen = functional.pixel_unshuffle(given, QUARTER)
        return functional.pixel_shuffle(self.tail(self.blocks(self.head(seen))), QUARTER)
