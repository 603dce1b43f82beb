"""Calibrations on disk: history, what a kill at any instant leaves, what a damaged note does."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import settings, wait_for

from scgn.calibration import Calibration, CalibrationError, build_calibration
from scgn_live.calibration_control import CalibrationControl, NothingBefore
from scgn_live.calibrations import HISTORY_KEPT, Activity, CalibrationStore

IDS = [f"{number:012x}" for number in range(5)]
KILLS = 30


def calibration(level: float) -> Calibration:
    return build_calibration(dark=np.full((6, 7), level))


@pytest.fixture
def store(tmp_path: Path) -> CalibrationStore:
    store = CalibrationStore(tmp_path)
    store.open()
    return store


def names(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "calibrations").iterdir())


# Which one is active, and which were.


def test_states_from_upload_to_rollback() -> None:
    a, b, c, *_ = IDS
    activity = Activity()
    assert activity.state(a) == "staged"
    activity = activity.then(a).then(b)
    assert [activity.state(x) for x in (a, b, c)] == ["replaced", "active", "staged"]
    activity = activity.back()
    assert [activity.state(x) for x in (a, b, c)] == ["active", "rolled back", "staged"]
    activity = activity.back()
    assert activity.active is None
    assert [activity.state(x) for x in (a, b, c)] == ["rolled back", "rolled back", "staged"]
    assert activity.then(b).state(b) == "active", "it may be tried again"


def test_activating_the_active_one_again_changes_nothing() -> None:
    activity = Activity().then(IDS[0])
    assert activity.then(IDS[0]) == activity


def test_none_is_part_of_the_history() -> None:
    activity = Activity().then(IDS[0]).then(None).then(IDS[1])
    assert activity.back().active is None
    assert activity.back().back().active == IDS[0]


def test_history_is_bounded() -> None:
    activity = Activity()
    for number in range(3 * HISTORY_KEPT):
        activity = activity.then(f"{number:012x}")
    assert len(activity.before) == HISTORY_KEPT
    assert activity.back().active == f"{3 * HISTORY_KEPT - 2:012x}"
    for _ in range(HISTORY_KEPT):
        activity = activity.back()
    assert (activity.before, len(activity.rolled_back)) == ([], HISTORY_KEPT)


@given(st.lists(st.sampled_from([*IDS, None, "back"])))
def test_every_calibration_has_one_state_and_the_active_one_is_active(steps: list[str]) -> None:
    activity = Activity()
    for step in steps:
        if step != "back":
            activity = activity.then(step)
        elif activity.before:
            activity = activity.back()
        states = [activity.state(identity) for identity in IDS]
        assert states.count("active") == (activity.active is not None)
        assert activity.active not in activity.rolled_back


# What lies in the folder.


def test_what_is_added_is_found_with_its_report_and_picture(store: CalibrationStore) -> None:
    first, second = calibration(1), calibration(2)
    store.add(first, {"verdict": "accepted"})
    store.add_picture(first.id, b"picture")
    os.utime(store.path(first.id), (1, 1))
    store.add(second)
    assert store.ids() == [second.id, first.id], "the newest first"
    assert store.load(first.id).id == first.id
    assert store.report(first.id) == {"verdict": "accepted"}
    assert store.path(first.id, ".png").read_bytes() == b"picture"
    assert store.report(second.id) == {}
    assert not store.path(second.id, ".png").exists()


def test_the_same_content_is_one_calibration_with_the_newer_report(
    store: CalibrationStore, tmp_path: Path
) -> None:
    store.add(calibration(1), {"camera": "one"})
    store.add_picture(calibration(1).id, b"of the first report")
    store.add(calibration(1), {"camera": "two"})
    assert len(names(tmp_path)) == 2, "an older report's picture is none of the newer one's"
    assert store.report(calibration(1).id) == {"camera": "two"}


@pytest.mark.parametrize("name", ["", "..", "../../etc/passwd", "A" * 12, "0" * 11, "0" * 13, "*"])
def test_what_is_no_id_is_not_there(store: CalibrationStore, name: str) -> None:
    assert not store.has(name)


def test_deleting_takes_report_and_picture_along(store: CalibrationStore, tmp_path: Path) -> None:
    store.add(calibration(1), {})
    store.add_picture(calibration(1).id, b"picture")
    store.delete(calibration(1).id)
    assert names(tmp_path) == []
    store.delete(calibration(1).id)  # gone already: no error


def test_a_full_disk_leaves_what_was_there(
    store: CalibrationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(calibration(1), {"verdict": "accepted"})
    before = names(tmp_path)

    def no_room(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(OSError, match="No space"):
        store.add(calibration(2), {})
    with pytest.raises(OSError, match="No space"):
        store.add_picture(calibration(1).id, b"picture")
    with pytest.raises(OSError, match="No space"):
        store.note(Activity(calibration(2).id))
    assert names(tmp_path) == before
    assert store.activity() == Activity()


def test_a_sweep_takes_what_a_kill_left_half_done(store: CalibrationStore, tmp_path: Path) -> None:
    whole = calibration(1)
    store.add(whole, {})
    store.add_picture(whole.id, b"picture")
    store.note(Activity(whole.id))
    folder = tmp_path / "calibrations"
    for name in (".new-abc", f"{IDS[0]}.json", f"{IDS[0]}.png"):
        (folder / name).write_bytes(b"half")
    (folder / "notes.txt").write_text("of the operator")
    store.sweep()
    assert names(tmp_path) == sorted(
        [f"{whole.id}.json", f"{whole.id}.npz", f"{whole.id}.png", "active.json", "notes.txt"]
    )


@pytest.mark.parametrize("content", ["", "no JSON", "[1]", "null", '"x"', "{", "\udcff"])
def test_a_damaged_report_is_no_report(store: CalibrationStore, content: str) -> None:
    store.add(calibration(1))
    path = store.path(calibration(1).id, ".json")
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert store.report(calibration(1).id) == {}


def test_a_damaged_calibration_is_named(store: CalibrationStore) -> None:
    store.add(calibration(1))
    path = store.path(calibration(1).id)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    store.note(Activity(calibration(1).id))
    with pytest.raises(CalibrationError):
        store.load(calibration(1).id)
    found, problem = store.active()
    assert found is None
    assert problem is not None
    assert problem.startswith("active calibration cannot be used: ")
    assert str(path.parent) not in problem, "words for an answer name no path"


def test_another_calibration_under_the_active_name_is_not_used(store: CalibrationStore) -> None:
    for level in (1, 2):
        store.add(calibration(level))
    store.path(calibration(1).id).replace(store.path(calibration(2).id))
    store.note(Activity(calibration(2).id))
    found, problem = store.active()
    # Both are whole: only the name lies. Whoever asks for one id must not get the other.
    assert (found, problem is not None) == (None, True)


NOTES: list[Any] = [
    "", "no JSON", "[]", "{}", "7", '{"active": 5}', '{"active": ["x"]}', '{"active": "../up"}',
    '{"active": null, "before": 3}', '{"active": null, "before": [4]}', "\udcff",
    '{"active": null, "rolled_back": {"a": 1}}', '{"active": null, "rolled_back": [null]}',
]  # fmt: skip


@pytest.mark.parametrize("note", NOTES)
def test_a_damaged_note_is_said_and_stops_nothing(
    store: CalibrationStore, tmp_path: Path, note: str
) -> None:
    store.add(calibration(1))
    (tmp_path / "calibrations" / "active.json").write_bytes(note.encode("utf-8", "surrogateescape"))
    found, problem = store.active()
    assert found is None
    assert problem is not None
    assert problem.startswith("active calibration cannot be used")
    store.note(store_activity_or_none(store).then(calibration(1).id))
    assert store.active()[1] is None, "the next activation mends it"


def store_activity_or_none(store: CalibrationStore) -> Activity:
    try:
        return store.activity()
    except ValueError:
        return Activity()


def test_a_missing_active_calibration_is_said(store: CalibrationStore) -> None:
    store.note(Activity(IDS[0]))
    found, problem = store.active()
    assert found is None
    assert problem is not None
    assert IDS[0] in problem


# In the frame process.


class StandIn:
    """An engine as far as calibrations need one."""

    def __init__(self) -> None:
        self.used: list[str | None] = []
        self.refuses = False
        self.mismatched_s = None

    def prepare(self, _: Calibration | None) -> None:
        if self.refuses:
            raise RuntimeError("no room on the device")

    def use_calibration(self, found: Calibration | None) -> None:
        self.used.append(None if found is None else found.id)


@pytest.fixture
def control(tmp_path: Path) -> CalibrationControl:
    control = CalibrationControl(settings(tmp_path))
    control.store.open()
    control.engine = StandIn()  # type: ignore[assignment]
    return control


Do = Callable[..., dict[str, Any]]


def doing(control: CalibrationControl) -> Do:
    return lambda verb, **asked: control.handlers()[verb](asked)


def test_rollback_goes_back_step_by_step(control: CalibrationControl) -> None:
    do, made = doing(control), [calibration(level) for level in (1, 2, 3)]
    for each in made:
        control.store.add(each)
        do("activate", id=each.id)
    assert [do("rollback")["id"] for _ in range(3)] == [made[1].id, made[0].id, None]
    with pytest.raises(NothingBefore):
        do("rollback")
    assert control.store.activity().active is None
    assert control.engine is not None
    assert control.engine.used[-3:] == [made[1].id, made[0].id, None]  # type: ignore[attr-defined]


def test_rollback_passes_over_what_was_deleted(control: CalibrationControl) -> None:
    do, made = doing(control), [calibration(level) for level in (1, 2, 3)]
    for each in made:
        control.store.add(each)
        do("activate", id=each.id)
    control.store.delete(made[1].id)
    assert do("rollback") == {"id": made[0].id}
    control.store.delete(made[2].id)
    assert do("rollback") == {"id": None}


def test_what_cannot_be_used_changes_nothing(control: CalibrationControl) -> None:
    do, engine = doing(control), control.engine
    control.store.add(calibration(1))
    control.store.add(calibration(2))
    do("activate", id=calibration(1).id)
    before = control.store.activity()
    with pytest.raises(CalibrationError):
        do("activate", id=IDS[0])
    engine.refuses = True  # type: ignore[union-attr]
    with pytest.raises(RuntimeError, match="no room"):
        do("activate", id=calibration(2).id)
    assert control.store.activity() == before
    assert engine.used == [calibration(1).id]  # type: ignore[union-attr]


def test_a_damaged_note_is_replaced_by_the_next_activation(control: CalibrationControl) -> None:
    control.store.add(calibration(1))
    note = control.store.path("active", ".json")
    for content in NOTES:
        note.write_bytes(content.encode("utf-8", "surrogateescape"))
        assert control.load_active() is None
        assert control.problem is not None
        doing(control)("activate", id=calibration(1).id)
        assert control.problem is None
        assert control.store.activity().active == calibration(1).id


# kill -9 at any instant.

# One process imports all this and makes others that share it: thirty starts cost nothing.
ADDING = """
import itertools, os, sys
from pathlib import Path
import numpy as np
from scgn.calibration import build_calibration
from scgn_live.calibrations import CalibrationStore

