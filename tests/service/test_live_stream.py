"""The live view of a network with a memory: a real Chromium, a real service, made-up reports."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from browser import Page, browser
from live_client import live_sidecar
from remembering import DOSE, QUALITY, Remembers, report, reporting, stream
from support import ROOT, frame_parts, push, running_app

from scgn_client.camera import SimulatedCamera
from scgn_live.app import App

PICTURES = ROOT / "runs" / "live-view"  # kept, to be looked at
TOO_LOW = "estimate only, dose too low for atoms"
TOKEN = "a token of the test"


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    with browser() as running:
        yield running


class Scene:
    """What the made-up network tells; a test changes it while frames come."""

    def __init__(self) -> None:
        self.network = Remembers()
        self.network.streams["cam"] = stream()
        self.changes: dict[str, Any] = {}

    def report(self, slot: Any) -> Any:
        """Of each frame; nothing is known of the first ones' quality."""
        index = slot.header.frame
        upsnr = 24.5 + 0.2 * (index % 7) + min(2.0, index / 20)
        quality = {**QUALITY, "frame": index - 2, "upsnr_db": upsnr}
        values = {"quality": quality if index >= 2 else None, **self.changes}
        return report(**values)


@pytest.fixture
def scene(chrome: Any, tmp_path: Any) -> Iterator[tuple[Scene, Page]]:
    """A page on a service whose camera films all along."""
    scene, stop = Scene(), threading.Event()
    (tmp_path / "token").write_text(TOKEN)
    with running_app(tmp_path, token_file=tmp_path / "token") as app, live_sidecar(app) as host:
        app.engine.use_processor(scene.network)
        with reporting(app, scene.report):
            filming = threading.Thread(target=film, args=(app, stop))
            filming.start()
            try:
                with Page(chrome, f"http://{host}", (1440, 900)) as page:
                    page.page.fill("#token", TOKEN)
                    page.page.click("#token-go")
                    page.paints()
                    page.until("!document.getElementById('temporal-control').hidden", "a status")
                    yield scene, page
                    # The browser notes each refusal that a test provokes, and nothing else.
                    assert all("Failed to load" in words for words in page.complaints)
            finally:
                stop.set()
                filming.join()


def film(app: App, stop: threading.Event) -> None:
    camera = SimulatedCamera((256, 256), seed=7, dose_e_per_px=8.0)
    frames = [camera.frame(200 + index).raw for index in range(8)]
    with push(app.ingest.endpoint) as socket:
        index = 0
        while not stop.wait(0.04):
            socket.send_multipart(frame_parts("s", index, frames[index % 8]))
            index += 1


def test_the_page_tells_what_is_known_of_the_stream(scene: tuple[Scene, Page]) -> None:
    _, page = scene
    points = "document.getElementById('trend-line').getAttribute('points')"
    page.until(f"{points}.split(' ').length > 40", "a trend of forty values")
    assert page.text("#shown-over") == "mean of 11 frames"
    assert (page.text("#shown"), page.text("#averaged")) == ("temporal", "mean of 11 frames")
    assert (page.text("#drift"), page.text("#drift-nm")) == ("0.56 px/frame", "0.14 nm/s")
    assert (page.text("#dose"), page.text("#dose-all")) == ("8 e/px", "2\u202f400 e/Å² so far")
    assert page.text("#moving") == "25 % of pixels"
    assert page.text("#noise-from") == "noise known from the stream"
    number, margin = page.text("#upsnr").removesuffix(" dB").split(" ± ")
    assert 24 < float(number) < 29
    assert float(margin) == 0.2 or float(margin) == 0.3
    assert page.page.locator("#stream-warning").is_hidden()
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.page.screenshot(path=PICTURES / "stream.png")


@pytest.mark.parametrize(
    ("drift", "degrees"),
    [((0.5, 0.0), 90), ((0.0, 0.5), 0), ((-0.5, 0.0), -90), ((0.0, -0.5), 180), ((0.5, 0.5), 45)],
)
def test_the_arrow_points_where_the_specimen_goes(
    scene: tuple[Scene, Page], drift: tuple[float, float], degrees: float
) -> None:
    """Rows grow downwards on the page, columns to the right."""
    told, page = scene
    told.changes["drift_px"] = drift
    turned = "document.querySelector('#drift-arrow path').getAttribute('transform')"
    page.until(f"{turned} === 'rotate({degrees})'", f"an arrow at {degrees} degrees")
    told.changes["drift_px"] = (0.001, -0.001)
    page.until("document.getElementById('drift-arrow').matches('.still')", "a point")
    told.changes |= {"drift_px": None, "drift_nm_s": None}
    page.says("#drift", "not known yet")
    assert page.text("#drift-nm") == ""


