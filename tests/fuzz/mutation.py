"""Bytes that are nearly right: seeds with a few seeded changes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

LONGEST = 1 << 16  # bytes that a mutated seed may grow to
CHANGES_MAX = 6
NUMBERS = (
    0, 1, 2, 3, 4, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1,
    2**63 - 1, 2**63, 2**64 - 1,
)  # fmt: skip
WIDTHS = (1, 2, 4, 8)

Change = Callable[[random.Random, bytearray, bytes], None]


def _span(chance: random.Random, content: bytearray, longest: int = 64) -> tuple[int, int]:
    """A random stretch that is not empty, if there is any."""
    begin = chance.randrange(len(content))
    return begin, min(len(content), begin + 1 + chance.randrange(longest))


def flip(chance: random.Random, content: bytearray, _: bytes) -> None:
    """One bit."""
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def overwrite(chance: random.Random, content: bytearray, _: bytes) -> None:
    """One byte, with any other."""
    content[chance.randrange(len(content))] = chance.randrange(256)


def number(chance: random.Random, content: bytearray, _: bytes) -> None:
    """A number on the edge of some width, in either byte order."""
    width = chance.choice(WIDTHS)
    value = chance.choice(NUMBERS) & (256**width - 1)
    at = chance.randrange(len(content))
    content[at : at + width] = value.to_bytes(width, chance.choice(("little", "big")))


def nudge(chance: random.Random, content: bytearray, _: bytes) -> None:
    """One byte, a little up or down: what lengths and digits are sensitive to."""
    at = chance.randrange(len(content))
    content[at] = (content[at] + chance.choice((-9, -2, -1, 1, 2, 9))) % 256


def truncate(chance: random.Random, content: bytearray, _: bytes) -> None:
    """Cut short."""
    del content[chance.randrange(len(content)) :]


def remove(chance: random.Random, content: bytearray, _: bytes) -> None:
    """A stretch is missing."""
    begin, end = _span(chance, content)
    del content[begin:end]


def repeat(chance: random.Random, content: bytearray, _: bytes) -> None:
    """A stretch comes twice or more."""
    begin, end = _span(chance, content)
    content[end:end] = content[begin:end] * chance.randrange(1, 9)


def noise(chance: random.Random, content: bytearray, _: bytes) -> None:
    """Random bytes in between."""
    at = chance.randrange(len(content) + 1)
    content[at:at] = chance.randbytes(1 + chance.randrange(32))


def splice(chance: random.Random, content: bytearray, other: bytes) -> None:
    """The head of one and the tail of another."""
    at = chance.randrange(len(content))
    content[at:] = other[min(at, len(other)) :]


def zeros(chance: random.Random, content: bytearray, _: bytes) -> None:
    """A stretch that was never written."""
    begin, end = _span(chance, content, 256)
    content[begin:end] = bytes(end - begin)


CHANGES: Sequence[Change] = (
    flip, flip, overwrite, number, number, number, nudge, nudge, truncate, remove, repeat, noise,
    splice, zeros,
)  # fmt: skip


def mutated(chance: random.Random, seed: bytes, other: bytes = b"") -> bytes:
    """The seed with one change or a few; other: what may be spliced onto it."""
    content = bytearray(seed)
    for _ in range(1 + int(CHANGES_MAX * chance.random() ** 3)):
        if not content:
            content += chance.randbytes(1)
        chance.choice(CHANGES)(chance, content, other)
    return bytes(content[:LONGEST])
