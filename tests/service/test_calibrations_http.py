"""Calibrations over HTTP with no camera: every format, what is stored, and who becomes active.

A camera's frames and the live stream are in test_calibrations_camera.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import SHARED_DATA
from uploads import Http, berkeley_emd, emd, h5, mrc, npy, npz, nxs, tif

from scgn.calibration import build_calibration, load_calibration
from scgn.noise import NoiseModel
from scgn.proof.orientation import oriented
from scgn_client.admin import Admin
from scgn_live.calibrations import CalibrationStore
from scgn_live.running import RunningService, start_service

SHAPE = (24, 36)
RNG = np.random.default_rng(11)
DARKS = RNG.normal(100, 4, (8, *SHAPE)).round().astype(np.uint16)
GAIN = RNG.uniform(0.9, 1.1, SHAPE).astype(np.float32)
MASK = np.zeros(SHAPE, np.uint8)
MASK[3, 4] = 1
NOISE = {
    "gain_adu_per_e": 7, "read_noise_adu": 2.5, "line_noise_adu": 1.5, "line_axis": "row",
    "line_correlation": 0.25, "autocorrelation": [[0, 0.1, 0], [0.2, 1, 0.2], [0, 0.1, 0]],
}  # fmt: skip


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def service(state: Path) -> Iterator[RunningService]:
    flags = ["--state-dir", str(state), "--engine", "pass-through", "--max-rows", "600"]
    running = start_service([*flags, "--max-columns", "520"])
    yield running
    assert running.stop() == 0
    running.log.unlink()


@pytest.fixture
def http(service: RunningService) -> Http:
    return Http.of(service)


@pytest.fixture
def store(state: Path) -> CalibrationStore:
    return CalibrationStore(state)


def level(number: int) -> bytes:
    """A dark reference that no other test posts."""
    return npy(np.full((8, 9), number, np.float32))


def mean(stack: Any) -> Any:
    return stack.mean(0, dtype=np.float64).astype(np.float32)


# Formats.


@pytest.mark.parametrize(
    ("dark", "gain", "mask"),
    [
        (("D.TIF", tif(DARKS)), ("g.mrc", mrc(GAIN)), ("m.h5", h5(mask=MASK))),
        (("d.npz", npz(x=DARKS)), ("g.emd", emd(GAIN)), ("m.npy", npy(MASK.astype(bool)))),
        (("d.nxs", nxs(DARKS)), ("g.tiff", tif(GAIN, bigtiff=True, byteorder=">")),
         ("m.emd", berkeley_emd(MASK))),
    ],
    ids=["tif mrc h5", "npz velox npy", "nexus bigtiff opencem"],
)  # fmt: skip
def test_every_format_gives_the_same_calibration(
    http: Http, store: CalibrationStore, dark: Any, gain: Any, mask: Any
) -> None:
    parts = {"dark": dark, "gain": gain, "mask": mask}
    stored = http.stored(parts, gain_convention="divide", exposure_ms=2.5)
    found = store.load(stored["id"])
    expected = build_calibration(mean(DARKS), GAIN, MASK, "divide")
    for name in ("dark", "gain", "mask"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert found.noise is not None, "a stack of darks tells the noise"
    assert abs(found.noise.read_noise_adu - 4) < 0.3
    assert found.noise.gain_adu_per_e == 0, "which darks do not"
    assert {k: stored[k] for k in ("active", "state", "verdict", "proved", "shape", "masked")} == {
        "active": True, "state": "active", "verdict": "accepted", "proved": False,
        "shape": list(SHAPE), "masked": 1,
    }  # fmt: skip
    assert stored["reasons"] == ["no frames to prove it against: only its numbers were checked"]
    assert http.active == stored["id"]
    report = http.get(stored["report"]).json
    told = report["references"]
    endings = [{".tiff": ".tif", ".nxs": ".h5", ".emd": ".h5"}.get(e, e) for e in (
        Path(name).suffix.lower() for name, _ in (dark, gain, mask))]  # fmt: skip
    assert [told[name]["format"] for name in ("dark", "gain", "mask")] == endings
    assert (told["dark"]["frames"], told["gain"]["frames"]) == (8, 1)
    assert (told["dark"]["dtype"], told["gain"]["dtype"]) == ("uint16", "float32")
    assert report["exposure_ms"] == 2.5
    assert report["gain_convention"] == "divide"
    assert report["origin"] == "upload"
    assert abs(report["noise"]["read_noise_adu"] - 4) < 0.3
    assert abs(report["uploaded_ns"] - time.time_ns()) < 60e9


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="the shared real frames are not here")
def test_real_references_are_accepted(http: Http, store: CalibrationStore) -> None:
    folder = SHARED_DATA / "calibration"
    for part, name, shape in (
        ("dark", "ceta_dark_512.emd", (512, 512)),
        ("dark", "celeritas_64x64_dark.mrc", (64, 64)),
        ("gain", "timepix_flatfield.tiff", (516, 516)),
    ):
        content = (folder / name).read_bytes()
        query = {"gain_convention": "divide"} if part == "gain" else {}
        stored = http.stored({part: (name, content)}, **query)
        assert (stored["verdict"], tuple(stored["shape"])) == ("accepted", shape), name
        assert store.load(stored["id"]).shape == shape
        assert http.active == stored["id"]


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="the shared real frames are not here")
def test_dm3_is_read_where_its_extra_is_installed(http: Http) -> None:
    pytest.importorskip("rsciio", reason="the extra `dm` is not installed")
    content = (SHARED_DATA / "formats" / "haadf_rebco.dm3").read_bytes()
    stored = http.stored({"dark": ("a.dm3", content)}, activate=False)
    assert http.get(stored["report"]).json["references"]["dark"]["format"] == ".dm3"


def test_noise_comes_as_json(http: Http, store: CalibrationStore) -> None:
    parts: dict[str, Any] = {"dark": npy(DARKS), "noise": ("n.json", json.dumps(NOISE).encode())}
    stored = http.stored(parts, activate=False)
    noise = store.load(stored["id"]).noise
    assert noise is not None
    lags = np.asarray(NOISE["autocorrelation"], np.float32)
    assert vars(noise) | {"autocorrelation": None} == vars(NoiseModel(7, 2.5, 1.5, "row", 0.25)) | {
        "autocorrelation": None
    }
    np.testing.assert_array_equal(noise.autocorrelation, lags)


def test_a_whole_calibration_goes_out_and_comes_back(http: Http, tmp_path: Path) -> None:
    parts = {"dark": npy(DARKS), "gain": npy(GAIN), "mask": npy(MASK)}
    stored = http.stored(parts, gain_convention="multiply", activate=False)
    file = http.get(f"/calibrations/{stored['id']}/file")
    assert file.headers["content-type"] == "application/octet-stream"
    assert f"{stored['id']}.npz" in file.headers["content-disposition"]
    (tmp_path / "c.npz").write_bytes(file.body)
    found = load_calibration(tmp_path / "c.npz")
    assert found.id == stored["id"]
    assert found.noise is not None
    http.delete(stored["report"])
    again = Admin(f"http://{http.host}").post_calibration(calibration=tmp_path / "c.npz")
    assert (again["id"], again["masked"]) == (stored["id"], 1), "with the noise that it holds"
    assert http.get(stored["report"]).json["references"]["calibration"]["id"] == stored["id"]
    beside = {"calibration": file.body, "dark": npy(DARKS)}
    detail = http.upload(beside).problem(422, "calibration")["detail"]
    assert detail == "calibration: expected it alone, got dark beside it"
    http.upload({"calibration": npz(a=MASK)}).problem(422, "calibration")


def test_references_are_turned_onto_the_frames(http: Http, store: CalibrationStore) -> None:
    name, back = "rotate-90", "rotate-270"
    darks = DARKS + RNG.normal(0, 30, (8, 1, SHAPE[1])).round().astype(np.int16)
    stored = http.stored({"dark": npy(darks), "mask": npy(MASK)}, orientation=name, activate=False)
    assert stored["shape"] == [SHAPE[1], SHAPE[0]]
    found = store.load(stored["id"])
    np.testing.assert_array_equal(found.mask, oriented(MASK.astype(bool), name))
    expected = np.where(found.mask, 0, oriented(mean(darks), name))
    np.testing.assert_array_equal(found.dark, expected)
    assert found.noise is not None
    assert found.noise.line_axis == "row", "columns of the files are rows of the frames"
    assert found.noise.line_noise_adu > 10
    assert http.get(stored["report"]).json["orientation"] == name
    # The turned calibration, turned back, is the one that was never turned.
    file = http.get(f"/calibrations/{stored['id']}/file").body
    whole = http.stored({"calibration": file}, orientation=back, activate=False)
    plain = http.stored({"dark": npy(darks), "mask": npy(MASK)}, activate=False)
    assert whole["shape"] == plain["shape"] == list(SHAPE)
    again, first = store.load(whole["id"]).noise, store.load(plain["id"]).noise
    assert again is not None
    assert first is not None
    assert again.line_axis == first.line_axis == "column"
    np.testing.assert_allclose(again.autocorrelation, first.autocorrelation, atol=1e-6)


def test_dead_pixels_join_the_mask(http: Http, store: CalibrationStore) -> None:
    gain = GAIN.copy()
    gain[7, 8] = 0
    stored = http.stored({"gain": npy(gain), "mask": npy(MASK)}, gain_convention="multiply")
    assert stored["masked"] == 2
    assert store.load(stored["id"]).mask[7, 8]


# What is not accepted.


def test_references_that_do_not_go_together(http: Http) -> None:
    before = http.active
    small = {"dark": npy(DARKS), "mask": npy(MASK[:9])}
    assert "equal shapes" in http.upload(small).problem(422, "calibration")["detail"]
    http.upload({"gain": npy(GAIN)}).problem(422, "gain_convention")
    http.upload({"mask": npy(np.stack([MASK, MASK]))}).problem(422, "mask")
    http.upload({"mask": npy(1 - MASK)}).problem(422, "mask")
    http.upload({"noise": b"{}"}).problem(422, "noise")
    http.upload({"frames": npy(DARKS)}).problem(422, "calibration")
    wide = {"dark": npy(np.ones((520, 600), np.uint8))}
    assert "520 x 600" in http.upload(wide).problem(422, "dark")["detail"]
    assert http.active == before


def test_the_limits_of_a_frame_hold_as_it_lies_on_the_camera(http: Http) -> None:
    wide = {"dark": npy(np.full((520, 600), 7, np.uint8))}
    stored = http.stored(wide, orientation="transpose", activate=False)
    assert stored["shape"] == [600, 520]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("orientation", "upside-down"), ("gain_convention", "add"), ("exposure_ms", 0),
        ("exposure_ms", "nan"), ("camera", "a/b"), ("camera", ""), ("activate", "perhaps"),
        ("orientaton", "rotate-90"),
    ],
)  # fmt: skip
def test_a_slip_in_the_query_is_named(http: Http, name: str, value: Any) -> None:
    http.upload({"dark": level(1)}, **{name: value}).problem(422, name)


def test_a_slip_in_the_form_is_named(http: Http) -> None:
    detail = http.upload({"drak": level(1), "mask": level(1)}).problem(422, "drak")["detail"]
    assert "expected parts of calibration, dark, frames, gain, mask, noise, got 'drak'" in detail
    twice = [("dark", "a.npy", level(1)), ("dark", "b.npy", level(2))]
    assert "one file" in http.upload(twice).problem(422, "dark")["detail"]
    http.upload({}).problem(422, "calibration")
    http.ask("POST", "/calibrations", b'{"dark": 1}', {"Content-Type": "application/json"}).problem(
        422, "calibration"
    )


# States.


def test_from_upload_to_rollback(http: Http) -> None:
    kept = http.stored({"dark": level(10)}, activate=False)["id"]
    first = http.stored({"dark": level(11)})["id"]
    second = http.stored({"dark": level(12)}, activate=True)["id"]
    assert states(http, kept, first, second) == ["staged", "replaced", "active"]
    rows = {row["id"]: row for row in http.get("/calibrations").json}
    assert http.ids()[:3] == [second, first, kept], "the newest first"
    assert rows[first]["verdict"] == "accepted"
    assert rows[first]["shape"] == [8, 9]
    assert "references" not in rows[first], "a list is short"
    assert http.post("/calibrations/rollback").json == {"id": first}
    assert http.active == first
    assert states(http, kept, first, second) == ["staged", "active", "rolled back"]
    assert http.post(f"/calibrations/{kept}/activate").json == {"id": kept}
    assert states(http, kept, first, second) == ["active", "replaced", "rolled back"]
    assert http.delete(f"/calibrations/{first}").json == {"id": kept}
    http.get(f"/calibrations/{first}").problem(404, "identity")
    assert http.delete("/calibrations/active").json == {"id": None}
    assert http.active is None
    assert http.post("/calibrations/rollback").json == {"id": kept}
    http.delete(f"/calibrations/{kept}").problem(409, "identity")
    assert http.active == kept


def states(http: Http, *ids: str) -> list[str]:
    found = [http.get(f"/calibrations/{identity}").json["state"] for identity in ids]
    rows = {row["id"]: row["state"] for row in http.get("/calibrations").json}
    assert [rows[identity] for identity in ids] == found
    return found


def test_the_same_files_again_are_the_same_calibration(http: Http) -> None:
    first = http.stored({"dark": level(20)})
    http.stored({"dark": level(21)})
    again = http.stored({"dark": level(20)}, exposure_ms=5)
    assert again["id"] == first["id"] == http.active
    assert http.ids().count(first["id"]) == 1
    assert http.get(first["report"]).json["exposure_ms"] == 5


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""), ("GET", "/picture"), ("GET", "/file"), ("POST", "/activate"), ("DELETE", ""),
    ],
)  # fmt: skip
def test_what_is_not_there(http: Http, method: str, path: str) -> None:
    http.ask(method, f"/calibrations/{'0' * 12}{path}").problem(404, "identity")
    for name in ("..", "%2e%2e", "A" * 12, "0" * 13, "active.json", "0" * 12 + ".npz"):
        if (method, name) != ("DELETE", "active"):
            assert http.ask(method, f"/calibrations/{name}{path}").status in (404, 405, 422)


def test_a_picture_is_drawn(http: Http) -> None:
    stored = http.stored({"dark": npy(DARKS), "gain": npy(GAIN)}, gain_convention="multiply")
    picture = http.get(stored["picture"])  # waits for it, as it comes after the answer
    assert (picture.status, picture.headers["content-type"]) == (200, "image/png")
    with Image.open(io.BytesIO(picture.body)) as image:
        image.load()
        assert image.format == "PNG"
        assert image.width > 300
        assert np.ptp(np.asarray(image.convert("L"))) > 100, "an empty picture"
    assert http.get(stored["report"]).json["picture"] == stored["picture"]


@pytest.mark.parametrize("content", ['{"shape": "wide"}', "[]", "nothing", "\udcff"])
def test_a_report_that_is_none_hides_no_calibration(
    http: Http, store: CalibrationStore, content: str
) -> None:
    stored = http.stored({"dark": level(30 + len(content))}, activate=False)
    http.get(stored["picture"])
    path = store.path(stored["id"], ".json")
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert stored["id"] in http.ids()
    assert http.get(stored["report"]).json["state"] == "staged"
    assert http.get(stored["report"]).json["verdict"] is None
    assert http.post(f"{stored['report']}/activate").json == {"id": stored["id"]}
    http.delete("/calibrations/active")
    http.delete(stored["report"])


def test_what_an_operator_does_with_the_client(http: Http) -> None:
    admin = Admin(f"http://{http.host}")
    posted = admin.post_calibration(DARKS, exposure_ms=3.0, activate=False)
    assert (posted["state"], posted["active"]) == ("staged", False)
    assert admin.activate(posted["id"]) == posted["id"]
    assert admin.calibrations()[0]["id"] == posted["id"]
    assert admin.calibration(posted["id"])["exposure_ms"] == 3.0
    before = admin.rollback()
    assert before != posted["id"]
    assert admin.activate(None) is None
    assert admin.calibration(posted["id"])["state"] == "rolled back"
