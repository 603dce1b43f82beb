"""Judging movies: closed forms of every measure, the staged table, the real movie, the command."""

from __future__ import annotations

import argparse
import json
import math

import numpy as np
import pytest
import torch
from support import SHARED_DATA

from scgn.checkpoint import describe, save_checkpoint
from scgn.evaluate import EvaluationError
from scgn.evaluate.command import add_arguments, frames_of, run
from scgn.evaluate.movies import judge_scenario
from scgn.evaluate.movies.measures import (
    WIDTHS_PX,
    best_blurred,
    correlation,
    decibel,
    mean_ranks,
    mean_square,
    moving,
    paired_gains,
    r_future,
    running_mean,
    share_of,
    spearman,
)
from scgn.evaluate.movies.real import movie_table
from scgn.evaluate.movies.table import ScenarioPlan, judge_all, scenario_report
from scgn.evaluate.movies.watch import alone, opened, remembering, watched
from scgn.metrics import best_gaussian, gaussian_filter, psnr_db
from scgn.simulate.scenarios import scenario
from scgn.sizes import Size

for needed in ("scipy", "skimage", "pywt"):
    pytest.importorskip(needed)

MOVIE = SHARED_DATA / "movies" / "pt_ceo2_41x100.gif"
needs_movie = pytest.mark.skipif(not MOVIE.is_file(), reason=f"no {MOVIE.name} beside the tree")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 1, shape)).float()


# ---- measures ----


def test_psnr_is_that_of_the_metrics() -> None:
    clean = noise(1, 1, 32, 32)
    frame = clean + 0.1 * noise(1, 1, 32, 32, seed=1)
    assert decibel(mean_square(frame[0, 0], clean[0, 0]), clean) == pytest.approx(
        psnr_db(frame, clean)
    )
    assert math.isnan(decibel(1.0, torch.zeros(4, 4)))
    assert math.isnan(mean_square(frame, clean, torch.zeros_like(clean, dtype=torch.bool)))


def test_best_gaussian_is_found_downhill() -> None:
    clean = gaussian_filter(noise(1, 1, 96, 96), 3.0) * 10
    frame = clean + noise(1, 1, 96, 96, seed=1)
    for start in (0, 11, 23):
        found, place = best_blurred(frame[0, 0], clean[0, 0], start)
        assert (psnr_db(found[None, None], clean), WIDTHS_PX[place]) == pytest.approx(
            best_gaussian(frame, clean)
        )


def test_running_mean_of_what_there_is() -> None:
    frames = torch.arange(5.0).view(5, 1, 1).expand(5, 2, 2)
    assert running_mean(frames, 3)[:, 0, 0].tolist() == [0, 0.5, 1, 2, 3]


def test_moving_is_where_the_scene_changes() -> None:
    scene = gaussian_filter(noise(1, 1, 64, 64), 2.0)[0, 0]
    clean = scene.expand(12, -1, -1).clone()
    clean[10:, 20:30, 20:30] += 3 * scene.std()
    found = moving(clean)
    assert not found[:10].any()
    assert found[10, 20:30, 20:30].all()
    assert not found[10, :16].any()


def test_r_future_of_a_scene_at_rest() -> None:
    """Correlation of the scene with a mean of m noisy frames: 1 / sqrt(1 + noise / signal / m)."""
    scene = noise(64, 64)
    noisy = scene + noise(30, 64, 64, seed=1)
    later = [1 / math.sqrt(1 + 1 / (30 - i - 3)) for i in range(8, 17)]
    assert r_future(scene.expand(30, -1, -1), noisy) == pytest.approx(np.mean(later), abs=0.003)
    assert abs(r_future(noise(30, 64, 64, seed=2), noisy)) < 0.02


def test_paired_gain_is_the_true_one_of_a_moving_scene() -> None:
    """flat - output error against the truth, though only noisy frames that have moved are known."""
    scene = gaussian_filter(noise(1, 1, 64, 64), 2.0)[0, 0] * 8
    clean = torch.stack([torch.roll(scene, (t, -2 * t), (0, 1)) for t in range(40)])
    noisy = clean + noise(40, 64, 64, seed=1)
    position = np.arange(40)[:, None] * np.array([1.0, -2.0])
    outputs = 0.7 * clean
    gains = paired_gains(outputs, noisy, position)
    true = scene.var() - (0.3 * scene).var()
    assert len(gains) == 38
    assert gains.mean() == pytest.approx(float(true), rel=0.02)
    assert paired_gains(outputs, noisy, 0 * position).mean() < 0.8 * float(true)


def test_ranks() -> None:
    assert mean_ranks(np.array([3.0, 1.0, 3.0, 9.0])).tolist() == [1.5, 0, 1.5, 3]
    assert spearman([1, 2, 3, 4], [10, 20, 30, 50]) == pytest.approx(1)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)


def test_share_and_correlation() -> None:
    pattern, other = noise(64, 64), noise(64, 64, seed=1)
    assert float(share_of(0.3 * pattern + 5, pattern)) == pytest.approx(0.3, abs=1e-5)
    assert correlation(pattern, 2 * pattern + 1) == pytest.approx(1)
    assert abs(correlation(pattern, other)) < 0.05


# ---- a movie through a denoiser ----


