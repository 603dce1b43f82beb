"""The live view end to end: a real Chromium, a real service, a simulated camera at 30 fps."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Page, browser, connections, filming, recorded
from live_client import Browser
from PIL import Image
from support import ROOT

from scgn_client.messages import PublishedFrame
from scgn_live.running import RunningService, start_service
from scgn_live.sidecar.live.frames import to_16_bit

PICTURES = ROOT / "runs" / "live-view"  # kept, to be looked at
AGE_MS = 250.0  # of what is painted, at the median

Frames = dict[int, PublishedFrame]


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def service(chrome: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """The shipped network on one thread, and a camera that films all along."""
    state = tmp_path_factory.mktemp("state")
    running = start_service(["--state-dir", str(state), "--threads", "1"])
    with filming(running):
        yield running
    running.stop()


@pytest.fixture(scope="module")
def published(service: RunningService) -> Iterator[Frames]:
    with recorded(service) as frames:
        yield frames


@pytest.fixture
def page(chrome: Any, service: RunningService) -> Iterator[Page]:
    with Page(chrome, service.http) as opened:
        opened.paints()
        yield opened
        assert opened.complaints == []


def hold_levels(page: Page) -> None:
    """Levels by hand: raw 100 to 600 counts, denoised 200 to 320."""
    fields = page.page.locator("#histograms .histogram")
    fields.nth(1).wait_for()
    for place, levels in enumerate(((100, 600), (200, 320))):
        for side, value in zip(("low", "high"), levels, strict=True):
            field = fields.nth(place).locator(f"input.{side}")
            field.fill(str(value))
            field.blur()


def expected_grey(counts: Any, low: float, high: float) -> Any:
    """The page's own promise: 255 steps between the levels, rounded."""
    return np.floor(np.clip(255 * (counts - low) / (high - low), 0, 255) + 0.5).astype(int)


def test_frames_of_a_running_service_are_painted(page: Page, service: RunningService) -> None:
    page.paints(10)
    page.until("document.getElementById('rate-out').textContent > '0'", "a status")
    assert page.text("#state") == "LIVE"
    assert 0 < int(page.text("#age")) < 5000
    assert page.text("#age-unit") == "ms"
    assert page.text("#model").startswith("scgn-preview-clean-")
    assert page.text("#calibration") == "none"
    assert page.text("#series").startswith("cam1 · ")
    for number in ("#rate-out", "#rate-painted", "#camera-delay"):
        assert float(page.text(number)) >= 0
    for count in ("#frame", "#dropped", "#missing", "#failed"):
        assert int(page.text(count).replace("\u202f", "")) >= 0
    assert page.page.locator("#banner").is_hidden()
    assert all(url.startswith((service.http, "blob:")) for url in page.urls)
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.page.screenshot(path=PICTURES / "laptop.png")


def test_the_painted_pixel_is_the_published_one(page: Page, published: Frames) -> None:
    hold_levels(page)
    page.paints(2)
    page.press("Escape", "Space")
    levels = page.page.evaluate("scgnLive.levels()")
    assert levels["raw"] == {"low": 100, "high": 600, "auto": False}
    assert levels["denoised"] == {"low": 200, "high": 320, "auto": False}
    page.page.wait_for_timeout(100)  # one refresh, with what was pressed
    index = page.painted()["frame"]
    frame = page.wait(lambda: published.get(index), "the painted frame among the published ones")
    assert page.painted()["t_received_ns"] == str(frame.t_received_ns)
    rows, columns = np.random.default_rng(1).integers(0, 256, (2, 200))
    for name, (low, high) in {"raw": (100, 600), "denoised": (200, 320)}.items():
        places = [[int(r), int(c)] for r, c in zip(rows, columns, strict=True)]
        colours = np.array(
            page.page.evaluate(
                "([name, places]) => places.map(([r, c]) => scgnLive.pixel(name, r, c))",
                [name, places],
            )
        )
        assert np.all(colours == colours[:, :1]), "grey is red = green = blue"
        exact = frame.channels[name][rows, columns].astype(np.float64)
        sent = to_16_bit(frame.channels[name])
        seen = sent.offset + sent.scale * sent.pixels[rows, columns].astype(np.float64)
        assert np.array_equal(colours[:, 0], expected_grey(seen, low, high))
        assert abs(colours[:, 0] - expected_grey(exact, low, high)).max() <= (name == "denoised")
        assert len(np.unique(colours)) > 50


