"""Commands over HTTP: `scgn-client calibrate | calibrations | status`."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scgn_client.admin import HTTP, UPLOAD_S, Admin, flat_rows
from scgn_client.errors import ServiceError

OK, NOT_READY = 0, 1
ORIENTATIONS = (
    "as-is", "flip-up-down", "flip-left-right", "rotate-180", "rotate-90", "rotate-270",
    "transpose", "anti-transpose",
)  # fmt: skip
QUERIES = ("gain_convention", "orientation", "camera", "exposure_ms", "activate", "force")
FILES = ("dark", "gain", "mask", "noise", "calibration", "frames")
ROW = ("id", "state", "verdict", "camera", "exposure_ms", "shape")

Verb = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def say(text: str) -> None:
    print(text, flush=True)


def positive(text: str) -> float:
    number = float(text)
    if not (number > 0 and math.isfinite(number)):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return number


def _calibrate(args: argparse.Namespace) -> int:
    given = {name: getattr(args, name) for name in (*FILES, *QUERIES)}
    answer = _admin(args).post_calibration(**given)
    say(_line(answer))
    for reason in answer.get("reasons", []):
        say(f"reason: {reason}")
    if best := answer.get("best"):
        say(f"the frames speak for: {_line(best)}")
    return OK if answer.get("active") or args.activate is False else NOT_READY


def _calibrations(args: argparse.Namespace) -> int:
    admin = _admin(args)
    if args.report is not None:
        say(json.dumps(admin.calibration(args.report), indent=2))
    elif args.activate is not None:
        say(f"active {admin.activate(args.activate, args.force)}")
    elif args.deactivate:
        say(f"active {admin.activate(None) or 'none'}")
    elif args.rollback:
        say(f"active {admin.rollback() or 'none'}")
    else:
        for row in admin.calibrations():
            say(_line({name: row.get(name) for name in ROW}))
    return OK


def _line(values: Mapping[str, Any]) -> str:
    """Plain values of an answer in one line."""
    words = []
    for name, value in values.items():
        if isinstance(value, list) and all(isinstance(each, int) for each in value):
            value = " x ".join(map(str, value))
        if isinstance(value, (str, int, float)) and value != "":
            words.append(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")
    return "  ".join(words)


def _status(args: argparse.Namespace) -> int:
    admin = _admin(args)
    readiness = admin.ready()
    try:
        status = admin.status()
    except ServiceError as error:  # the HTTP side lives on when the frame process is gone
        status = {"error": str(error)}
    shown = {"ready": readiness.ready, "reasons": readiness.reasons, "status": status}
    if args.json:
        say(json.dumps(shown))
    else:
        rows = list(flat_rows({**shown, **status, "status": {}}))
        width = max(len(key) for key, _ in rows)
        say("\n".join(f"{key:<{width}}  {value}" for key, value in rows))
    return OK if readiness.ready else NOT_READY


def _admin(args: argparse.Namespace) -> Admin:
    token = None if args.token_file is None else args.token_file.read_text().strip()
    return Admin(args.url, args.timeout, token)


def _add_http(parser: argparse.ArgumentParser, timeout_s: float) -> None:
    add = parser.add_argument
    add("--url", default=HTTP, help="HTTP side of the service (%(default)s)")
    add("--token-file", type=Path, metavar="FILE", help="file of the bearer token, when it has one")
    add("--timeout", type=positive, default=timeout_s, metavar="S",
        help="how long a request may stand still, s (%(default)s)")  # fmt: skip


def add_calibrate(verb: Verb) -> None:
    """`scgn-client calibrate`."""
    text = "upload references; exit 0 in use, 1 kept but not in use, 2 refused or unreachable"
    parser = verb("calibrate", _calibrate, text)
    _add_http(parser, UPLOAD_S)
    add = parser.add_argument
    add("--dark", metavar="FILE", help="dark reference, ADU; a stack is averaged")
    add("--gain", metavar="FILE", help="gain reference; needs --gain-convention")
    add("--mask", metavar="FILE", help="1 where a pixel is defective")
    add("--noise", metavar="FILE", help="noise model, JSON; a stack of darks tells it too")
    add("--calibration", metavar="FILE", help="a file of `scgn calibrate`, alone")
    add("--frames", metavar="FILE", help="raw frames to prove it against (the camera's last ones)")
    add("--gain-convention", choices=("multiply", "divide"),
        help="corrected = (raw - dark) * gain, or / gain")  # fmt: skip
    add("--orientation", choices=ORIENTATIONS, help="what turns the files onto the frames (as-is)")
    add("--camera", metavar="NAME", help="whose frames it is for (those that fit)")
    add("--exposure-ms", type=positive, metavar="MS", help="of the references, ms")
    add("--activate", action=argparse.BooleanOptionalAction, default=None,
        help="use it, or say why not; or only keep it (use it if it is accepted)")  # fmt: skip
    add("--force", action="store_true", help="use it although it is suspicious")


def add_calibrations(verb: Verb) -> None:
    """`scgn-client calibrations`."""
    parser = verb("calibrations", _calibrations, "list stored calibrations, or change what is used")
    _add_http(parser, 5.0)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--report", metavar="ID", help="all that is known of one, JSON")
    what.add_argument("--activate", metavar="ID", help="use this one from the next frame on")
    what.add_argument("--deactivate", action="store_true", help="use none")
    what.add_argument("--rollback", action="store_true", help="use again what was used before")
    parser.add_argument("--force", action="store_true", help="use it although it is suspicious")


def add_status(verb: Verb) -> None:
    """`scgn-client status`."""
    parser = verb("status", _status, "health and figures; exit 0 ready, 1 not, 2 unreachable")
    _add_http(parser, 5.0)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
