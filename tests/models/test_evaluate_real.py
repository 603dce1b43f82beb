"""Frames without truth and other people's pairs: closed forms, real files, and refusals."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import SHARED_DATA

from scgn.checkpoint import Provenance, save_checkpoint
from scgn.evaluate import EvaluationError
from scgn.evaluate.command import add_arguments, run
from scgn.evaluate.methods import CLASSICAL, Method
from scgn.evaluate.pairs import evaluate_pairs, paired_files
from scgn.evaluate.real import (
    best_of,
    clipped_share,
    correlation,
    correlation_with_others,
    evaluate_real,
    pair_umse,
)
from scgn.metrics import atom_map_scores, gaussian_filter

for needed in ("scipy", "skimage", "pywt"):
    pytest.importorskip(needed)

MOVIES = SHARED_DATA / "movies"
needs_movies = pytest.mark.skipif(not MOVIES.is_dir(), reason=f"no {MOVIES.name} beside the tree")


def noisy_series(count: int, side: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth scene (1,1,side,side) and `count` exposures of it."""
    rng = np.random.default_rng(0)
    scene = gaussian_filter(torch.from_numpy(rng.normal(0, 1, (1, 1, side, side))), 3.0) * 10
    noise = torch.from_numpy(rng.normal(0, 1, (count, 1, side, side)))
    return scene, scene + noise


def test_correlation_of_known_frames() -> None:
    frame = torch.arange(12.0).view(3, 4)
    assert correlation(frame, 5 * frame - 2) == pytest.approx(1)
    assert correlation(frame, -frame) == pytest.approx(-1)


def test_each_frame_is_held_against_the_others_alone() -> None:
    """With itself in the mean even pure noise would correlate."""
    noise = torch.from_numpy(np.random.default_rng(1).normal(0, 1, (10, 1, 64, 64)))
    assert abs(correlation_with_others(noise, lambda y: y)) < 0.02
    _, series = noisy_series(10)
    better = correlation_with_others(series, lambda y: gaussian_filter(y, 1.5))
    assert better > correlation_with_others(series, lambda y: y) + 0.05


def test_umse_both_ways_is_the_true_error() -> None:
    scene, series = noisy_series(2, side=160)
    for width_px in (1.0, 2.0, 4.0):
        found = pair_umse(series[:1], series[1:], lambda y, w=width_px: gaussian_filter(y, w))
        true = (gaussian_filter(series, width_px) - scene).square().mean()
        assert found == pytest.approx(float(true), abs=0.04)


def test_best_gaussian_is_sought_in_either_direction() -> None:
    _, series = noisy_series(2)
    least = best_of(lambda f: pair_umse(series[:1], series[1:], f), -1)
    most = best_of(lambda f: correlation_with_others(series, f), 1)
    assert 0.5 < least["sigma_px"] < 5
    assert 0.5 < most["sigma_px"] < 5
    at_half = pair_umse(series[:1], series[1:], lambda y: gaussian_filter(y, 0.5))
    assert least["score"] < at_half


def test_clipped_share() -> None:
    assert clipped_share(torch.tensor([0.0, 1.0, 0.0, 4.0])) == 0.5


@needs_movies
def test_real_frames_by_the_command(tmp_path, capsys) -> None:
    """The shipped network on the movie beats the noisy frame by far; figures are those written."""
    words = ["tiny-clean", "--real", str(MOVIES), "--out", str(tmp_path / "real"), "--threads", "1"]
    assert run(parsed(words)) == 0
    result = json.loads((tmp_path / "real.json").read_text())
    assert json.loads(capsys.readouterr().out) == result
    movie, pair = result["movie"], result["pair"]
    assert movie["shape"] == [41, 1, 100, 100]
    assert movie["noisy"] == pytest.approx(0.108, abs=0.001)
    assert movie["best_gaussian"]["score"] == pytest.approx(0.4526, abs=0.002)
    assert movie["methods"]["tiny-clean"] > movie["best_gaussian"]["score"]
    assert pair["noisy"] == pytest.approx(23349, rel=1e-3)
    assert pair["clipped_share"] == pytest.approx(0.133, abs=0.001)
    assert pair["best_gaussian"]["score"] < pair["noisy"] / 50


