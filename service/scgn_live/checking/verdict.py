"""What the service knows beside the pixels: the camera's shape and exposure."""

from __future__ import annotations

from scgn.proof.report import Proof
from scgn_live.checking.files import Task

ACCEPTED, SUSPICIOUS, REFUSED = "accepted", "suspicious", "refused"
EXPOSURE_TOLERANCE = 0.01


def judged(proof: Proof, task: Task, shape: tuple[int, int]) -> tuple[str, list[str]]:
    """The proof's verdict and reasons, with what speaks against these references on this camera."""
    doubts = [text for text in (_shape_doubt(task, shape), _exposure_doubt(task)) if text]
    verdict = SUSPICIOUS if doubts and proof.verdict == ACCEPTED else proof.verdict
    return verdict, [*doubts, *proof.reasons]


def _shape_doubt(task: Task, shape: tuple[int, int]) -> str | None:
    """Frames of another shape go out uncorrected."""
    seen = [tuple(camera["shape"]) for camera in task.cameras]
    if not seen or shape in seen:
        return None
    came = ", ".join(f"{c['source']} {c['shape'][0]} x {c['shape'][1]}" for c in task.cameras)
    return f"it is for frames of {shape[0]} x {shape[1]} px, those that come are {came}"


def _exposure_doubt(task: Task) -> str | None:
    told, seen = task.exposure_ms, task.frames_of.get("exposure_ms")
    if told is None or seen is None or abs(told - seen) <= EXPOSURE_TOLERANCE * seen:
        return None
    return f"it was taken with {told:g} ms, the frames that come are exposed for {seen:g} ms"
