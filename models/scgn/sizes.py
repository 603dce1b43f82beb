"""The table of network sizes: one row per trade of quality against speed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Residual = Literal["feature", "image"]


@dataclass(frozen=True)
class Size:
    """Width and depth of one SCGN.

    channels: feature channels, half of them spatial and half frequency; even, at least 4.
    blocks: residual blocks, two units each; at least 1.
    """

    channels: int
    blocks: int

    def __post_init__(self) -> None:
        if self.channels < 4 or self.channels % 2:
            raise ValueError(f"channels must be even and at least 4, got {self.channels}")
        if self.blocks < 1:
            raise ValueError(f"blocks must be at least 1, got {self.blocks}")

    @property
    def branch_channels(self) -> int:
        """Channels of one branch, spatial or frequency."""
        return self.channels // 2

    @property
    def attention_channels(self) -> int:
        """Hidden width of the band weighting; 4 at the paper's 64 channels."""
        return max(4, self.channels // 16)


SIZES: dict[str, Size] = {
    "paper": Size(channels=64, blocks=8),  # 1.64 M parameters, 1.30 MMAC/px: for a GPU
    "compact": Size(channels=24, blocks=4),  # 0.12 M parameters: best quality on a CPU
    "tiny": Size(channels=16, blocks=2),  # 0.03 M parameters: tests and slow machines
}


def size_named(name: str) -> Size:
    """The row of the table called `name`; ValueError lists the known names."""
    if name not in SIZES:
        raise ValueError(f"unknown network size {name!r}, expected one of {sorted(SIZES)}")
    return SIZES[name]
