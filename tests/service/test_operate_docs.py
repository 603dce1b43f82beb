"""docs/operate.md: every block of curl is run as it stands, and what the tables say is so."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from handbook import TEXT, Shell, answers, blocks, tables
from PIL import Image
from support import ROOT, wait_for

from scgn.calibration import load_calibration
from scgn.proof.orientation import ORIENTATIONS
from scgn_client import FrameSender, LatestReceiver
from scgn_client.admin import Admin
from scgn_client.camera import SimulatedCamera
from scgn_client.messages import PublishedFrame
from scgn_live.checking.readers import FORMATS
from scgn_live.running import RunningService, start_service
from scgn_live.sidecar.models import PROBLEMS

SIDE, EXPOSURE_MS, RATE_FPS = 96, 40.0, 30.0
TOKEN = "a token that only this test has"
needs_curl = pytest.mark.skipif(
    shutil.which("curl") is None or shutil.which("bash") is None, reason="needs bash and curl"
)


@dataclass(frozen=True)
class Day:
    """A service, its operator's shell and folder."""

    service: RunningService
    shell: Shell
    folder: Path

    @property
    def admin(self) -> Admin:
        return Admin(self.service.http)

    def word(self, name: str) -> str:
        """A variable of the shell."""
        return self.shell.run(f'printf %s "${name}"').strip()

    def states(self) -> dict[str, str]:
        return {row["id"]: row["state"] for row in self.admin.calibrations()}

    def frame(self) -> PublishedFrame:
        """A frame that was not yet under way."""
        with LatestReceiver(self.service.latest, timeout_s=20) as receiver:
            receiver.receive()
            return receiver.receive()

    def corrected_with(self) -> str | None:
        return self.frame().calibration

    def model(self) -> str:
        return self.frame().model


# What holds after each block, by heading, in the order of the page.

Check = Callable[[Day, str], None]


def is_live(day: Day, printed: str) -> None:
    assert answers(printed) == [{"live": True, "reasons": []}]


def is_well(day: Day, printed: str) -> None:
    live, ready, status = answers(printed)
    assert (live["live"], ready["ready"], status["ready"]) == (True, True, True)
    assert status["series"][0]["published"] > 0


def is_posted(day: Day, printed: str) -> None:
    (posted,) = answers(printed)
    assert (posted["verdict"], posted["proved"], posted["active"]) == ("accepted", True, True)
    assert posted["id"] == day.word("id") == day.corrected_with()


