"""The folder that an asker and a checker share: one task in, one result out, files beside them.

task.json        Task
<part>           an uploaded file, as it came
frames.npy       frames of the live stream, or frames-0.npy and so on: the last ones of each camera
result.json      {"problem": {...}} or {"report": {...}}
calibration.npz  the calibration, when there is one
picture.png      the report to look at, when there is one
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

TASK, RESULT = "task.json", "result.json"
CALIBRATION, PICTURE = "calibration.npz", "picture.png"
FRAMES = "frames.npy"
DONE = b"done"  # the line that the checker prints once result.json is there
ACTIVE = "active.npz"  # what is in use, for a calibration that is made of the live stream


@dataclass(frozen=True)
class Task:
    """What is to be checked. parts: form field -> name of the uploaded file as its sender calls it
    (only its ending means anything); each lies in the folder under the field's name.

    kind: `upload`, or `stream` for a calibration made of frames.npy; frames_of: whose frames these
    are; cameras: those that it may be for, `file` naming the last frames of each, the one that sent
    last first; memory_mb, time_s: what the process may use; side_max: rows and columns a frame may
    have.
    """

    kind: str
    parts: dict[str, str] = field(default_factory=dict)
    gain_convention: str | None = None
    orientation: str = "as-is"
    camera: str | None = None
    exposure_ms: float | None = None
    frames_of: dict[str, Any] = field(default_factory=dict)
    cameras: list[dict[str, Any]] = field(default_factory=list)
    memory_mb: float = 4096
    time_s: float = 60
    side_max: tuple[int, int] = (4096, 4096)

    def write(self, folder: Path) -> None:
        """For the checker."""
        (folder / TASK).write_text(json.dumps(asdict(self)))


def read_task(folder: Path) -> Task:
    """What `Task.write` wrote."""
    content = json.loads((folder / TASK).read_text())
    return Task(**{**content, "side_max": tuple(content["side_max"])})


class CheckError(Exception):
    """An upload that cannot be used: `status` of HTTP, the form's `field`, the words."""

    def __init__(self, status: int, field: str | None, detail: str) -> None:
        super().__init__(detail)
        self.status, self.field = status, field
