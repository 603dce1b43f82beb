"""A real headless Chromium for tests, and a camera and a recorder beside it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import DEADLINE_S

from scgn_client.camera import SimulatedCamera
from scgn_client.errors import ReceiveTimeout
from scgn_client.messages import PublishedFrame
from scgn_client.receiver import FrameReceiver
from scgn_client.replay import pace
from scgn_client.sender import FrameSender
from scgn_live.running import RunningService

# "1" in it: a browser that is not here fails the tests. Not SCGN_...: a service that inherits the
# environment refuses settings it does not know.
REQUIRED = "BROWSER_REQUIRED"
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--no-first-run", "--disable-component-update", "--disable-sync", "--disable-quic",
)  # fmt: skip
KEPT = 400  # published frames that a recorder remembers


def chromium() -> str:
    """Path of a Chromium; skips the test, or fails it where one is required, without."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    lacks = None if importlib.util.find_spec("playwright") else "playwright is not installed"
    lacks = lacks or (None if found else f"none of {', '.join(names)} is on the path")
    if lacks is None:
        assert found is not None
        return found
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"a browser is required here, but {lacks}")
    pytest.skip(lacks)


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """A running Chromium (playwright's Browser)."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, headless=True, args=[*FLAGS])
        yield running
        running.close()


class Page:
    """One page of the live view, with what its console and its requests said."""

    def __init__(self, running: Any, url: str, size: tuple[int, int] = (1280, 800)) -> None:
        self.context = running.new_context(viewport={"width": size[0], "height": size[1]})
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.urls: list[str] = []
        self.page.on("console", lambda said: self.complaints.append(f"{said.type}: {said.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.urls.append(request.url))
        self.page.goto(url)

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def until(self, script: str, what: str, deadline_s: float = DEADLINE_S) -> Any:
        """The first true value of an expression; asked from outside, as the page forbids eval."""
        end_s = time.monotonic() + deadline_s
        while time.monotonic() < end_s:
            if value := self.page.evaluate(script):
                return value
            self.page.wait_for_timeout(20)
        raise AssertionError(f"{what} did not happen within {deadline_s:.0f} s")

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """The first true value of `condition`, while the page lives on."""
        end_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < end_s:
            if value := condition():
                return value
            self.page.wait_for_timeout(20)
        raise AssertionError(f"{what} did not happen within {DEADLINE_S:.0f} s")

    def paints(self, count: int = 3) -> None:
        """Wait until so many frames more are painted."""
        before = self.page.evaluate("window.scgnLive ? scgnLive.counters.painted : 0")
        self.until(f"window.scgnLive && scgnLive.counters.painted >= {before + count}", "painting")

    def painted(self) -> dict[str, Any]:
        found: dict[str, Any] = self.page.evaluate("scgnLive.painted()")
        return found

    def text(self, selector: str) -> str:
        return str(self.page.text_content(selector))

    def says(self, selector: str, words: str) -> None:
        """Wait until the element says these words."""
        self.wait(lambda: words in self.text(selector), f"{selector} saying {words!r}")

    def attribute(self, selector: str, name: str) -> str:
        return str(self.page.get_attribute(selector, name))

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)


@contextlib.contextmanager
def filming(service: RunningService, side: int = 256, rate_fps: float = 30.0) -> Iterator[None]:
    """A simulated camera that sends frames until the end of the block."""
    camera = SimulatedCamera((side, side), seed=7, dose_e_per_px=8.0)
    frames = [camera.frame(200 + i).raw for i in range(30)]
    stop = threading.Event()

    def film() -> None:
        with FrameSender(service.ingest, "cam1", pixel_size_nm=0.02) as sender:
            for frame in pace(rate_fps, (frames[i % 30] for i in range(10**9))):
                if stop.is_set():
                    return
                sender.send(frame)

    thread = threading.Thread(target=film)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(DEADLINE_S)


@contextlib.contextmanager
def recorded(service: RunningService) -> Iterator[dict[int, PublishedFrame]]:
    """The last published frames by index, as they come."""
    frames: dict[int, PublishedFrame] = {}
    stop = threading.Event()

    def follow() -> None:
        with FrameReceiver(service.frames) as receiver:
            while not stop.is_set():
                with contextlib.suppress(ReceiveTimeout):
                    message = receiver.receive(0.2)
                    if isinstance(message, PublishedFrame):
                        frames[message.frame] = message
                        frames.pop(message.frame - KEPT, None)

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield frames
    finally:
        stop.set()
        thread.join(DEADLINE_S)


def connections(endpoint: str) -> int:
    """Established TCP connections to a port of this machine."""
    port = f":{int(endpoint.rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(port) and row[3] == "01" for row in rows)
