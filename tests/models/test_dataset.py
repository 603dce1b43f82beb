"""`scgn dataset`: pairs and atoms on disk, a card that says what they are, the same each time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scgn.__main__ import main
from scgn.calibration import Calibration, build_calibration, save_calibration
from scgn.noise import NoiseModel
from scgn.simulate import Recipe, simulate
from scgn.simulate.dataset import BATCH, DatasetError, DatasetPlan, write_dataset

SIDE = 32
FRAMES = {"noisy": "float32", "clean": "float32", "atom_map": "uint8"}
NUMBERS = {"pixel_nm": "float32", "beam": "float32", "sign": "int8"}
TYPES = FRAMES | NUMBERS | {"atoms_px": "float32"}
PARTS = ("train", "test")


def written(folder: Path, *flags: str, train: int = 3, test: int = 2) -> Path:
    """The folder that the command line filled."""
    size = ["--train", str(train), "--test", str(test), "--side-px", str(SIDE)]
    assert main(["dataset", *size, "--device", "cpu", "--out", str(folder), *flags]) == 0
    return folder


def pairs_of(folder: Path) -> list[dict[str, Any]]:
    """Every pair of train/ or test/, in order."""
    result = []
    for path in sorted(folder.iterdir()):
        with np.load(path, allow_pickle=False) as stored:
            result.append(dict(stored))
    return result


def card_of(folder: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((folder / "card.json").read_text())
    return card


# ---- what is written ----


@pytest.fixture(scope="module")
def physical(tmp_path_factory) -> Path:
    """A set whose training part needs a second batch."""
    return written(tmp_path_factory.mktemp("sets") / "physical", train=BATCH + 2, test=2)


def test_each_pair_is_a_file_of_its_part(physical) -> None:
    names = {part: sorted(p.name for p in (physical / part).iterdir()) for part in PARTS}
    assert names["train"] == [f"{i:05d}.npz" for i in range(BATCH + 2)]
    assert names["test"] == ["00000.npz", "00001.npz"]
    assert sorted(p.name for p in physical.iterdir()) == ["README.md", "card.json", "test", "train"]


def test_arrays_are_what_the_page_says(physical) -> None:
    page = (physical / "README.md").read_text()
    for pair in pairs_of(physical / "train"):
        assert {name: values.dtype.name for name, values in pair.items()} == TYPES
        assert {pair[name].shape for name in FRAMES} == {(SIDE, SIDE)}
        assert {pair[name].size for name in NUMBERS} == {1}
        assert pair["atoms_px"].shape == (len(pair["atoms_px"]), 2)
        assert np.isfinite(pair["noisy"]).all()
        assert pair["clean"].min() > 0
        assert 0.01 <= pair["pixel_nm"] <= 0.05001
        assert pair["sign"] in (-1, 0, 1)
    assert all(f"`{name}`" in page for name in TYPES)


def test_pairs_are_those_of_the_generator(physical) -> None:
    """Part p, batch k comes from (seed, p, k); vacancies are not on the list."""
    expected = simulate(np.random.default_rng([0, 0, 1]), 2, SIDE, Recipe())
    for i, pair in enumerate(pairs_of(physical / "train")[BATCH:]):
        np.testing.assert_array_equal(pair["noisy"], expected.noisy[i, 0].numpy())
        np.testing.assert_array_equal(pair["clean"], expected.clean[i, 0].numpy())
        assert np.abs(pair["atom_map"] - expected.atom_map[i, 0].numpy()).max() <= 0.5
        atoms = expected.atoms.of(i)
        there = atoms.position_px[atoms.amplitude > 0]
        np.testing.assert_array_equal(pair["atoms_px"], there.numpy())
        assert pair["beam"] == expected.beam[i]
        assert pair["sign"] == expected.sign[i]


def test_no_frame_is_drawn_twice(physical, tmp_path) -> None:
    """Neither within a part nor in the other, of as many frames."""
    even = written(tmp_path / "even", train=2, test=2)
    for folder, count in ((physical, BATCH + 4), (even, 4)):
        frames = [p["noisy"] for part in PARTS for p in pairs_of(folder / part)]
        assert len({frame.tobytes() for frame in frames}) == count


def test_card_says_what_the_set_is(physical) -> None:
    card = card_of(physical)
    assert card["plan"] == {
        "kind": "physical", "train": BATCH + 2, "test": 2, "side_px": SIDE, "seed": 0,
        "device": "cpu",
    }  # fmt: skip
    assert card["recipe"]["dose_e_per_px"] == list(Recipe().dose_e_per_px)
    assert card["recipe"]["phase_max_rad"] == list(Recipe().phase_max_rad)
    assert card["calibration"] is None
    assert card["torch"] == torch.__version__
    assert card["frames_per_s"] > 0
    pairs = [p for part in PARTS for p in pairs_of(physical / part)]
    ratios = [p["clean"].var() / np.square(p["noisy"] - p["clean"]).mean() for p in pairs]
    middle_db = float(np.median(10 * np.log10(np.array(ratios) + 1e-12)))
    assert card["signal_to_noise_db"]["p50"] == pytest.approx(middle_db, abs=0.06)
    title = (physical / "README.md").read_text().splitlines()[0]
    assert title == f"# {BATCH + 2} + 2 simulated HRTEM pairs, {SIDE} px square"


def test_card_is_printed(tmp_path, capsys) -> None:
    folder = written(tmp_path / "set", train=1, test=1)
    assert json.loads(capsys.readouterr().out) == card_of(folder)


# ---- the same again ----


@pytest.mark.parametrize("kind", ["physical", "paper", "movie"])
def test_same_command_same_bytes(tmp_path, kind) -> None:
    first, again, other = (
        written(tmp_path / name, "--kind", kind, "--seed", seed)
        for name, seed in (("first", "4"), ("again", "4"), ("other", "5"))
    )
    names = [p.relative_to(first) for p in sorted(first.rglob("*.npz"))]
    assert len(names) == 5
    for name in names:
        assert (first / name).read_bytes() == (again / name).read_bytes()
        assert (first / name).read_bytes() != (other / name).read_bytes()


# ---- other kinds, other cameras ----


def test_paper_kind_is_eight_bit(tmp_path) -> None:
    folder = written(tmp_path / "paper", "--kind", "paper")
    assert "figure 3" in card_of(folder)["recipe"]
    for pair in pairs_of(folder / "train"):
        np.testing.assert_array_equal(pair["noisy"], pair["noisy"].round().clip(0, 255))


def test_movie_kind_is_a_series(tmp_path) -> None:
    """One camera and one material all along, frames that differ."""
    pairs = pairs_of(written(tmp_path / "movie", "--kind", "movie") / "train")
    assert {p["beam"].item() for p in pairs} == {pairs[0]["beam"].item()}
    assert {p["pixel_nm"].item() for p in pairs} == {pairs[0]["pixel_nm"].item()}
    assert not np.array_equal(pairs[0]["clean"], pairs[1]["clean"])


@pytest.fixture
def camera(tmp_path) -> tuple[Path, Calibration]:
    """A calibration on disk whose frames no whole gain gives."""
    noise = NoiseModel(gain_adu_per_e=7.5, read_noise_adu=3.0)
    calibration = build_calibration(dark=np.ones((8, 8)), noise=noise)
    save_calibration(tmp_path / "camera.npz", calibration)
    return tmp_path / "camera.npz", calibration


@pytest.mark.parametrize("kind", ["physical", "movie"])
def test_calibration_is_the_camera(tmp_path, camera, kind) -> None:
    path, calibration = camera
    folder = written(tmp_path / "mine", "--kind", kind, "--calibration", str(path), train=6)
    assert card_of(folder)["calibration"] == calibration.id
    assert calibration.noise is not None
    for pair in pairs_of(folder / "train"):
        point = (pair["noisy"] - pair["clean"]) / calibration.noise.point_sigma(pair["clean"])
        # 1,024 pixels: deviation within five of its standard errors.
        assert point.std() == pytest.approx(1, abs=5 / np.sqrt(2 * SIDE**2))


def test_calibration_without_noise_is_refused(tmp_path, capsys) -> None:
    save_calibration(tmp_path / "dark.npz", build_calibration(dark=np.ones((8, 8))))
    flags = ["--calibration", str(tmp_path / "dark.npz"), "--out", str(tmp_path / "set")]
    assert main(["dataset", *flags]) == 2
    assert "noise" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


# ---- folders ----


def test_folder_that_holds_anything_is_refused_and_kept(tmp_path, capsys) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["dataset", "--train", "1", "--test", "1", "--out", str(tmp_path)]) == 2
    assert "expected a new or empty folder" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(DatasetError, match="it holds files"):
        write_dataset(DatasetPlan(train=1, test=1, side_px=SIDE), tmp_path)


def test_empty_folder_and_folders_to_be_made_are_welcome(tmp_path) -> None:
    plan = DatasetPlan(train=1, test=1, side_px=SIDE)
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "new" / "deeper"):
        write_dataset(plan, folder)
        assert len(pairs_of(folder / "train")) == len(pairs_of(folder / "test")) == 1