def test_the_painted_frame_is_young(page: Page) -> None:
    seen: list[tuple[float, float, float]] = []  # median and p95 of the ages, ms; rate, 1/s
    while not seen or (seen[-1][0] >= AGE_MS and len(seen) < 3):  # others use this machine too
        before = page.page.evaluate("scgnLive.counters.painted")
        page.page.wait_for_timeout(3000)
        count = page.page.evaluate("scgnLive.counters.painted") - before
        paints = page.page.evaluate("scgnLive.history()")[-count:]
        ages = [paint["ageMs"] for paint in paints]
        rate = 1000 * (len(paints) - 1) / (paints[-1]["atMs"] - paints[0]["atMs"])
        median, late = np.percentile(ages, (50, 95))
        seen.append((round(median), round(late), round(rate, 1)))
    print(f"age of the painted frame, median and p95 in ms, and paints per second: {seen}")
    assert seen[-1][0] < AGE_MS, f"median, p95, rate: {seen}"
    assert min(ages) > -5, "the clocks do not agree"
    indices = [paint["frame"] for paint in paints]
    assert indices == sorted(set(indices))


def test_a_pause_holds_the_frame_and_says_how_old_it_is(
    page: Page, published: Frames, service: RunningService
) -> None:
    page.press("Space")
    held = page.painted()
    page.wait(lambda: connections(service.latest) == 0, "the sidecar leaving latest")
    newest = max(published)
    page.wait(lambda: max(published) > newest + 10, "ten more frames being published")
    assert page.painted() == held
    assert page.text("#state") == "PAUSED"
    page.until("document.getElementById('age').textContent > 1000", "the age growing")
    assert page.text("#watermark").startswith("PAUSED")
    page.press("Space")
    page.until(f"scgnLive.painted().frame > {newest}", "going on with newer frames")
    page.says("#state", "LIVE")


def test_a_snapshot_brings_the_picture_and_the_right_counts(
    page: Page, published: Frames, tmp_path: Path
) -> None:
    saved: dict[str, Path] = {}

    def keep(download: Any) -> None:
        path = tmp_path / download.suggested_filename
        download.save_as(path)
        saved[path.name] = path

    page.page.on("download", keep)
    page.press("s")
    page.wait(lambda: len(saved) == 3, "three files")
    page.until("!document.getElementById('toast').hidden", "a word about it")
    assert "exact counts" in page.text("#toast")
    name = next(name for name in saved if name.endswith(".png"))
    source, series, index = name.removesuffix(".png").rsplit("_", 2)
    frame = published[int(index)]
    assert (source, series) == (frame.source, frame.series)
    for channel, counts in frame.channels.items():
        array = np.load(saved[f"{source}_{series}_{index}_{channel}.npy"], allow_pickle=False)
        assert array.dtype.str == counts.dtype.str
        assert np.array_equal(array, counts)
    with Image.open(saved[name]) as picture:
        assert picture.width > 600
        assert len(np.unique(np.asarray(picture.convert("L")))) > 100


def test_a_slow_tab_gets_fewer_frames_and_no_older_ones(page: Page) -> None:
    page.page.evaluate(
        """() => {
          const real = window.requestAnimationFrame.bind(window);
          window.requestAnimationFrame = (paint) => real((now) => {
            paint(now);
            const end = performance.now() + 300;
            while (performance.now() < end);
          });
        }"""
    )
    before = page.page.evaluate("scgnLive.history().length")
    page.page.wait_for_timeout(4000)
    paints = page.page.evaluate("scgnLive.history()")[before + 2 :]
    steps = np.diff([paint["frame"] for paint in paints])
    ages = [paint["ageMs"] for paint in paints]
    assert len(paints) >= 3
    assert steps.min() > 0
    assert np.median(steps) >= 5, "frames between were not passed over"
    # A frame needs two turns of the page: a message of this size comes to it in pieces. What waits
    # in a queue would be older by nearly a second with every second.
    assert np.median(ages) < AGE_MS + 4 * 300, f"ages {ages}"
    assert ages[-1] < ages[0] + 2 * 300, f"ages grow: {ages}"


