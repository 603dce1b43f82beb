"""Command line: `scgn-client send | replay | watch | glimpse | calibrate | calibrations | status`.

The last three, over HTTP, are in `cli_http`.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import os
import re
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import zmq

from scgn_client.admin import ledger_line
from scgn_client.camera import SimulatedCamera
from scgn_client.cli_http import add_calibrate, add_calibrations, add_status, positive, say
from scgn_client.errors import ClientError
from scgn_client.files import ConversionWarning, read_frames
from scgn_client.keys import ClientKeys, client_keys
from scgn_client.messages import Array, End, PublishedFrame
from scgn_client.receiver import FRAMES, LATEST, FrameReceiver, Gap, LatestReceiver
from scgn_client.replay import Chained, record_frame, send_frames, side_by_side, write_png
from scgn_client.sender import INGEST, FrameSender

OK, FAILED, INTERRUPTED, PIPE_CLOSED = 0, 2, 130, 141
LINE_EVERY_S = 1.0
RATE_OVER_S = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status: 0 done, 1 not ready, 2 failed, 130 interrupted."""
    args = _parser().parse_args(argv)
    with warnings.catch_warnings():
        warnings.simplefilter("always", ConversionWarning)
        warnings.showwarning = _show_warning
        try:
            return int(args.run(args))
        except KeyboardInterrupt:
            return INTERRUPTED
        except BrokenPipeError:  # `watch | head`: nobody reads on, nor at exit
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return PIPE_CLOSED
        except (ClientError, OSError, zmq.ZMQError) as error:
            print(f"scgn-client: {error}", file=sys.stderr)
            return FAILED


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"scgn-client: {message}", file=sys.stderr)


def _send(args: argparse.Namespace) -> int:
    camera = SimulatedCamera(args.shape, args.seed, args.dose)
    if args.save_references is not None:
        camera.save_references(args.save_references)
    if not args.prerender:
        return _send_all(args, camera.frames(), loop=False)
    return _send_all(args, list(itertools.islice(camera.frames(), args.prerender)), loop=True)


def _replay(args: argparse.Namespace) -> int:
    stacks = [read_frames(path, args.crop) for path in args.paths]
    return _send_all(args, Chained(stacks), loop=args.loop)


def _send_all(args: argparse.Namespace, frames: Iterable[Array], loop: bool) -> int:
    where = {"timeout_s": args.timeout, "keys": _keys(args)}
    with FrameSender(args.endpoint, args.source, args.series, **where) as sender:
        say(f"sending {sender.source} series {sender.series} to {sender.endpoint}")
        try:
            given = (args.rate, loop, args.frames)
            report = send_frames(sender, frames, *given, on_timeout=args.on_timeout)
        except KeyboardInterrupt:  # the usual end of an endless series: say `end`, with its count
            return INTERRUPTED
    say(str(report))
    return OK


def _keys(args: argparse.Namespace) -> ClientKeys | None:
    """For CURVE: what `scgn-live keys` handed out."""
    if args.key is None:
        return None
    return client_keys(args.service_key or args.key.with_name("service.key"), args.key)


def _watch(args: argparse.Namespace) -> int:
    if args.save is not None:
        args.save.mkdir(parents=True, exist_ok=True)
    lines = _FrameLines(0.0 if args.every else LINE_EVERY_S)
    where = {"timeout_s": args.timeout, "keys": _keys(args)}
    with FrameReceiver(args.endpoint, args.source, **where) as receiver:
        while args.frames is None or lines.seen < args.frames:
            message = receiver.receive()
            if isinstance(message, PublishedFrame):
                if args.save is not None:
                    record_frame(args.save, message)
                lines.note(message, receiver, last=lines.seen + 1 == args.frames)
            elif isinstance(message, End):
                say(f"end of {message.source} {message.series}: {ledger_line(message.ledger)}")
                if args.until_end:
                    break
    return OK


class _FrameLines:
    """A line about the newest frame whenever `every_s` have passed since the last line."""

    def __init__(self, every_s: float) -> None:
        self.seen = 0
        self._every_s = every_s
        self._last_line = time.monotonic()
        self._arrivals: deque[float] = deque()

    def note(self, frame: PublishedFrame, receiver: FrameReceiver, last: bool) -> None:
        """Count a frame, and say so when it is time or when it is the last one."""
        now = time.monotonic()
        self.seen += 1
        self._arrivals.append(now)
        while now - self._arrivals[0] > RATE_OVER_S:
            self._arrivals.popleft()
        if last or now - self._last_line >= self._every_s:
            rate_fps = (len(self._arrivals) - 1) / max(now - self._arrivals[0], 1e-9)
            say(frame_line(frame, rate_fps, receiver.gaps()))
            self._last_line = now


def _glimpse(args: argparse.Namespace) -> int:
    with LatestReceiver(args.endpoint, timeout_s=args.timeout, keys=_keys(args)) as receiver:
        frame = receiver.receive()
    for entry in fields(frame):
        if entry.name != "channels":
            say(f"{entry.name:>15}  {getattr(frame, entry.name)}")
    say(f"{'age_ms':>15}  {frame.age_ms():.1f}")
    for name, pixels in frame.channels.items():
        say(f"{name:>15}  {_statistics(pixels)}")
    if args.save is not None:
        write_png(args.save, side_by_side(frame))
    return OK


