"""Calibrations and networks that change under full load, and a disk without room for them."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chaos.frames import SHAPE
from chaos.services import is_ready, is_there
from chaos.stage import Stage, until
from chaos.table import NotHere, fault
from chaos.watcher import DEADLINE_S
from scgn_client.errors import ServiceError

SWAPS = 8
FULL_LOAD_S = 0.004  # more than a network does on a shared core, less than fills every queue
NETWORKS = ("preview-clean", "tiny-clean")
FILLING = b"0" * 4096
FULL = 507  # HTTP: insufficient storage


def _uploaded(stage: Stage, chance: random.Random) -> str:
    """A new calibration, active from the next frame on; its id."""
    dark = np.random.default_rng(chance.randrange(10**9)).uniform(0, 5, SHAPE)
    answer = stage.admin.post_calibration(dark=dark)
    assert answer["active"], answer
    return str(answer["id"])


def _ask(stage: Stage, method: str, path: str) -> dict[str, Any]:
    answer = stage.admin._ask(method, path, accept=(200, 202))
    return answer.content(path)


def _film_frames(stage: Stage) -> list[Any]:
    """Of the film that runs."""
    runs = stage.watcher.runs(stage.filming.series)
    return [frame for run in runs for frame in run.frames]


def _changes(words: list[Any]) -> int:
    return sum(a != b for a, b in pairwise(words))


@fault("network", pace_s=FULL_LOAD_S)
def calibration_swaps(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Uploads and activations while frames come as fast as they go: each frame has one whole
    calibration, and no swap is seen twice.
    """
    ids = [_uploaded(stage, chance) for _ in range(2)]
    used = [ids[-1]]
    for _ in range(SWAPS):
        used.append(chance.choice(ids))
        _ask(stage, "POST", f"/calibrations/{used[-1]}/activate")
        time.sleep(chance.uniform(0, 0.1))
    used.append("")
    _ask(stage, "DELETE", "/calibrations/active")
    yield
    for identity in ids:
        _ask(stage, "DELETE", f"/calibrations/{identity}")
    seen = [frame.calibration or "" for frame in _film_frames(stage)]
    assert {*seen} <= {"", *ids}, f"calibrations {sorted({*seen})}, expected {ids}"
    assert _changes(seen) <= 1 + _changes([ids[0], *used]), "a calibration came back by itself"
    assert seen[-1] == "", "frames are corrected although it was asked to stop"


@fault("network", pace_s=FULL_LOAD_S)
def network_swaps(stage: Stage, chance: random.Random) -> Iterator[None]:
    """Another network and back while frames come as fast as they go: two boundaries, no flicker."""
    for name in NETWORKS:
        _ask(stage, "POST", f"/models/{name}/activate")
        until(lambda: _model(stage)["state"] != "building", f"{name} being in use")
        assert _model(stage)["state"] == "active", _model(stage)
        time.sleep(chance.uniform(0, 0.2))
    yield
    models = [frame.model for frame in _film_frames(stage)]
    assert len({*models}) == 2, {*models}
    assert _changes(models) == 2, f"{_changes(models)} changes of the network"


def _model(stage: Stage) -> dict[str, Any]:
    return _ask(stage, "GET", "/models")


@fault("network", restarts=1, says=("process ended",))
def kill_while_swapping(stage: Stage, chance: random.Random) -> Iterator[None]:
    """The frame process dies between two activations, or in one: the next one begins with what was
    noted, which is the old calibration or the new one.
    """
    ids = [_uploaded(stage, chance) for _ in range(2)]
    pid, done = stage.pid(), threading.Event()
    thread = threading.Thread(target=_swap_all_the_time, args=(stage, ids, done))
    thread.start()
    time.sleep(chance.uniform(0, 0.3))
    stage.struck_s = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_there(pid), "its end")
    done.set()
    yield
    thread.join(DEADLINE_S)
    noted = json.loads(_stored(stage)[1])["active"]
    assert noted in ids, f"{noted} is noted, expected one of {ids}"
    assert stage.status()["calibration"] == noted
    _ask(stage, "DELETE", "/calibrations/active")
    for identity in ids:
        _ask(stage, "DELETE", f"/calibrations/{identity}")


def _swap_all_the_time(stage: Stage, ids: list[str], done: threading.Event) -> None:
    while not done.is_set():
        for identity in ids:
            with suppress(ServiceError):  # the frame process is gone meanwhile
                _ask(stage, "POST", f"/calibrations/{identity}/activate")


@fault("network", says=("process ended", "a check of an upload died"))
def kill_sidecar_uploading(stage: Stage, chance: random.Random) -> Iterator[None]:
    """The HTTP process dies with an upload in its hands: half an upload is none, and the next one
    goes through.
    """
    before, _ = _stored(stage)

    def upload() -> None:
        with suppress(ServiceError, AssertionError):
            _uploaded(stage, random.Random(chance.random()))

    thread = threading.Thread(target=upload)
    thread.start()
    time.sleep(chance.uniform(0, 2))
    os.kill(stage.pid("http"), signal.SIGKILL)
    thread.join(DEADLINE_S)
    yield
    until(lambda: is_ready(stage.service), "the sidecar being back")
    identity = _uploaded(stage, chance)
    _ask(stage, "DELETE", "/calibrations/active")
    after, _ = _stored(stage)
    for name in {identity, *(Path(file).stem for file in after - before)} - {"active"}:
        _ask(stage, "DELETE", f"/calibrations/{name}")
    assert _stored(stage)[0] == before | {"calibrations/active.json"}, "half an upload is left"


@contextmanager
def _filled(state: Path, chance: random.Random) -> Iterator[None]:
    """A disk with no room left, or nearly none."""
    ballast = state / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(FILLING)
        os.truncate(ballast, ballast.stat().st_size - len(FILLING) * chance.randrange(4))
        yield
    finally:
        ballast.unlink()


@fault("network", says=("a picture was not stored",))
def full_disk(stage: Stage, chance: random.Random) -> Iterator[None]:
    """An upload that does not fit is answered 507; nothing has changed, and later it fits."""
    if not stage.where.small_disk:
        raise NotHere("a disk of one's own needs the right to mount one")
    kept = _uploaded(stage, chance)
    before, note = _stored(stage)
    with _filled(stage.where.state, chance):
        with pytest.raises(ServiceError) as caught:
            _uploaded(stage, chance)
        assert caught.value.status == FULL, caught.value
        after, same = _stored(stage)
        assert same == note, f"the note went from {note} to {same}"
        # Where there was room for all but the note, it is stored and not in use.
        more = {Path(name).stem for name in after - before}
        whole = {f"calibrations/{name}{suffix}" for name in more for suffix in (".json", ".npz")}
        assert after == before | whole, f"files went from {before} to {after}"
        assert stage.status()["calibration"] == kept
    new = _uploaded(stage, chance)
    _ask(stage, "DELETE", "/calibrations/active")
    for identity in {kept, new, *more}:
        _ask(stage, "DELETE", f"/calibrations/{identity}")
    yield


def _stored(stage: Stage) -> tuple[set[str], str]:
    """Names of the files of the store, pictures apart, and the note of the active one."""
    folder = stage.where.state
    files = [path for path in folder.rglob("*") if path.suffix in (".json", ".npz")]
    note = folder / "calibrations" / "active.json"
    said = note.read_text() if note.exists() else "{}"
    return {str(path.relative_to(folder)) for path in files}, said
