"""What a network knows of its stream, in values that msgpack and JSON carry.

What comes here was worked out on a device: numpy's numbers, NaN where nothing is known. A value
that is none must cost its own key and never the frame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scgn.stream.tracker import StreamReport

# Of a network that judges each frame alone, docs/wire.md.
ALONE: dict[str, Any] = {
    "averaged": 1.0, "drift_px": None, "drift_nm_s": None, "moving": 0.0, "quality": None,
    "dose_e_per_px": None,
}  # fmt: skip


def plain(value: Any) -> Any:
    """Maps, lists, text and numbers alone; None for NaN, infinity and all that is neither."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value
    return plain(value.tolist()) if hasattr(value, "tolist") else None  # numpy's and torch's


def published(report: StreamReport | None) -> dict[str, Any]:
    """The keys of a published frame that tell of its stream."""
    if report is None:
        return ALONE
    averaged, moving, dose = (
        plain(value) for value in (report.averaged, report.moving, report.dose_e_per_px)
    )
    return {
        "averaged": 1.0 if averaged is None else float(averaged),
        "drift_px": _pair(report.drift_px), "drift_nm_s": _pair(report.drift_nm_s),
        "moving": 0.0 if moving is None else min(1.0, max(0.0, float(moving))),
        "quality": _quality(report.quality),
        "dose_e_per_px": None if dose is None else max(0.0, float(dose)),
    }  # fmt: skip


def _pair(values: tuple[float, float] | None) -> list[float] | None:
    pair = plain(values)
    return None if pair is None or None in pair else [float(value) for value in pair]


def _quality(quality: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """None for a map without its gain: readers count on that."""
    if quality is None:
        return None
    told: dict[str, Any] = plain(quality)
    if told.get("gain") is None or told.get("gain_error") is None:
        return None
    others = {k: pair for k, pair in (told.get("others") or {}).items() if None not in pair}
    return {**told, "others": others}
