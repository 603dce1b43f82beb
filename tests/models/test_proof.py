"""Proofs of calibrations: references of known cameras, posted right and in every wrong way."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from scgn.proof.orientation import ORIENTATIONS, composed, inverse, oriented
from scgn.proof.posted import References
from scgn.proof.prove import prove
from scgn.proof.report import Proof
from scgn.references import CalibrationError
from scgn_client.camera import SimulatedCamera
from scgn_client.nucleation import Nucleation

MODELS = Path(__file__).parents[2] / "models"
CONVENTIONS = ("multiply", "divide")
PLACES = [(name, convention) for name in ORIENTATIONS for convention in CONVENTIONS]


@dataclass(frozen=True)
class Still:
    """A scene that does not move: one frame of the nucleation, or even light."""

    shape: tuple[int, int]
    even: bool = False

    def expected(self, i: int) -> np.ndarray:
        return _lattice(self.shape) if not self.even else np.ones(self.shape, np.float32)


@lru_cache
def _lattice(shape: tuple[int, int]) -> np.ndarray:
    return Nucleation(shape, 1).expected(600)


@lru_cache
def filmed(camera: SimulatedCamera, frames: int = 16) -> np.ndarray:
    return np.stack([camera.frame(i).raw for i in range(frames)])


def camera_of(shape: tuple[int, int] = (80, 80), seed: int = 3, **changes) -> SimulatedCamera:
    return SimulatedCamera(shape, seed, **changes)


CAMERA = camera_of()
EVEN = camera_of(scene=Still((80, 80), even=True))


def inverted(gain: np.ndarray) -> np.ndarray:
    """The same gain in the other convention; dead pixels stay 0."""
    return np.divide(1, gain, out=np.zeros_like(gain), where=gain > 0)


def posted(
    camera: SimulatedCamera,
    place: tuple[str, str] = ("as-is", "multiply"),
    parts: str = "dark gain mask",
    **said: str,
) -> References:
    """Files that `place` puts right, posted as the operator says."""
    name, convention = place
    gain = camera.gain_reference
    arrays = {
        "dark": camera.dark_reference,
        "gain": gain if convention == "multiply" else inverted(gain),
        "mask": camera.pixel_mask,
    }
    files = {part: oriented(arrays[part], inverse(name)).copy() for part in parts.split()}
    asked = {"gain_convention": "multiply"} if "gain" in files else {}
    return References(**files, **(asked | said))


def said(proof: Proof) -> str:
    json.dumps(proof.as_json(), allow_nan=False)
    return "\n".join(proof.reasons)


def assert_right(proof: Proof) -> None:
    assert (proof.verdict, proof.proved) == ("accepted", True), said(proof)
    assert proof.as_posted is not None
    assert proof.as_posted.removed > 0.9
    assert "as posted it removes" in said(proof)


def assert_not_proved(proof: Proof, words: str) -> None:
    assert (proof.verdict, proof.proved) == ("accepted", False), said(proof)
    assert words in said(proof)


# ---- orientations ----


def test_orientations_are_what_their_names_say() -> None:
    frame = np.arange(6).reshape(2, 3)
    assert list(ORIENTATIONS) == [
        "as-is", "flip-up-down", "flip-left-right", "rotate-180", "rotate-90", "rotate-270",
        "transpose", "anti-transpose",
    ]  # fmt: skip
    assert oriented(frame, "flip-up-down").tolist() == [[3, 4, 5], [0, 1, 2]]
    assert oriented(frame, "rotate-90").tolist() == [[2, 5], [1, 4], [0, 3]]
    assert oriented(frame, "anti-transpose").tolist() == [[5, 2], [4, 1], [3, 0]]


@pytest.mark.parametrize("first", ORIENTATIONS)
def test_composition_is_one_after_the_other(first) -> None:
    frame = np.random.default_rng(0).random((4, 7))
    for then in ORIENTATIONS:
        both = oriented(oriented(frame, first), then)
        np.testing.assert_array_equal(oriented(frame, composed(first, then)), both)
    np.testing.assert_array_equal(oriented(oriented(frame, first), inverse(first)), frame)


def test_turned_arrays_give_the_posted_ones_back() -> None:
    files = posted(CAMERA, ("rotate-90", "divide"), orientation="rotate-90")
    turned = files.turned()
    again = References.from_turned(
        turned.dark, turned.gain, turned.mask, "rotate-90", files.gain_convention
    )
    np.testing.assert_array_equal(turned.dark, CAMERA.dark_reference)
    for part in ("dark", "gain", "mask"):
        np.testing.assert_array_equal(getattr(again, part), getattr(files, part))
    assert (turned.orientation, again.orientation) == ("as-is", "rotate-90")


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_middle_is_the_same_pixels_in_every_orientation(name) -> None:
    frame = np.random.default_rng(0).random((1037, 1226), np.float32)
    middle_then_turned = oriented(References(dark=frame).middle().dark, name)
    turned_then_middle = References(dark=oriented(frame, name)).middle().dark
    np.testing.assert_array_equal(turned_then_middle, middle_then_turned)


# ---- right, misplaced and of another camera ----


@pytest.mark.parametrize(("name", "convention"), PLACES)
def test_every_placement_is_named_with_the_right_repair(name, convention) -> None:
    place, frames = (name, convention), filmed(CAMERA)
    proof = prove(posted(CAMERA, place), frames)
    if place == ("as-is", "multiply"):
        assert_right(proof)
        return
    assert proof.verdict == ("suspicious" if name == "as-is" else "refused")
    assert not proof.proved
    assert (proof.best.orientation, proof.best.gain_convention) == place
    assert proof.told == ("orientation", "gain_convention")
    assert (f"orientation={name}" in said(proof)) == (name != "as-is")
    assert (f"gain_convention={convention}" in said(proof)) == (convention == "divide")
    assert ("worse" in said(proof)) == (name != "as-is")
    assert_right(prove(posted(CAMERA, place, orientation=name, gain_convention=convention), frames))


def test_repair_is_for_the_posted_arrays_whatever_the_operator_said() -> None:
    proof = prove(
        posted(CAMERA, ("rotate-90", "multiply"), orientation="transpose"), filmed(CAMERA)
    )
    assert proof.verdict == "refused"
    assert "post it with orientation=rotate-90" in said(proof)
    assert proof.orientation == "transpose"


@pytest.mark.parametrize("seed", [4, 5, 6])
def test_another_camera_is_not_accepted(seed) -> None:
    proof = prove(posted(camera_of(seed=seed)), filmed(CAMERA))
    assert (proof.verdict, proof.proved, proof.best) == ("refused", False, None), said(proof)
    assert "nothing in the references matches these frames in any orientation" in said(proof)
    assert 1.7 < proof.as_posted.residual < 2.3, "two unrelated patterns of equal variance"


def test_wrong_convention_doubles_the_pattern() -> None:
    camera = camera_of(dose_e_per_px=20)
    proof = prove(
        posted(camera, ("as-is", "divide"), "gain"), filmed(camera) - camera.dark_reference
    )
    assert proof.verdict == "refused"
    assert 3 < proof.as_posted.residual < 5, "twice the pattern, four times its variance"
    assert "post it with gain_convention=divide" in said(proof)


@pytest.mark.parametrize(
    "camera",
    [
        camera_of(scene=Still((80, 80))),
        EVEN,
        camera_of((64, 112)),
        camera_of((64, 64), dose_e_per_px=40, column_noise_e=2),
        camera_of((128, 128), dose_e_per_px=0.5, read_noise_e=0.2),
        camera_of(dtype=">u2"),
        camera_of(dtype="<i4"),
    ],
    ids=["still lattice", "even", "not square", "bright", "faint", "big-endian", "int32"],
)
def test_right_references_are_accepted(camera) -> None:
    frames = filmed(camera, 32)
    assert_right(prove(posted(camera), frames))
    flipped = prove(posted(camera, ("flip-left-right", "divide")), frames)
    assert flipped.verdict == "refused"
    assert "orientation=flip-left-right and gain_convention=divide" in said(flipped)


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_dark_alone(name) -> None:
    proof = prove(posted(CAMERA, (name, "multiply"), "dark"), filmed(CAMERA, 8))
    if name == "as-is":
        assert_right(proof)
    else:
        assert proof.verdict == "refused"
        assert f"post it with orientation={name}" in said(proof)
    assert {way.gain_convention for way in proof.candidates} == {None}


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_mask_alone(name) -> None:
    rng, frames = np.random.default_rng(1), filmed(CAMERA).copy()
    mask = rng.random(CAMERA.shape) < 0.003
    frames[:, mask] = rng.choice([0, 60000], mask.sum())
    mask |= CAMERA.pixel_mask > 0
    proof = prove(References(mask=oriented(mask, inverse(name))), frames)
    assert proof.as_json()["mask"]["pixels"] == mask.sum()
    if name == "as-is":
        assert (proof.verdict, proof.proved) == ("accepted", True)
        assert f"covers {mask.sum()} of the {mask.sum()} pixels that deviate" in said(proof)
        return
    assert proof.verdict == "suspicious"
    assert f"post it with orientation={name}" in said(proof)


def test_mask_of_another_camera_is_suspicious() -> None:
    frames = filmed(CAMERA).copy()
    places = np.random.default_rng(2).permutation(frames[0].size)
    frames.reshape(len(frames), -1)[:, places[:20]] = 50000
    mask = np.zeros(frames[0].size, bool)
    mask[places[20:40]] = True
    proof = prove(References(mask=mask.reshape(CAMERA.shape)), frames)
    assert proof.verdict == "suspicious"
    assert "nothing in the references matches" in said(proof)
    numbers = proof.as_json()["mask"]
    assert numbers["deviating_not_masked"] >= 20
    assert numbers["masked_looking_fine"] == 20


# ---- parts that do not go together ----


def test_gain_without_its_dark_asks_for_it() -> None:
    proof = prove(posted(CAMERA, parts="gain"), filmed(CAMERA, 32))
    assert proof.verdict != "accepted"
    assert "the frames stand on an offset: post the dark as well" in said(proof)


def test_files_that_lie_differently_are_told_apart() -> None:
    files = posted(CAMERA)
    mixed = References(files.dark, np.flipud(files.gain), files.mask, "as-is", "multiply")
    proof = prove(mixed, filmed(CAMERA, 32))
    assert (proof.verdict, proof.proved) == ("suspicious", False)
    assert "the gain alone fits with orientation=flip-up-down" in said(proof)


def test_right_dark_does_not_carry_another_cameras_gain() -> None:
    files, other = posted(CAMERA), posted(camera_of(seed=9))
    mixed = References(files.dark, other.gain, files.mask, "as-is", "multiply")
    proof = prove(mixed, filmed(CAMERA, 32))
    assert (proof.verdict, proof.proved) == ("suspicious", False)
    assert "hardly anything in the gain matches these frames" in said(proof)


def test_dark_of_another_exposure_is_suspicious() -> None:
    longer = 100 + 2 * (CAMERA.dark_reference - 100)
    proof = prove(References(dark=longer), filmed(CAMERA))
    assert proof.verdict == "suspicious"
    assert "the dark's pattern 0.5" in said(proof)
    assert proof.as_posted.residual == pytest.approx(1, abs=0.15), "as much taken as added"


def test_dark_brighter_than_the_frames_is_suspicious() -> None:
    proof = prove(References(dark=CAMERA.dark_reference + 200), filmed(CAMERA))
    assert (proof.verdict, proof.proved) == ("suspicious", False)
    assert "is brighter than the frames" in said(proof)
    assert proof.as_json()["level"]["below_zero"] > 0.99


# ---- too little to tell ----


def test_too_few_faint_frames_do_not_tell() -> None:
    camera = camera_of((64, 64), dose_e_per_px=0.1, offset_adu=0.0)
    frames = filmed(camera, 2) - np.rint(camera.dark_reference).astype(int)
    proof = prove(posted(camera, ("flip-up-down", "multiply"), "gain"), frames)
    assert_not_proved(proof, "too few or too faint to tell (2 frames, removed ")
    assert (proof.best, proof.told) == (None, ())


def test_faint_frames_tell_the_orientation_but_no_convention() -> None:
    camera = camera_of((64, 64), dose_e_per_px=0.2)
    frames = filmed(camera, 8)
    for convention in CONVENTIONS:
        right = prove(posted(camera, ("as-is", convention)), frames)
        assert_not_proved(right, "too few or too faint to tell its gain convention (8 frames)")
        assert right.told == ("orientation",)
        wrong = prove(posted(camera, ("transpose", convention)), frames)
        assert wrong.verdict == "refused"
        assert "post it with orientation=transpose" in said(wrong)
        assert "gain_convention" not in said(wrong)


def test_strengths_are_unbiased_and_their_errors_right() -> None:
    """Few, faint frames of a still lattice: noise must neither hide nor feign a pattern."""
    away = []
    for seed in range(24):
        camera = camera_of((64, 64), seed, dose_e_per_px=1, scene=Still((64, 64)))
        for owner, truth in ((camera, 1.0), (camera_of((64, 64), seed + 100), 0.0)):
            proof = prove(posted(owner, parts="dark"), filmed(camera, 4))
            way = proof.candidates[0]
            strength, error = way.strengths["dark"]
            if truth:
                away.append((strength - truth) / error)
            else:
                assert way.evidence < 10
                assert not proof.proved
    assert abs(np.mean(away)) < 4 / np.sqrt(len(away))
    assert 0.6 < np.std(away) < 1.6


@pytest.mark.parametrize("frames", [None, np.ones((3, 90, 80), np.uint16)])
def test_without_fitting_frames_only_numbers_count(frames) -> None:
    proof = prove(posted(CAMERA), frames)
    assert_not_proved(proof, "only its numbers were checked")
    assert proof.candidates == []
    assert proof.as_json()["gain"]["std"] == pytest.approx(CAMERA.gain_reference.std(), rel=0.3)


# ---- references without a pattern, or that look alike turned ----


def test_flat_references_have_nothing_to_prove() -> None:
    flat = References(np.full((80, 80), 100), np.ones((80, 80)), None, "as-is", "divide")
    assert_not_proved(prove(flat, filmed(CAMERA)), "there is no pattern to prove")


def test_constant_dark_leaves_the_proof_to_the_gain() -> None:
    camera, frames = EVEN, filmed(EVEN, 32)
    offset = frames - np.rint(camera.dark_reference - 100).astype(int)
    dark = np.full(camera.shape, 100.0)
    for name in ("as-is", "rotate-270"):
        gain = oriented(camera.gain_reference, inverse(name))
        proof = prove(References(dark, gain, None, name, "multiply"), offset)
        assert_right(proof)


def test_symmetrical_references_raise_no_alarm() -> None:
    rng = np.random.default_rng(0)
    half = 1 + 0.03 * rng.normal(size=(40, 80))
    gain = np.concatenate([half, half[::-1]]).astype(np.float32)
    frames = rng.poisson(20 / gain, (16, 80, 80)).astype(np.uint16)
    for name in ("as-is", "flip-up-down"):
        assert_right(
            prove(References(gain=gain, orientation=name, gain_convention="multiply"), frames)
        )
    turned = prove(References(gain=gain.T, gain_convention="multiply"), frames)
    assert turned.verdict == "refused"
    assert turned.best.orientation in ("transpose", "rotate-90", "rotate-270", "anti-transpose")


def test_columns_alone_are_told_but_for_the_flip_that_keeps_them() -> None:
    rng = np.random.default_rng(0)
    dark = np.broadcast_to(100 + rng.normal(0, 5, 96), (96, 96)).astype(np.float32)
    frames = (dark + rng.normal(0, 5, (8, 96, 96)) + rng.normal(0, 1, (8, 1, 96))).astype(np.int16)
    assert_right(prove(References(dark=dark, orientation="flip-up-down"), frames))
    assert prove(References(dark=dark, orientation="rotate-180"), frames).verdict == "refused"


def test_frames_that_are_not_square_leave_four_orientations() -> None:
    camera = camera_of((64, 96))
    frames = filmed(camera)
    right = prove(posted(camera), frames)
    assert {way.orientation for way in right.candidates} == {
        "as-is", "flip-up-down", "flip-left-right", "rotate-180",
    }  # fmt: skip
    for name in ("transpose", "rotate-90"):
        proof = prove(posted(camera, (name, "multiply")), frames)
        assert (proof.verdict, proof.as_posted) == ("refused", None)
        assert "does not have the frames' shape" in said(proof)
        assert f"post it with orientation={name}" in said(proof)
        assert_right(prove(posted(camera, (name, "multiply"), orientation=name), frames))


# ---- numbers, errors, JSON ----


def test_numbers_of_a_right_proof_are_the_cameras() -> None:
    camera = camera_of((160, 160), dose_e_per_px=1, read_noise_e=1, scene=Still((160, 160)))
    told = prove(posted(camera), filmed(camera)).as_json()
    corrected = told["transfer"]["corrected"]
    assert corrected["gain_adu_per_e"] == pytest.approx(20, rel=0.1)
    assert corrected["read_noise_adu"] == pytest.approx(20, rel=0.15)
    assert told["transfer"]["raw"]["read_noise_adu"] is None, "they stand on an offset"
    assert told["level"]["dark_mean"] == pytest.approx(100, abs=2)
    assert told["level"]["corrected_mean"] == pytest.approx(23, rel=0.3)
    assert told["level"]["below_zero"] < 0.05
    assert told["mask"] == {
        "pixels": int(camera.pixel_mask.sum()), "share": pytest.approx(camera.pixel_mask.mean()),
        "deviating_not_masked": 0, "masked_looking_fine": 0,
    }  # fmt: skip
    assert sum(told["gain"]["counts"]) == (camera.gain_reference > 0).sum() - camera._hot.sum()
    assert len(told["gain"]["edges"]) == len(told["gain"]["counts"]) + 1
    assert told["frames"] == {"count": 16, "shape": [160, 160]}
    assert len(told["candidates"]) == 16


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gain": np.geomspace(0.01, 100, 6400).reshape(80, 80)}, "spans a factor of"),
        ({"mask": np.arange(6400).reshape(80, 80) % 7 == 0}, "14.3% of the pixels are masked"),
    ],
)
def test_absurd_numbers_are_suspicious_even_without_frames(changes, words) -> None:
    said_so = {"gain_convention": "multiply"} if "gain" in changes else {}
    proof = prove(References(**changes, **said_so), None)
    assert (proof.verdict, proof.proved) == ("suspicious", False)
    assert words in said(proof)


def test_values_that_are_not_finite_are_defects() -> None:
    files, frames = posted(CAMERA), filmed(CAMERA).astype(np.float32)
    files.dark[3, 4], files.gain[10, 11] = np.nan, np.inf
    frames[2, 20, 21] = np.nan
    frames[:, 30, 31] = np.inf
    proof = prove(files, frames)
    assert_right(proof)
    assert proof.numbers.mask.deviating_not_masked >= 2


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 3), (2, 16, 16), (1, 64, 64)])
def test_small_or_single_frames_give_an_answer(shape) -> None:
    rng = np.random.default_rng(0)
    files = References(rng.random(shape[1:]), rng.random(shape[1:]), None, "as-is", "multiply")
    proof = prove(files, rng.integers(0, 9, shape))
    assert not proof.proved
    assert said(proof)


def test_blank_frames_are_darker_than_the_dark() -> None:
    proof = prove(posted(CAMERA), np.zeros((4, 80, 80), np.uint8))
    assert (proof.verdict, proof.proved) == ("suspicious", False)
    assert "is brighter than the frames" in said(proof)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: References(), "calibration"),
        (lambda: References(dark=np.ones((3, 4)), gain=np.ones((4, 3))), "calibration"),
        (lambda: References(dark=np.ones((3, 4)), orientation="sideways"), "orientation"),
        (lambda: References(dark=np.ones((3, 4), complex)), "dark"),
        (lambda: References(gain=np.ones((3, 4)), gain_convention="both"), "gain_convention"),
        (lambda: prove(References(mask=np.ones((8, 8), bool)), None), "mask"),
        (lambda: prove(References(dark=np.ones((8, 8))), np.ones((8, 8))), "frames"),
        (lambda: prove(References(dark=np.ones((8, 8))), np.full((2, 8, 8), np.nan)), "frames"),
    ],
)
def test_what_cannot_be_tried_names_its_field(make, field) -> None:
    with pytest.raises(CalibrationError) as caught:
        make()
    assert caught.value.field == field


def test_gain_without_convention_is_refused_and_told() -> None:
    files = posted(CAMERA, ("as-is", "divide"))
    proof = prove(References(files.dark, files.gain, files.mask), filmed(CAMERA))
    assert (proof.verdict, proof.as_posted) == ("refused", None)
    assert "post it with gain_convention=divide" in said(proof)


def test_words_say_verdict_reasons_and_numbers() -> None:
    words = prove(posted(CAMERA, ("flip-up-down", "multiply")), filmed(CAMERA)).words()
    assert words.startswith("verdict      refused, not proved\n")
    for part in ("orientation as-is, gain to multiply", "worse", "gain  ", "mask  ", "levels  "):
        assert part in words


def test_proof_needs_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys, scgn.proof.prove; sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=MODELS)
