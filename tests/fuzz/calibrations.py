"""Calibration files under fuzz: whatever they hold, a reader gives an array or a named error.

Each file is read by a process of its own within the limits that the service sets, so that a crash
in native code is seen, and costs nothing but that process.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import select
import shutil
import signal
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scgn.calibration import CalibrationError, load_calibration, save_calibration
from scgn.stacks import StackError
from scgn_live.calibrations import Activity, CalibrationStore
from scgn_live.checking.files import CheckError, Task
from scgn_live.checking.limits import limit
from scgn_live.checking.readers import read_stack
from scgn_live.checking.upload import check_upload

from .corpus import CALIBRATIONS
from .damage import damaged

NAMED = (CheckError, CalibrationError, StackError, MemoryError)
MEMORY_MB, TIME_S, WALL_S = 2048.0, 20.0, 60.0
PIXELS_BYTES = 8e6  # of one file; the service's own limit is a quarter of its memory
JOB = "job.json"
PARTS = ("dark", "gain", "mask", "noise", "frames", "calibration")
REFERENCES = ("dark", "gain", "mask")
SLOW = (".dm3", ".dm4")  # seconds each: another program is started for them
SLOW_SHARE = 0.02
OWN = "-dm.npy"  # what the reader of .dm3 leaves beside its file
ORIENTATIONS = ("as-is", "as-is", "rotate-90", "transpose", "flip-up-down")
LATE = "time limit"


@dataclass(frozen=True)
class Job:
    """One try. target: `read`, `load` or `check`; parts: name -> (name at the sender's, content);
    query: of the task.
    """

    target: str
    parts: dict[str, tuple[str, bytes]]
    query: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Into an empty folder, from which `job_in` reads it."""
        called = {name: called for name, (called, _) in self.parts.items()}
        words = {"target": self.target, "called": called, "query": self.query}
        (folder / JOB).write_text(json.dumps(words, indent=1) + "\n")
        for name, (_, content) in self.parts.items():
            (folder / name).write_bytes(content)

    @property
    def name(self) -> str:
        """Of its content."""
        words = json.dumps([self.target, self.query, sorted(self.parts)]).encode()
        contents = b"".join(content for _, content in self.parts.values())
        return f"calibrations-{hashlib.sha256(words + contents).hexdigest()[:12]}"


def job_in(folder: Path) -> Job:
    """What `Job.write` wrote."""
    words = json.loads((folder / JOB).read_text())
    parts = {
        name: (called, (folder / name).read_bytes()) for name, called in words["called"].items()
    }
    return Job(words["target"], parts, words["query"])


# What is tried, in a process of its own.


def read(folder: Path, job: Job) -> None:
    """One reader: the array is numbers of the dimensions promised."""
    ((name, (called, _)),) = job.parts.items()
    found = read_stack(folder / name, name, called, PIXELS_BYTES)
    assert found.ndim == 3
    assert found.size
    assert found.dtype.kind in "fiub"
    float(found.sum(dtype=float))  # every pixel can be read


def load(folder: Path, job: Job) -> None:
    """A whole calibration; what is accepted is the same after it was written and read again."""
    (name,) = job.parts
    _kept_as_it_is(folder, load_calibration(folder / name))


def check(folder: Path, job: Job) -> None:
    """All that is done with an upload before its answer."""
    called = {name: called for name, (called, _) in job.parts.items()}
    task = Task("upload", called, memory_mb=MEMORY_MB, side_max=(64, 64), **job.query)
    checked = check_upload(folder, task)
    json.dumps(checked.report, allow_nan=False)
    _kept_as_it_is(folder, checked.calibration)


def _kept_as_it_is(folder: Path, made: Any) -> None:
    save_calibration(folder / "made.npz", made)
    assert load_calibration(folder / "made.npz").id == made.id
    (folder / "made.npz").unlink()


TARGETS: dict[str, Callable[[Path, Job], None]] = {"read": read, "load": load, "check": check}


def _in_child(folder: Path, job: Job, told: int, parent: int) -> None:
    """Never comes back: tells one line, and is over."""
    empty = folder / "cwd"
    os.chdir(empty)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):  # libtiff and HDF5 write to them on their own
        os.dup2(nowhere, descriptor)
    warnings.simplefilter("ignore")
    try:
        limit(MEMORY_MB, TIME_S + _used_s(), parent)
        TARGETS[job.target](folder, job)
        word = {"word": "accepted"}
    except CheckError as error:
        word = {"word": f"CheckError {error.status}"}
    except NAMED as error:
        word = {"word": type(error).__name__}
    except BaseException as error:
        word = {"finding": f"{type(error).__name__}: {error}"[:500], "where": _where(error)}
    os.write(told, json.dumps(word).encode())
    os._exit(0)


def _used_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _where(error: BaseException) -> str:
    trace, last = error.__traceback__, ""
    while trace is not None:
        last = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return last


def attempt(job: Job) -> dict[str, str]:
    """`word` when the job ended as it may, else `finding`."""
    with tempfile.TemporaryDirectory(prefix="scgn-fuzz-") as name:
        folder = Path(name)
        job.write(folder)
        (folder / "cwd").mkdir()
        before = _listing(folder)
        told = _forked(folder, job)
        left = [name for name in _listing(folder) - before if not name.endswith(OWN)]
    if "word" in told and told["word"] != LATE and left and "made.npz" not in left:
        return {"finding": f"left behind: {left}"}
    return told