def test_a_hidden_tab_costs_nothing(page: Page, service: RunningService) -> None:
    assert connections(service.latest) == 1
    hide = """(hidden) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.page.evaluate(hide, True)
    page.wait(lambda: connections(service.latest) == 0, "the sidecar leaving latest")
    before = page.page.evaluate("scgnLive.counters.received")
    page.page.wait_for_timeout(300)
    assert page.page.evaluate("scgnLive.counters.received") == before
    page.page.evaluate(hide, False)
    page.paints()
    assert connections(service.latest) == 1


def test_everything_can_be_reached_by_keys(page: Page, published: Frames) -> None:
    wanted = {
        "panel-raw", "panel-denoised", "pause", "snapshot", "fft", "freeze", "link", "reset", "map",
        "zoom-in", "zoom-fit", "mark", "help", "handle low", "handle high", "low", "high",
    }  # fmt: skip
    reached = set()
    for _ in range(40):
        page.press("Tab")
        reached.add(
            page.page.evaluate("document.activeElement.id || document.activeElement.className")
        )
    assert wanted <= reached
    page.page.evaluate("document.activeElement.blur()")
    page.press("Space", "+", "+")
    zoomed = page.text("#zoom")
    page.press("0")
    assert page.text("#zoom") != zoomed
    page.press("1")
    assert page.text("#zoom") == "100%"
    page.press("c", "ArrowRight", "ArrowRight", "ArrowUp")
    assert page.text("#place") == "row 127  column 130"
    index = page.painted()["frame"]
    frame = page.wait(lambda: published.get(index), "the painted frame among the published ones")
    assert int(page.text("#count-raw")) == frame.channels["raw"][127, 130]
    assert abs(float(page.text("#count-denoised")) - frame.denoised[127, 130]) < 0.05
    page.press("l")
    assert page.attribute("#freeze", "aria-pressed") == "true"
    page.press("r", "p")
    assert page.page.input_value("#map") == "cividis"
    low, high = (page.page.evaluate(f"scgnLive.levels().raw.{side}") for side in ("low", "high"))
    assert abs(low - np.quantile(frame.channels["raw"], 0.005)) <= 1
    assert abs(high - np.quantile(frame.channels["raw"], 0.995)) <= 1
    page.press("m")
    page.page.focus("#wipe")
    page.press("ArrowRight", "PageUp")
    assert page.attribute("#wipe", "aria-valuenow") == "62"
    page.press("?")
    assert page.page.locator("#help-dialog").is_visible()
    page.press("Escape")
    assert page.page.locator("#help-dialog").is_hidden()


def test_the_spectrum_is_that_of_the_frame(page: Page) -> None:
    rng = np.random.default_rng(5)
    cuts = [rng.integers(0, 1000, (64, 48)), rng.integers(0, 1000, (64, 48))]
    found = page.page.evaluate(
        """async ([one, two]) => {
          const { logPowers } = await import("/live/spectrum.js");
          const cut = (pixels) => ({ pixels: Uint16Array.from(pixels), rows: 64, columns: 48 });
          return logPowers([cut(one), cut(two)], 64).map((power) => [...power]);
        }""",
        [cut.ravel().tolist() for cut in cuts],
    )
    windows = [np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in (64, 48)]
    for cut, power in zip(cuts, found, strict=True):
        shown = (cut - cut.mean()) * np.outer(*windows)
        spectrum = np.fft.fftshift(np.fft.fft2(shown, (64, 64)))
        assert np.allclose(np.reshape(power, (64, 64)), np.log1p(abs(spectrum) ** 2), atol=1e-4)
    page.press("t")
    page.until("scgnLive.counters.spectra >= 2", "spectra of two frames")
    box = page.page.locator(".spectra canvas").first.bounding_box()
    # A quarter of the width from the middle: 1/4 of 1/px, at 0.02 nm a pixel.
    page.page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.5 * box["height"])
    page.says("#spectrum .readout", "12.500 1/nm   (period 0.080 nm)")
    page.paints()


def test_a_phone_shows_the_same_without_scrolling_sideways(
    chrome: Any, service: RunningService
) -> None:
    with Page(chrome, service.http, (390, 844)) as phone:
        phone.paints(5)
        assert phone.page.evaluate("document.documentElement.scrollWidth") <= 390
        PICTURES.mkdir(parents=True, exist_ok=True)
        phone.page.screenshot(path=PICTURES / "phone.png", full_page=True)
        phone.page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        for number in ("#age", "#frame", "#rate-out", "#dropped", "#missing", "#model"):
            box = phone.page.locator(number).bounding_box()
            assert 0 <= box["y"] < 300, f"{number} left the screen"
        assert phone.complaints == []


def test_the_page_comes_back_when_the_sidecar_does(page: Page, service: RunningService) -> None:
    page.press("Space")
    os.kill(child_of(service, "http"), signal.SIGKILL)
    page.until("scgnLive.counters.connections === 2", "a second connection", 30)
    # The new process never sent us the frame that is held: its counts are ours, and that is said.
    files: list[str] = []
    page.page.on("download", lambda download: files.append(download.suggested_filename))
    page.press("s")
    page.wait(lambda: len(files) == 3, "three files")
    assert any(name.endswith("_denoised_16bit.npy") for name in files)
    page.says("#toast", "no longer holds")
    page.press("Space")
    page.paints()
    # The browser itself notes each attempt that found nobody.
    assert all("WebSocket connection to" in complaint for complaint in page.complaints)
    page.complaints.clear()


def test_frames_travel_uncompressed(service: RunningService) -> None:
    """Noise does not compress; trying to took five times the sidecar's other work."""
    with Browser(service.http.removeprefix("http://")) as viewer:
        assert viewer.socket.protocol.extensions == []


