"""`scgn train` as its user types it: curves, a budget in minutes, the noise of one's own camera."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from scgn.__main__ import main
from scgn.calibration import build_calibration, save_calibration
from scgn.checkpoint import load_network
from scgn.noise import NoiseModel
from scgn.train import named_plan
from scgn.train.curves import read_log
from scgn.train.data import draw, pairs, validation_pairs
from scgn.train.plan import MoviePlan

SMALL = ["--threads", "1", "--sides", "24", "--movies", "0.04", "--device", "cpu"]
QUIET_CAMERA = NoiseModel(gain_adu_per_e=1e-4, read_noise_adu=0.5)


def calibration(path: Path, noise: NoiseModel | None) -> str:
    """A calibration file of a 32 x 32 camera; its id."""
    made = build_calibration(mask=np.zeros((32, 32), bool), noise=noise)
    save_calibration(path, made)
    return made.id


def test_run_writes_weights_log_and_curves(tmp_path, capsys) -> None:
    assert main(["train", *SMALL, "--steps", "3", "--every", "0", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out.split()
    assert printed == [str(tmp_path / "weights.safetensors"), str(tmp_path / "curves.png")]
    rows = read_log(tmp_path)
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert all(np.isfinite(row["error"]) and np.isfinite(row["above_flat_db_15"]) for row in rows)
    training = load_network(printed[0]).provenance.training
    assert training["parameters"] == 28_177
    assert training["plan"]["movies"] == {"frames": 18, "movies": 0.04, "looks": 9}
    assert training["device"] == "CPU, 1 thread(s)"


def test_log_of_a_run_resumed_from_an_older_state_counts_each_step_once(tmp_path) -> None:
    rows = [{"step": step, "loss": loss} for step, loss in ((1, 3.0), (2, 2.0), (2, 1.9), (3, 1.0))]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row["loss"] for row in read_log(tmp_path)] == [3.0, 1.9, 1.0]


def test_stopped_sitting_is_resumed_to_the_same_weights(tmp_path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    command = ["train", *SMALL, "--steps", "4"]
    main([*command, "--out", str(whole)])
    for _ in range(4):
        main([*command, "--stop-after", "0", "--out", str(parts)])
    assert [row["step"] for row in read_log(parts)] == [1, 2, 3, 4]
    first, second = (load_network(str(f / "weights.safetensors")).network for f in (whole, parts))
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_minutes_become_steps_once(tmp_path) -> None:
    command = ["train", *SMALL, "--minutes", "0.002", "--out", str(tmp_path)]
    assert main(command) == 0
    budget = json.loads((tmp_path / "budget.json").read_text())
    steps = budget["steps"]
    assert steps >= 1
    assert read_log(tmp_path)[-1]["step"] == steps
    assert main(command) == 0, "a second call finds the plan done"
    assert json.loads((tmp_path / "budget.json").read_text()) == budget
    assert main([*command, "--minutes", "9"]) == 2, "another budget is another run"


def test_own_camera_replaces_the_drawn_detectors(tmp_path) -> None:
    identity = calibration(tmp_path / "mine.npz", QUIET_CAMERA)
    out = tmp_path / "run"
    command = ["train", *SMALL, "--steps", "1", "--calibration", str(tmp_path / "mine.npz")]
    assert main([*command, "--out", str(out)]) == 0
    plan = load_network(str(out / "weights.safetensors")).provenance.training["plan"]
    assert plan["camera"] == identity
    drawn = draw(named_plan("ours", sides_px=(64,), target="atom_map"), 0, QUIET_CAMERA)
    noise = (drawn.noisy - drawn.clean).std(dim=(1, 2, 3))
    expected = QUIET_CAMERA.point_sigma(drawn.clean.mean(dim=(1, 2, 3)).numpy())
    np.testing.assert_allclose(noise.numpy(), expected, rtol=0.05)


def test_own_camera_is_in_what_steps_and_validation_look_at() -> None:
    """Half a count of read noise and next to no gain: what is seen is in its units."""
    plan = named_plan("ours", sides_px=(32,), movies=MoviePlan(frames=6, movies=0.0625, looks=3))
    drawn, mine = (pairs(plan, 0, camera) for camera in (None, QUIET_CAMERA))
    assert not torch.equal(drawn.given, mine.given)
    looks = {id(camera): validation_pairs(plan, camera) for camera in (None, QUIET_CAMERA)}
    assert not torch.equal(*(data.wanted for data in looks.values()))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--calibration", "{folder}/plain.npz"], "expected a calibration with noise"),
        (["--calibration", "{folder}/missing.npz"], "missing.npz cannot be read"),
        (["--calibration", "{folder}/no-gain.npz"], "expected a measured gain"),
        (["--start-from", "no-such-network"], "no network 'no-such-network'"),
    ],
)
def test_what_cannot_be_trained_is_said(tmp_path, capsys, flags, message) -> None:
    calibration(tmp_path / "plain.npz", None)
    calibration(tmp_path / "no-gain.npz", NoiseModel(gain_adu_per_e=0.0, read_noise_adu=1.0))
    flags = [flag.format(folder=tmp_path) for flag in flags]
    assert main(["train", *SMALL, *flags, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