def _listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def _forked(folder: Path, job: Job) -> dict[str, str]:
    """Run the job in a child, and wait for its word or its death."""
    answer, told = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _in_child(folder, job, told, parent)
    os.close(told)
    late = not select.select([answer], [], [], WALL_S)[0]
    if late:
        os.kill(pid, signal.SIGKILL)
    line = os.read(answer, 4096)
    os.close(answer)
    _, status, used = os.wait4(pid, 0)
    if line:
        found: dict[str, str] = json.loads(line)
        return found
    died = -os.waitstatus_to_exitcode(status)
    # At its limit of processor time the kernel kills it, as limit and last limit are the same.
    if late or (
        died in (signal.SIGXCPU, signal.SIGKILL) and used.ru_utime + used.ru_stime > 0.9 * TIME_S
    ):
        return {"word": LATE}
    return {"finding": f"killed by {signal.Signals(died).name}" if died > 0 else f"exit {-died}"}


# What jobs there are.


class Jobs:
    """Endless jobs from a seed: single files mostly, whole uploads else."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        found = {path.name: path.read_bytes() for path in sorted(CALIBRATIONS.iterdir())}
        self._files = found
        self._names = {part: [n for n in found if n.startswith(part)] for part in PARTS}
        readable = [n for n in found if n.startswith((*REFERENCES, "frames"))]
        self._slow = [name for name in readable if name.endswith(SLOW)]
        self._quick = [name for name in readable if not name.endswith(SLOW)]

    def next(self) -> Job:
        luck = self._chance.random()
        if luck < 0.6:
            slow = self._chance.random() < SLOW_SHARE
            name = self._chance.choice(self._slow if slow else self._quick)
            return Job("read", {"dark": (self._called(name), self._damaged(name))})
        if luck < 0.72:
            name = self._chance.choice(self._names["calibration"])
            return Job("load", {"calibration": (name, self._damaged(name))})
        return self._upload()

    def _damaged(self, name: str) -> bytes:
        other = self._files[self._chance.choice(self._quick)]
        return damaged(self._chance, self._files[name], other)

    def _called(self, name: str) -> str:
        """A sender may call a file what he likes."""
        if self._chance.random() < 0.9:
            return name
        return self._chance.choice(("a.mrc", "a.npy", "", "../../x.h5", "a.dm3", "\u202e.tif"))

    def _upload(self) -> Job:
        """A form with one damaged file, at times two, or none but a query that does not fit."""
        chosen = ["calibration"] if self._chance.random() < 0.15 else self._references()
        beside = [part for part in ("noise", "frames") if self._chance.random() < 0.3]
        names = {
            part: self._chance.choice([n for n in self._names[part] if not n.endswith(SLOW)])
            for part in dict.fromkeys([*chosen, *beside])
        }
        bad = set(
            self._chance.sample(list(names), min(len(names), self._chance.choice((0, 1, 1, 2))))
        )
        parts = {
            part: (self._called(name), self._damaged(name) if part in bad else self._files[name])
            for part, name in names.items()
        }
        return Job("check", parts, self._query())

    def _references(self) -> list[str]:
        return [part for part in REFERENCES if self._chance.random() < 0.6] or ["dark"]

    def _query(self) -> dict[str, Any]:
        return {
            "gain_convention": self._chance.choice(("multiply", "divide", None)),
            "orientation": self._chance.choice(ORIENTATIONS),
            "exposure_ms": self._chance.choice((None, 1.0)),
        }


# The run.


@contextmanager
def watched_store() -> Iterator[Callable[[], str]]:
    """A store with an active calibration; call for a digest of all that is in it."""
    with tempfile.TemporaryDirectory(prefix="scgn-fuzz-state-") as name:
        store = CalibrationStore(Path(name))
        store.open()
        made = load_calibration(CALIBRATIONS / "calibration-gain.npz")
        store.add(made, {"verdict": "accepted"})
        store.note(Activity().then(made.id))

        def digest() -> str:
            files = sorted(path for path in Path(name).rglob("*") if path.is_file())
            lines = [f"{p} {hashlib.sha256(p.read_bytes()).hexdigest()}" for p in files]
            return hashlib.sha256("\n".join(lines).encode()).hexdigest()

        yield digest


def fuzz_calibrations(files: int, seed: int, found: Path) -> dict[str, Any]:
    """Try so many jobs; findings are kept in `found`, and the run goes on."""
    jobs, begun = Jobs(seed), time.monotonic()
    words: dict[str, Counter[str]] = {target: Counter() for target in TARGETS}
    findings: list[dict[str, str]] = []
    late: list[dict[str, str]] = []
    with watched_store() as digest:
        before = digest()
        for _ in range(files):
            job = jobs.next()
            told = attempt(job)
            words[job.target][told.get("word", "finding")] += 1
            if "word" not in told or told["word"] == LATE:
                (findings if "word" not in told else late).append({**told, "job": job.name})
                keep(job, found / job.name)
        changed = digest() != before
    if changed:
        findings.append({"finding": "the store of calibrations was changed"})
    return {
        "files": files, "seed": seed, "seconds": round(time.monotonic() - begun, 1),
        "limits": {"memory_mb": MEMORY_MB, "time_s": TIME_S},
        "outcomes": {target: dict(found.most_common()) for target, found in words.items()},
        "late": late, "state_changed": changed, "findings": findings,
    }  # fmt: skip


def keep(job: Job, folder: Path) -> None:
    """A job to be tried again."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    job.write(folder)
