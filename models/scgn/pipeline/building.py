"""Engines built by a process of their own: exporting a graph holds the interpreter's lock for
seconds and leaves hundreds of megabytes behind, and both belong to the frames."""

from __future__ import annotations

import subprocess
import sys
import threading

import torch

from scgn.backends import Backend, BackendError
from scgn.backends.backend import Progress
from scgn.backends.cache import EngineCache, key_of
from scgn.checkpoint import Checkpoint
from scgn.deploy import DeployRecipe

NICENESS = 10  # frames that run meanwhile come first
POLL_S = 0.1


class Ending:
    """Set by itself, or by what it is a part of."""

    def __init__(self, whole: threading.Event | None = None) -> None:
        self._own, self._whole = threading.Event(), whole or threading.Event()

    def set(self) -> None:
        """End this part; the whole goes on."""
        self._own.set()

    def is_set(self) -> bool:
        return self._own.is_set() or self._whole.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Whether it is set, at the latest after `timeout_s`; the whole is looked at then."""
        return self._own.wait(timeout_s) or self.is_set()


class BuildProcess:
    """`scgn compile` for one recipe, into the cache that the caller then loads from."""

    def __init__(
        self, network: str, backend: Backend, recipe: DeployRecipe, cache: EngineCache
    ) -> None:
        rows, columns = recipe.shape
        self._words = [
            "--network", network, "--backend", backend.name, "--size", f"{rows}x{columns}",
            "--camera-dtype", recipe.camera_dtype, "--output-dtype", recipe.output_dtype,
            "--precision", recipe.precision, "--batch", str(recipe.batch),
            "--cache", str(cache.folder),
        ]  # fmt: skip
        self._backend, self._recipe, self._cache = backend, recipe, cache

    def needed(self, checkpoint: Checkpoint, device: torch.device) -> bool:
        """Whether there is anything to build, and the cache does not have it yet."""
        key = key_of(checkpoint, self._recipe, self._backend, device)
        self._words += ["--device", device.type]
        return self._backend.aside and not self._cache.holds(key)

    def run(self, stopping: Ending, progress: Progress) -> None:
        """Build, telling each step. BackendError with its last line when it fails or `stopping`
        is set.
        """
        if stopping.is_set():
            raise BackendError(f"backend {self._backend.name}: no build begins while this ends")
        program = "import os, sys; os.nice(int(sys.argv.pop(1))); from scgn.__main__ import main; "
        program += "sys.exit(main(['compile', *sys.argv[1:]]))"
        command = [sys.executable, "-c", program, str(NICENESS), *self._words]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            watcher = threading.Thread(target=_end_when, args=(stopping, process), daemon=True)
            watcher.start()
            last = ""
            assert process.stdout is not None
            for line in process.stdout:
                last = line.strip() or last
                if last.startswith("scgn"):  # not what libraries print
                    progress(last)
            status = process.wait()
        if status:
            raise BackendError(f"backend {self._backend.name}: build ended with {status}: {last}")


def _end_when(stopping: Ending, process: subprocess.Popen[str]) -> None:
    while process.poll() is None:
        if stopping.wait(POLL_S):
            process.terminate()
            return