def test_real_frames_that_are_missing_are_named(tmp_path) -> None:
    with pytest.raises(EvaluationError, match=r"expected pt_ceo2_41x100.gif, lctem_exposure_1.tif"):
        evaluate_real(tmp_path, [])


@needs_movies
def test_methods_that_need_truth_are_refused_on_real_frames() -> None:
    maps = replace(CLASSICAL["noisy"], target="atom_map", name="maps")
    with pytest.raises(EvaluationError, match="target clean, got gaussian, maps"):
        evaluate_real(MOVIES, [CLASSICAL["gaussian"], maps])


def write_pairs(folder: Path, names: tuple[str, str], suffix: str = ".png") -> torch.Tensor:
    """Three pairs of 8-bit frames; returns the true ones, (3,1,20,24)."""
    rng = np.random.default_rng(2)
    frames = rng.integers(0, 256, (3, 2, 20, 24)).astype(np.uint8)
    for k, both in enumerate(frames):
        for name, pixels in zip(names, both, strict=True):
            (folder / name).mkdir(exist_ok=True)
            path = folder / name / f"frame_{k}{suffix}"
            np.save(path, pixels) if suffix == ".npy" else Image.fromarray(pixels).save(path)
    return torch.from_numpy(frames.astype(np.float32))


@pytest.mark.parametrize("names", [("noisy", "clean"), ("LQ", "gt"), ("input", "label")])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
def test_pairs_of_any_layout_are_scored_as_published(tmp_path, names, suffix) -> None:
    frames = write_pairs(tmp_path, names, suffix)
    noisy, true = frames[:, :1], frames[:, 1:]
    found = evaluate_pairs(tmp_path, Method("darker", lambda y: y / 2))
    assert found["pairs"] == 3
    assert found["noisy"] == pytest.approx(atom_map_scores(noisy, true))
    assert found["darker"] == pytest.approx(atom_map_scores(noisy / 2, true))


def test_pairs_by_the_command_with_weights_in_counts(tmp_path, network_of, capsys) -> None:
    write_pairs(tmp_path, ("noisy", "gt"))
    network = network_of(residual="feature")
    size = network.size
    provenance = Provenance("raw", size.channels, size.blocks, "feature", "atom_map", "counts")
    weights = tmp_path / "raw.safetensors"
    save_checkpoint(weights, network, provenance)
    assert run(parsed(["--weights", str(weights), "--data", str(tmp_path), "--threads", "1"])) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pairs"] == 3
    assert set(found["raw"]) == {"psnr_db", "ssim", "iou"}


def parsed(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


def test_a_folder_without_pairs_is_explained(tmp_path) -> None:
    with pytest.raises(EvaluationError, match="expected a folder with noisy and clean"):
        paired_files(tmp_path / "nowhere")
    with pytest.raises(EvaluationError, match="sub-folder of noisy, lq, input, got nothing"):
        paired_files(tmp_path)
    write_pairs(tmp_path, ("noisy", "other"))
    with pytest.raises(EvaluationError, match="clean, gt, label, hq, atom_map, got noisy, other"):
        paired_files(tmp_path)


def test_pairs_that_do_not_match_are_explained(tmp_path) -> None:
    write_pairs(tmp_path, ("noisy", "clean"))
    (tmp_path / "clean" / "frame_1.png").unlink()
    with pytest.raises(EvaluationError, match=r"got frame_1 on one side only \(1\)"):
        paired_files(tmp_path)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "clean" / "frame_1.png")
    with pytest.raises(EvaluationError, match=r"frame_1.png: expected equal shapes"):
        evaluate_pairs(tmp_path, CLASSICAL["noisy"])


def test_a_folder_of_no_frames_is_explained(tmp_path) -> None:
    for name in ("noisy", "clean"):
        (tmp_path / name).mkdir()
    with pytest.raises(EvaluationError, match=r"expected files .png .tif .tiff .npy, got none"):
        paired_files(tmp_path)
