"""A service whose network has a memory, without a network: what is told of streams is made up."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from scgn_live.app import App
from scgn_live.processor import FrameByFrame
from scgn_live.ring import Slot

QUALITY = {
    "frame": 3, "shown": "temporal", "gain": 812.5, "gain_error": 12.5, "upsnr_db": 24.5,
    "error_db": 0.25, "others": {"single": [640.0, 14.0]},
}  # fmt: skip
NOISE = {
    "from": "stream", "gain_adu_per_e": 25.0, "read_noise_adu": 3.5, "line_sigma_adu": 1.25,
    "line_axis": "column", "correlation_px": 0.6, "sigma_adu": 70.5,
}  # fmt: skip
DOSE = {
    "e_per_px": 8.0, "e_per_a2_s": 240.0, "accumulated_e_per_px": 800.0,
    "accumulated_e_per_a2": 2400.0,
}  # fmt: skip


def report(**changes: Any) -> Any:
    """What a tracker tells of one frame."""
    values = {
        "shown": "temporal", "averaged": 11.25, "drift_px": (0.5, -0.25),
        "drift_nm_s": (0.125, -0.0625), "moving": 0.25, "dose_e_per_px": 8.0, "quality": QUALITY,
    }  # fmt: skip
    return SimpleNamespace(**{**values, **changes})


def stream(**changes: Any) -> dict[str, Any]:
    """What a processor's status tells of one camera."""
    quality = {"shown": "temporal", "word": "", "upsnr_db": 24.5, "error_db": 0.25, "gains": {}}
    values = {
        "noise": NOISE, "dose": DOSE, "quality": quality, "shown": "temporal", "averaged": 11.25,
        "drift": [0.5, -0.25], "moving": 0.25,
    }  # fmt: skip
    return {**values, **changes}


class Remembers(FrameByFrame):
    """Returns float32 frames as they came. told: every value of `temporal`; streams: of status."""

    model = "remembers"
    word = "openvino/2026.4.1/float32"

    def __init__(self, **streams: Any) -> None:
        self.told: list[Any] = []
        self.streams: dict[str, Any] = streams

    def __call__(self, raw: Any, calibration: Any) -> Any:
        return np.asarray(raw, np.float32)

    def set_temporal(self, value: Any) -> None:
        self.told.append(value)

    def status(self) -> dict[str, Any]:
        return {"name": self.model, "why": "for tests", "lanes": [], "streams": self.streams}


@contextlib.contextmanager
def reporting(app: App, made: Callable[[Slot], Any]) -> Iterator[None]:
    """Every frame leaves with the report that is made for its slot."""
    send = app.publisher._send

    def with_report(slot: Slot, lost: dict[str, int]) -> None:
        slot.report = made(slot)
        send(slot, lost)

    app.publisher._send = with_report  # type: ignore[method-assign]
    try:
        yield
    finally:
        app.publisher._send = send  # type: ignore[method-assign]
