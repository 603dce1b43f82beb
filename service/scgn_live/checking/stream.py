"""A calibration made of the live stream: its noise, beside the references in use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from scgn.calibrate.estimate import calibrate_series
from scgn.calibrate.fixed_pattern import corrected
from scgn.calibrate.report import Report
from scgn.calibration import Calibration, build_calibration, load_calibration
from scgn_live.checking.files import ACTIVE, FRAMES, CheckError, Task
from scgn_live.checking.upload import SCALARS
from scgn_live.checking.verdict import ACCEPTED, SUSPICIOUS


def check_stream(folder: Path, task: Task) -> tuple[Calibration, dict[str, Any], Report]:
    """Noise of the collected frames, corrected as they are corrected now.

    The calibration keeps the references in use where they fit the frames, and gains the noise.
    """
    frames = np.load(folder / FRAMES, allow_pickle=False)
    base = load_calibration(folder / ACTIVE) if (folder / ACTIVE).exists() else None
    if base is not None and base.shape != frames.shape[1:]:
        base = None
    stack = frames if base is None else _corrected(frames, base)
    if lost := stack.size - int(np.isfinite(stack).sum()):
        text = f"frames: expected finite values, got {lost} that are not: mask those pixels"
        raise CheckError(422, "frames", text)
    found, report = calibrate_series(stack)
    calibration = _joined(base, found)
    # Corrected frames are on no lattice of counts, and need not be.
    doubts = [
        d for d in report.doubts if base is None or d.reason not in ("not_integer", "clipping")
    ]
    noise = calibration.noise
    said = {
        "id": calibration.id, "origin": "stream", "verdict": SUSPICIOUS if doubts else ACCEPTED,
        "proved": False, "reasons": [d.text for d in doubts] or [_words(len(frames), report)],
        "shape": list(calibration.shape), "masked": calibration.masked, "camera": task.camera,
        "exposure_ms": task.frames_of.get("exposure_ms"), "orientation": "as-is",
        "gain_convention": None if calibration.gain is None else "multiply",
        "references": {"calibration": {"id": base.id}} if base else {},
        "noise": noise and {name: getattr(noise, name) for name in SCALARS},
        "frames_of": task.frames_of, "estimate": report.as_json(),
    }  # fmt: skip
    return calibration, said, report


def _corrected(frames: Any, base: Calibration) -> Any:
    dark = np.zeros(base.shape, np.float32) if base.dark is None else base.dark
    return corrected(frames, dark, base.gain, base.mask)


def _joined(base: Calibration | None, found: Calibration) -> Calibration:
    if base is None:
        return found
    convention = None if base.gain is None else "multiply"
    return build_calibration(base.dark, base.gain, base.mask, convention, found.noise)  # type: ignore[arg-type]


def _words(frames: int, report: Report) -> str:
    gain = report.gain_adu_per_e
    told = "gain not told" if gain.error is None else f"gain {gain.value:.4g} +- {gain.error:.2g}"
    return f"noise of {frames} frames: read noise {report.read_noise_adu:.3g} counts, {told}"
