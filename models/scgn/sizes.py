"""The table of networks: one row per trade of quality against speed, per ablation, per peer."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Literal, get_args

from scgn.stream.facts import SEEN

Residual = Literal["feature", "image", "none", "stream"]
Architecture = Literal["scgn", "dncnn", "ffdnet", "nafnet", "restormer", "unet", "student4"]


@dataclass(frozen=True)
class Parts:
    """Which of the three ideas one SCGN has; all of them as published (section 3).

    frequency: the branch that sees the whole frame, else a plain convolution of the same width;
    deviation: the spatial branch's gate by local deviation; band: the weights of the spectrum's
    channels, which need the frequency branch. ValueError for another combination.
    """

    frequency: bool = True
    deviation: bool = True
    band: bool = True

    def __post_init__(self) -> None:
        if not all(isinstance(part, bool) for part in astuple(self)):
            raise ValueError(f"parts: expected true or false for each, got {self}")
        if self.band and not self.frequency:
            raise ValueError("parts: band weighting needs the frequency branch, got band alone")


PUBLISHED = Parts()


@dataclass(frozen=True)
class Size:
    """Width and depth of one network.

    channels: feature channels at full resolution (SCGN: half of them spatial and half frequency);
    even, at least 4. blocks: what the architecture repeats (SCGN: residual blocks, two units each;
    each peer's docstring says its own); at least 1. parts: ablation switches, SCGN's only.
    """

    channels: int
    blocks: int
    parts: Parts = PUBLISHED

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


@dataclass(frozen=True)
class Design:
    """All that decides which network is built.

    residual: `stream` (denoised = E + F(what the stream knows), E the estimate of the longest mean,
    `scgn.stream.front`) or `image` (noisy + F(noisy)); of SCGN also `feature` (as published), of a
    peer `none` (F(noisy)).
    ValueError says what does not go together.
    """

    architecture: Architecture
    size: Size
    residual: Residual

    def __post_init__(self) -> None:
        if self.architecture not in get_args(Architecture):
            known = ", ".join(get_args(Architecture))
            raise ValueError(f"unknown architecture {self.architecture!r}, expected one of {known}")
        plain = "feature" if self.architecture == "scgn" else "none"
        known_residuals = (plain, "image", "stream")
        if self.residual not in known_residuals:
            raise ValueError(
                f"residual of {self.architecture}: expected one of {known_residuals}, "
                f"got {self.residual!r}"
            )
        if self.architecture != "scgn" and self.size.parts != PUBLISHED:
            raise ValueError(f"parts are scgn's only, got {self.size.parts} of {self.architecture}")

    @property
    def inputs(self) -> int:
        """Channels that the first convolution sees: the noisy frame, or all of SEEN."""
        return len(SEEN) if self.residual == "stream" else 1


SIZES: dict[str, Size] = {
    "paper": Size(channels=64, blocks=8),  # 1.64 M parameters, 1.30 MMAC/px: for a GPU
    "compact": Size(channels=24, blocks=4),  # 0.12 M parameters: best quality on a CPU
    "tiny": Size(channels=16, blocks=2),  # 0.03 M parameters: tests and slow machines
}

PLAIN = Parts(frequency=False, deviation=False, band=False)

# The ablation adds one part a row to the plain network; `plain-wide` adds nothing but width.
ABLATIONS: dict[str, Size] = {
    "compact-plain": Size(24, 4, PLAIN),
    "compact-frequency": Size(24, 4, Parts(deviation=False, band=False)),
    "compact-deviation": Size(24, 4, Parts(band=False)),
    "plain-wide": Size(40, 4, PLAIN),  # as many parameters as `compact` without any of its parts
}

# Peers stand at the parameters of `compact`, so that a table compares ideas and not widths.
PEERS: dict[Architecture, Size] = {
    "dncnn": Size(channels=32, blocks=12),
    "ffdnet": Size(channels=32, blocks=12),
    "nafnet": Size(channels=16, blocks=2),
    "restormer": Size(channels=12, blocks=1),
    "unet": Size(channels=16, blocks=1),
}

# What `scgn distill` trains (`scgn.student`): quarter-side convolutions, the number of the name.
STUDENTS: dict[str, Design] = {
    "fast": Design("student4", Size(channels=96, blocks=7), "stream"),  # 83 kMAC/px: for a GPU
    "preview": Design("student4", Size(channels=48, blocks=8), "stream"),  # 26 kMAC/px: for a CPU
}

DESIGNS: dict[str, Design] = {
    **{name: Design("scgn", size, "stream") for name, size in (SIZES | ABLATIONS).items()},
    # All correct the same classical estimate: what a table compares is what each adds to it.
    **{name: Design(name, size, "stream") for name, size in PEERS.items()},
    **STUDENTS,
}


def size_named(name: str) -> Size:
    """The row of SCGN's sizes called `name`; ValueError lists the known names."""
    if name not in SIZES:
        raise ValueError(f"unknown network size {name!r}, expected one of {sorted(SIZES)}")
    return SIZES[name]


def design_named(name: str) -> Design:
    """The row of all networks called `name`; ValueError lists the known names."""
    if name not in DESIGNS:
        raise ValueError(f"unknown network {name!r}, expected one of {sorted(DESIGNS)}")
    return DESIGNS[name]
