"""What decides one compiled graph, beside the network's weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

CameraDtype = Literal["|u1", "<u2", ">u2", "<i2", "<u4", "<i4", "<f4"]  # those of the wire
OutputDtype = Literal["float32", "float16", "uint16"]
Precision = Literal["float64", "float32", "float16", "bfloat16"]
SIDE_MIN = 4  # px; below, reflected windows and noise estimates have nothing to stand on


class DeployError(ValueError):
    """A graph that cannot be: the message names what was expected and what came."""


@dataclass(frozen=True)
class DeployRecipe:
    """One graph per recipe: a DFT's matrices are constants, so each shape has its own.

    shape: (rows, columns) px; camera_dtype: numpy code with byte order, as on the wire;
    output_dtype: of the denoised frame (`uint16` rounds and clips to 0..65535); precision: of the
    network's convolutions and products, while corrections, noise units, the Wiener estimate and
    every statistic stay in float32 (or float64); batch: frames a call.
    """

    shape: tuple[int, int]
    camera_dtype: CameraDtype = "<u2"
    output_dtype: OutputDtype = "float32"
    precision: Precision = "float32"
    batch: int = 1

    def __post_init__(self) -> None:
        if len(self.shape) != 2 or min(self.shape) < SIDE_MIN:
            raise DeployError(f"shape: expected at least {SIDE_MIN} px a side, got {self.shape}")
        choices = (
            ("camera_dtype", CameraDtype), ("output_dtype", OutputDtype), ("precision", Precision),
        )  # fmt: skip
        for name, known in choices:
            if getattr(self, name) not in get_args(known):
                raise DeployError(f"{name}: expected one of {get_args(known)}, got {self!r}")
        if self.batch < 1:
            raise DeployError(f"batch: expected at least 1, got {self.batch}")

    @property
    def dtype(self) -> torch.dtype:
        """Of the network's features."""
        return DTYPES[self.precision]

    @property
    def wide(self) -> torch.dtype:
        """Of counts, noise units and statistics."""
        return torch.float64 if self.precision == "float64" else torch.float32


DTYPES: dict[str, torch.dtype] = {
    "float64": torch.float64, "float32": torch.float32,
    "float16": torch.float16, "bfloat16": torch.bfloat16,
}  # fmt: skip