def test_too_low_a_dose_is_said_in_every_view(scene: tuple[Scene, Page]) -> None:
    told, page = scene
    quality = {"shown": "estimate", "word": TOO_LOW, "upsnr_db": None, "error_db": None}
    told.changes["quality"] = {**QUALITY, "shown": "estimate", "upsnr_db": None, "error_db": None}
    told.network.streams["cam"] = stream(quality=quality, dose={**DOSE, "e_per_px": 0.4})
    page.says("#shown-over", TOO_LOW)
    page.says("#stream-warning", TOO_LOW)
    assert page.text("#upsnr") == "not sure yet"
    assert page.page.locator("#stream-warning").is_visible()
    for _ in range(4):
        seen = page.page.locator("#shown-over").is_visible()
        assert seen == page.page.locator("#panel-denoised").is_visible()
        page.press("m")
    page.page.screenshot(path=PICTURES / "stream-too-low.png")
    page.page.set_viewport_size({"width": 390, "height": 844})
    page.page.wait_for_timeout(300)
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 390
    page.page.screenshot(path=PICTURES / "stream-phone.png", full_page=True)
    told.changes["quality"] = {**QUALITY, "shown": "single"}
    told.network.streams["cam"] = stream()
    page.says("#shown-over", "single frame")
    assert page.page.locator("#stream-warning").is_hidden()


def chosen(page: Page) -> str:
    return page.attribute("#temporal [aria-checked=true]", "data-temporal")


def test_the_memory_is_set_from_the_page(scene: tuple[Scene, Page]) -> None:
    told, page = scene
    assert chosen(page) == "auto"
    page.page.click("#temporal [data-temporal='8']")
    page.wait(lambda: chosen(page) == "8", "eight frames")
    page.press("ArrowRight")
    page.wait(lambda: chosen(page) == "16", "sixteen frames")
    page.page.evaluate("document.activeElement.blur()")
    page.press("a")
    page.wait(lambda: page.attribute("#single", "aria-pressed") == "true", "the single frame")
    assert chosen(page) == "off"
    page.page.click("#single")
    page.wait(lambda: chosen(page) == "16", "what was before")
    assert told.network.told == ["auto", 8, 16, "off", 16]
    page.press("a")
    page.wait(lambda: chosen(page) == "off", "the single frame again")
    page.page.goto("about:blank")
    page.wait(lambda: told.network.told[-1] == 16, "the others having their memory again")


def test_a_refusal_is_said_and_a_value_of_others_is_shown(scene: tuple[Scene, Page]) -> None:
    told, page = scene
    told.network.set_temporal = lambda _: 1 / 0  # type: ignore[method-assign]
    page.page.click("#temporal [data-temporal='4']")
    page.says("#toast", "division by zero")
    assert chosen(page) == "auto"
    del told.network.set_temporal
    page.page.evaluate(
        """(token) => fetch("/temporal", { method: "POST", body: '{"temporal": 5}',
          headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` } })""",
        TOKEN,
    )
    page.says("#temporal-other", "set to 5 frames")
    assert page.page.locator("#temporal [aria-checked=true]").count() == 0


def test_a_network_without_memory_has_nothing_to_tell(chrome: Any, tmp_path: Any) -> None:
    stop = threading.Event()
    with running_app(tmp_path) as app, live_sidecar(app) as host:
        filming = threading.Thread(target=film, args=(app, stop))
        filming.start()
        try:
            with Page(chrome, f"http://{host}") as page:
                page.paints()
                page.until("document.getElementById('rate-out').textContent > '0'", "a status")
                assert page.page.locator("#stream").is_hidden()
                assert page.page.locator("#shown-over").is_hidden()
                page.press("a")
                page.says("#toast", "no memory")
                assert page.complaints == []
        finally:
            stop.set()
            filming.join()
