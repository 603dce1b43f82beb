"""`scgn calibrate` on files: every format, the command's outputs, and real frames."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from noisy_camera import NoisyCamera, scene
from support import SHARED_DATA

from scgn import stacks
from scgn.calibrate.command import add_arguments, run
from scgn.calibration import load_calibration
from scgn.stacks import StackError, read_series, read_stack

FRAMES = np.random.default_rng(0).integers(0, 200, (3, 5, 7)).astype(np.uint8)


def calibrate(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args([str(argument) for argument in arguments]))


def written(path: Path, frames: np.ndarray) -> Path:
    """A file of frames in the format of its suffix."""
    suffix = path.suffix
    if suffix == ".npy":
        np.save(path, frames)
    elif suffix == ".npz":
        np.savez(path, frames=frames)
    elif suffix in (".tif", ".tiff"):
        pytest.importorskip("tifffile").imwrite(path, frames, photometric="minisblack")
    elif suffix == ".mrc":
        with pytest.importorskip("mrcfile").new(path) as file:
            file.set_data(frames.astype(np.uint16))
    elif suffix in (".emd", ".h5", ".hdf5"):
        with pytest.importorskip("h5py").File(path, "w") as file:
            file["Data/Image/0/Metadata"] = np.zeros((6000, 1), np.uint8)
            velox = suffix == ".emd"
            name = "Data/Image/0/Data" if velox else "entry/frames"
            file[name] = np.moveaxis(frames, 0, -1) if velox else np.repeat(frames, 99, axis=0)
    else:
        images = [pytest.importorskip("PIL.Image").fromarray(frame) for frame in frames]
        images[0].save(path, save_all=len(images) > 1, append_images=images[1:])
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".tif", ".tiff", ".mrc", ".emd", ".gif"])
def test_every_format_gives_the_stack(tmp_path, suffix) -> None:
    stack = read_stack(written(tmp_path / f"movie{suffix}", FRAMES))
    np.testing.assert_array_equal(stack, FRAMES)


@pytest.mark.parametrize("suffix", [".h5", ".hdf5"])
def test_hdf5_gives_its_largest_dataset(tmp_path, suffix) -> None:
    stack = read_stack(written(tmp_path / f"movie{suffix}", FRAMES))
    np.testing.assert_array_equal(stack, np.repeat(FRAMES, 99, axis=0))


@pytest.mark.parametrize("suffix", [".png", ".npy", ".tif"])
def test_a_single_frame_is_a_stack_of_one(tmp_path, suffix) -> None:
    frame = FRAMES[:1] if suffix == ".png" else FRAMES[0]
    stack = read_stack(written(tmp_path / f"frame{suffix}", frame))
    np.testing.assert_array_equal(stack, FRAMES[:1])


def test_lzw_tiff_is_read_without_its_codec(tmp_path) -> None:
    image = pytest.importorskip("PIL.Image").fromarray(FRAMES[0].astype(np.uint16))
    image.save(tmp_path / "lzw.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(read_stack(tmp_path / "lzw.tif"), FRAMES[:1])


def test_files_in_order_are_one_series(tmp_path) -> None:
    paths = [written(tmp_path / "b.npy", FRAMES[:1]), written(tmp_path / "a.tif", FRAMES[1:])]
    np.testing.assert_array_equal(read_series(paths), FRAMES)
    paths.append(written(tmp_path / "c.npy", FRAMES[:, :4]))
    with pytest.raises(StackError, match=r"one shape, got .*c\.npy \(4, 7\)"):
        read_series(paths)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", r"a\.txt: expected one of \.npy"),
        ("a.npy", b"nothing", r"a\.npy: expected a readable \.npy file, got"),
        ("a.tif", b"nothing", r"a\.tif: expected a readable \.tif file, got"),
        ("a.emd", b"nothing", r"a\.emd: expected a readable \.emd file, got"),
        ("a.mrc", b"nothing", r"a\.mrc: expected a readable \.mrc file, got"),
        ("a.png", b"nothing", r"a\.png: expected a readable \.png file, got"),
    ],
)
def test_damaged_files_name_themselves(tmp_path, name, content, message) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(StackError, match=message) as caught:
        read_stack(path)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3, 4, 5)), r"got shape \(2, 3, 4, 5\)"),
        (np.zeros((0, 3, 4)), r"not empty, got shape"),
        (np.zeros((3, 4), complex), "expected real numbers, got dtype complex128"),
        (np.full((3, 4), np.nan), "expected finite values, got 12 that are not"),
        (np.array([{}]), "expected a readable"),
    ],
)
def test_arrays_that_are_no_frames(tmp_path, array, message) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=array.dtype.hasobject)
    with pytest.raises(StackError, match=message):
        read_stack(tmp_path / "a.npy")


def test_colour_and_several_arrays_are_refused(tmp_path) -> None:
    colour = np.random.default_rng(1).integers(0, 255, (6, 6, 3)).astype(np.uint8)
    pytest.importorskip("PIL.Image").fromarray(colour).save(tmp_path / "c.png")
    with pytest.raises(StackError, match="expected greys, got colours"):
        read_stack(tmp_path / "c.png")
    np.savez(tmp_path / "two.npz", a=FRAMES, b=FRAMES)
    with pytest.raises(StackError, match="expected one array, got a, b"):
        read_stack(tmp_path / "two.npz")


def test_missing_library_says_what_to_install(tmp_path, monkeypatch, capsys) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    np.save(
        tmp_path / "movie.npy", NoisyCamera().take(np.random.default_rng(0), 3, np.ones((32, 32)))
    )
    monkeypatch.setattr(stacks.importlib, "import_module", missing)
    (tmp_path / "a.emd").write_bytes(b"")
    with pytest.raises(StackError, match=r"h5py is not installed: pip install scgn-live\[files\]"):
        read_stack(tmp_path / "a.emd")
    files = ("--out", tmp_path / "c.npz", "--picture", tmp_path / "p.png")
    assert calibrate("--series", tmp_path / "movie.npy", *files) == 2
    assert "matplotlib is not installed: pip install scgn-live[plots]" in capsys.readouterr().err


# ---- the command ----


@pytest.fixture
def references(tmp_path) -> list[object]:
    """Arguments that name a dark stack and three flats."""
    camera, rng = NoisyCamera(offset=50), np.random.default_rng(2)
    flats = []
    for electrons in (20, 60, 150):
        stack = camera.take(rng, 8, np.full((64, 64), float(electrons)))
        flats.append(written(tmp_path / f"flat{electrons}.npy", stack))
    dark = camera.take(rng, 16, np.zeros((64, 64)))
    return ["--dark", written(tmp_path / "dark.tif", dark), "--flat", *flats]


def test_command_writes_calibration_report_and_picture(tmp_path, references, capsys) -> None:
    pytest.importorskip("matplotlib")
    names = [tmp_path / name for name in ("camera.npz", "r.json", "p.png")]
    out = [x for pair in zip(("--out", "--report", "--picture"), names, strict=True) for x in pair]
    assert calibrate(*references, *out) == 0
    calibration, report = load_calibration(names[0]), json.loads(names[1].read_text())
    said = capsys.readouterr().out
    assert f"calibration  {calibration.id}, trustworthy" in said
    assert report["trustworthy"] is True
    assert report["gain_adu_per_e"]["value"] == calibration.noise.gain_adu_per_e
    assert calibration.noise.gain_adu_per_e == pytest.approx(2.5, rel=0.03)
    assert calibration.dark.mean() == pytest.approx(50, abs=0.5)
    assert report["frames"] == [16, 8, 8, 8]
    pixels = read_picture(names[2])
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 50, "something is drawn"


def read_picture(path: Path) -> np.ndarray:
    with pytest.importorskip("PIL.Image").open(path) as image:
        return np.asarray(image)


def test_command_says_doubts_and_still_writes(tmp_path, capsys) -> None:
    rng = np.random.default_rng(3)
    frames = NoisyCamera(read=8).take(rng, 6, scene(rng, 64, 0, 30))
    path = written(tmp_path / "movie.npy", np.clip(frames, 0, None))
    assert calibrate("--series", path, "--out", tmp_path / "c.npz") == 0
    said = capsys.readouterr().out
    assert "DOUBT        clipping: " in said
    assert "written, but read the doubts" in said
    assert load_calibration(tmp_path / "c.npz").noise is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--series", "absent.npy"], "absent.npy: expected a readable .npy file"),
        (["--series", "one.npy"], "series: expected 2 frames or more, got 1"),
        (["--series", "one.npy", "--flat", "one.npy"], "flat: expected flats with --dark"),
        (["--dark", "one.npy", "--flat", "one.npy"], "flat: expected 2 frames or more, got 1"),
    ],
)
def test_command_says_what_is_wrong(tmp_path, monkeypatch, capsys, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("one.npy", np.ones((1, 32, 32)))
    assert calibrate(*arguments, "--out", "c.npz") == 2
    assert message in capsys.readouterr().err
    assert not Path("c.npz").exists()


# ---- real frames ----


def real(*names: str) -> list[Path]:
    paths = [SHARED_DATA / name for name in names]
    for path in paths:
        if not path.exists():
            pytest.skip(f"{path.name} is not among the shared files")
    return paths


def real_calibration(tmp_path, *arguments: object):
    """Calibration and report as written, the latter with its doubts by reason."""
    out, report = tmp_path / "c.npz", tmp_path / "r.json"
    assert calibrate(*arguments, "--out", out, "--report", report) == 0
    told = json.loads(report.read_text())
    return load_calibration(out).noise, told, {d["reason"]: d["text"] for d in told["doubts"]}


@pytest.mark.parametrize("name", ["ceta_dark_512.npy", "ceta_dark_512.emd"])
def test_ceta_dark_frame_has_column_noise(tmp_path, name) -> None:
    (path,) = real(f"calibration/{name}")
    if path.suffix == ".emd":
        pytest.importorskip("h5py")
    noise, _, doubts = real_calibration(tmp_path, "--dark", path)
    assert noise.line_axis == "column"
    assert noise.line_noise_adu == pytest.approx(1.2, abs=0.05)
    assert noise.line_noise_adu / noise.read_noise_adu == pytest.approx(1.2, abs=0.1)
    assert noise.line_correlation == pytest.approx(0.5, abs=0.1)
    assert set(doubts) == {"few_frames", "few_levels"}


def test_lctem_pair_has_row_noise_and_is_clipped(tmp_path) -> None:
    paths = real("movies/lctem_exposure_1.tif", "movies/lctem_exposure_2.tif")
    pytest.importorskip("PIL")
    noise, told, doubts = real_calibration(tmp_path, "--series", *paths)
    assert noise.line_axis == "row"
    assert noise.line_noise_adu > 5
    assert told["column_noise_adu"]["value"] < told["row_noise_adu"]["value"] / 2
    assert "13.3% of the pixels are at the lowest value, 0" in doubts["clipping"]


def test_tia_frames_have_their_photon_transfer_line(tmp_path) -> None:
    noise, told, doubts = real_calibration(
        tmp_path, "--series", *real("calibration/tia_64x64x5_preview.npy")
    )
    assert noise.gain_adu_per_e == pytest.approx(2.4, abs=0.15)
    assert told["r_squared"] > 0.98
    assert told["chi2_per_dof"] < 2
    assert set(doubts) == {"not_integer", "offset"}


def test_movie_of_a_palette_is_not_believed(tmp_path) -> None:
    """Eight bits, repeated frames, half of it denoised: nothing of the camera is left."""
    path = tmp_path / "movie.gif"
    shutil.copy(real("movies/pt_ceo2_41x100.gif")[0], path)
    pytest.importorskip("matplotlib")
    _, _, doubts = real_calibration(tmp_path, "--series", path, "--picture", tmp_path / "p.png")
    assert {"repeated", "few_levels"} <= set(doubts)
    assert read_picture(tmp_path / "p.png").size > 0
