"""How good a stream's pictures are by frames that came later, and which of them to show.

All sums are of paired gains over a flat frame (`scgn.stream.facts.Facts`), counts^2, and of their
differences between two kinds on the same frame, whose noise is mostly common. Samples of different
frames have noise of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, get_args

from scgn.stream.facts import Kind
from scgn.stream.running import NORMAL95, Running

Lead = tuple[float, float, float]  # mean difference of gains, its standard error, effective scores

KINDS: tuple[Kind, ...] = get_args(Kind)
WINDOW = 256  # scored frames
NARROW_DB, WIDEST_DB = 2.0, 3.0  # 95 % intervals: a uPSNR is told from the one on, up to the other
FEWEST_ERRORS = 16  # scores before a uPSNR is told: of fewer, only the luckiest would pass
FEWEST, SIGNIFICANT = 24, 3.0  # scores and standard errors that a change of kind needs
ENOUGH = 128  # scores after which what is not ahead of the estimate gives way to it


@dataclass
class Score:
    """What was measured of one frame: gain of each kind, and the network's mean square error."""

    shown: Kind
    gains: dict[Kind, float] = field(default_factory=dict)
    network: Kind | None = None  # the kind that `error` is of
    error: float = math.nan


class Quality:
    """Running sums of one scene under one dose."""

    def __init__(self, window: float = WINDOW) -> None:
        """window: effective number of scored frames that a sum remembers."""
        self.window = window
        self.clear()

    def clear(self) -> None:
        """Forgets everything: the scene, its dose or its noise is another one."""
        self._tick = 0
        self.gains = {kind: Running(self.window) for kind in KINDS}
        self.errors = {kind: Running(self.window) for kind in KINDS}
        self._pairs: dict[tuple[Kind, Kind], Running] = {}
        self._peak = Running(self.window)
        self._sure: set[Kind] = set()

    def saw_range(self, display_range: float | None) -> None:
        """Takes white less black of a published picture, counts."""
        if display_range is not None and math.isfinite(display_range) and display_range > 0:
            self._peak.add(display_range, self._tick)

    def add_network(self, score: Score, gains: dict[Kind, float], kind: Kind, error: float) -> None:
        """Takes a frame's gains, and the mean square error of its network, whose kind is named."""
        self._tick += 1
        score.network, score.error = kind, error
        self._add(score, gains)

    def add_probe(self, score: Score, kind: Kind, gain: float) -> None:
        """Takes the gain of a frame's second call."""
        self._add(score, {kind: gain})

    def _add(self, score: Score, gains: dict[Kind, float]) -> None:
        for kind, gain in gains.items():
            if kind in score.gains:
                continue
            self.gains[kind].add(gain, self._tick)
            for other, known in score.gains.items():
                self._add_pair(kind, other, gain - known)
            score.gains[kind] = gain
        self._add_errors(score, gains)

    def _add_pair(self, one: Kind, other: Kind, difference: float) -> None:
        pair, sign = _ordered(one, other)
        self._pairs.setdefault(pair, Running(self.window)).add(sign * difference, self._tick)

    def _add_errors(self, score: Score, new: dict[Kind, float]) -> None:
        """A kind's error is the network's and the difference of their gains."""
        if score.network is None:
            return
        for kind in new:
            lead = score.gains[score.network] - score.gains[kind]
            self.errors[kind].add(score.error + lead, self._tick)
            self._keep_sure(kind)

    def _keep_sure(self, kind: Kind) -> None:
        """Were one width the limit, a mean that chance has lifted would be told, and no other."""
        if self._width_db(kind) <= NARROW_DB and self.errors[kind].count >= FEWEST_ERRORS:
            self._sure.add(kind)
        elif self._width_db(kind) > WIDEST_DB:
            self._sure.discard(kind)

    def _width_db(self, kind: Kind) -> float:
        """Width of the 95 % interval of a kind's error; infinite where that reaches zero."""
        error = self.errors[kind]
        if error.mean <= error.reach:
            return math.inf
        return 10 * math.log10((error.mean + error.reach) / (error.mean - error.reach))

    def lead(self, one: Kind, other: Kind) -> Lead:
        """Mean of gain(one) - gain(other), counts^2, its standard error, effective scores."""
        pair, sign = _ordered(one, other)
        running = self._pairs.get(pair)
        if running is None:
            return 0.0, math.inf, 0.0
        return sign * running.mean, running.error, running.count

    def upsnr_db(self, kind: Kind) -> tuple[float, float] | None:
        """10 log10(peak^2 / mean square error) of a kind and its error, dB; None while unsure.

        The error is the 95 % interval's width over 2 x 1.96, so that 1.96 of it either way holds
        95 % with few scores as well.
        """
        if kind not in self._sure or self._peak.mean <= 0:
            return None
        value = 10 * math.log10(self._peak.mean**2 / self.errors[kind].mean)
        return value, self._width_db(kind) / (2 * NORMAL95)

    def header(self, frame: int, score: Score) -> dict[str, Any] | None:
        """The wire's map `quality` of a scored frame; None while a gain's error is unknown."""
        mine = self._gain(score, score.shown)
        if mine is None:
            return None
        others = {kind: self._gain(score, kind) for kind in score.gains if kind != score.shown}
        upsnr = self.upsnr_db(score.shown) or (None, None)
        return {
            "frame": frame, "shown": score.shown, "gain": mine[0], "gain_error": mine[1],
            "upsnr_db": upsnr[0], "error_db": upsnr[1],
            "others": {kind: gain for kind, gain in others.items() if gain is not None},
        }  # fmt: skip

    def _gain(self, score: Score, kind: Kind) -> list[float] | None:
        deviation = self.gains[kind].deviation
        if kind not in score.gains or not math.isfinite(deviation):
            return None
        return [score.gains[kind], deviation]

    def table(self) -> dict[str, list[float]]:
        """Running gain, standard error (counts^2) and effective scores of each kind measured."""
        return {
            kind: [gain.mean, gain.error, round(gain.count, 1)]
            for kind, gain in self.gains.items()
            if math.isfinite(gain.error)
        }


def _ordered(one: Kind, other: Kind) -> tuple[tuple[Kind, Kind], int]:
    if KINDS.index(one) < KINDS.index(other):
        return (one, other), 1
    return (other, one), -1


def best_kind(quality: Quality, shown: Kind) -> Kind:
    """What to show next: the kind that leads what is shown by most, if any does significantly.

    Failing that, the estimate where nothing is ahead of it after many scores.
    """
    ahead = {kind: quality.lead(kind, shown) for kind in KINDS if kind != shown}
    sure = {kind: lead[0] for kind, lead in ahead.items() if _significant(lead)}
    if sure:
        return max(sure, key=lambda kind: sure[kind])
    if shown != "estimate" and _nothing_beats_the_estimate(quality, shown):
        return "estimate"
    return shown


def _significant(lead: Lead) -> bool:
    mean, error, count = lead
    return count >= FEWEST and mean > SIGNIFICANT * error


def _nothing_beats_the_estimate(quality: Quality, shown: Kind) -> bool:
    leads: dict[Kind, Lead] = {
        kind: quality.lead(kind, "estimate") for kind in KINDS if kind != "estimate"
    }
    if leads[shown][2] < ENOUGH or min(leads[k][2] for k in ("temporal", "single")) < FEWEST:
        return False
    return all(mean <= 0 for mean, _, _ in leads.values())
