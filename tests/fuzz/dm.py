"""Gatan's .dm3 and .dm4, written: small files with one image, for which no library has a writer."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from scgn_client.messages import Array

GROUP, DATA = 20, 21
LONG, USHORT, ULONG, FLOAT, ARRAY = 3, 4, 5, 6, 20
IMAGE_TYPES = {"<u2": (10, USHORT), "<f4": (2, FLOAT), "<i4": (7, LONG)}

Tag = tuple[str, int, bytes]  # name, GROUP or DATA, content


class DmWriter:
    """Tags of version 3 or 4: the latter has 8 bytes for numbers, and sizes that it skips."""

    def __init__(self, version: int) -> None:
        self._version, self._number = version, ">q" if version == 4 else ">i"

    def file(self, frame: Array) -> bytes:
        """A file with one frame, (rows, columns) or (frames, rows, columns)."""
        root = self._group(
            [("ImageList", GROUP, self._tagged([("", GROUP, self._tagged(self._image(frame)))]))]
        )
        little_endian = struct.pack(">i", 1)
        return struct.pack(">i", self._version) + self._count(len(root)) + little_endian + root

    def _image(self, frame: Array) -> list[Tag]:
        code, element = IMAGE_TYPES[frame.dtype.str]
        sides: list[Tag] = [("", DATA, self._simple(ULONG, "<I", n)) for n in frame.shape[::-1]]
        axis = [("Origin", FLOAT, 0.0), ("Scale", FLOAT, 1.0)]
        scale: list[Tag] = [(name, DATA, self._simple(kind, "<f", v)) for name, kind, v in axis]
        scale.append(("Units", DATA, self._array(USHORT, 0, b"")))
        axes: list[Tag] = [("", GROUP, self._tagged(scale)) for _ in sides]
        calibrations: list[Tag] = [
            ("Brightness", GROUP, self._tagged(scale)), ("Dimension", GROUP, self._tagged(axes)),
        ]  # fmt: skip
        data: list[Tag] = [
            ("Calibrations", GROUP, self._tagged(calibrations)),
            ("Data", DATA, self._array(element, frame.size, frame.tobytes())),
            ("DataType", DATA, self._simple(ULONG, "<I", code)),
            ("Dimensions", GROUP, self._tagged(sides)),
            ("PixelDepth", DATA, self._simple(ULONG, "<I", frame.itemsize)),
        ]
        return [("ImageData", GROUP, self._tagged(data)), ("ImageTags", GROUP, self._tagged([]))]

    def _group(self, tags: Iterable[Tag]) -> bytes:
        """A root group: sorted, open, number of tags, tags."""
        found = [self._tag(*tag) for tag in tags]
        return b"\x01\x00" + self._count(len(found)) + b"".join(found)

    def _tagged(self, tags: Iterable[Tag]) -> bytes:
        """A group inside another, which has a size before its number of tags in version 4."""
        group = self._group(tags)
        return group if self._version == 3 else group[:2] + self._count(len(group)) + group[2:]

    def _tag(self, name: str, kind: int, content: bytes) -> bytes:
        head = struct.pack(">BH", kind, len(name)) + name.encode()
        skipped = self._count(len(content)) if self._version == 4 and kind == DATA else b""
        return head + skipped + content

    def _count(self, number: int) -> bytes:
        return struct.pack(self._number, number)

    def _simple(self, kind: int, form: str, value: float) -> bytes:
        return b"%%%%" + self._count(1) + self._count(kind) + struct.pack(form, value)

    def _array(self, kind: int, size: int, content: bytes) -> bytes:
        numbers = (3, ARRAY, kind, size)
        return b"%%%%" + b"".join(map(self._count, numbers)) + content


def dm(frame: Array, version: int = 3) -> bytes:
    """A .dm3 or .dm4 file of uint16, int32 or float32 frames."""
    return DmWriter(version).file(frame)
