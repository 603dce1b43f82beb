"""docs/live-view.png: the shipped network on a simulated camera, as Chromium shows the live view.

    python -m benchmarks.live_view_picture --size 1440x900 --to docs/live-view.png

Service, camera, calibration, page: everything is real. Needs playwright and a Chromium on the path.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import harness
from scgn_client.admin import Admin
from scgn_client.camera import SimulatedCamera
from scgn_client.replay import pace
from scgn_client.sender import FrameSender
from scgn_live.running import RunningService

FIRST = 200  # by then the crystal fills a third of the frame
LOOP = 60  # frames made ahead and repeated
SETTLE_MS = 6000  # rates and percentiles are then those of the running state
SHOWN = ("age", "state", "frame", "rate-in", "rate-out", "rate-painted", "dropped", "latency")
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]


def parser() -> argparse.ArgumentParser:
    """Flags of the picture."""
    top = argparse.ArgumentParser(description=__doc__)
    top.add_argument("--to", type=Path, default=Path("docs/live-view.png"), help="where to save it")
    top.add_argument("--size", default="1440x900", help="of the window, px (default 1440x900)")
    top.add_argument("--dose", type=float, default=8.0, help="dose, e/px (default 8)")
    top.add_argument("--rate", type=float, default=12.0, help="frames per second (default 12)")
    top.add_argument("--keys", default="t", help="pressed before, one after the other (default t)")
    top.add_argument("--network", default="preview-clean", help="shipped name or path")
    return top


@contextlib.contextmanager
def filming(service: RunningService, camera: SimulatedCamera, rate_fps: float) -> Iterator[None]:
    """The camera films until the end of the block."""
    frames = [camera.frame(FIRST + i).raw for i in range(LOOP)]
    stop = threading.Event()

    def film() -> None:
        with FrameSender(
            service.ingest, "camera-1", "nucleation-07", pixel_size_nm=0.021
        ) as sender:
            for frame in pace(rate_fps, itertools.cycle(frames)):
                if stop.is_set():
                    return
                sender.send(frame)

    thread = threading.Thread(target=film)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def photograph(url: str, args: argparse.Namespace) -> dict[str, str | None]:
    """Open the page, let it run, save what it shows; some of its numbers."""
    width, height = (int(side) for side in args.size.split("x"))
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), headless=True, args=FLAGS
        )
        page = chromium.new_page(viewport={"width": width, "height": height})
        page.goto(url)
        page.wait_for_selector("#histograms .histogram")
        for key in args.keys:
            page.keyboard.press(key)
        page.wait_for_timeout(SETTLE_MS)
        page.screenshot(path=args.to)
        shown = {name: page.text_content(f"#{name}") for name in SHOWN}
        chromium.close()
    return shown


def main() -> None:
    """Take the picture and say what was on it."""
    args = parser().parse_args()
    camera = SimulatedCamera((256, 256), seed=7, dose_e_per_px=args.dose)
    with harness.service("--network", args.network, "--threads", "1") as service:
        references = (camera.dark_reference, camera.gain_reference, camera.pixel_mask)
        Admin(service.http).post_calibration(*references, "multiply")
        with filming(service, camera, args.rate):
            print(photograph(service.http, args))
    print(args.to)


if __name__ == "__main__":
    main()
