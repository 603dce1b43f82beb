"""Proofs as pictures and by command, and of real references: files in, files out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support import SHARED_DATA

from scgn.__main__ import main
from scgn.proof.orientation import oriented
from scgn.proof.picture import save_picture
from scgn.proof.posted import References
from scgn.proof.prove import prove
from scgn.proof.report import Proof
from scgn.stacks import read_stack
from scgn_client.camera import SimulatedCamera

CAMERA = SimulatedCamera((64, 96), seed=3)
FRAMES = np.stack([CAMERA.frame(i).raw for i in range(12)])
ARRAYS = {"dark": CAMERA.dark_reference, "gain": CAMERA.gain_reference, "mask": CAMERA.pixel_mask}


def posted(*parts: str, turn: str = "as-is", **said: str) -> References:
    files = {part: oriented(ARRAYS[part], turn) for part in parts or ARRAYS}
    asked = {"gain_convention": "multiply"} if "gain" in files else {}
    return References(**files, **(asked | said))


PROOFS = {
    "accepted": lambda: prove(posted(), FRAMES),
    "refused": lambda: prove(posted(turn="rotate-180"), FRAMES),
    "dark": lambda: prove(posted("dark"), FRAMES),
    "mask": lambda: prove(posted("mask", turn="flip-up-down"), FRAMES),
    "other shape": lambda: prove(posted(turn="transpose"), FRAMES),
    "single frame": lambda: prove(posted(), FRAMES[:1]),
    "no frames": lambda: prove(posted(), None),
    "nothing fits": lambda: prove(posted(), FRAMES[:, :60]),
    "flat": lambda: prove(References(gain=np.ones((64, 96)), gain_convention="divide"), FRAMES),
    "blank": lambda: prove(posted(), np.zeros_like(FRAMES)),
    "tiny": lambda: prove(References(dark=np.eye(3)), np.ones((2, 3, 3))),
}


def read_picture(path: Path) -> np.ndarray:
    with pytest.importorskip("PIL.Image").open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("name", PROOFS)
def test_every_proof_can_be_drawn(tmp_path, name) -> None:
    pytest.importorskip("matplotlib")
    save_picture(tmp_path / "p.png", PROOFS[name]())
    pixels = read_picture(tmp_path / "p.png")
    assert pixels.shape == (803, 1100, 3)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 30, "something is drawn"


def test_picture_keeps_the_middle_of_the_mean_frame() -> None:
    proof = PROOFS["refused"]()
    assert list(proof.pictures) == ["raw", "as posted", "best"]
    np.testing.assert_allclose(proof.pictures["raw"], FRAMES.mean(0), rtol=1e-5)
    roughness = {name: np.diff(frame).std() for name, frame in proof.pictures.items()}
    assert roughness["best"] < 0.8 * roughness["as posted"]
    assert list(PROOFS["accepted"]().pictures) == ["raw", "as posted"]
    wide = np.random.default_rng(0).random((2, 300, 401))
    shown = prove(References(dark=wide[0]), wide).pictures["raw"]
    assert shown.shape == (256, 255)


# ---- the command ----


@pytest.fixture
def files(tmp_path) -> dict[str, Path]:
    CAMERA.save_references(tmp_path)
    np.save(tmp_path / "first.npy", FRAMES[:6])
    np.save(tmp_path / "second.npy", FRAMES[6:])
    return {path.stem: path for path in tmp_path.glob("*.npy")}


def told(*arguments: object) -> int:
    return main(["prove", *(str(argument) for argument in arguments)])


def test_command_says_writes_and_draws(files, tmp_path, capsys) -> None:
    pytest.importorskip("matplotlib")
    report, picture = tmp_path / "proof.json", tmp_path / "proof.png"
    references = ["--dark", files["dark"], "--gain", files["gain"], "--mask", files["mask"]]
    status = told(
        *references, "--gain-convention", "multiply", "--frames", files["first"], files["second"],
        "--report", report, "--picture", picture,
    )  # fmt: skip
    assert status == 0
    assert "verdict      accepted, proved" in capsys.readouterr().out
    assert json.loads(report.read_text())["best"]["orientation"] == "as-is"
    assert json.loads(report.read_text())["frames"]["count"] == 12
    assert read_picture(picture).size


def test_command_takes_an_orientation_and_doubts(files, capsys) -> None:
    arguments = ["--dark", files["dark"], "--frames", files["first"]]
    assert told(*arguments, "--orientation", "flip-left-right") == 1
    out = capsys.readouterr().out
    assert "verdict      refused" in out
    assert "post it with orientation=as-is" in out
    assert told("--dark", files["first"]) == 0, "a stack of darks is averaged"
    assert "no frames to prove it against" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "calibration: expected dark, gain or mask, got none"),
        (["--dark", "absent.npy"], "absent.npy: expected a readable .npy file"),
        (["--mask", "first.npy"], "mask: expected one frame, got 6 in first.npy"),
    ],
)
def test_command_says_what_is_wrong(
    files, tmp_path, monkeypatch, capsys, arguments, message
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told(*arguments) == 2
    assert message in capsys.readouterr().err


# ---- real references ----


def real(name: str) -> Path:
    path = SHARED_DATA / "calibration" / name
    if not path.exists():
        pytest.skip(f"{path.name} is not among the shared files")
    return path


def assert_only_this_way(frames: np.ndarray, way: str, **arrays: object) -> Proof:
    """Accepted as it lies; turned, refused with the way back."""
    right = prove(References(**arrays), frames)
    assert (right.verdict, right.proved) == ("accepted", True), right.words()
    assert right.best.removed > 0.9
    part = next(iter(arrays))
    turned = arrays | {part: oriented(arrays[part], way)}
    wrong = prove(References(**turned), frames)
    assert wrong.verdict != "accepted"
    assert f"post it with orientation={way}" in "\n".join(wrong.reasons)
    return right


def test_celeritas_dark_belongs_to_its_frames() -> None:
    """Half-frames of the sensor's lower half; the dark (float32 after 1024 bytes) is of both."""
    dark = np.fromfile(real("celeritas_64x64_dark.mrc"), "<f4", offset=1024).reshape(64, 64)
    frames = read_stack(real("celeritas_64x64_bottom_768x32x64.npy"))[:16]
    right = assert_only_this_way(frames, "flip-up-down", dark=dark[32:])
    assert abs(right.numbers.level.corrected_mean) < 1
    upper = prove(References(dark=dark[:32]), frames)
    assert upper.verdict == "refused", "of the other half nothing matches"
    whole = prove(References(dark=dark), frames)
    assert not whole.proved
    assert "64 x 64 px cannot lie on frames of 32 x 64 px" in whole.reasons[0]


def test_timepix_flat_divides_frames_that_it_lit() -> None:
    """Its chips' cross is nearly symmetrical: the pixels decide."""
    pytest.importorskip("tifffile")
    flat = read_stack(real("timepix_flatfield.tiff"))[0]
    frames = np.random.default_rng(0).poisson(3 * flat / flat.mean(), (16, *flat.shape))
    asked = {"gain": flat, "gain_convention": "divide"}
    assert_only_this_way(frames.astype(np.uint16), "flip-left-right", **asked)
    wrong = prove(References(gain=flat, gain_convention="multiply"), frames)
    assert wrong.verdict == "refused"
    assert "post it with gain_convention=divide" in wrong.reasons[0]


def test_ceta_dark_is_found_under_column_noise() -> None:
    pytest.importorskip("h5py")
    dark = read_stack(real("ceta_dark_512.emd"))[0]
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1.2, (8, 512, 512)) + rng.normal(0, 1.2, (8, 1, 512))
    frames = dark + 4 * rng.poisson(5, noise.shape) + noise
    assert_only_this_way(np.rint(frames).astype(np.int16), "transpose", dark=dark)