def test_watched_is_what_the_series_gives() -> None:
    """Output as the denoiser's own, the estimate beside it; without a network they are one."""
    frames = scenario("drift-1", 8.0, 1, 5, 64).noisy[0].numpy()
    shown = watched(denoiser := opened("tiny-clean"), frames)
    series = denoiser.series()
    for output, frame in zip(shown.output, frames, strict=True):
        np.testing.assert_array_equal(output.numpy(), series(frame))
    bare = watched(opened(None), frames)
    torch.testing.assert_close(bare.output, bare.estimate)
    torch.testing.assert_close(shown.estimate, bare.estimate)
    assert shown.position_px.shape == (5, 2)
    torch.testing.assert_close(alone(opened(None), frames)[0], bare.output[0])


def test_registration_can_be_left_out() -> None:
    movies = scenario("drift-1", 8.0, 1, 6, 192)
    frames = movies.noisy[0].numpy()
    assert np.abs(watched(opened(None), frames, at_rest=True).position_px).max() == 0
    found = watched(opened(None), frames).position_px
    assert found == pytest.approx(movies.drift_px[0].numpy(), abs=0.7)


def test_networks_without_a_memory_are_refused(tmp_path, network_of) -> None:
    network = network_of(Size(8, 1))
    save_checkpoint(tmp_path / "old.safetensors", network, describe(network, "old"))
    with pytest.raises(EvaluationError, match="expected a temporal network"):
        remembering(str(tmp_path / "old.safetensors"))


# ---- staged movies ----


@pytest.fixture(scope="module")
def plan() -> ScenarioPlan:
    return ScenarioPlan(None, ("rest", "cut", "hop"), (8.0,), (1,), 14, 96)


def test_a_scenario_is_judged() -> None:
    found = judge_scenario("growing-front", 8.0, (1, 2), None, 14, 96)
    summary = found["summary"]
    assert set(found["db"]) == {"whole", "inner", "moving"}
    assert len(found["db"]["whole"]["temporal"]) == 14
    assert summary["flat"] < summary["mean8_gaussian"]
    assert summary["flat"] < summary["single"]
    assert summary["temporal"] == summary["estimate"]
    assert np.isfinite(summary["moving_gain"])


def test_scenarios_are_not_judged_twice(tmp_path, plan, capsys) -> None:
    first = judge_all(plan, tmp_path)
    report = scenario_report(json.loads(json.dumps(first)))
    assert all(f"| {name} |" in report for name in plan.scenarios)
    path = tmp_path / "estimate_rest_8.json"
    changed = json.loads(path.read_text()) | {"scenario": "kept"}
    path.write_text(json.dumps(changed))
    again = judge_all(plan, tmp_path)
    assert [r["scenario"] for r in again["results"]] == ["kept", "cut", "hop"]
    assert len(first["results"][1]["trace"]) == 7
    assert set(first["results"][2]["events"]) >= {"came", "went", "sigma"}


def test_unknown_scenarios_are_named() -> None:
    with pytest.raises(EvaluationError, match="no scenario rust"):
        ScenarioPlan(scenarios=("rest", "rust"))


# ---- the command ----


def parsed(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args([*words, "--threads", "1"])


def test_frames_are_a_number_or_a_range() -> None:
    assert frames_of("12") == 12
    assert frames_of("3:9") == slice(3, 9)
    assert frames_of(":9") == slice(None, 9)
    with pytest.raises(ValueError, match="invalid literal"):
        frames_of("3:x")


def test_scenarios_by_the_command(tmp_path, capsys) -> None:
    words = ["estimate", "--out", str(tmp_path / "staged"), "--doses", "8", "--seeds", "1"]
    assert run(parsed([*words, "--frames", "14", "--side-px", "64", "--scenarios", "rest"])) == 0
    assert "| rest |" in capsys.readouterr().out
    assert (tmp_path / "staged.json").is_file()
    with pytest.raises(EvaluationError, match="one network"):
        run(parsed(["--scenarios", "rest"]))
    with pytest.raises(EvaluationError, match="A:B is of --movie"):
        run(parsed(["--frames", "1:3", "--scenarios"]))


def test_a_movie_too_short_is_refused(tmp_path) -> None:
    np.save(tmp_path / "short.npy", np.zeros((5, 32, 32), "u1"))
    with pytest.raises(EvaluationError, match="at least 22 frames, got 5"):
        run(parsed(["estimate", "--movie", str(tmp_path / "short.npy")]))


@needs_movie
def test_the_real_movie_by_the_command(tmp_path, capsys) -> None:
    """The estimate with its past is above the mean of eight frames and its best Gaussian, and the
    number without truth ranks the methods as the frames to come do.
    """
    words = ["preview-clean", "--movie", str(MOVIE), "--out", str(tmp_path / "movie")]
    assert run(parsed(words)) == 0
    result = json.loads((tmp_path / "movie.json").read_text())
    assert result["shape"] == [41, 100, 100]
    r = {row["method"]: row["r_future"] for row in result["rows"]}
    assert r["noisy"] == pytest.approx(0.079, abs=0.002)
    assert r["mean of 8 + gaussian"] == pytest.approx(0.485, abs=0.003)
    assert r["estimate temporal"] > r["mean of 8 + gaussian"]
    assert r["preview-clean temporal"] > r["mean of 8 + gaussian"]
    assert result["spearman"] >= 0.95
    assert movie_table(result) in capsys.readouterr().out
