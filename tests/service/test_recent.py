"""Kept frames: the last of each camera within memory and spacing, and one series at a time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from scgn_client.messages import FrameHeader, Start
from scgn_live.recent import CollectionError, Collector, RecentFrames, save_stack
from scgn_live.ring import Slot
from scgn_live.run import Run

SHAPE = (10, 20)
FRAME_MB = 10 * 20 * 2 / 1e6


def slot_of(
    index: int,
    source: str = "cam",
    series: str = "s",
    shape: tuple[int, int] = SHAPE,
    dtype: str = "<u2",
    exposure_ms: float | None = None,
) -> Slot:
    """A slot as the engine shows it; every pixel is the frame's index."""
    slot, pixels = Slot(None), np.full(shape, index, dtype)
    header = FrameHeader(source, series, index, shape, dtype)
    run = Run(Start(source, series, exposure_ms))
    slot.store(header, run, zmq.Frame(pixels.tobytes()), time.monotonic())
    return slot


def saved(recent: RecentFrames, path: Path, source: str = "cam") -> list[int]:
    """Indices of a camera's kept frames."""
    count = recent.save(path, source)
    if not count:
        assert not path.exists()
        return []
    stack = np.load(path, allow_pickle=False)
    assert stack.shape[0] == count
    return [int(frame.flat[0]) for frame in stack]


# The last frames of each camera.


def test_the_last_frames_stay_as_they_came(tmp_path: Path) -> None:
    recent = RecentFrames(3, 0, 1)
    for index in range(5):
        recent.offer(slot_of(index, exposure_ms=2.5))
    assert saved(recent, tmp_path / "a.npy") == [2, 3, 4]
    stack = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert (stack.shape, stack.dtype.str) == ((3, *SHAPE), "<u2")
    row = recent.cameras()[0]
    assert 0 <= row.pop("age_s") < 5
    assert row == {
        "source": "cam", "shape": [10, 20], "dtype": "<u2", "exposure_ms": 2.5, "frames": 3,
    }  # fmt: skip


def test_kept_frames_are_copies(tmp_path: Path) -> None:
    memory = np.empty(400, np.uint8)
    slot = Slot(lambda _: memory)
    pixels = np.full(SHAPE, 7, "<u2")
    header = FrameHeader("cam", "s", 0, SHAPE, "<u2")
    slot.store(header, Run(Start("cam", "s")), zmq.Frame(pixels.tobytes()), time.monotonic())
    recent, collector = RecentFrames(1, 0, 1), Collector(1)
    collector.begin(1, None)
    recent.offer(slot)
    collector.offer(slot)
    memory[:] = 0  # the slot carries the next frame
    assert saved(recent, tmp_path / "recent.npy") == [7]
    collector.finish(tmp_path / "series.npy")
    assert np.load(tmp_path / "series.npy", allow_pickle=False).min() == 7


def test_frames_are_kept_at_a_spacing(tmp_path: Path) -> None:
    recent = RecentFrames(10, 3600, 1)
    for index in range(3):
        recent.offer(slot_of(index))
    recent.offer(slot_of(9, source="other"))
    assert saved(recent, tmp_path / "a.npy") == [0], "the next one is kept in an hour"
    assert saved(recent, tmp_path / "b.npy", "other") == [9], "each camera has its own clock"


