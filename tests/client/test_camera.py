"""The simulated camera: known flaws, undone exactly by its references; the scene it looks at."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
import zmq

from scgn_client import ClientError, FrameSender, SendTimeout
from scgn_client.camera import SimulatedCamera
from scgn_client.nucleation import Nucleation
from scgn_client.replay import Chained, Schedule, pace, repeated, send_frames

SHAPE = (192, 256)


@pytest.fixture(scope="module")
def camera() -> SimulatedCamera:
    return SimulatedCamera(SHAPE, seed=5)


@pytest.fixture(scope="module")
def scene() -> Nucleation:
    return Nucleation(SHAPE, seed=5, growth_frames=100)


def corrected(camera: SimulatedCamera, i: int) -> np.ndarray:
    return (camera.frame(i).raw - camera.dark_reference) * camera.gain_reference


class Even:
    """A scene without anything in it."""

    def expected(self, i: int) -> np.ndarray:
        assert i >= 0
        return np.ones(SHAPE, np.float32)


# The camera


def test_frames_depend_on_seed_and_index_alone(camera: SimulatedCamera) -> None:
    again = SimulatedCamera(SHAPE, seed=5)
    for i in (7, 0, 3):
        assert np.array_equal(again.frame(i).raw, camera.frame(i).raw)
        assert np.array_equal(again.frame(i).clean, camera.frame(i).clean)
    assert np.array_equal(again.dark_reference, camera.dark_reference)
    assert not np.array_equal(camera.frame(0).raw, camera.frame(1).raw)
    assert not np.array_equal(SimulatedCamera(SHAPE, seed=6).frame(0).raw, camera.frame(0).raw)
    first = itertools.islice(camera.frames(first=3), 2)
    assert all(
        np.array_equal(raw, camera.frame(i).raw) for i, raw in zip((3, 4), first, strict=True)
    )


def test_types_and_shapes(camera: SimulatedCamera) -> None:
    exposure = camera.frame(0)
    assert (exposure.raw.dtype.str, exposure.raw.shape) == ("<u2", SHAPE)
    assert (exposure.clean.dtype, exposure.clean.shape) == (np.float32, SHAPE)
    assert camera.dark_reference.dtype == camera.gain_reference.dtype == np.float32
    assert camera.pixel_mask.dtype == np.uint8
    assert set(np.unique(camera.pixel_mask)) == {0, 1}


def test_correction_agrees_with_clean_up_to_noise(camera: SimulatedCamera) -> None:
    good = camera.pixel_mask == 0
    frames = [(corrected(camera, i)[good], camera.frame(i).clean[good]) for i in range(24)]
    ratio = np.mean([c.mean() for c, _ in frames]) / np.mean([k.mean() for _, k in frames])
    assert abs(ratio - 1) < 0.004
    # Photon transfer: Var = gain^2 (dose * expected + read^2 + column^2), in ADU.
    noise = np.var([c - k for c, k in frames])
    clean = np.mean([k.mean() for _, k in frames])
    expected = 20.0 * clean + 20.0**2 * (0.5**2 + 0.4**2)
    assert noise == pytest.approx(expected, rel=0.02)


def test_the_fixed_pattern_is_there_and_gone_after_correction() -> None:
    camera = SimulatedCamera(SHAPE, dose_e_per_px=400, scene=Even())
    good = camera.pixel_mask == 0
    raw = np.mean([camera.frame(i).raw.astype(float) for i in range(48)], axis=0)
    flat = np.mean([corrected(camera, i) for i in range(48)], axis=0)
    level = 400 * 20.0
    shot = level / np.sqrt(400 * 48)  # what shot noise leaves in the mean of 48 frames
    assert raw[good].std() > 4 * shot
    assert flat[good].std() == pytest.approx(shot, rel=0.05)
    columns = np.array([flat[:, k][good[:, k]].mean() for k in range(SHAPE[1])])
    assert columns.std() / level < 0.001, "columns differ by 2 % before"


def test_the_dark_reference_is_the_mean_dark_frame() -> None:
    camera = SimulatedCamera(SHAPE, dose_e_per_px=0, scene=Even())
    dark = np.mean([camera.frame(i).raw for i in range(64)], axis=0)
    # In e: read noise 0.5 and column noise 0.4 a frame.
    expected = 20.0 * np.sqrt((0.5**2 + 0.4**2) / 64)
    assert (dark - camera.dark_reference)[camera.pixel_mask == 0].std() == pytest.approx(
        expected, rel=0.1
    )


def test_defects_are_what_the_mask_says() -> None:
    camera = SimulatedCamera((512, 512))
    mask, exposure = camera.pixel_mask, camera.frame(0)
    assert 24 <= mask.sum() <= 60
    hot = exposure.raw > 10_000
    dead = camera.gain_reference == 0
    assert hot.sum() > 10
    assert dead.sum() > 10
    assert np.array_equal(hot | dead, mask == 1)


def test_column_noise_is_one_draw_per_column_and_frame() -> None:
    camera = SimulatedCamera(
        SHAPE, dose_e_per_px=0, column_noise_e=3, fixed_pattern=False, scene=Even()
    )
    columns = np.array([camera.frame(i).raw.mean(axis=0) for i in range(32)]) / 20
    assert columns.std() == pytest.approx(3, rel=0.05)
    neighbours = np.corrcoef(columns[:, :-1].ravel(), columns[:, 1:].ravel())[0, 1]
    frames = np.corrcoef(columns[:-1].ravel(), columns[1:].ravel())[0, 1]
    assert max(abs(neighbours), abs(frames)) < 0.05


def test_without_a_fixed_pattern_the_references_do_nothing() -> None:
    camera = SimulatedCamera((32, 40), fixed_pattern=False, offset_adu=7)
    assert np.all(camera.dark_reference == 7)
    assert np.all(camera.gain_reference == 1)
    assert not camera.pixel_mask.any()


@pytest.mark.parametrize("dtype", ["|u1", "<u2", ">u2", "<i2", "<u4", "<i4"])
def test_every_dtype_saturates_instead_of_wrapping(dtype: str) -> None:
    camera = SimulatedCamera((64, 64), dtype=dtype, gain_adu_per_e=1e11)
    raw = camera.frame(0).raw
    assert raw.dtype.str == dtype
    assert np.mean(raw == np.iinfo(dtype).max) > 0.5
    assert raw.min() >= 0


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(ClientError, match=r"dtype: expected one of.*got <f4"):
        SimulatedCamera(dtype="<f4")


def test_references_are_saved(camera: SimulatedCamera, tmp_path: Path) -> None:
    camera.save_references(tmp_path / "new")
    for name, array in (("dark", camera.dark_reference), ("gain", camera.gain_reference),
                        ("mask", camera.pixel_mask)):  # fmt: skip
        assert np.array_equal(np.load(tmp_path / "new" / f"{name}.npy", allow_pickle=False), array)


# The scene


def test_the_front_advances_and_comes_back(scene: Nucleation) -> None:
    fractions = [scene.crystalline_fraction(i) for i in range(0, 201, 10)]
    growing, melting = fractions[:11], fractions[10:]
    assert growing == sorted(growing)
    assert melting == sorted(melting, reverse=True)
    assert fractions[0] < 0.1
    assert fractions[10] == 1
    assert fractions[3] < fractions[5] < fractions[7]


def test_a_grown_crystal_has_sharp_reflections_and_the_liquid_has_a_ring(scene: Nucleation) -> None:
    def strongest(i: int) -> float:
        frame = scene.expected(i) - scene.expected(i).mean()
        power = np.abs(np.fft.rfft2(frame)) ** 2
        return float(np.sort(power.ravel())[-8:].sum() / power.sum())

    assert strongest(100) > 0.4
    assert strongest(0) < 0.2


def test_atoms_keep_their_distance(scene: Nucleation) -> None:
    for i in (0, 40, 100, 150):
        places, _ = scene._atoms(i)
        squared = np.square(places[:, None] - places[None]).sum(axis=-1)
        np.fill_diagonal(squared, np.inf)
        nearest = np.sqrt(squared.min(axis=1)) / scene.spacing_px
        assert np.quantile(nearest, 0.05) > 0.7
        assert nearest.min() > 0.45


def test_frames_are_random_access_and_move_slowly(scene: Nucleation) -> None:
    again = Nucleation(SHAPE, seed=5, growth_frames=100)
    assert np.array_equal(again.expected(42), scene.expected(42))
    assert again.expected(42) is again.expected(42), "kept as long as nothing changed"
    step = np.abs(scene.expected(43) - scene.expected(42)).mean()
    assert 0 < step < 0.02


@pytest.mark.parametrize("white", [True, False])
def test_levels(white: bool) -> None:
    frame = Nucleation((96, 160), seed=2, white=white).expected(0)
    assert frame.dtype == np.float32
    assert frame.shape == (96, 160)
    background, peak = (frame.min(), frame.max()) if white else (frame.max(), frame.min())
    assert abs(background - 1) < 0.02
    assert 0.35 < abs(peak - background) < 0.75


def test_small_frames_have_a_scene_too() -> None:
    assert Nucleation((1, 1)).expected(3).shape == (1, 1)
    assert Nucleation((5, 64)).crystalline_fraction(0) >= 0


# Replay


@pytest.mark.parametrize(
    ("loop", "count", "expected"),
    [(False, None, [1, 2, 3]), (False, 2, [1, 2]), (True, 7, [1, 2, 3, 1, 2, 3, 1]), (True, 0, [])],
)
def test_repeated(loop: bool, count: int | None, expected: list[int]) -> None:
    assert list(repeated(Chained([[1, 2], [3]]), loop, count)) == expected


def test_looping_over_nothing_ends() -> None:
    assert list(repeated([], True, None)) == []
    assert list(repeated(iter([1]), True, None)) == [1]


def test_pace_keeps_an_absolute_schedule() -> None:
    begun, times = time.monotonic(), []
    for number in pace(100, range(20)):
        times.append(time.monotonic() - begun)
        if number == 5:
            deadline = time.monotonic() + 0.05  # a stall: the frames after it catch up
            while time.monotonic() < deadline:
                pass
    assert all(t >= k / 100 - 0.001 for k, t in enumerate(times))
    assert times[19] < 0.19 + 0.05


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ClientError, match="rate: expected"):
        Schedule(rate)


def test_send_frames_reports_rate_and_lateness() -> None:
    frames = [np.full((4, 5), k, np.uint8) for k in range(3)]
    with zmq.Context() as context, context.socket(zmq.PULL) as pull:
        port = pull.bind_to_random_port("tcp://127.0.0.1")
        with FrameSender(f"tcp://127.0.0.1:{port}", timeout_s=5) as sender:
            report = send_frames(sender, frames, 200, loop=True, count=21)
        assert (report.sent, report.skipped) == (21, 0)
        assert report.seconds >= 0.1
        assert report.rate_fps == pytest.approx(20 / report.seconds)
        assert report.late_ms_max < 1000
        assert str(report).startswith("21 frames in 0.1 s")
        got = [pull.recv_multipart() for _ in range(23) if pull.poll(5000)]
    assert [parts[1][0] for parts in got[1:-1]] == [k % 3 for k in range(21)]


def test_offset_may_be_a_whole_number() -> None:
    whole, real = (SimulatedCamera((16, 12), offset_adu=offset) for offset in (90, 90.0))
    np.testing.assert_array_equal(whole.dark_reference, real.dark_reference)


@pytest.mark.parametrize("on_timeout", ["raise", "skip"])
def test_a_frame_that_is_not_taken(on_timeout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PULL that nobody reads: queues fill up, then frames are not taken any more."""
    monkeypatch.setattr("scgn_client.sender.HAND_OVER_S", 0)  # nor when the sender closes
    frame = np.zeros((1024, 1024), np.uint16)
    with zmq.Context() as context, context.socket(zmq.PULL) as pull:
        pull.setsockopt(zmq.RCVHWM, 1)
        pull.setsockopt(zmq.RCVBUF, 65536)
        port = pull.bind_to_random_port("tcp://127.0.0.1")
        sender = FrameSender(f"tcp://127.0.0.1:{port}", timeout_s=2, queue=1)
        sender.start()
        sender.timeout_s = 0.02
        try:
            if on_timeout == "raise":
                with pytest.raises(SendTimeout):
                    send_frames(sender, [frame], loop=True, count=40)
            else:
                report = send_frames(sender, [frame], loop=True, count=40, on_timeout="skip")
                assert report.skipped > 0
                assert report.sent + report.skipped == sender.next_frame == 40
        finally:
            sender.timeout_s = 0
            sender.close()
