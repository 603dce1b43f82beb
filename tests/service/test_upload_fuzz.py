"""Malformed uploads by the hundred: each a 4xx in words, and what is in use stays in use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import PARTS, SHAPE, Upload, uploads, valid
from support import wait_for
from uploads import Http, npy

from scgn.calibration import load_calibration
from scgn_live.checking.files import CALIBRATION, RESULT, Task
from scgn_live.running import RunningService, start_service

SEED = 2024
COUNT = 200
# Each over HTTP takes a process; all of them when they are asked for.
HTTP_COUNT = int(os.environ.get("FUZZED_UPLOADS", "20"))

# One process for all, with the limits of a real one; what it dies of is told by number.
CHECKING = """
import os, sys, traceback
from pathlib import Path
from scgn_live.checking import __main__ as checking
from scgn_live.checking.limits import limit

checking.draw_proof = lambda path, proof: None  # takes longer than all the rest
limit(4096, 3600, os.getppid())
for folder in sys.argv[1:]:
    try:
        checking.main(Path(folder))
    except BaseException:
        (Path(folder) / "died").write_text(traceback.format_exc())
"""


def prepared(upload: Upload, folder: Path, frames: bytes) -> bool:
    """The upload as the HTTP process hands it over; False where it would not."""
    names = [name for name, _, _ in upload.files]
    known = set(names) <= set(PARTS) and len(set(names)) == len(names) > 0
    if not known or set(upload.query) - {"gain_convention"}:
        return False
    folder.mkdir()
    for name, _, content in upload.files:
        (folder / name).write_bytes(content)
    cameras: list[dict[str, Any]] = []
    if frames:
        (folder / "frames-0.npy").write_bytes(frames)
        cameras = [{"source": "cam", "shape": list(SHAPE), "file": "frames-0.npy"}]
    parts = {name: called for name, called, _ in upload.files}
    Task("upload", parts, upload.query.get("gain_convention"), cameras=cameras).write(folder)
    return True


def test_two_hundred_malformed_uploads_end_in_words(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frames = npy(rng.poisson(40, (12, *SHAPE)).astype(np.uint16))
    folders: dict[Path, Upload] = {}
    for number, upload in enumerate(uploads(SEED)):
        folder = tmp_path / f"{number:03d}"
        if prepared(upload, folder, frames if number % 2 else b""):
            folders[folder] = upload
        if len(folders) == 2 * COUNT:
            break
    command = [sys.executable, "-W", "ignore", "-c", CHECKING, *map(str, folders)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert ended.returncode == 0, f"the process itself died: {ended.stderr[-2000:]}"
    statuses: Counter[int] = Counter()
    for folder, upload in folders.items():
        died = folder / "died"
        assert not died.exists(), f"{folder.name} {upload.how}: {died.read_text()[-2000:]}"
        statuses[judged(folder, upload)] += 1
    print(f"{len(folders)} uploads: {dict(statuses)}")
    assert set(statuses) <= {201, 413, 415, 422}
    assert statuses[413] + statuses[415] + statuses[422] >= COUNT, statuses


def judged(folder: Path, upload: Upload) -> int:
    """Status of a result; a problem must tell what was expected and what came, and no place. What
    is accepted must be a calibration.
    """
    result = json.loads((folder / RESULT).read_text())
    if "report" in result:
        made = load_calibration(folder / CALIBRATION)
        assert [made.id, list(made.shape)] == [result["report"]["id"], result["report"]["shape"]]
        return 201
    problem = result["problem"]
    assert problem["field"] in (*PARTS, "gain_convention", "orientation", None), upload.how
    assert "expected" in problem["detail"], (upload.how, problem)
    for secret in (str(folder), "site-packages", "Traceback", ", line "):
        assert secret not in problem["detail"], (upload.how, problem)
    return int(problem["status"])


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    running = start_service(["--state-dir", str(tmp_path), "--engine", "pass-through"])
    yield running
    assert running.stop() == 0
    running.log.unlink()


@pytest.mark.timeout(900 if HTTP_COUNT > 20 else 120)
def test_malformed_uploads_over_http_change_nothing(
    service: RunningService, tmp_path: Path
) -> None:
    http = Http.of(service)
    pids = [service.pid_of(role) for role in ("http", "frames")]
    active: str | None = http.stored({"dark": npy(np.full(SHAPE, 7.0))})["id"]
    statuses: Counter[int] = Counter()
    for upload in uploads(SEED + 1):
        answer = http.upload(upload.files, **upload.query)
        statuses[answer.status] += 1
        assert answer.status == 201 or 400 <= answer.status < 500, (upload.how, answer.body)
        if answer.status == 201 and answer.json["active"]:
            active = answer.json["id"]  # it was a valid one after all
        else:
            assert "detail" in answer.json or answer.status == 201, upload.how
        assert http.active == active, upload.how
        if statuses.total() - statuses[201] == HTTP_COUNT:
            break
    print(f"{statuses.total()} uploads: {dict(statuses)}")
    assert http.get("/readyz").status == 200
    assert [service.pid_of(role) for role in ("http", "frames")] == pids, "a process died"
    wait_for(lambda: not leftovers(service), "the checks' folders being gone")


def leftovers(service: RunningService) -> list[str]:
    """What is left in the folder of the checks."""
    *_, run_dir = Path(f"/proc/{service.pid_of('http')}/cmdline").read_text().split("\0")[:-1]
    return [path.name for path in (Path(run_dir) / "checks").iterdir()]


def test_what_is_fuzzed_is_valid_before(tmp_path: Path) -> None:
    """Otherwise all this would prove little."""
    folders = []
    for number, (part, called, content) in enumerate(valid().values()):
        if part != "noise":
            query = {"gain_convention": "multiply"} if part == "gain" else {}
            folders.append(tmp_path / str(number))
            prepared(Upload("valid", [(part, called, content)], query), folders[-1], b"")
    command = [sys.executable, "-W", "ignore", "-c", CHECKING, *map(str, folders)]
    subprocess.run(command, check=True, timeout=110, stdout=subprocess.DEVNULL)
    for folder in folders:
        assert "report" in json.loads((folder / RESULT).read_text()), folder