@pytest.mark.parametrize(
    "change", [{"shape": (8, 8)}, {"dtype": ">u2"}, {"exposure_ms": 9.0}], ids=str
)
def test_another_kind_starts_anew_whatever_the_spacing(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    recent = RecentFrames(10, 3600, 1)
    recent.offer(slot_of(0))
    recent.offer(slot_of(1, **change))
    assert saved(recent, tmp_path / "a.npy") == [1]
    assert recent.cameras()[0]["exposure_ms"] == change.get("exposure_ms")
    assert len(recent.cameras()) == 1


def test_another_series_of_the_same_kind_goes_on(tmp_path: Path) -> None:
    recent = RecentFrames(10, 0, 1)
    recent.offer(slot_of(0, series="one"))
    recent.offer(slot_of(1, series="two"))
    assert saved(recent, tmp_path / "a.npy") == [0, 1]


def test_the_newest_camera_comes_first() -> None:
    recent = RecentFrames(2, 0, 1)
    recent.offer(slot_of(0, source="first"))
    time.sleep(0.002)  # ages are told in ms
    recent.offer(slot_of(0, source="second"))
    assert [row["source"] for row in recent.cameras()] == ["second", "first"]


def test_memory_is_bounded_and_the_largest_gives(tmp_path: Path) -> None:
    recent = RecentFrames(100, 0, 5 * FRAME_MB)
    recent.offer(slot_of(0, source="small"))
    for index in range(10):
        recent.offer(slot_of(index))
    assert saved(recent, tmp_path / "a.npy") == [6, 7, 8, 9]
    assert saved(recent, tmp_path / "b.npy", "small") == [0]


def test_a_frame_that_is_too_big_is_not_kept(tmp_path: Path) -> None:
    recent = RecentFrames(100, 0, FRAME_MB / 2)
    recent.offer(slot_of(0))
    assert recent.cameras() == []
    assert saved(recent, tmp_path / "a.npy") == []


def test_more_cameras_than_memory_let_whole_cameras_go() -> None:
    recent = RecentFrames(100, 0, 2.5 * FRAME_MB)
    for number in range(6):
        recent.offer(slot_of(0, source=f"cam{number}"))
    assert len(recent.cameras()) == 2


def test_of_too_many_cameras_the_longest_silent_one_goes(tmp_path: Path) -> None:
    recent = RecentFrames(100, 3600, 1, cameras=3)
    for number in range(3):
        recent.offer(slot_of(number, source=f"cam{number}"))
    recent.offer(slot_of(9, source="cam0"))  # not kept so soon, but heard
    recent.offer(slot_of(3, source="cam3"))
    assert {row["source"] for row in recent.cameras()} == {"cam0", "cam2", "cam3"}
    assert saved(recent, tmp_path / "a.npy", "cam0") == [0]


def test_a_source_for_each_frame_leaves_nothing_behind() -> None:
    recent = RecentFrames(5, 0, 3.5 * FRAME_MB, cameras=2)
    for number in range(500):
        recent.offer(slot_of(0, source=f"cam{number}"))
        recent.offer(slot_of(1, source=f"cam{number}", shape=(8, 8)))
    assert len(recent.cameras()) == 2
    assert recent._bytes == 2 * 8 * 8 * 2, "the running total has drifted"
    for index in range(5):
        recent.offer(slot_of(index, source="cam"))
    assert recent._bytes == sum(kept.nbytes for kept in recent._cameras.values())
    assert recent._bytes <= 3.5 * FRAME_MB * 1e6


def test_no_frames_are_kept_when_none_are_wanted() -> None:
    recent = RecentFrames(0, 0, 1)
    recent.offer(slot_of(0))
    assert recent.cameras() == []


# One series, to make a calibration of.


def test_a_series_is_collected_until_it_is_whole(tmp_path: Path) -> None:
    collector = Collector(1)
    assert collector.state() == {}
    collector.begin(3, None)
    assert collector.state()["frames"] == 0
    for index in (4, 5, 8, 9):
        collector.offer(slot_of(index, exposure_ms=1.0))
    state = collector.state()
    assert 0 <= state.pop("idle_s") < 5
    assert state == {
        "wanted": 3, "frames": 3, "full": True, "source": "cam", "series": "s",
        "shape": [10, 20], "dtype": "<u2", "exposure_ms": 1.0, "skipped": 2,
    }  # fmt: skip
    assert collector.finish(tmp_path / "a.npy") == 3
    stack = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert [int(frame.flat[0]) for frame in stack] == [4, 5, 8]
    assert collector.state() == {}


@pytest.mark.parametrize(
    "change",
    [{"shape": (8, 8)}, {"dtype": ">u2"}, {"exposure_ms": 9.0}, {"series": "t"}, {"source": "b"}],
    ids=str,
)
def test_only_frames_of_one_series_and_kind_are_collected(change: dict[str, Any]) -> None:
    collector = Collector(1)
    collector.begin(3, None)
    collector.offer(slot_of(0))
    collector.offer(slot_of(1, **change))
    collector.offer(slot_of(2))
    assert (collector.state()["frames"], collector.state()["skipped"]) == (2, 1)


def test_the_camera_asked_for_is_waited_for() -> None:
    collector = Collector(1)
    collector.begin(2, "wanted")
    collector.offer(slot_of(0, source="other"))
    assert (collector.state()["frames"], collector.state()["source"]) == (0, "wanted")
    collector.offer(slot_of(0, source="wanted"))
    assert collector.state()["frames"] == 1


def test_a_second_collection_is_refused_until_the_first_is_over(tmp_path: Path) -> None:
    collector = Collector(1)
    collector.begin(2, None)
    with pytest.raises(CollectionError, match="wait for it or cancel it"):
        collector.begin(2, None)
    collector.offer(slot_of(0))
    assert collector.finish(None) == 1, "cancelled: nothing is written"
    assert list(tmp_path.iterdir()) == []
    collector.begin(2, None)
    assert collector.state()["frames"] == 0


def test_what_is_too_big_for_memory_ends_early() -> None:
    collector = Collector(2.5 * FRAME_MB)
    collector.begin(100, None)
    for index in range(5):
        collector.offer(slot_of(index))
    state = collector.state()
    assert (state["frames"], state["full"]) == (2, True)


def test_nothing_is_collected_unasked(tmp_path: Path) -> None:
    collector = Collector(1)
    collector.offer(slot_of(0))
    assert collector.finish(tmp_path / "a.npy") == 0
    assert not (tmp_path / "a.npy").exists()


@pytest.mark.parametrize("dtype", ["|u1", "<u2", ">u2", "<i2", "<u4", "<i4", "<f4"])
def test_a_stack_is_written_as_numpy_reads_it(tmp_path: Path, dtype: str) -> None:
    frames = [np.arange(12).reshape(3, 4).astype(dtype)]
    frames.append(np.arange(12).reshape(4, 3).astype(dtype).T)
    save_stack(tmp_path / "a.npy", frames)
    stack = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert stack.dtype.str == dtype
    np.testing.assert_array_equal(stack, np.stack(frames))
