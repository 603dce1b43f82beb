"""Built engines on disk: found by what decides them, written beside and renamed, bounded in size.

An entry is one line of JSON and the built bytes. It is used only if this user wrote it, nobody else
could have, and its bytes are those its line names; otherwise it is built anew. A plan is a program:
the folder must be as private as a folder of executables.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

import scgn
from scgn.backends.backend import Backend
from scgn.checkpoint import Checkpoint
from scgn.deploy import DeployRecipe

LOG = logging.getLogger(__name__)
SUFFIX = ".engine"
GRAPHS = ("deploy", "stream")  # folders of the code that makes graphs
BYTES_MAX = 4 << 30
LINE_MAX = 16 * 1024
NEW = ".new-"  # of files that are being written
STALE_S = 3600.0  # their writer is gone


def default_folder() -> Path:
    """Per user: $XDG_CACHE_HOME/scgn-live/engines, or below ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "scgn-live" / "engines"


@lru_cache(maxsize=1)
def form() -> str:
    """Digest of the code that makes graphs: an engine of another version's graph is another's."""
    digest = hashlib.sha256()
    for path in sources():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def sources() -> list[Path]:
    """Files that make graphs: all of GRAPHS, and whatever of this package they import."""
    root = Path(scgn.__file__).parent
    left = [path for folder in GRAPHS for path in (root / folder).glob("*.py")]
    found: set[Path] = set()
    while left:
        path = left.pop()
        if path not in found:
            found.add(path)
            left += _imported(path, root)
    return sorted(found)


def _imported(path: Path, root: Path) -> Iterator[Path]:
    """Files of modules below `root` that a file imports, or that it takes names from."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            package, *parts = name.split(".")
            place = root.joinpath(*parts)
            if package == root.name:
                files = place.with_suffix(".py"), place / "__init__.py"
                yield from (file for file in files if parts and file.is_file())


def weights_digest(checkpoint: Checkpoint) -> str:
    """SHA-256 over all weights; the id names only eight digits of it."""
    digest = hashlib.sha256()
    for name, value in sorted(checkpoint.network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def key_of(
    checkpoint: Checkpoint, recipe: DeployRecipe, backend: Backend, device: torch.device
) -> dict[str, Any]:
    """All that decides an engine."""
    on_cuda = device.type == "cuda"
    return {
        "model": checkpoint.id, "weights": weights_digest(checkpoint), "form": form(),
        **asdict(recipe), "shape": list(recipe.shape),
        "backend": backend.name, "version": backend.version(), "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if on_cuda else device.type,
        "capability": list(torch.cuda.get_device_capability(device)) if on_cuda else None,
    }  # fmt: skip


class EngineCache:
    """A folder of built engines, the least recently used deleted beyond `bytes_max`."""

    def __init__(self, folder: Path, bytes_max: int = BYTES_MAX) -> None:
        self.folder, self._bytes_max = folder, bytes_max

    def path(self, key: dict[str, Any]) -> Path:
        """Where the engine of that key lies."""
        text = json.dumps(key, sort_keys=True).encode()
        return self.folder / f"{hashlib.sha256(text).hexdigest()[:32]}{SUFFIX}"

    def get(self, key: dict[str, Any], build: Callable[[], bytes]) -> tuple[bytes, bool]:
        """The built bytes, and whether they were found; what cannot be kept is only built.

        A folder that cannot be written costs a build at every start, never a failure.
        """
        path = self.path(key)
        if (found := self._read(path, key)) is not None:
            return found, True
        built = build()
        if built:
            try:
                self._write(path, key, built)
            except OSError as error:
                LOG.warning("engine not kept", extra={"error": error.strerror})
        return built, False

    def holds(self, key: dict[str, Any]) -> bool:
        """Whether `get` would find the engine of that key, whole."""
        return self._read(self.path(key), key) is not None

    def _read(self, path: Path, key: dict[str, Any]) -> bytes | None:
        try:
            reason = _foreign(self.folder.stat())
            with path.open("rb") as file:
                reason = reason or _foreign(os.fstat(file.fileno()))
                line = b"" if reason else file.readline(LINE_MAX)
                built = b"" if reason else file.read()
        except OSError:
            return None  # not there
        reason = reason or _damaged(line, built, key)
        if reason is None:
            with contextlib.suppress(OSError):  # read-only, or deleted meanwhile
                os.utime(path)  # used now
            return built
        LOG.warning("engine built anew", extra={"reason": reason, "entry": path.name})
        return None

    def _write(self, path: Path, key: dict[str, Any], built: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        known = {"key": key, "sha256": hashlib.sha256(built).hexdigest()}
        descriptor, name = tempfile.mkstemp(dir=self.folder, prefix=NEW)  # 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(json.dumps(known).encode() + b"\n")
                file.write(built)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
        self._bound(keep=path)

    def _bound(self, keep: Path) -> None:
        """Delete what killed writers left, and the least recently used until the rest fits."""
        now = time.time()
        for left in self.folder.glob(f"{NEW}*"):
            with contextlib.suppress(OSError):
                if now - left.stat().st_mtime > STALE_S:
                    left.unlink()
        known = {}
        for entry in self.entries():
            with contextlib.suppress(OSError):  # another process deletes too
                known[entry] = entry.stat()
        total = sum(status.st_size for status in known.values())
        for entry, status in sorted(known.items(), key=lambda item: item[1].st_mtime):
            if total > self._bytes_max and entry != keep:
                total -= status.st_size
                entry.unlink(missing_ok=True)

    def entries(self) -> list[Path]:
        """Files of the engines that are kept."""
        return list(self.folder.glob(f"*{SUFFIX}"))


def _foreign(status: os.stat_result) -> str | None:
    """Why a file or folder may hold what another user wrote; None when it cannot."""
    if status.st_uid != os.getuid():
        return f"expected owner {os.getuid()}, got {status.st_uid}"
    if status.st_mode & 0o022:
        return f"others may write to it (mode {status.st_mode & 0o777:o})"
    return None


def _damaged(line: bytes, built: bytes, key: dict[str, Any]) -> str | None:
    """Why an entry is not what its name says; None when it is."""
    try:
        known = json.loads(line)
        if known["key"] != json.loads(json.dumps(key)):
            return "it is another graph's"
        if known["sha256"] != hashlib.sha256(built).hexdigest():
            return "its bytes are not those that were written"
    except (ValueError, KeyError, TypeError, RecursionError):
        return "its first line cannot be read"
    return None
