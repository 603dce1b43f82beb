"""How well the frames' mean agrees with what references predict, in every orientation.

The scene and the noise of the mean are strong where a pixel-to-pixel pattern is not: at low
frequencies, at a lattice's spots, in lines that a whole column shares. So the comparison is made in
the cosine transform, where each coefficient counts by the inverse of the power around it: the
generalised least squares of a known pattern in coloured noise. Temporal noise is independent of a
reference, so it widens the result but does not shift it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scgn.calibrate.statistics import box_mean
from scgn.proof.orientation import oriented
from scgn.proof.posted import Patterns
from scgn.proof.surfaces import Mask
from scgn.references import Floats, GainConvention

Doubles = NDArray[np.float64]
SURE = 10.0  # log likelihood ratio, odds of 1 : 22,000
PERIOD_MAX = 32  # px; slower changes are illumination, not pixels
LINE_BOX = 15  # coefficients around one, along a line
CLIP2 = 9.0  # squared deviations beyond which a coefficient counts less
SCENE_PX = 5  # over which the scene's level is taken
ROUNDS = 3  # of taking out what is explained
CHUNK = 65536  # coefficients summed at once in double precision


class Key(NamedTuple):
    """One pattern that a part of the references predicts."""

    part: str
    orientation: str
    convention: GainConvention | None


@lru_cache(maxsize=4)
def _cosines(length: int) -> Floats:
    """Orthonormal basis of the cosine transform (DCT-II), (frequencies, length)."""
    waves = np.arange(length)[:, None] * (2 * np.arange(length) + 1)
    basis = np.cos(np.pi / (2 * length) * waves) * np.sqrt(2 / length)
    basis[0] /= np.sqrt(2)
    return np.asarray(basis, np.float32)


def spectrum(frame: Floats) -> Floats:
    """Cosine transform of a frame without its mean, (rows, columns)."""
    level = np.float32(frame.mean(dtype=np.float64))
    rows, columns = frame.shape
    return np.asarray(_cosines(rows) @ (frame - level) @ _cosines(columns).T)


def weights(residual: Floats) -> Doubles:
    """Inverse power by coefficient, 0 for slow changes; coefficients of 0 of an axis are lines."""
    power = np.square(residual, dtype=np.float64)
    usual = np.ones_like(power)
    height, width = (int(np.clip(side // 16 | 1, 5, 31)) for side in power.shape)
    usual[1:, 1:] = _others(power[1:, 1:], height, width)
    usual[:1, 1:] = _others(power[:1, 1:], 1, LINE_BOX)
    usual[1:, :1] = _others(power[1:, :1], LINE_BOX, 1)
    usual = np.maximum(usual, power / CLIP2)
    fast = _fast(power.shape)
    if not power[fast].any():
        return np.zeros_like(power)
    floor = 1e-9 * float(power[fast].mean())
    return np.where(fast, 1 / np.maximum(usual, floor), 0.0)


def _fast(shape: tuple[int, ...]) -> Mask:
    """Coefficients of periods up to 32 px along an axis."""
    down, right = (np.arange(side) / (2 * side) for side in shape)
    return np.asarray((down[:, None] > 1 / PERIOD_MAX) | (right > 1 / PERIOD_MAX))


def _others(power: Doubles, height: int, width: int) -> Doubles:
    """Mean over a box without its middle: a coefficient must not choose its own weight."""
    if not power.size:
        return power
    number = height * width
    return (box_mean(power, height, width).astype(np.float64) * number - power) / (number - 1)


def predicted(
    clean: Floats, patterns: Patterns, orientations: list[str]
) -> tuple[list[Key], Floats]:
    """Keys and spectra, (keys, coefficients), of what a frame mean would have in each orientation.

    A dark adds its counts; a gain changes the scene's level, taken over 5 x 5 px from the frames as
    this very gain corrects them.
    """
    keys, rows = [], []
    for name in orientations:
        dark = None if patterns.dark is None else oriented(patterns.dark, name)
        if dark is not None:
            keys.append(Key("dark", name, None))
            rows.append(spectrum(dark).ravel())
        above = clean if dark is None else clean - dark
        for convention, posted in patterns.responses.items():
            response = oriented(posted, name)
            scene = np.maximum(box_mean(above / response, SCENE_PX, SCENE_PX), 0)
            keys.append(Key("gain", name, convention))
            rows.append(spectrum((response - 1) * scene).ravel())
    return keys, np.stack(rows) if rows else np.empty((0, clean.size), np.float32)


@dataclass(frozen=True, eq=False)
class Agreement:
    """keys: the patterns; along: (K,) products of the mean with each, gram: (K,K) of each with
    each, in units in which the mean's noise has the variance 1; power: (K,K) of each with each,
    summed counts^2 over all pixels, without slow changes.
    """

    keys: list[Key]
    along: Doubles
    gram: Doubles
    power: Doubles

    def fit(self, keys: list[Key]) -> tuple[dict[Key, float], float]:
        """Amplitudes, 0 or more, that explain the mean best by these patterns together, and the log
        likelihood ratio against none of them.
        """
        chosen = [self.keys.index(key) for key in keys]
        along, gram = self.along[chosen], self.gram[np.ix_(chosen, chosen)]
        if len(chosen) > 1 and np.linalg.cond(gram) < 1e6:
            both = np.linalg.solve(gram, along)
            if (both >= 0).all():
                return dict(zip(keys, both.tolist(), strict=True)), float(both @ along / 2)
        power = np.maximum(np.diag(gram), 1e-30)
        gains = np.maximum(along, 0) ** 2 / (2 * power)
        best = int(np.argmax(gains))
        alone = np.where(np.arange(len(keys)) == best, np.maximum(along, 0) / power, 0.0)
        return dict(zip(keys, alone.tolist(), strict=True)), float(gains[best])

    def error(self, key: Key) -> float:
        """Standard error of one amplitude; infinite for a pattern that is none."""
        index = self.keys.index(key)
        power = float(self.gram[index, index])
        return float(power**-0.5) if power > 1e-12 else float("inf")

    def strength(self, key: Key) -> float:
        """Amplitude of one pattern in the mean, 1 as it should be, of either sign."""
        index = self.keys.index(key)
        return float(self.along[index] / max(self.gram[index, index], 1e-30))

    def shared(self, keys: list[Key]) -> float:
        """Product of the camera's fixed pattern with these, summed counts^2."""
        chosen = [self.keys.index(key) for key in keys]
        pairs = zip(keys, chosen, strict=True)
        return sum(self.strength(key) * float(self.power[i, i]) for key, i in pairs)

    def strong(self, keys: list[Key]) -> float:
        """Power of these patterns together, at their full strength, summed counts^2."""
        chosen = [self.keys.index(key) for key in keys]
        return float(self.power[np.ix_(chosen, chosen)].sum())

    def worse(self, keys: list[Key]) -> float:
        """Log likelihood ratio of none of these patterns against all at their full strength."""
        chosen = [self.keys.index(key) for key in keys]
        return float(self.gram[np.ix_(chosen, chosen)].sum() / 2 - self.along[chosen].sum())


