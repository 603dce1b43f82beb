"""Calibrations and networks swapped over HTTP while a camera runs: what it costs a frame, and
whether any frame is lost or of two minds.

The camera sends at a share of what the slower network can do. The worst latency of the frames that
arrive during a swap, or within two frame times after it, is held against the median of the same
network without swaps; a frame time is the camera's period.

What a network with a memory makes of a frame depends on those before it, so no frame of theirs says
which network made it. The same swaps are therefore done once more with two networks that see one
frame alone, of the first one's size and with random weights: each frame is compared, pixel by
pixel, with what PyTorch makes of it with each network and calibration; it must be closest to those
that its header names, and close.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import camera, harness, operating
from benchmarks.gpu.subjects import seeded
from benchmarks.loopback import HERE
from scgn.architectures import build_network
from scgn.calibration import Calibration, build_calibration
from scgn.checkpoint import describe, load_network, save_checkpoint
from scgn.denoise import Denoiser
from scgn.sizes import STUDENTS
from scgn_client.messages import End, PublishedFrame
from scgn_client.receiver import FrameReceiver
from scgn_live.running import RunningService

BASELINE_S = 10.0
BETWEEN_FRAMES = 4  # frame times from one swap to the next
ALIKE_DB = (
    30.0  # to the reference it names; one network's bfloat16 is closer, another network is not
)
FRAME_TIMES_MAX = 3.0
ENDLESS = 10**9
Array = NDArray[Any]
Kind = tuple[str, str | None]  # network's id, calibration's id


@dataclass
class Film:
    """Frames as they came: when (monotonic, s), latency inside the service (ms), and their kind;
    with references also how alike they are.
    """

    at_s: list[float] = field(default_factory=list)
    inside_ms: list[float] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    kinds: list[Kind] = field(default_factory=list)
    agreement_db: list[float] = field(default_factory=list)
    next_best_db: list[float] = field(default_factory=list)
    mixed: list[int] = field(default_factory=list)
    ledger: dict[str, Any] = field(default_factory=dict)

    def note(self, frame: PublishedFrame) -> Kind:
        """One frame."""
        kind = (frame.model, frame.calibration)
        self.at_s.append(time.monotonic())
        self.inside_ms.append(frame.latency_ms)
        self.indices.append(frame.frame)
        self.kinds.append(kind)
        return kind

    def compare(self, frame: PublishedFrame, kind: Kind, references: References) -> None:
        """One frame with what it must be."""
        found = references.agreements_db(frame.frame, frame.denoised)
        others = [db for other, db in found.items() if other != kind]
        self.agreement_db.append(found[kind])
        self.next_best_db.append(max(others))
        if found[kind] < ALIKE_DB or found[kind] <= max(others):
            self.mixed.append(frame.frame)


class References:
    """What each network without a memory makes of each scene, with each calibration, in PyTorch."""

    def __init__(self, names: list[str], calibrations: list[Calibration], side: int) -> None:
        scenes = camera.scenes(side)
        self._of: dict[Kind, list[Array]] = {}
        for name in names:
            checkpoint = load_network(name)
            denoiser = Denoiser(checkpoint, torch.device("cpu"))
            for calibration in (None, *calibrations):
                kind = checkpoint.id, None if calibration is None else calibration.id
                self._of[kind] = [denoiser(scene, calibration).copy() for scene in scenes]

    def agreements_db(self, index: int, frame: Array) -> dict[Kind, float]:
        """Peak to peak of each reference against the root mean square difference, dB."""
        found = {}
        for kind, scenes in self._of.items():
            reference = scenes[index % len(scenes)]
            error = float(np.sqrt(np.square(frame - reference).mean())) or 1e-9
            found[kind] = float(20 * np.log10(np.ptp(reference) / error))
        return found


def calibrations(side: int) -> list[dict[str, Array]]:
    """References of two modes that no correction can take for each other."""
    rng = np.random.default_rng(5)
    return [
        {
            "dark": rng.normal(level, 2, (side, side)).astype("<f4"),
            "gain": rng.uniform(0.8, 1.2, (side, side)).astype("<f4"),
        }
        for level in (5, 30)
    ]


@contextmanager
def filming(
    service: RunningService, rate_fps: float, side: int, references: References | None = None
) -> Iterator[Film]:
    """A camera that sends all the time; every frame up to its end is in the film at the end."""
    film, receiver = Film(), FrameReceiver(service.frames, timeout_s=30, queue=0)
    ended = threading.Event()

    def watch() -> None:
        for message in iter(receiver.receive, None):
            if isinstance(message, PublishedFrame):
                kind = film.note(message)
                if references is not None:
                    film.compare(message, kind, references)
            elif isinstance(message, End):
                film.ledger = dict(message.ledger or {})
                ended.set()
                return

    with receiver:
        receiver.receive()  # a heartbeat: the subscription holds
        thread = threading.Thread(target=watch)
        command = [str(HERE / "camera.py"), service.ingest, str(ENDLESS), str(rate_fps), str(side)]
        process = subprocess.Popen([sys.executable, *command])
        thread.start()
        try:
            _first_frame(film, process)
            yield film
        finally:
            process.terminate()
            process.wait()
            thread.join()
    if not ended.is_set():
        raise RuntimeError("the end of the series did not come")


def _first_frame(film: Film, process: subprocess.Popen[bytes]) -> None:
    """Wait for it: a camera that is ended before it sends never says `end`."""
    while not film.indices:
        if process.poll() is not None:
            raise RuntimeError(f"the camera ended with {process.returncode}")
        time.sleep(0.02)


def frame_ms(service: RunningService, rate_fps: float, side: int) -> float:
    """Median time that one frame takes through the service with the network in use."""
    with filming(service, rate_fps, side) as film:
        while len(film.indices) < 20:
            time.sleep(0.1)
    return float(np.median(film.inside_ms[5:]))


def swaps_of(
    service: RunningService, names: list[str], ids: list[str], args: argparse.Namespace,
    frame_s: float,
) -> dict[str, list[tuple[float, float]]]:  # fmt: skip
    """Swap one after the other; when each was asked for and done (monotonic, s)."""
    spans: dict[str, list[tuple[float, float]]] = {"calibrations": [], "models": []}
    for number in range(args.calibration_swaps):
        begun_s = time.monotonic()
        operating.use_calibration(service.http, (*ids, None)[number % 3])
        spans["calibrations"].append((begun_s, time.monotonic()))
        time.sleep(BETWEEN_FRAMES * frame_s)
    for number in range(args.model_swaps):
        begun_s = time.monotonic()
        operating.use_model(service.http, names[(number + 1) % len(names)])
        spans["models"].append((begun_s, time.monotonic()))
        time.sleep(BETWEEN_FRAMES * frame_s)
    return spans


def cost(
    film: Film, spans: list[tuple[float, float]], usual_ms: dict[str, float], frame_s: float
) -> dict[str, Any]:
    """Of one kind of swap: the worst extra latency of a frame, ms and frame times."""
    at_s = np.array(film.at_s)
    extra_ms = np.array(film.inside_ms) - [usual_ms[model] for model, _ in film.kinds]
    worst = [
        extra_ms[(at_s >= begun_s) & (at_s <= ended_s + 2 * frame_s)].max(initial=0.0)
        for begun_s, ended_s in spans
    ]
    took_ms = [1000 * (ended_s - begun_s) for begun_s, ended_s in spans]
    most_ms = float(max(worst, default=0.0))
    return {
        "swaps": len(spans), "took_ms": harness.percentiles(took_ms),
        "extra_ms": harness.percentiles(worst),
        "worst_extra_frame_times": round(most_ms / 1000 / frame_s, 3),
        "holds": most_ms / 1000 < FRAME_TIMES_MAX * frame_s,
    }  # fmt: skip


@dataclass(frozen=True)
class Swapped:
    """Two films: without swaps and with them. times_ms: of a frame by network; spans: of each kind
    of swap.
    """

    calm: Film
    film: Film
    times_ms: dict[str, float]
    spans: dict[str, list[tuple[float, float]]]
    frame_s: float

    @property
    def lost(self) -> dict[str, int]:
        """Frames, by what became of them."""
        found: dict[str, int] = {}
        for name in ("missing", "dropped", "failed"):
            bucket = self.film.ledger[name]
            found[name] = sum(bucket.values()) if isinstance(bucket, dict) else bucket
        return found


def swapped(
    service: RunningService, names: list[str], ids: list[str], args: argparse.Namespace,
    references: References | None = None,
) -> Swapped:  # fmt: skip
    """Everything with these networks; the service ends with one of them."""
    times_ms = {}
    for name in names[::-1]:  # ends with the first, which it begins with
        model = operating.use_model(service.http, name)
        times_ms[model] = frame_ms(service, args.guess_fps, args.side)
    rate_fps = args.load * 1000 / max(times_ms.values())
    frame_s = 1 / rate_fps
    with filming(service, rate_fps, args.side) as calm:
        time.sleep(BASELINE_S / (10 if args.quick else 1))
    with filming(service, rate_fps, args.side, references) as film:
        time.sleep(10 * frame_s)
        spans = swaps_of(service, names, ids, args, frame_s)
        time.sleep(10 * frame_s)
    return Swapped(calm, film, times_ms, spans, frame_s)


def single_networks(folder: Path) -> list[str]:
    """Paths of two networks without a memory, `preview`'s layers with random weights."""
    design = replace(STUDENTS["preview"], residual="image")
    paths = [folder / f"single-{number}.safetensors" for number in (1, 2)]
    for number, path in enumerate(paths):
        network = seeded(build_network(design), number)
        save_checkpoint(path, network, describe(network, path.stem))
    return [str(path) for path in paths]


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Everything, in one service."""
    side = args.side
    posted = calibrations(side)
    known = [build_calibration(p["dark"], p["gain"], None, "multiply") for p in posted]
    flags = ["--network", args.networks[0], "--shapes", f"{side}x{side}"]
    flags += ["--overload", args.overload, "--no-publish-raw", "--proof-frames", "0", *args.flags]
    with tempfile.TemporaryDirectory(prefix="scgn-bench-networks-") as folder:
        paths = single_networks(Path(folder))
        references = References(paths, known, side)
        flags += ["--networks", folder]
        with harness.service(*flags, ready_s=operating.BUILD_S) as served:
            ids = [
                operating.upload(served.http, "gain_convention=multiply", **arrays)
                for arrays in posted
            ]
            ship = swapped(served, args.networks, ids, args)
            names = [Path(path).stem for path in paths]
            single = swapped(served, names, ids, args, references)
    lost = {name: ship.lost[name] + single.lost[name] for name in ship.lost}
    return {
        **told(ship), "mixing": {**told(single), **compared(single.film)},
        "ids": ids, "lost": lost, "nothing_lost": not any(lost.values()),
        "mixed_frames": single.film.mixed,
    }  # fmt: skip


def told(found: Swapped) -> dict[str, Any]:
    """Of two networks: what swaps cost their frames."""
    film, frame_s = found.film, found.frame_s
    boundaries = sum(a != b for a, b in zip(film.kinds, film.kinds[1:], strict=False))
    costs = {k: cost(film, spans, found.times_ms, frame_s) for k, spans in found.spans.items()}
    return {
        "service_ms": found.times_ms, "rate_fps": round(1 / frame_s, 2),
        "frame_ms": round(1000 * frame_s, 1),
        "without_swaps_ms": harness.percentiles(found.calm.inside_ms), **costs,
        "frames": len(film.indices), "ledger": film.ledger, "boundaries": boundaries,
        "in_order": film.indices == list(range(len(film.indices))),
    }  # fmt: skip


def compared(film: Film) -> dict[str, Any]:
    """How alike frames are to what they must be, and to the nearest that they must not be."""
    return {
        "worst_agreement_db": round(min(film.agreement_db), 1),
        "closest_other_db": round(max(film.next_best_db), 1),
    }


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    """The command's flags."""
    parser = harness.arguments(__doc__)
    harness.add_flags(parser)
    parser.add_argument("--networks", nargs=2, default=["preview-clean", "tiny-clean"])
    parser.add_argument("--side", type=int, default=256, help="px")
    parser.add_argument(
        "--load", type=float, default=0.5, help="share of the slower network's rate"
    )
    parser.add_argument("--guess-fps", type=float, default=5.0, help="rate at which that is found")
    parser.add_argument("--calibration-swaps", type=int, default=100)
    parser.add_argument("--model-swaps", type=int, default=20)
    parser.add_argument("--overload", choices=("latest", "block"), default="latest")
    args = parser.parse_args(words)
    if args.quick:
        args.calibration_swaps //= 10
        args.model_swaps //= 5
    return args


def main() -> None:
    """Measure; --save writes results/bench_swaps.json."""
    args, begun = parsed(), time.monotonic()
    rows = measured(args)
    harness.save("bench_swaps", rows, time.monotonic() - begun)


if __name__ == "__main__":
    main()
