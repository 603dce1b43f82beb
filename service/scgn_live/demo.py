"""The demo: the real service, a simulated camera process, a calibration, and a proof at the end."""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scgn_client.admin import Admin
from scgn_client.camera import SimulatedCamera
from scgn_client.messages import End, PublishedFrame
from scgn_client.receiver import FrameReceiver
from scgn_client.sender import FrameSender
from scgn_live.picture import Panel, before_and_after
from scgn_live.proof import Score, correct, score_frames
from scgn_live.running import RunningService, start_service

SOURCE = "demo-camera"
PROBES = 12  # frames that show how fast this machine is, and what the calibration is proved on
PROBE_EVERY_S = 0.12  # the service keeps one for proofs every 0.1 s
LOAD = 0.6  # share of that speed the camera then runs at
RATE_MAX_FPS = 25.0
UNCORRECTED = 0.2  # share of the frames that go through before the calibration is active
SCORED_MAX = 40


@dataclass
class Watched:
    """What the demo's subscriber saw of its series."""

    frames: list[PublishedFrame] = field(default_factory=list)
    ledger: dict[str, Any] = field(default_factory=dict)


def parser() -> argparse.ArgumentParser:
    """Flags of the demo."""
    top = argparse.ArgumentParser(prog="scgn-live demo", description=__doc__)
    top.add_argument("--frames", type=int, help="frames to send; default: about 20 s of them")
    top.add_argument("--size", type=int, default=256, help="side of a frame, px (default 256)")
    top.add_argument("--dose", type=float, default=20.0, help="dose, e/px (default 20)")
    top.add_argument("--network", default="preview-clean", help="shipped name or path")
    top.add_argument("--seed", type=int, default=7, help="of the simulated scene and its noise")
    top.add_argument("--keep", action="store_true", help="leave the service running at the end")
    top.add_argument("--picture", type=Path, default=Path("runs/demo.png"), help="where to save it")
    top.add_argument("--result", type=Path, help="also write the JSON, with its command, here")
    return top


def demo_command(flags: list[str]) -> int:
    """`scgn-live demo`: prints its steps, a proof line and, last, the same as JSON."""
    args = parser().parse_args(flags)
    with contextlib.ExitStack() as stack:
        state = stack.enter_context(_state_dir(args.keep))
        say(f"starting the service with {args.network}")
        shapes = ["--shapes", f"{args.size}x{args.size}"]
        words = ["--network", args.network, "--state-dir", str(state), *shapes]
        service = start_service(words)
        if not args.keep:
            stack.callback(service.stop)
        result = run_demo(args, service)
        if args.keep:
            say(f"the service goes on: {service.http}/, stop it with: kill {service.pid}")
    if args.result:
        named = {"command": " ".join(["python3 dev.py demo", *flags]), **result}
        args.result.write_text(json.dumps(named, indent=2) + "\n")
    print(json.dumps(result), flush=True)
    lost = result["frames"] - result["published"]
    return 0 if lost == 0 and result["psnr_denoised_db"] > result["psnr_noisy_db"] else 1


@contextlib.contextmanager
def _state_dir(keep: bool) -> Iterator[Path]:
    if keep:
        yield Path(tempfile.mkdtemp(prefix="scgn-demo-"))
        return
    with tempfile.TemporaryDirectory(prefix="scgn-demo-") as folder:
        yield Path(folder)


def say(text: str) -> None:
    """One step of the demo, for a person."""
    print(f"demo: {text}", flush=True)


