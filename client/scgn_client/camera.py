"""A simulated camera whose every flaw is known: the scene, the detector and its references."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from scgn_client.errors import ClientError
from scgn_client.messages import Array
from scgn_client.nucleation import Nucleation

Floats = NDArray[np.float32]
DTYPES = ("|u1", "<u2", ">u2", "<i2", "<u4", "<i4")  # a camera's counts are whole numbers

PIXEL_SENSITIVITY_RMS = 0.03
COLUMN_SENSITIVITY_RMS = 0.02
PIXEL_OFFSET_RMS_E = 0.5
COLUMN_OFFSET_RMS_E = 0.5
DEFECTS_PER_MEGAPIXEL = 150.0
HOT_SATURATION = 0.8  # a hot pixel's dark level, as a share of the way from offset to saturation
FIXED, PER_FRAME = 0, 1  # what a random stream is for


class Scene(Protocol):
    """What the camera looks at: `expected(i)` is frame i's relative intensity, background 1."""

    def expected(self, i: int) -> Floats:
        """(rows, columns) float32, not negative."""
        ...


@dataclass(frozen=True, slots=True)
class Exposure:
    """One exposure. raw: (rows, columns) ADU in the camera's dtype; clean: the same without any
    noise or fixed pattern, (rows, columns) float32, ADU above the dark.
    """

    raw: Array
    clean: Floats


@dataclass(frozen=True)
class SimulatedCamera:
    """An integrating camera that films a nucleating crystal; frame i depends on (seed, i) alone.

        raw = dark_reference + sensitivity * gain_adu_per_e * (Poisson(dose_e_per_px * expected)
              + N(0, read_noise_e) per pixel + N(0, column_noise_e) per column), rounded and clipped

    shape: rows, columns; offset_adu: mean dark level; fixed_pattern: whether pixels differ (3 % in
    sensitivity, 2 % from column to column, 0.5 e in offset, some hot and dead ones); dtype: a whole
    number type of the wire, of the camera's range; scene: a Nucleation of this seed when None.
    """

    shape: tuple[int, int] = (512, 512)
    seed: int = 0
    dose_e_per_px: float = 3.0
    gain_adu_per_e: float = 20.0
    read_noise_e: float = 0.5
    column_noise_e: float = 0.4
    offset_adu: float = 100.0
    fixed_pattern: bool = True
    dtype: str = "<u2"
    scene: Scene | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ClientError(f"camera dtype: expected one of {' '.join(DTYPES)}, got {self.dtype}")

    def frame(self, i: int) -> Exposure:
        """Exposure i, from 0; any order, always the same."""
        expected = self._scene.expected(i)
        electrons = self._electrons(expected, self._rng(PER_FRAME, i))
        analog = self.dark_reference + self._adu_per_e * electrons
        lowest, highest = self._range
        # float32 cannot hold the highest count of a 32-bit camera: it would wrap round to 0.
        whole = np.rint(analog, dtype=np.float64)
        raw = np.clip(whole, lowest, highest).astype(self.dtype)
        return Exposure(raw, expected * np.float32(self.gain_adu_per_e * self.dose_e_per_px))

    def frames(self, first: int = 0) -> Iterator[Array]:
        """Raw frames from `first` on, without end."""
        return (self.frame(i).raw for i in itertools.count(first))

    def save_references(self, folder: Path) -> None:
        """Write dark.npy (ADU), gain.npy (multiply) and mask.npy into a folder, made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "dark.npy", self.dark_reference, allow_pickle=False)
        np.save(folder / "gain.npy", self.gain_reference, allow_pickle=False)
        np.save(folder / "mask.npy", self.pixel_mask, allow_pickle=False)

    @cached_property
    def dark_reference(self) -> Floats:
        """What comes without light, noise averaged away: (rows, columns) float32, ADU."""
        dark = np.full(self.shape, float(self.offset_adu))
        if self.fixed_pattern:
            rng, (rows, columns) = self._rng(FIXED, 0), self.shape
            dark += self.gain_adu_per_e * rng.normal(0, PIXEL_OFFSET_RMS_E, (rows, columns))
            dark += self.gain_adu_per_e * rng.normal(0, COLUMN_OFFSET_RMS_E, columns)
            dark[self._hot] += HOT_SATURATION * (self._range[1] - self.offset_adu)
        return dark.astype(np.float32)

    @cached_property
    def gain_reference(self) -> Floats:
        """(rows, columns) float32, multiply: corrected = (raw - dark) * gain; 0 where dead."""
        alive = self._sensitivity > 0
        gain = np.zeros(self.shape, np.float32)
        np.divide(1, self._sensitivity, out=gain, where=alive)
        return gain

    @cached_property
    def pixel_mask(self) -> NDArray[np.uint8]:
        """1 where a pixel is hot or dead, else 0, (rows, columns)."""
        return (self._hot | self._dead).astype(np.uint8)

    @cached_property
    def _scene(self) -> Scene:
        return self.scene or Nucleation(self.shape, self.seed)

    @property
    def _range(self) -> tuple[int, int]:
        limits = np.iinfo(self.dtype)
        return max(0, int(limits.min)), int(limits.max)

    def _rng(self, purpose: int, number: int) -> np.random.Generator:
        return np.random.Generator(np.random.SFC64([self.seed, purpose, number]))

    @cached_property
    def _sensitivity(self) -> Floats:
        """Response of each pixel relative to the mean one, (rows, columns); 0 where dead."""
        if not self.fixed_pattern:
            return np.ones(self.shape, np.float32)
        rng, (rows, columns) = self._rng(FIXED, 1), self.shape
        pixels = 1 + PIXEL_SENSITIVITY_RMS * rng.standard_normal((rows, columns))
        stripes = 1 + COLUMN_SENSITIVITY_RMS * rng.standard_normal(columns)
        sensitivity = np.clip(pixels * stripes, 0.5, 1.5)
        sensitivity /= sensitivity.mean()
        sensitivity[self._dead] = 0
        return sensitivity.astype(np.float32)

    @cached_property
    def _adu_per_e(self) -> Floats:
        return self._sensitivity * np.float32(self.gain_adu_per_e)

    @cached_property
    def _defects(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Hot and dead pixels, two (rows, columns) maps."""
        hot, dead = np.zeros(self.shape, bool), np.zeros(self.shape, bool)
        if self.fixed_pattern:
            count = max(2, round(hot.size * DEFECTS_PER_MEGAPIXEL / 1e6))
            places = self._rng(FIXED, 2).choice(hot.size, min(count, hot.size), replace=False)
            hot.flat[places[::2]] = True
            dead.flat[places[1::2]] = True
        return hot, dead

    @property
    def _hot(self) -> NDArray[np.bool_]:
        return self._defects[0]

    @property
    def _dead(self) -> NDArray[np.bool_]:
        return self._defects[1]

    def _electrons(self, expected: Floats, rng: np.random.Generator) -> Floats:
        """What is read out, in electrons: shot noise, read noise, one draw a column."""
        electrons = rng.poisson(self.dose_e_per_px * expected).astype(np.float32)
        pixels = rng.standard_normal(self.shape, np.float32)
        columns = rng.standard_normal(self.shape[1], np.float32)
        electrons += np.float32(self.read_noise_e) * pixels
        electrons += np.float32(self.column_noise_e) * columns
        return electrons