def is_reported(day: Day, printed: str) -> None:
    listed, report = answers(printed)
    assert listed["id"] == report["id"] == day.word("id")
    assert report["proof"]["as_posted"]["removed"] > 0.9
    with Image.open(day.folder / "report.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 800


def is_refused_with_the_repair(day: Day, printed: str) -> None:
    (problem,) = answers(printed)
    assert problem["status"] == 422
    assert "makes the fixed pattern worse" in problem["detail"]
    assert problem["detail"].endswith("post it with orientation=as-is")
    assert day.states() == {day.word("id"): "active", problem["calibration"]: "staged"}


def is_kept_for_later(day: Day, printed: str) -> None:
    (problem,) = answers(printed)
    assert problem["status"] == 409
    assert "taken with 400 ms, the frames that come are exposed for 40 ms" in problem["detail"]
    assert day.states()[day.word("later")] == "staged"
    assert day.corrected_with() == day.word("id")


def is_forced(day: Day, printed: str) -> None:
    assert answers(printed) == [{"id": day.word("later")}]
    assert day.corrected_with() == day.word("later")


def is_rolled_back_and_deleted(day: Day, printed: str) -> None:
    identity = day.word("id")
    assert answers(printed) == [{"id": identity}, {"id": identity}]
    assert day.corrected_with() == identity
    assert day.word("later") not in day.states()


def is_off_and_on(day: Day, printed: str) -> None:
    assert answers(printed) == [{"id": None}, {"id": day.word("id")}]
    assert day.corrected_with() == day.word("id")


def is_fetched(day: Day, printed: str) -> None:
    assert load_calibration(day.folder / "calibration.npz").id == day.word("id")


def is_made_of_the_stream(day: Day, printed: str) -> None:
    job = json.loads((day.folder / "job.json").read_text())
    # On a busy machine frames come further apart, and the scene moves on between them: then it says
    # so, and is not used.
    assert (job["state"], job["frames"]) == ("done", 64)
    assert job["active"] == (job["verdict"] == "accepted"), job["reasons"]
    report = day.admin.calibration(job["calibration"])
    assert (report["origin"], report["references"]) == (
        "stream",
        {"calibration": {"id": day.word("id")}},
    )
    assert report["noise"]["gain_adu_per_e"] > 0
    assert (day.corrected_with() == job["calibration"]) == job["active"]


def is_swapped(day: Day, printed: str) -> None:
    before, *_ = answers(printed)
    assert "tiny-clean" in before["models"]
    assert before["model"].startswith("scgn-preview-clean-")
    after = json.loads((day.folder / "swap.json").read_text())
    assert (after["asked"], after["state"]) == ("tiny-clean", "active")
    assert day.model() == after["model"]
    assert after["model"].startswith("scgn-tiny-clean-")


def is_swapped_back(day: Day, printed: str) -> None:
    wait_for(lambda: day.model().startswith("scgn-preview-clean-"), "the network before")


def is_alone_and_together_again(day: Day, printed: str) -> None:
    assert answers(printed) == [{"temporal": "off"}, {"temporal": "auto"}]
    assert day.admin.status()["temporal"] == "auto"


def is_measured(day: Day, printed: str) -> None:
    assert printed.strip() == "scgn_ready 1.0"


CHECKS: dict[str, list[Check]] = {
    "# Operating": [is_live],
    "Is it well?": [is_well],
    "Post references": [is_posted],
    "Read the report": [is_reported],
    "Orientation": [is_refused_with_the_repair],
    "Keep now, activate later": [is_kept_for_later, is_forced],
    "Roll back, delete": [is_rolled_back_and_deleted, is_off_and_on, is_fetched],
    "Noise from the live stream": [is_made_of_the_stream],
    "Another network": [is_swapped, is_swapped_back],
    "Frames seen together": [is_alone_and_together_again],
    "What to watch": [is_measured],
}
GUARDED = "Token"  # its lines need a service with a token, which no other line has


@pytest.fixture
def day(tmp_path: Path) -> Iterator[Day]:
    """A service on a CPU with a camera that sends, and the camera's references in a folder."""
    folder = tmp_path / "operator"
    folder.mkdir()
    camera = SimulatedCamera((SIDE, SIDE), dose_e_per_px=20)
    camera.save_references(folder)
    flags = ["--state-dir", str(tmp_path), "--backend", "eager", "--threads", "1"]
    flags += ["--shapes", f"{SIDE}x{SIDE}", "--proof-every-s", "0.01"]
    service, stop = start_service(flags), threading.Event()
    sending = threading.Thread(target=send, args=(camera, service.ingest, stop))
    sending.start()
    shell = Shell(folder, service.http)
    try:
        yield Day(service, shell, folder)
    finally:
        stop.set()
        shell.close()
        sending.join(20)
        service.stop()
        service.log.unlink()


def send(camera: SimulatedCamera, ingest: str, stop: threading.Event) -> None:
    frames = [camera.frame(index).raw for index in range(64)]
    with FrameSender(ingest, "camera", exposure_ms=EXPOSURE_MS, pixel_size_nm=0.02) as sender:
        while not stop.wait(1 / RATE_FPS):
            sender.send(frames[sender.next_frame % len(frames)])


@needs_curl
def test_an_operators_day(day: Day) -> None:
    expected = [heading for heading, checks in CHECKS.items() for _ in checks]
    page = [block for block in blocks() if block.heading != GUARDED]
    assert [block.heading for block in page] == expected, "a block that no check looks at"
    wait_for(lambda: published(day) >= 40, "frames to prove references on")
    checks = iter(check for section in CHECKS.values() for check in section)
    for block, check in zip(page, checks, strict=True):
        check(day, day.shell.run(block.lines))


def published(day: Day) -> int:
    return int(day.admin.status()["totals"].get("published", {}).get("all", 0))


@needs_curl
def test_the_token_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    flags = ["--state-dir", str(tmp_path), "--engine", "pass-through"]
    service = start_service([*flags, "--token-file", str(tmp_path / "token")])
    shell = Shell(tmp_path, service.http)
    try:
        (block,) = (block for block in blocks() if block.heading == GUARDED)
        (status,) = answers(shell.run(block.lines))
        assert status["model"] == "pass-through"
        assert (tmp_path / "header").stat().st_mode & 0o077 == 0
        assert "401" in shell.run(f"curl -s -o /dev/null -w '%{{http_code}}' {service.http}/status")
    finally:
        shell.close()
        service.stop()
        service.log.unlink()


def test_orientations_are_what_the_page_says() -> None:
    file = np.array([list("abc"), list("def")])
    told = {row[0].strip("`"): row[1].strip("`") for row in tables("Orientation")}
    assert told == {
        name: " / ".join("".join(row) for row in turn(file)) for name, turn in ORIENTATIONS.items()
    }


def test_reasons_are_the_services_own_words() -> None:
    service = ROOT / "service" / "scgn_live"
    source = "".join(path.read_text() for path in sorted(service.rglob("*.py")))
    rows = tables("Is it well?")
    assert len(rows) >= 9
    for row in rows:
        pieces = [piece.strip() for piece in row[0].strip("`").split("…") if piece.strip()]
        assert all(piece in source for piece in pieces), row[0]


def test_statuses_and_formats_are_the_services() -> None:
    told = {int(row[0]) for row in tables("What is refused")}
    assert told == set(PROBLEMS)
    named = set(re.findall(r"\.[a-z]\w+", TEXT.partition("Formats: ")[2].partition("with")[0]))
    assert named == set(FORMATS)
