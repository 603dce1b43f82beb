"""The table: tuning, one row per method and dose, resuming, Markdown, pictures, the command."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from scgn.checkpoint import CheckpointError, describe, save_checkpoint
from scgn.evaluate import EvaluationError
from scgn.evaluate.command import add_arguments, run
from scgn.evaluate.methods import (
    CLASSICAL,
    GAUSSIAN_PX,
    Method,
    learned,
    method_named,
    training_minutes,
    truth,
)
from scgn.evaluate.pictures import centre, comparison, grey, sheet, window_of
from scgn.evaluate.runner import (
    Plan,
    best_gaussian_db,
    described_set,
    evaluate,
    median_bound_pm,
    some_frames,
    tidy,
    visible_spots,
)
from scgn.evaluate.score import (
    atoms_in,
    atoms_inside,
    detection_row,
    gain_row,
    noise_only_row,
    score_row,
    tune,
)
from scgn.evaluate.table import compact_table, reference_lines, report
from scgn.metrics import gaussian_filter, psnr_db
from scgn.simulate import SimulatedBatch

for needed in ("scipy", "skimage", "pywt"):
    pytest.importorskip(needed)

PLAN = Plan((8.0,), frames=2, side_px=64, tuning_frames=2, noise_frames=1, gain_frames=1)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scenes() -> SimulatedBatch:
    return PLAN.test(8.0)


@pytest.fixture
def network_file(tmp_path, network_of) -> Path:
    """A tiny untrained network in noise units."""
    network = network_of()
    path = tmp_path / "mine.safetensors"
    save_checkpoint(path, network, describe(network, "mine", {"minutes": 3.25, "device": "cpu"}))
    return path


def perfect(scenes: SimulatedBatch) -> Method:
    """Answers with the clean frame, whichever of the set it is given."""

    def answer(noisy: Tensor) -> Tensor:
        known = {frame.sum().item(): clean for frame, clean in zip(scenes.noisy, scenes.clean)}  # noqa: B905
        return torch.stack([known[frame.sum().item()] for frame in noisy])

    return Method("perfect", answer)


def test_a_perfect_method_has_perfect_figures(scenes) -> None:
    method = perfect(scenes)
    row = score_row(replace(method, name="p"), tune(method, scenes), scenes, scenes)
    assert row["psnr_db"] == math.inf
    assert row["ssim"] == pytest.approx(1)
    assert row["precision"] == row["recall"] == row["f1"] == 1
    assert row["position_rmse_pm"] == pytest.approx(0, abs=1e-6)
    assert row["ms_per_frame"] >= 0


def test_psnr_is_the_mean_over_frames_of_their_own_range(scenes) -> None:
    method = CLASSICAL["noisy"]
    row = score_row(method, tune(method, scenes), scenes, PLAN.empty(8.0))
    single = [psnr_db(n, c) for n, c in zip(scenes.noisy, scenes.clean, strict=True)]
    assert row["psnr_db"] == pytest.approx(sum(single) / 2)


def test_tuning_takes_the_best_of_the_grid_for_each_end(scenes) -> None:
    method = replace(CLASSICAL["gaussian"], grid={"sigma_px": (0.5, 1.5, 3.0, 6.0)})
    tuned = tune(method, scenes)
    scores = {
        s: sum(psnr_db(f, c) for f, c in zip(method.filter(scenes.noisy, s), scenes.clean))  # noqa: B905
        for s in method.grid["sigma_px"]
    }
    assert tuned.psnr == {"sigma_px": max(scores, key=lambda s: scores[s])}
    row = score_row(method, tuned, scenes, PLAN.empty(8.0))
    others = [
        detection_row(method, tuned, method.filter(scenes.noisy, s), scenes)["f1"]
        for s in method.grid["sigma_px"]
    ]
    assert row["f1"] == max(others)
    assert row["f1_own"] >= row["f1"]


def test_test_and_tuning_scenes_differ(scenes) -> None:
    assert not torch.equal(PLAN.tuning(8.0).clean, scenes.clean)
    with pytest.raises(EvaluationError, match="another than that of tuning, got 2027"):
        Plan(seed=2027)


def test_every_dose_has_the_same_scenes(scenes) -> None:
    brighter = PLAN.test(32.0)
    torch.testing.assert_close(brighter.clean / brighter.beam, scenes.clean / scenes.beam)


def test_noise_only_frames_count_every_spot(scenes) -> None:
    empty = PLAN.empty(8.0)
    row = noise_only_row(CLASSICAL["noisy"], {}, empty)
    area_nm2 = 64 * 64 * float(empty.pixel_nm[0]) ** 2
    assert row["false_per_noise_frame"] > 10
    assert row["false_per_nm2_noise"] == pytest.approx(row["false_per_noise_frame"] / area_nm2)
    blurred = noise_only_row(CLASSICAL["gaussian"], {"sigma_px": 8.0}, empty)
    assert blurred["false_per_noise_frame"] < row["false_per_noise_frame"] / 5


def test_atom_maps_are_read_by_their_own_rule(scenes) -> None:
    maps = replace(CLASSICAL["noisy"], target="atom_map")
    found = atoms_in(maps, scenes.atom_map, scenes)
    true = atoms_inside(scenes)
    assert torch.equal(truth(maps, scenes), scenes.atom_map)
    assert 0.8 * len(true.frame) <= len(found.frame) <= 1.05 * len(true.frame)


def test_gain_of_a_network_in_noise_units_changes_nothing(scenes, network_of) -> None:
    checkpoint_network = network_of()
    from scgn.checkpoint import checkpoint_of

    method = learned(checkpoint_of(checkpoint_network, describe(checkpoint_network, "n")), "n", CPU)
    changes = gain_row(method, {}, scenes)["gain_change_db"]
    assert set(changes) == {"0.5", "3.0"}
    assert max(map(abs, changes.values())) < 0.01
    offset = Method("offset", lambda noisy: noisy + 50)
    assert abs(gain_row(offset, {}, scenes)["gain_change_db"]["3.0"]) > 0.3


def test_some_frames_cuts_every_tensor(scenes) -> None:
    one = some_frames(scenes, slice(1, 2))
    assert one.noisy.shape == (1, 1, 64, 64)
    assert torch.equal(one.pixel_nm, scenes.pixel_nm[1:])
    assert torch.equal(one.vacuum, scenes.vacuum[1:])


def test_described_set_says_what_can_be_seen(scenes) -> None:
    told = described_set(PLAN)
    assert told == described_set(PLAN)
    assert told["true_atoms"] == len(atoms_inside(scenes).frame)
    assert 0 <= told["atoms_as_spots"] <= 1
    assert told["best_gaussian_db"] == [best_gaussian_db(scenes)]
    shallower = median_bound_pm(visible_spots(scenes), scenes.pixel_nm, 2.0)
    assert told["position_bound_pm"] == [pytest.approx(shallower / 2)]  # a root of four in dose
    assert told["pixels_sha256"] != described_set(replace(PLAN, seed=5))["pixels_sha256"]


def test_the_best_gaussian_is_chosen_for_each_frame(scenes) -> None:
    rows = [
        [psnr_db(gaussian_filter(noisy[None], width), clean[None]) for width in GAUSSIAN_PX]
        for noisy, clean in zip(scenes.noisy, scenes.clean, strict=True)
    ]
    assert best_gaussian_db(scenes) == pytest.approx(sum(map(max, rows)) / len(rows))
    assert best_gaussian_db(scenes) >= max(
        sum(of_width) / 2 for of_width in zip(*rows, strict=True)
    )


def counting(name: str, calls: list[str]) -> Method:
    def answer(noisy: Tensor) -> Tensor:
        calls.append(name)
        return noisy

    return Method(name, answer)


def test_a_method_already_done_is_not_done_again(tmp_path) -> None:
    calls: list[str] = []
    first = evaluate([counting("a", calls)], PLAN, tmp_path)
    done = len(calls)
    again = evaluate([counting("a", calls), counting("b", calls)], PLAN, tmp_path)
    assert done > 0
    assert calls[done:] == ["b"] * done
    assert again["methods"][0] == first["methods"][0]
    evaluate([counting("a", calls)], replace(PLAN, seed=7), tmp_path)
    assert calls[2 * done :] == ["a"] * done


def test_two_methods_of_one_name_are_refused(tmp_path) -> None:
    with pytest.raises(EvaluationError, match="one method of each name, got several noisy"):
        evaluate([CLASSICAL["noisy"]] * 2, PLAN, tmp_path)


def test_tidy_is_plain_json() -> None:
    content = {"a": (1.23456789, math.nan), "b": [math.inf, 3, "x"]}
    assert tidy(content) == {"a": [1.2346, None], "b": [None, 3, "x"]}
    json.dumps(tidy(content), allow_nan=False)


def test_networks_go_by_header_label_or_shipped_name(network_file) -> None:
    method = method_named(str(network_file), CPU)
    assert (method.name, method.learned, method.target) == ("mine", True, "clean")
    assert method.facts["training_minutes"] == 3.25
    assert method.facts["parameters"] > 1000
    assert method_named(f"other={network_file}", CPU).name == "other"
    assert method_named("tiny-clean", CPU).name == "tiny-clean"
    with pytest.raises(CheckpointError, match="no network 'sharpen'"):
        method_named("sharpen", CPU)


def test_pictures_share_the_grey_window_of_the_clean_frame(scenes) -> None:
    low, high = window_of(scenes.clean[0, 0])
    ramp = torch.tensor([[low - 1, low, (low + high) / 2, high, high + 1]])
    assert grey(ramp, low, high).tolist() == [[0, 0, 127, 255, 255]]
    flat = torch.ones(4, 4)
    assert (grey(flat, *window_of(flat)) == 0).all()
    assert torch.equal(centre(torch.arange(25.0).view(5, 5), 3), torch.tensor(
        [[6.0, 7, 8], [11, 12, 13], [16, 17, 18]]
    ))  # fmt: skip


def test_a_sheet_holds_every_frame_where_it_belongs() -> None:
    shades = [[10, 60, 110], [160, 210, 250]]
    cells = [[(np.full((40, 50), s, np.uint8), "x") for s in line] for line in shades]
    pixels = np.asarray(sheet(cells, ["one", "two"]))
    for y, line in enumerate(shades):
        for x, shade in enumerate(line):
            assert (pixels[4 + 60 * y : 44 + 60 * y, 64 + 54 * x : 114 + 54 * x] == shade).all()


def test_the_whole_table_by_the_command(tmp_path, network_file, capsys) -> None:
    out = tmp_path / "results" / "quality"
    words = ["noisy", "gaussian", "log_render_map", str(network_file), "--out", str(out)]
    words += ["--doses", "2", "8", "--frames", "2", "--side-px", "64", "--threads", "1"]
    assert run(parsed([*words, "--pictures", "1"])) == 0
    quality = json.loads(out.with_suffix(".json").read_text())
    assert [method["name"] for method in quality["methods"]] == [
        "noisy", "gaussian", "log_render_map", "mine",
    ]  # fmt: skip
    by_name = {method["name"]: method["rows"] for method in quality["methods"]}
    assert by_name["gaussian"][1]["psnr_db"] > by_name["noisy"][1]["psnr_db"] + 5
    assert by_name["noisy"][1]["psnr_db"] > by_name["noisy"][0]["psnr_db"] + 4
    assert 0 <= by_name["log_render_map"][0]["iou"] <= 1
    assert sorted(path.name for path in out.iterdir()) == [
        "gaussian.json", "log_render_map.json", "mine.json", "noisy.json",
    ]  # fmt: skip
    text = out.with_suffix(".md").read_text()
    assert text == report(quality)
    assert text in capsys.readouterr().out
    for part in ("### 2 e/px", "Atom maps", "sigma_px", "| mine |", reference_lines(quality)):
        assert part in text
    check_compact(compact_table(quality), by_name)
    with Image.open(out.with_name("quality_clean_1.png")) as picture:
        assert picture.size == (64 + 4 * 68, 2 * (64 + 20) + 4)


def check_compact(table: str, rows: dict[str, list[dict[str, float]]]) -> None:
    lines = table.splitlines()
    assert lines[0] == "| PSNR dB / SSIM / F1 at | parameters | 2 e/px | 8 e/px |"
    row = rows["gaussian"][1]
    cell = f"{row['psnr_db']:.2f} / {row['ssim']:.3f} / {row['f1']:.3f}"
    assert cell in next(line for line in lines if "gaussian" in line)
    assert len(lines) == 2 + 3  # the method for atom maps has a table of its own


def test_comparison_of_maps_shows_the_noisy_frame_too(tmp_path) -> None:
    method = replace(CLASSICAL["dog_map"], grid={
        "sigma_px": (2.0,), "ratio": (1.6,), "offset": (0.5,), "stretch": (0.4,),
    })  # fmt: skip
    quality = evaluate([method], PLAN, tmp_path)
    picture = np.asarray(comparison([method], quality, PLAN, 0))
    assert picture.shape == (64 + 20 + 4, 64 + 3 * 68)
    assert picture[4:68, 64:128].std() > 20


def parsed(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["noisy"], "expected --out for the table"),
        (["--weights", "x.pth"], "--weights and --data together, got one"),
    ],
)
def test_the_command_says_what_it_lacks(words, message) -> None:
    with pytest.raises(EvaluationError, match=message):
        run(parsed(words))


def test_minutes_of_every_training_count() -> None:
    first = {"minutes": 15.0, "started_from": None}
    second = {"minutes": 6.5, "started_from": {"id": "scgn-x", "training": first}}
    assert training_minutes(second) == 21.5
    assert training_minutes({"minutes": 3.0}) == 3.0
    assert training_minutes({}) is None
    assert training_minutes({"minutes": 3.0, "started_from": {"training": {"plan": 1}}}) is None
