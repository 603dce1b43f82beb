"""Calibrations on disk: each named by its content, and a note of which one is in use.

    <id>.npz     the calibration; its name appears after the report's
    <id>.json    where it came from, the verdict and its reasons: the report
    <id>.png     the report to look at; drawn later
    active.json  the active one, those before it, and those that were rolled back

Files are written beside and renamed: a kill at any instant leaves the old content or the new one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from scgn.calibration import Calibration, CalibrationError, load_calibration, save_calibration

LOG = logging.getLogger(__name__)
ID = re.compile(r"[0-9a-f]{12}")
HISTORY_KEPT = 64
BESIDE = ".new-"

State = Literal["staged", "active", "replaced", "rolled back"]


@dataclass(frozen=True)
class Activity:
    """Ids: the active calibration (None: frames go uncorrected), those active before it, oldest
    first, and those that a rollback took out of use.
    """

    active: str | None = None
    before: list[str | None] = field(default_factory=list)
    rolled_back: list[str] = field(default_factory=list)

    def then(self, identity: str | None) -> Activity:
        """After the activation of that one."""
        before = [*self.before, self.active][-HISTORY_KEPT:]
        back = [other for other in self.rolled_back if other != identity]
        return Activity(identity, before if identity != self.active else self.before, back)

    def back(self) -> Activity:
        """After a rollback: the one before is active again."""
        again, taken = self.before[-1], [] if self.active is None else [self.active]
        back = [other for other in self.rolled_back if other not in (again, self.active)]
        return Activity(again, self.before[:-1], [*back, *taken][-HISTORY_KEPT:])

    def state(self, identity: str) -> State:
        """Of a stored calibration."""
        if identity == self.active:
            return "active"
        if identity in self.rolled_back:
            return "rolled back"
        return "replaced" if identity in self.before else "staged"


class CalibrationStore:
    """The folder `calibrations` of the state folder.

    The HTTP process adds and deletes, the frame process activates: no file has two writers.
    """

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / "calibrations"
        self._active = self._folder / "active.json"

    def open(self) -> None:
        """Make the folder; OSError names it when it cannot be written."""
        self._folder.mkdir(parents=True, exist_ok=True)

    def sweep(self) -> None:
        """Remove what a kill left half done. Only for the process that adds and deletes."""
        for path in self._folder.iterdir():
            orphan = path.suffix in (".json", ".png") and ID.fullmatch(path.stem)
            if path.name.startswith(BESIDE) or (orphan and not self.path(path.stem).exists()):
                path.unlink(missing_ok=True)

    def path(self, identity: str, suffix: str = ".npz") -> Path:
        """Where the calibration of that id, its report or its picture lies."""
        return self._folder / f"{identity}{suffix}"

    # What is there.

    def ids(self) -> list[str]:
        """Of every stored calibration, the newest first."""
        found = [path for path in self._folder.glob("*.npz") if ID.fullmatch(path.stem)]
        return [path.stem for path in sorted(found, key=_age, reverse=True)]

    def has(self, identity: str) -> bool:
        """Whether a calibration of that id is stored; False for what is no id at all."""
        return bool(ID.fullmatch(identity)) and self.path(identity).exists()

    def load(self, identity: str) -> Calibration:
        """The calibration of that id; CalibrationError when it is missing or damaged."""
        found = load_calibration(self.path(identity))
        if found.id != identity:
            raise CalibrationError("calibration", f"{identity} holds {found.id}")
        return found

    def report(self, identity: str) -> dict[str, Any]:
        """What is known of it beside its content; empty when nothing was written down."""
        try:
            found = json.loads(self.path(identity, ".json").read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def activity(self) -> Activity:
        """Which one is active and which were; ValueError, OSError when the note is damaged."""
        if not self._active.exists():
            return Activity()
        noted = json.loads(self._active.read_text())
        if not isinstance(noted, dict) or "active" not in noted:
            raise ValueError(f"expected a note of the active calibration, got {noted!r}")
        before, back = noted.get("before", []), noted.get("rolled_back", [])
        lists = isinstance(before, list) and isinstance(back, list)
        if not lists or None in back or not all(map(_is_noted, [noted["active"], *before, *back])):
            raise ValueError(f"expected ids of calibrations in the note, got {noted!r}")
        return Activity(noted["active"], before, back)

    # The HTTP process.

    def add(self, calibration: Calibration, report: dict[str, Any] | None = None) -> None:
        """Keep a calibration; the same content twice is one file, with the newer report.

        OSError when it cannot be: nothing of it is there then, unless it was before.
        """
        try:
            if report is not None:
                with self._written_aside(self.path(calibration.id, ".json")) as beside:
                    beside.write_text(json.dumps(report, allow_nan=False))
                self.path(calibration.id, ".png").unlink(missing_ok=True)  # of an older report
            with self._written_aside(self.path(calibration.id)) as beside:
                save_calibration(beside, calibration)
        except OSError:
            if not self.has(calibration.id):
                self.path(calibration.id, ".json").unlink(missing_ok=True)
            raise

    def add_picture(self, identity: str, picture: bytes) -> None:
        """The report to look at, PNG."""
        with self._written_aside(self.path(identity, ".png")) as beside:
            beside.write_bytes(picture)

    def delete(self, identity: str) -> None:
        """Forget a calibration that is not active."""
        for suffix in (".npz", ".json", ".png"):
            self.path(identity, suffix).unlink(missing_ok=True)
        _sync(self._folder)

    # The frame process.

    def note(self, activity: Activity) -> None:
        """Note which one the next start begins with."""
        with self._written_aside(self._active) as beside:
            beside.write_text(json.dumps(asdict(activity)))

    @contextlib.contextmanager
    def _written_aside(self, path: Path) -> Iterator[Path]:
        """A file of its own to write, which then takes the place of `path` at once."""
        descriptor, name = tempfile.mkstemp(dir=self._folder, prefix=BESIDE)
        beside = Path(name)
        try:
            yield beside
            os.fsync(descriptor)
            beside.replace(path)
            _sync(self._folder)
        finally:
            os.close(descriptor)
            beside.unlink(missing_ok=True)

    def active(self) -> tuple[Calibration | None, str | None]:
        """The noted calibration, and a sentence when it cannot be used."""
        try:
            identity = self.activity().active
            return (None if identity is None else self.load(identity)), None
        except (OSError, ValueError, KeyError, TypeError, CalibrationError) as error:
            LOG.error("active calibration cannot be used", extra={"error": str(error)})
            words = (isinstance(error, OSError) and error.strerror) or str(error)
            return None, f"active calibration cannot be used: {words}"


def _is_noted(value: Any) -> bool:
    """Whether a note may hold it: an id, or none."""
    return value is None or (isinstance(value, str) and ID.fullmatch(value) is not None)


def _age(path: Path) -> float:
    with contextlib.suppress(OSError):  # deleted meanwhile
        return path.stat().st_mtime
    return 0.0


def _sync(folder: Path) -> None:
    """Have the folder's names on disk, not only in memory."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