def agreement(clean: Floats, patterns: Patterns, orientations: list[str]) -> Agreement:
    """Compare a frame mean without defects to what references predict.

    What the best patterns explain is taken out before the power of the rest is estimated again, so
    that a strong dark pattern does not hide a faint gain pattern.
    """
    keys, spectra = predicted(clean, patterns, orientations)
    mean = spectrum(clean)
    residual, power = mean, _products(spectra, _fast(mean.shape).ravel().astype(np.float64))
    for _ in range(ROUNDS):
        found = _weighed(keys, spectra, mean, residual, power)
        explained = _explained(found, spectra)
        if explained is None:
            break
        residual = mean - explained.reshape(mean.shape)
    return found


def _weighed(
    keys: list[Key], spectra: Floats, mean: Floats, residual: Floats, power: Doubles
) -> Agreement:
    weight = weights(residual).ravel()
    products = _products(np.vstack([spectra, mean.ravel()]), weight)
    noise = _noise(keys, spectra, weight, residual)
    gram = products[:-1, :-1] / np.sqrt(np.outer(noise, noise))
    return Agreement(keys, products[:-1, -1] / noise, gram, power)


def _products(spectra: Floats, weight: Doubles) -> Doubles:
    """(K,K) weighed products of spectra with each other, summed in double precision."""
    total = np.zeros((len(spectra), len(spectra)))
    for start in range(0, weight.size, CHUNK):
        rows = spectra[:, start : start + CHUNK].astype(np.float64)
        total += (rows * weight[start : start + CHUNK]) @ rows.T
    return total


def _noise(keys: list[Key], spectra: Floats, weight: Doubles, residual: Floats) -> Doubles:
    """Variance of each product over its power: 1 where the weights are right (White, 1980)."""
    spread = weight**2 * np.square(residual.ravel(), dtype=np.float64)
    by_part: dict[str, float] = {}
    for key, row in zip(keys, spectra, strict=True):
        if key.part not in by_part:
            power = np.square(row, dtype=np.float64)
            total = float(weight @ power)
            by_part[key.part] = max(1.0, float(spread @ power) / total) if total > 0 else 1.0
    return np.array([by_part[key.part] for key in keys])


def _explained(found: Agreement, spectra: Floats) -> Floats | None:
    """Spectrum of the surest pattern of each part together, None when none is sure."""
    best: list[Key] = []
    for part in dict.fromkeys(key.part for key in found.keys):
        own = [key for key in found.keys if key.part == part]
        surest = max(own, key=lambda key: found.fit([key])[1])
        best += [surest] if found.fit([surest])[1] > SURE else []
    if not best:
        return None
    amplitudes, _ = found.fit(best)
    chosen = [found.keys.index(key) for key in best]
    return np.asarray(np.array(list(amplitudes.values()), np.float32) @ spectra[chosen])
