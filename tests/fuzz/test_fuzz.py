"""Short runs of the fuzzers, the corpus they start from, and everything that they ever found."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scgn.calibration import load_calibration
from scgn_client import wire
from scgn_live.checking.readers import read_stack

from . import messages
from .corpus import CALIBRATIONS, write_calibrations, write_wire
from .damage import damaged
from .files import COLUMNS, ROWS
from .messages import Messages, content_of, parts_of, seeds
from .mutation import mutated
from .wire import WireTarget, fuzz_wire

ROOT = Path(__file__).resolve().parents[2]
CORPUS_BYTES_MAX = 300_000
QUICK = sorted(path for path in CALIBRATIONS.iterdir() if path.suffix not in (".dm4", ".json"))


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """`python -m tests.fuzz` with these words."""
    command = [sys.executable, "-m", "tests.fuzz", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


# The corpus.


@pytest.mark.parametrize("kind", messages.KINDS)
def test_every_message_of_the_corpus_is_right(kind: str) -> None:
    found = seeds(kind)
    assert len(found) >= 2
    for parts in found:
        if kind == "ingest":
            wire.decode_ingest(parts[0])
        elif kind == "published":
            wire.decode_published(parts[0], parts[1:])
        else:
            header, pixels = wire.split_latest(parts[0])
            wire.decode_published(header, [pixels])


@pytest.mark.parametrize("path", QUICK, ids=lambda path: path.name)
def test_every_file_of_the_corpus_is_right(path: Path, tmp_path: Path) -> None:
    (tmp_path / "dark").write_bytes(path.read_bytes())
    if path.name.startswith("calibration"):
        assert load_calibration(tmp_path / "dark").shape == (ROWS, COLUMNS)
    else:
        found = read_stack(tmp_path / "dark", "dark", path.name, 1e6)
        assert found.shape[1:] == (ROWS, COLUMNS)


def test_the_corpus_is_small_and_can_be_written_anew(tmp_path: Path) -> None:
    files = [path for path in CALIBRATIONS.parent.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < CORPUS_BYTES_MAX
    write_wire(tmp_path / "wire")
    write_calibrations(tmp_path / "calibrations")
    written = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert written == {str(path.relative_to(CALIBRATIONS.parent)) for path in files}


# The fuzzer's own parts.


def test_one_seed_gives_one_sequence() -> None:
    def first(seed: int) -> list[list[bytes]]:
        source = Messages(seed)
        return [source.next(kind) for _ in range(50) for kind in messages.KINDS]

    assert first(4) == first(4) != first(5)


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=messages.PARTS_MAX))
def test_seed_files_hold_parts_as_they_were(parts: list[bytes]) -> None:
    assert parts_of(content_of(parts)) == parts


@given(st.randoms(use_true_random=False), st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_can_be_changed(chance: object, seed: bytes, other: bytes) -> None:
    assert isinstance(mutated(chance, seed, other), bytes)  # type: ignore[arg-type]
    assert isinstance(damaged(chance, b"x" + seed, other), bytes)  # type: ignore[arg-type]


# Short runs.


@pytest.fixture(scope="module")
def target() -> Iterator[WireTarget]:
    with WireTarget() as found:
        yield found


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=600))
def test_any_bytes_on_the_wire(target: WireTarget, content: bytes) -> None:
    target.try_message(parts_of(content))


@pytest.mark.parametrize("seed", [1001, 1002])
def test_ten_thousand_messages(seed: int) -> None:
    outcomes = fuzz_wire(10_000, seed)["outcomes"]
    assert outcomes["ingest"]["accepted"] > 1000, "nothing to change the state of"
    assert len(outcomes["ingest"]) > 12, "most reasons are met"
    assert set(outcomes["sent_on"]) == {"Start", "PublishedFrame", "End"}


def test_a_hundred_files() -> None:
    done = run("calibrations", "--files", "100", "--seed", "1003")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["findings"] == []
    assert not found["state_changed"]
    for what in ("read", "check"):  # of the few whole calibrations each may be damaged
        assert "accepted" in found["outcomes"][what]


def test_what_was_found_before_is_named_now() -> None:
    done = run("again")
    assert done.returncode == 0, done.stdout + done.stderr