def run_demo(args: argparse.Namespace, service: RunningService) -> dict[str, Any]:
    """Film, calibrate, compare; returns the proof as a map."""
    camera = SimulatedCamera((args.size, args.size), args.seed, args.dose)
    rate_fps = probe_rate(service, camera)
    frames = args.frames or max(20, round(20 * rate_fps))
    staged = stage_references(service, camera)
    say(f"look at it live: {service.http}/")
    say(f"filming {frames} frames of {args.size} x {args.size} at {rate_fps:.1f} per second")
    watched = film(args, service, staged, frames, rate_fps)
    corrected = [frame for frame in watched.frames if frame.calibration is not None]
    chosen = corrected[:: max(1, len(corrected) // SCORED_MAX)]
    scored = score_frames(chosen, camera)
    draw(args.picture, chosen, camera, scored)
    return prove(args, watched, rate_fps, scored)


def probe_rate(service: RunningService, camera: SimulatedCamera) -> float:
    """Frames per second that the camera can send without the service falling behind."""
    with (
        FrameReceiver(service.frames, SOURCE, timeout_s=60) as receiver,
        FrameSender(service.ingest, SOURCE, timeout_s=60) as sender,
    ):
        receiver.receive()  # the start or a heartbeat: the subscription holds
        for index in range(PROBES):
            begun_s = time.monotonic()
            sender.send(camera.frame(index).raw)
            next(iter(receiver))
            time.sleep(max(0.0, begun_s + PROBE_EVERY_S - time.monotonic()))
    engine_ms = float(Admin(service.http).status()["engine_ms"]["p50"])
    return min(RATE_MAX_FPS, LOAD * 1000 / engine_ms)


def film(
    args: argparse.Namespace, service: RunningService, calibration: str, frames: int,
    rate_fps: float,
) -> Watched:  # fmt: skip
    """Let a camera process send the series, activate a calibration on the way, receive it all."""
    watched, series = Watched(), f"demo-{time.time_ns()}"
    command = [
        sys.executable, "-m", "scgn_client", "send", "--endpoint", service.ingest,
        "--source", SOURCE, "--series", series, "--shape", f"{args.size}x{args.size}",
        "--rate", f"{rate_fps:.3f}", "--frames", str(frames), "--seed", str(args.seed),
        "--dose", str(args.dose),
    ]  # fmt: skip
    with FrameReceiver(service.frames, SOURCE, timeout_s=60) as receiver:
        receiver.receive()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while not watched.ledger:
            message = receiver.receive()
            if message.series != series:
                continue
            if isinstance(message, PublishedFrame):
                watched.frames.append(message)
                if len(watched.frames) == max(1, round(UNCORRECTED * frames)):
                    Admin(service.http).activate(calibration)
                    say(f"calibration {calibration} is active: every later frame names it")
            elif isinstance(message, End):
                watched.ledger = dict(message.ledger or {})
    process.wait(30)
    return watched


def stage_references(service: RunningService, camera: SimulatedCamera) -> str:
    """What an operator does: dark, gain and mask over HTTP, proved on the frames so far; its id."""
    posted = Admin(service.http).post_calibration(
        camera.dark_reference, camera.gain_reference, camera.pixel_mask, "multiply", activate=False
    )
    said = "; ".join(posted["reasons"])
    say(f"posted calibration {posted['id']}: {posted['verdict']}, {said}")
    return str(posted["id"])


def draw(
    path: Path, frames: list[PublishedFrame], camera: SimulatedCamera, scored: list[Score]
) -> None:
    """The picture: the last scored frame as it came, corrected, denoised, and the truth."""
    frame, score = frames[-1], scored[-1]
    assert frame.raw is not None, "the demo's service publishes raw frames"
    panels = [
        Panel("as the camera sent it", frame.raw),
        Panel(f"calibrated  {score.noisy_db:.1f} dB", correct(frame.raw, camera)),
        Panel(f"best Gaussian  {score.gaussian_db:.1f} dB", score.gaussian),
        Panel(f"denoised, live  {score.denoised_db:.1f} dB", frame.denoised),
        Panel("truth", camera.frame(frame.frame).clean),
    ]
    before_and_after(path, panels)


def prove(
    args: argparse.Namespace, watched: Watched, rate_fps: float, scored: list[Score]
) -> dict[str, Any]:
    """Print the proof line; returns its JSON twin."""
    ledger = watched.ledger
    latency = np.percentile([frame.latency_ms for frame in watched.frames], (50, 99)).tolist()
    names = ("noisy_db", "gaussian_db", "denoised_db")
    noisy, gaussian, denoised = (
        float(np.mean([getattr(s, name) for s in scored])) for name in names
    )
    say(
        f"proof: {ledger['published']} of {ledger['expected']} frames published, "
        f"{sum(ledger['dropped'].values())} dropped, {ledger['missing']} missing; latency p50 "
        f"{latency[0]:.0f} ms, p99 {latency[1]:.0f} ms; PSNR noisy {noisy:.1f} dB, best Gaussian "
        f"{gaussian:.1f} dB, denoised {denoised:.1f} dB; picture {args.picture}"
    )
    return {
        "frames": ledger["expected"], "published": ledger["published"],
        "dropped": sum(ledger["dropped"].values()), "missing": ledger["missing"],
        "failed": sum(ledger["failed"].values()), "rate_fps": round(rate_fps, 2),
        "latency_ms_p50": round(latency[0], 2), "latency_ms_p99": round(latency[1], 2),
        "psnr_noisy_db": round(noisy, 2), "psnr_gaussian_db": round(gaussian, 2),
        "psnr_denoised_db": round(denoised, 2), "frames_scored": len(scored),
        "model": watched.frames[-1].model, "engine": watched.frames[-1].engine,
        "picture": str(args.picture),
    }  # fmt: skip
