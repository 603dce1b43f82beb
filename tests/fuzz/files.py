"""Calibration files that are right, small and made of seeded numbers, in every format read."""

from __future__ import annotations

import io
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import mrcfile
import numpy as np
import tifffile
from PIL import Image

from scgn.calibration import build_calibration, save_calibration
from scgn.noise import NoiseModel
from scgn_client.messages import Array

from .dm import dm

ROWS, COLUMNS, STACKED = 16, 20, 5
_RNG = np.random.default_rng(11)
PATTERN = _RNG.uniform(0.8, 1.2, (ROWS, COLUMNS))
DARK = (100 + 8 * _RNG.standard_normal((ROWS, COLUMNS))).round()
SCENE = 60 + 40 * np.sin(np.arange(COLUMNS) / 3.0)
FRAMES = _RNG.poisson(SCENE, (STACKED, ROWS, COLUMNS)) / PATTERN + DARK
MASK = np.zeros((ROWS, COLUMNS), bool)
MASK[3, 4] = MASK[9, 17] = True


def stack(dtype: str) -> Array:
    """Dark frames of any dtype, (frames, rows, columns)."""
    noisy = DARK + np.random.default_rng(3).normal(0, 3, (STACKED, ROWS, COLUMNS))
    return np.clip(noisy, 0, 250).round().astype(dtype)


def npy(array: Array, version: tuple[int, int] | None = None) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, array, version=version, allow_pickle=False)
    return content.getvalue()


def npz(compressed: bool, **arrays: Array) -> bytes:
    content = io.BytesIO()
    if compressed:
        np.savez_compressed(content, allow_pickle=False, **arrays)
    else:
        np.savez(content, allow_pickle=False, **arrays)
    return content.getvalue()


def tif(array: Array, **options: Any) -> bytes:
    content = io.BytesIO()
    how = {"photometric": "minisblack", "software": "", "metadata": None, **options}
    tifffile.imwrite(content, array, **how)
    return re.sub(rb"urn:uuid:[0-9a-f-]{36}", b"urn:uuid:" + b"0" * 36, content.getvalue())


def pillow_tif(array: Array, compression: str) -> bytes:
    content = io.BytesIO()
    Image.fromarray(array).save(content, "TIFF", compression=compression)
    return content.getvalue()


def mrc(array: Array, more: bytes = b"") -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mrc"
        with mrcfile.new(path) as file:
            file.set_data(array)
            file.header.label = b""  # it holds the time
            file.header.nlabl = 0
            if more:
                file.set_extended_header(np.frombuffer(more, "V1"))
        return path.read_bytes()


def h5(options: dict[str, Any] | None = None, latest: bool = False, **datasets: Array) -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w", libver="latest" if latest else "earliest") as file:
        for name, array in datasets.items():
            place = name.replace("__", "/")
            file.create_dataset(place, data=array, track_times=False, **(options or {}))
    return content.getvalue()


def calibration(noise: bool) -> bytes:
    """As `scgn calibrate` writes it."""
    model = NoiseModel(2.5, 3.0, 1.0, "column", 0.1, np.ones((1, 1), np.float32))
    gain = None if noise else PATTERN
    made = build_calibration(
        DARK, gain, MASK, None if noise else "multiply", model if noise else None
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npz"
        save_calibration(path, made)
        return path.read_bytes()


def noise_json() -> bytes:
    """Noise as an operator posts it."""
    noise = {
        "gain_adu_per_e": 2.5, "read_noise_adu": 3.0, "line_noise_adu": 1.0, "line_axis": "row",
        "line_correlation": 0.1,
        "autocorrelation": [[0.0, 0.1, 0.0], [0.1, 1.0, 0.1], [0.0, 0.1, 0.0]],
    }  # fmt: skip
    return json.dumps(noise).encode()


def references() -> Iterator[tuple[str, bytes]]:
    """Name and content of a file of each format and way of storing."""
    one, two = DARK.astype("<u2"), DARK.astype("<f4")
    yield "dark-f4.npy", npy(two)
    yield "dark-big.npy", npy(DARK.astype(">u2"), (2, 0))
    yield "dark-fortran.npy", npy(np.asfortranarray(DARK.astype("<i4")))
    yield "dark-stack.npy", npy(stack("<u2"))
    yield "gain-f8.npy", npy(PATTERN)
    yield "mask-bool.npy", npy(MASK)
    yield "dark-stored.npz", npz(False, frame=one)
    yield "dark-deflated.npz", npz(True, frame=stack("|u1"))
    yield "dark-plain.tif", tif(one)
    yield "dark-stack.tif", tif(stack("<u2"))
    yield "dark-big.tiff", tif(two, bigtiff=True, byteorder=">")
    yield "dark-deflated.tif", tif(one, compression="zlib", predictor=True)
    yield "dark-tiled.tif", tif(one, tile=(16, 16))
    yield "dark-described.tif", tif(stack("|u1"), metadata={"axes": "TYX"}, ome=False)
    yield "dark-ome.tif", tif(stack("|u1"), metadata={"axes": "TYX"}, ome=True)
    yield "dark-imagej.tif", tif(stack("<u2"), imagej=True, photometric=None)
    yield "dark-lzw.tif", pillow_tif(DARK.astype("|u1"), "tiff_lzw")
    yield "dark-packbits.tif", pillow_tif(DARK.astype("|u1"), "packbits")
    yield "dark-f4.mrc", mrc(two)
    yield "dark-u2.mrc", mrc(stack("<u2"), b"FEI1" + bytes(60))
    yield "dark-i1.mrc", mrc((DARK - 100).astype("|i1"))
    yield "dark.h5", h5(frames=two)
    yield "dark-chunked.h5", h5({"chunks": (5, 4, 5), "compression": 6, "shuffle": True},
                                entry__data=stack("<u2"))  # fmt: skip
    yield "dark-latest.h5", h5({"fletcher32": True, "chunks": (8, 10)}, True, a__b__c=one)
    yield "dark-many.nxs", h5(entry__data__data=one, entry__mask=MASK.astype("|u1"))
    yield "dark-velox.emd", h5(Data__Image__0__Data=np.moveaxis(stack("<u2"), 0, -1))
    yield "dark-ncem.emd", h5(data__c__data=one, data__c__dim1=np.arange(ROWS))
    yield "dark.dm3", dm(two)
    yield "dark-stack.dm4", dm(stack("<u2"), 4)


def others() -> Iterator[tuple[str, bytes]]:
    """Name and content of what is posted beside references."""
    yield "calibration-gain.npz", calibration(noise=False)
    yield "calibration-noise.npz", calibration(noise=True)
    yield "noise.json", noise_json()
    yield "frames-stack.npy", npy(FRAMES.astype("<u2"))
    yield "frames-stack.tif", tif(FRAMES.astype("<u2"), compression="zlib")
