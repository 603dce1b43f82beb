"""SCGN networks for HRTEM frames. Names load on first use: `import scgn` alone brings no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scgn.calibration import Calibration, build_calibration
    from scgn.checkpoint import Checkpoint, load_checkpoint, load_network, save_checkpoint
    from scgn.denoise import Denoiser
    from scgn.network import SCGN
    from scgn.published import load_published, network_from_published
    from scgn.sizes import SIZES, Size

_HOMES = {
    "Calibration": "calibration", "build_calibration": "calibration",
    "Checkpoint": "checkpoint", "load_checkpoint": "checkpoint", "load_network": "checkpoint",
    "save_checkpoint": "checkpoint", "Denoiser": "denoise", "SCGN": "network",
    "load_published": "published", "network_from_published": "published",
    "SIZES": "sizes", "Size": "sizes",
}  # fmt: skip

__all__ = [
    "SCGN",
    "SIZES",
    "Calibration",
    "Checkpoint",
    "Denoiser",
    "Size",
    "build_calibration",
    "load_checkpoint",
    "load_network",
    "load_published",
    "network_from_published",
    "save_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'scgn' has no attribute {name!r}")
    return getattr(importlib.import_module(f"scgn.{_HOMES[name]}"), name)
