"""Students: plain residual networks on unshuffled frames, cheap enough for a live view.

A student learns from a trained SCGN (`scgn distill`) and from the truth. It has none of SCGN's
ideas, only its Wiener start: convolutions run at 1/2 or 1/4 of the side, where each costs a
quarter or a sixteenth and sees twice or four times as far (as in FFDNet, section III-A).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from scgn.peers.peer import Body
from scgn.sizes import Size


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
    """`blocks` residual blocks between two convolutions, at 1/factor of the side.

    (B,inputs,H,W) -> (B,1,H,W), H and W multiples of `factor`.
    """

    def __init__(self, size: Size, inputs: int, factor: int) -> None:
        super().__init__()
        self.multiple = factor
        self.head = nn.Conv2d(inputs * factor**2, size.channels, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(size.channels) for _ in range(size.blocks)))
        self.tail = nn.Conv2d(size.channels, factor**2, 3, padding=1)

    def forward(self, given: Tensor) -> Tensor:
        features = self.blocks(self.head(functional.pixel_unshuffle(given, self.multiple)))
        return functional.pixel_shuffle(self.tail(features), self.multiple)


class HalfSideStudent(Student):
    """Four pixels a position: for a GPU."""

    def __init__(self, size: Size, inputs: int = 1) -> None:
        super().__init__(size, inputs, factor=2)


class QuarterSideStudent(Student):
    """Sixteen pixels a position: for a CPU."""

    def __init__(self, size: Size, inputs: int = 1) -> None:
        super().__init__(size, inputs, factor=4)
