"""`scgn-live keys`: a service's CURVE key, and one for each camera and viewer, as files.

service.key, service.key_secret     the service's own
cameras/NAME.key, viewers/NAME.key  who may connect: the allow-lists
hand-out/NAME/                      what that camera or viewer needs; move it there

Public halves and the lists are readable for everyone: the service mostly runs as another user than
the one who makes keys. Secrets and what is to be handed out are their maker's alone.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zmq.auth import create_certificates

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
ROLES = ("cameras", "viewers")
PASSED, LISTED, READ = 0o711, 0o755, 0o644  # the keys' folder, a list's, and a public key


def parser() -> argparse.ArgumentParser:
    """Flags of the verb."""
    top = argparse.ArgumentParser(prog="scgn-live keys", description=__doc__.split("\n")[0])
    top.add_argument("folder", type=Path, help="where the keys are kept")
    for role in ROLES:
        one = role.removesuffix("s")
        top.add_argument(
            f"--{one}", dest=role, action="append", default=[], metavar="NAME",
            help=f"make a key for a {one}; may be repeated",
        )  # fmt: skip
    return top


def keys_command(flags: list[str]) -> int:
    """Make what is missing; keys that are there stay as they are."""
    args = parser().parse_args(flags)
    names = [name for role in ROLES for name in getattr(args, role)]
    if wrong := [name for name in names if not NAME.fullmatch(name)]:
        print(f"scgn-live: expected names of A-Za-z0-9._-, got {wrong[0]!r}", file=sys.stderr)
        return 2
    for line in _made(args):
        print(line)
    print(
        f"\ncurve_key = '{args.folder / 'service.key_secret'}'\n"
        f"camera_keys = '{args.folder / 'cameras'}'\nviewer_keys = '{args.folder / 'viewers'}'"
    )
    return 0


def _made(args: argparse.Namespace) -> Iterator[str]:
    folder: Path = args.folder
    _open_folder(folder, PASSED)
    for role in ROLES:
        _open_folder(folder / role, LISTED)
    if not (folder / "service.key_secret").exists():
        _pair(folder, "service")
        yield f"{folder / 'service.key_secret'}: the service's own key; nobody else needs it"
    for role in ROLES:
        for name in getattr(args, role):
            if (folder / role / f"{name}.key").exists():
                yield f"{folder / role / f'{name}.key'}: there already, left as it is"
                continue
            place = _handed_out(folder, role, name)
            yield f"{place}: for the {role.removesuffix('s')} {name}; move it there"


def _handed_out(folder: Path, role: str, name: str) -> Path:
    """A new key: the public half into the allow-list, the rest into a folder to be moved."""
    place = folder / "hand-out" / name
    with _private():
        place.mkdir(parents=True, exist_ok=True)
    public = _pair(place, name)
    shutil.copy(folder / "service.key", place / "service.key")
    public.replace(folder / role / f"{name}.key")
    return place


def _open_folder(path: Path, mode: int) -> None:
    """Make what is missing; whoever closed it before meant it."""
    if not path.exists():
        path.mkdir(parents=True)
        path.chmod(mode)


def _pair(folder: Path, name: str) -> Path:
    """A new key as two files; the public one, which alone others may read."""
    with _private():
        public = Path(create_certificates(folder, name)[0])
    public.chmod(READ)
    return public


@contextmanager
def _private() -> Iterator[None]:
    """Files that are made meanwhile are readable for nobody else."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