def add_for_ever(store, log, first):
    for number in itertools.count(first):
        made = build_calibration(dark=np.full((64, 64), number, np.float32))
        store.add(made, {"number": number})
        store.add_picture(made.id, b"picture" * 1000)
        os.write(log, f"noting {made.id}\\n".encode())
        store.note(store.activity().then(made.id))
        os.write(log, f"noted {made.id}\\n".encode())

folder = Path(sys.argv[1])
for line in sys.stdin:
    store = CalibrationStore(folder)
    store.open()
    log = os.open(folder / "log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    child = os.fork()
    if child == 0:
        add_for_ever(store, log, int(line))
    os.close(log)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


def test_a_kill_at_any_instant_leaves_the_old_content_or_the_new(tmp_path: Path) -> None:
    instants, log = random.Random(20), tmp_path / "log"
    store, torn = CalibrationStore(tmp_path), 0
    active: str | None = None
    log.touch()
    with subprocess.Popen(
        [sys.executable, "-c", ADDING, str(tmp_path)], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as adder:  # fmt: skip
        assert adder.stdin is not None
        assert adder.stdout is not None
        for attempt in range(KILLS):
            size = log.stat().st_size
            print(1000 * attempt, file=adder.stdin, flush=True)
            child = int(adder.stdout.readline())
            wait_for(partial(grown, log, size), "an addition")
            time.sleep(instants.uniform(0, 0.03))  # the instant is what is tried
            os.kill(child, signal.SIGKILL)
            assert adder.stdout.readline() == "ended\n"
            torn += any(name.startswith(".new-") for name in names(tmp_path))
            active = active_after_a_kill(store, log.read_text()[size:], active)
        adder.stdin.close()
    assert torn, "no kill came in the middle of a file: the instants are badly chosen"
    assert adder.returncode == 0


def grown(log: Path, size: int) -> bool:
    return log.stat().st_size > size


def active_after_a_kill(store: CalibrationStore, log: str, before: str | None) -> str | None:
    """The active id, once all holds that must; log: what was noted since `before` was active."""
    store.open()
    store.sweep()
    for identity in store.ids():
        assert store.load(identity).id == identity
        assert "number" in store.report(identity)
        picture = store.path(identity, ".png")
        assert not picture.exists() or picture.read_bytes() == b"picture" * 1000
    words = [line.split() for line in log.splitlines()]
    noted = [identity for word, identity in words if word == "noted"]
    found, problem = store.active()
    assert problem is None
    active = None if found is None else found.id
    assert active in (noted[-1] if noted else before, words[-1][1])
    assert store.activity().active == active
    assert not any(path.name.startswith(".new-") for path in store.path("x").parent.iterdir())
    return active