def child_of(service: RunningService, role: str) -> int:
    """Pid of the frames or http process."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = f"PPid:\t{service.pid}\n" in (folder / "status").read_text()
            if parent and f"_{role}\0".encode() in (folder / "cmdline").read_bytes():
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError(f"no {role} process")


def test_a_token_a_camera_that_stops_and_a_service_that_ends(chrome: Any, tmp_path: Path) -> None:
    """A pass-through service that asks for a token and publishes no raw frames."""
    (tmp_path / "token").write_text("the right token of the test\n")
    flags = ["--state-dir", str(tmp_path), "--engine", "pass-through", "--no-publish-raw"]
    service = start_service([*flags, "--token-file", str(tmp_path / "token")])
    try:
        with Page(chrome, service.http) as page:
            dialog = page.page.locator("#token-dialog")
            dialog.wait_for()
            page.page.fill("#token", "a wrong token of the test")
            page.press("Enter")
            page.until(
                "document.getElementById('token-words').textContent.startsWith('That is')", "no"
            )
            page.page.fill("#token", "the right token of the test")
            page.page.click("#token-go")
            with filming(service, 64):
                page.paints()
                assert dialog.is_hidden()
                assert not any("token" in url for url in page.urls)
                page.until(
                    "document.getElementById('banner').textContent.includes('raw')", "a word"
                )
                assert page.page.evaluate("scgnLive.pixel('raw', 3, 3)") is None
            page.says("#state", "STALE")
            assert int(page.text("#age")) > 1000
            assert page.text("#watermark").startswith("STALE · ")
            service.stop()
            page.until(
                "document.getElementById('banner').textContent.includes('since')", "a banner"
            )
            assert page.text("#banner").startswith("No connection since ")
            assert "what you see is old" in page.text("#banner")
            assert page.text("#state") == "NO CONNECTION"
    finally:
        service.stop()
