"""An upload: references read, turned, checked, and proved against raw frames of the camera."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgn.calibrate.estimate import SIDE_MIN, calibrate_references
from scgn.calibration import Calibration, build_calibration, load_calibration
from scgn.noise import NoiseModel
from scgn.proof.orientation import oriented
from scgn.proof.posted import References
from scgn.proof.prove import prove
from scgn.proof.report import Proof
from scgn.references import CalibrationError
from scgn_live.checking.files import CheckError, Task
from scgn_live.checking.readers import format_of, read_stack
from scgn_live.checking.verdict import judged

Array = NDArray[Any]
REFERENCES = ("dark", "gain", "mask")
SHARE_OF_MEMORY = 0.25  # of what the process may use, for the pixels of one file
LARGEST = 1e15  # value of a reference
NOISE_JSON_MAX = 1_000_000  # bytes
NOISE_FRAMES_MIN = 4  # of a dark stack, to tell noise from fixed pattern
SCALARS = ("gain_adu_per_e", "read_noise_adu", "line_noise_adu", "line_axis", "line_correlation")


@dataclass(frozen=True, eq=False)
class Checked:
    """A calibration, what is to be said of it, and what its picture is drawn from."""

    calibration: Calibration
    report: dict[str, Any]
    proof: Proof


@dataclass(frozen=True, eq=False)
class Posted:
    """Arrays as posted, (rows, columns); noise: of the camera's frames, if told or found; told: of
    each file, what it was.
    """

    arrays: dict[str, Any]
    noise: NoiseModel | None
    told: dict[str, dict[str, Any]]
    convention: str | None


def check_upload(folder: Path, task: Task) -> Checked:
    """The calibration that the parts make; CheckError or CalibrationError when they make none."""
    posted = _whole(folder, task) if "calibration" in task.parts else _parts(folder, task)
    turned: dict[str, Any] = {
        name: oriented(array, task.orientation) for name, array in posted.arrays.items()
    }
    how: Any = {"gain_convention": posted.convention}
    calibration = build_calibration(**turned, **how, noise=posted.noise)
    references = References(**posted.arrays, orientation=task.orientation, **how)
    camera = _camera(task, calibration.shape)
    proof = prove(references, _frames(folder, task, camera))
    task = replace(task, frames_of={k: v for k, v in camera.items() if k != "file"})
    return Checked(calibration, _report(calibration, posted, proof, task), proof)


def _parts(folder: Path, task: Task) -> Posted:
    known = {*REFERENCES, "noise", "frames"}
    given = [name for name in REFERENCES if name in task.parts]
    if not given and "noise" not in task.parts:
        expected = f"calibration: expected at least one of {', '.join(REFERENCES)}"
        raise CheckError(422, "calibration", f"{expected}, got none")
    assert known >= set(task.parts), "the form lets no other part in"
    if not given:
        text = "noise: expected it beside a dark, gain or mask, which tell the frame's shape"
        raise CheckError(422, "noise", text)
    stacks = {name: _stack(folder, task, name) for name in given}
    arrays = {name: _one(name, stack) for name, stack in stacks.items()}
    measured = "noise" not in task.parts
    noise = _noise_of(stacks.get("dark"), task) if measured else _noise(folder / "noise")
    told = {
        name: {
            "format": format_of(folder / name, task.parts[name]), "frames": len(stack),
            "dtype": stack.dtype.name, "mean": _number(arrays[name].mean()),
        }
        for name, stack in stacks.items()
    }  # fmt: skip
    return Posted(arrays, noise, told, task.gain_convention)


def _whole(folder: Path, task: Task) -> Posted:
    """A file that `scgn calibrate` wrote, or that another service gave back."""
    others = sorted(set(task.parts) - {"calibration", "frames"})
    if others:
        text = f"calibration: expected it alone, got {', '.join(others)} beside it"
        raise CheckError(422, "calibration", text)
    try:
        held = load_calibration(folder / "calibration")
    except CalibrationError as error:
        text = f"calibration: expected a file of `scgn calibrate`, got another: {error}"
        raise CheckError(422, "calibration", text[:500]) from error
    _must_fit("calibration", held.shape, task)
    arrays: dict[str, Array] = {"mask": held.mask}
    arrays |= {k: v for k in ("dark", "gain") if (v := getattr(held, k)) is not None}
    told = {"calibration": {"format": ".npz", "id": held.id}}
    noise = held.noise and _turned(held.noise, task.orientation)
    return Posted(arrays, noise, told, "multiply" if "gain" in arrays else None)


def _stack(folder: Path, task: Task, name: str) -> Array:
    limit = SHARE_OF_MEMORY * task.memory_mb * 1e6
    stack = read_stack(folder / name, name, task.parts[name], limit)
    _must_fit(name, stack.shape[1:], task)
    _must_be_counts(name, stack)
    return stack


def _must_be_counts(name: str, stack: Array) -> None:
    """No camera has such values, and single precision cannot tell their squares."""
    low = 1 / LARGEST if name == "gain" else 0
    for frame in stack if stack.dtype.kind == "f" else ():
        sizes = np.abs(frame[np.isfinite(frame) & (frame != 0)].astype(np.float64))
        if sizes.max(initial=0) > LARGEST or sizes.min(initial=1) < low:
            expected = f"{name}: expected sizes of {low:g} to {LARGEST:g}"
            raise CheckError(422, name, f"{expected}, got {sizes.min():g} to {sizes.max():g}")


def _must_fit(name: str, shape: tuple[int, ...], task: Task) -> None:
    """No frame is larger than the service takes, however it is turned."""
    rows, columns = oriented(np.broadcast_to(np.zeros(1), shape), task.orientation).shape
    if rows > task.side_max[0] or columns > task.side_max[1]:
        expected = f"{name}: expected at most {task.side_max[0]} x {task.side_max[1]} px"
        raise CheckError(422, name, f"{expected}, got {rows} x {columns}")


def _one(name: str, stack: Array) -> Array:
    """The frame that a stack stands for: its mean; a mask has only one."""
    if len(stack) == 1:
        return np.asarray(stack[0])
    if name == "mask":
        raise CheckError(422, "mask", f"mask: expected one frame, got {len(stack)}")
    return np.asarray(stack.mean(0, dtype=np.float64), np.float32)


def _noise_of(dark: Array | None, task: Task) -> NoiseModel | None:
    """Of a stack of dark frames: read and line noise; the gain is not in it."""
    if dark is None or len(dark) < NOISE_FRAMES_MIN or min(dark.shape[1:]) < SIDE_MIN:
        return None
    if not np.isfinite(dark).all():
        return None
    found = calibrate_references(dark, [])[0].noise
    return found and _turned(found, task.orientation)


def _noise(path: Path) -> NoiseModel:
    """Noise from JSON: the fields of NoiseModel, `autocorrelation` as rows of numbers."""
    try:
        if path.stat().st_size > NOISE_JSON_MAX:
            raise ValueError(f"more than {NOISE_JSON_MAX} bytes")
        content = json.loads(path.read_text(), parse_int=float)  # no number is too long for it
        lags = np.asarray(content.pop("autocorrelation", [[1.0]]), np.float32)
        return NoiseModel(**content, autocorrelation=lags)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        expected = f"noise: expected JSON of {', '.join(SCALARS)} and autocorrelation"
        raise CheckError(422, "noise", f"{expected}, got {str(error)[:200]}") from error


def _turned(noise: NoiseModel, orientation: str) -> NoiseModel:
    """The noise of frames that are turned: lines turn with them, and so do neighbours."""
    axis = noise.line_axis
    if oriented(np.zeros((1, 2)), orientation).shape != (1, 2):
        axis = "row" if axis == "column" else "column"
    lags = oriented(noise.autocorrelation, orientation)
    return replace(noise, line_axis=axis, autocorrelation=lags)


def _camera(task: Task, shape: tuple[int, int]) -> dict[str, Any]:
    """Of the cameras that it may be for the one whose frames it fits, perhaps turned, or else the
    one that sent last; empty when none does.
    """
    exact = [row for row in task.cameras if tuple(row["shape"]) == shape]
    turned = [row for row in task.cameras if tuple(row["shape"]) == shape[::-1]]
    return next(iter([*exact, *turned, *task.cameras]), {})


def _frames(folder: Path, task: Task, camera: dict[str, Any]) -> Array | None:
    """Frames sent along, else those that the service kept of the camera."""
    if "frames" in task.parts:
        limit = SHARE_OF_MEMORY * task.memory_mb * 1e6
        stack = read_stack(folder / "frames", "frames", task.parts["frames"], limit)
        if not np.isfinite(stack).all():
            raise CheckError(422, "frames", "frames: expected finite values, got some that are not")
        return stack
    kept = folder / camera.get("file", "none")
    return np.load(kept, allow_pickle=False) if kept.exists() else None


def _report(calibration: Calibration, posted: Posted, proof: Proof, task: Task) -> dict[str, Any]:
    verdict, reasons = judged(proof, task, calibration.shape)
    noise = calibration.noise
    sent = "frames" in task.parts
    return {
        "id": calibration.id, "origin": "upload", "verdict": verdict, "proved": proof.proved,
        "reasons": reasons, "shape": list(calibration.shape), "masked": calibration.masked,
        "camera": task.camera or (proof.proved and not sent and task.frames_of["source"]) or None,
        "exposure_ms": task.exposure_ms,
        "orientation": task.orientation, "gain_convention": posted.convention,
        "references": posted.told,
        "noise": noise and {name: getattr(noise, name) for name in SCALARS},
        "frames_of": {"sent_along": True} if sent else task.frames_of, "proof": proof.as_json(),
    }  # fmt: skip


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
