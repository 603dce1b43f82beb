"""Calibrations on disk: one file each, named by its content, and a note of which one is active."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scgn.calibration import Calibration, CalibrationError, load_calibration, save_calibration

LOG = logging.getLogger(__name__)


class CalibrationStore:
    """The folder `calibrations` of the state folder. Files are written beside and renamed."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / "calibrations"
        self._active = self._folder / "active.json"

    def open(self) -> None:
        """Make the folder; OSError names it when it cannot be written."""
        self._folder.mkdir(parents=True, exist_ok=True)

    def path(self, identity: str) -> Path:
        """Where the calibration of that id lies."""
        return self._folder / f"{identity}.npz"

    def add(self, calibration: Calibration) -> None:
        """Keep a calibration; the same content twice is one file."""
        with self._written_aside(self.path(calibration.id)) as beside:
            save_calibration(beside, calibration)

    def load(self, identity: str) -> Calibration:
        """The calibration of that id; CalibrationError when it is missing or damaged."""
        return load_calibration(self.path(identity))

    def activate(self, identity: str | None) -> None:
        """Note which one the next start begins with; None for no calibration."""
        with self._written_aside(self._active) as beside:
            beside.write_text(json.dumps({"active": identity}))

    @contextlib.contextmanager
    def _written_aside(self, path: Path) -> Iterator[Path]:
        """A file of its own to write, which then takes the place of `path` at once."""
        descriptor, name = tempfile.mkstemp(dir=self._folder, prefix=".new-")
        beside = Path(name)
        try:
            yield beside
            os.fsync(descriptor)
            beside.replace(path)
        finally:
            os.close(descriptor)
            beside.unlink(missing_ok=True)

    def active(self) -> tuple[Calibration | None, str | None]:
        """The noted calibration, and a sentence when it cannot be used."""
        if not self._active.exists():
            return None, None
        try:
            identity = json.loads(self._active.read_text())["active"]
            return (None if identity is None else self.load(identity)), None
        except (OSError, ValueError, KeyError, TypeError, CalibrationError) as error:
            LOG.error("active calibration cannot be used", extra={"error": str(error)})
            words = (isinstance(error, OSError) and error.strerror) or str(error)
            return None, f"active calibration cannot be used: {words}"
