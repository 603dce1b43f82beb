"""Files that are nearly right: bytes changed, and what holds checksums changed beneath them."""

from __future__ import annotations

import io
import json
import random
import re
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

from .mutation import mutated

WINDOW = 400  # bytes; where a format keeps what it says of itself is mostly at one end
NUMBERS = ("0", "1", "-1", "2", "15", "16", "17", "20", "65535", "4294967296", "9" * 20, "1e9")
DESCRS = (
    "<f4", "<f8", "|b1", ">u2", "|O", "<U9", "|S8", "<c8", "<M8[s]", "|V4", "<f2", "<i8", "f", "",
    "<f999999", "[('a', '<f4')]",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2.5, 1e308, float("nan"), float("inf"), "", "row", "diagonal", [], {},
    [[1.0]], [[2.0]], [[1, 2], [3, 4]], [["x"]], [[[1.0]]], [[float("nan")]], 10**400, "9" * 400,
    {"a": [1]}, [[1.0], [1.0, 2.0]],
)  # fmt: skip


def damaged(chance: random.Random, content: bytes, other: bytes) -> bytes:
    """The file with something wrong in it."""
    ways: list[Callable[[random.Random, bytes, bytes], bytes]] = [window, window, mutated]
    if content.startswith(b"\x93NUMPY"):
        ways += [npy_header, npy_header]
    elif content.startswith(b"PK"):
        ways += [members, members, members]
    elif content.startswith(b"{"):
        ways += [values, values]
    return chance.choice(ways)(chance, content, other)


def window(chance: random.Random, content: bytes, other: bytes) -> bytes:
    """Changes near one end, or anywhere but close together."""
    last = max(0, len(content) - WINDOW)
    begin = chance.choice((0, 0, last, chance.randint(0, last)))
    middle = content[begin : begin + WINDOW]
    return content[:begin] + mutated(chance, middle, other) + content[begin + WINDOW :]


def npy_header(chance: random.Random, content: bytes, _: bytes) -> bytes:
    """Another shape or dtype than the bytes that follow, in a header of the right length."""
    end = content.index(b"\n") + 1
    text = content[10:end].decode("latin-1")
    if chance.random() < 0.5:
        shape = ", ".join(chance.choice(NUMBERS) for _ in range(chance.randrange(5)))
        text = re.sub(r"\(.*\)", f"({shape})", text)
    else:
        text = re.sub(r"'descr': '[^']*'", f"'descr': '{chance.choice(DESCRS)}'", text)
    if chance.random() < 0.2:
        text = text.replace("False", chance.choice(("True", "1", "None", "__import__('os')")))
    header = (text.rstrip() + "\n").encode()
    return content[:8] + len(header).to_bytes(2, "little") + header + content[end:]


def members(chance: random.Random, content: bytes, other: bytes) -> bytes:
    """One file of an archive damaged, missing, twice or of another name; its checksum is right."""
    beside = io.BytesIO()
    with (
        warnings.catch_warnings(action="ignore"),  # a name that comes twice is meant
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(beside, "w") as new,
    ):
        chosen = chance.choice(old.namelist())
        for info in old.infolist():
            inside = old.read(info)
            if info.filename == chosen:
                inside = member(chance, info, inside, other)
            if info.filename == chosen and chance.random() < 0.1:
                continue
            new.writestr(zipfile.ZipInfo(info.filename), inside, info.compress_type)
        if chance.random() < 0.1:
            name = chance.choice(("../x.npy", "/x.npy", "gain.npy", "mask.npy", "x", ""))
            new.writestr(zipfile.ZipInfo(name), other)
    return beside.getvalue()


def member(chance: random.Random, info: zipfile.ZipInfo, inside: bytes, other: bytes) -> bytes:
    """What lies in an archive: mostly a .npy; or a bomb of zeros in its place."""
    luck = chance.random()
    if luck < 0.05:
        return bytes(chance.choice((1_000, 1_000_000, 30_000_000)))
    if luck < 0.3 and info.filename == "header.npy":
        return header_text(chance, inside)
    return damaged(chance, inside, other)


def header_text(chance: random.Random, inside: bytes) -> bytes:
    """The JSON in a calibration's header, with other values."""
    text = inside[128:].decode("utf-32-le", "ignore")
    if not text.startswith("{"):
        return inside
    changed = values(chance, text.encode(), b"").decode("utf-8", "replace")
    head = inside[:128].replace(f"<U{len(text)}".encode(), f"<U{len(changed)}".encode())
    return head.ljust(128) + changed.encode("utf-32-le")


def values(chance: random.Random, content: bytes, _: bytes) -> bytes:
    """JSON with another value, or a key more or less."""
    found = json.loads(content)
    place = found["noise"] if isinstance(found.get("noise"), dict) else found
    key = chance.choice([*place, "more", "autocorrelation"])
    if chance.random() < 0.2:
        place.pop(key, None)
    else:
        place[key] = chance.choice(VALUES)
    return json.dumps(found).encode()