def frame_line(frame: PublishedFrame, rate_fps: float, gaps: Sequence[Gap]) -> str:
    """One frame's whereabouts in one line."""
    lost, unseen = sum(sum(g.lost.values()) for g in gaps), sum(g.unseen for g in gaps)
    return (
        f"{frame.source} {frame.series} frame {frame.frame}  {rate_fps:.1f} fps  "
        f"age {frame.age_ms():.1f} ms  latency {frame.latency_ms:.1f} ms  "
        f"calibration {frame.calibration or 'none'}  model {frame.model} ({frame.engine})  "
        f"gaps {len(gaps)} ({lost} lost, {unseen} unseen)" + stream_words(frame)
    )


def stream_words(frame: PublishedFrame) -> str:
    """What the service knows from the frames before this one; empty where it knows nothing."""
    words = []
    if frame.averaged != 1.0:
        words.append(f"mean of {frame.averaged:.0f} frames")
    if frame.drift_px is not None:
        rows, columns = frame.drift_px
        words.append(f"drift {rows:+.2f} {columns:+.2f} px/frame")
    if frame.drift_nm_s is not None:
        words.append(f"{math.hypot(*frame.drift_nm_s):.3g} nm/s")
    if frame.dose_e_per_px is not None:
        words.append(f"dose {frame.dose_e_per_px:.3g} e/px")
    if frame.quality is not None:
        words.append(f"shown {frame.quality['shown']}")
        if (upsnr := frame.quality.get("upsnr_db")) is not None:
            words.append(f"uPSNR {upsnr:.1f} dB")
    return "".join(f"  {word}" for word in words)


def _statistics(pixels: Array) -> str:
    size = "x".join(map(str, pixels.shape))
    numbers = (f"{word} {getattr(pixels, word)():.5g}" for word in ("min", "max", "mean", "std"))
    return f"{size} {pixels.dtype.str}  {'  '.join(numbers)}"


def rows_x_columns(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected ROWSxCOLUMNS as 512x512, got {text!r}")
    return int(match[1]), int(match[2])


def whole(text: str) -> int:
    if int(text) < 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, got {text}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="scgn-client", description=__doc__)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")

    def verb(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        parser = verbs.add_parser(name, help=text, description=text)
        parser.set_defaults(run=run)
        return parser

    _add_send(verb("send", _send, "send a simulated camera's frames of a nucleating crystal"))
    _add_replay(verb("replay", _replay, "send frames of files or folders"))
    _add_watch(verb("watch", _watch, "follow every denoised frame, a line each second"))
    glimpse = verb("glimpse", _glimpse, "show one newest frame: header and statistics")
    _add_common(glimpse, LATEST)
    glimpse.add_argument("--save", type=Path, metavar="PNG", help="write raw and denoised as a PNG")
    add_calibrate(verb)
    add_calibrations(verb)
    add_status(verb)
    return top


def _add_common(parser: argparse.ArgumentParser, endpoint: str) -> None:
    add = parser.add_argument
    add("--endpoint", default=endpoint, help="ZeroMQ address of the service (%(default)s)")
    add("--timeout", type=positive, default=10.0, metavar="S",
        help="how long the service may be silent, s (%(default)s)")  # fmt: skip
    add("--key", type=Path, metavar="FILE", help="one's own .key_secret, for a service with CURVE")
    add("--service-key", type=Path, metavar="FILE",
        help="the service's public key (service.key beside --key)")  # fmt: skip


def _add_sending(parser: argparse.ArgumentParser) -> None:
    _add_common(parser, INGEST)
    add = parser.add_argument
    add("--source", default="camera", help="the camera's name (%(default)s)")
    add("--series", help="name of this run of frames (a new UUID)")
    add("--rate", type=positive, metavar="FPS", help="frames per second (as taken)")
    add("--frames", type=whole, metavar="N", help="stop after so many frames")
    add("--on-timeout", choices=("raise", "skip"), default="raise",
        help="end, or skip a frame that is not taken in time (%(default)s)")  # fmt: skip


def _add_send(parser: argparse.ArgumentParser) -> None:
    _add_sending(parser)
    add = parser.add_argument
    add("--shape", type=rows_x_columns, default=(512, 512), help="rows x columns, px (512x512)")
    add("--seed", type=whole, default=0, help="another seed, another scene (%(default)s)")
    add("--dose", type=positive, default=3.0, help="electrons per pixel and frame (%(default)s)")
    add("--prerender", type=whole, metavar="N", help="make N frames first and repeat them: faster")
    add("--save-references", type=Path, metavar="DIR", help="write dark.npy, gain.npy, mask.npy")


def _add_replay(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("paths", nargs="+", metavar="PATH", help="file, movie.npz::name, or folder (one series)")
    add("--loop", action="store_true", help="start again after the last frame")
    add("--crop", help="left, right, or rows and columns as 0:100,20:80, px")
    _add_sending(parser)


def _add_watch(parser: argparse.ArgumentParser) -> None:
    _add_common(parser, FRAMES)
    add = parser.add_argument
    add("--source", help="one camera only (all)")
    add("--every", action="store_true", help="a line for every frame")
    add("--frames", type=whole, metavar="N", help="stop after so many frames")
    add("--until-end", action="store_true", help="stop when a series ends")
    add("--save", type=Path, metavar="DIR", help="write every channel as .npy, and a .png of them")
