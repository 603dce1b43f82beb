"""What a stream says of itself, frame by frame, and what it is told for the next: host code alone.

One `StreamTracker` per source and shape takes the graph's `Facts` in the frames' order and makes of
them what the wire's header, /status and /metrics need. In `auto` it decides what is shown.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

from scgn.stream.dose import Dose, Exposure, drift_nm_s
from scgn.stream.facts import SHOWN, Facts, Kind
from scgn.stream.quality import WINDOW, Quality, Score, best_kind
from scgn.stream.report import Controls, StreamReport, network_of, noise_status, pixels_status
from scgn.stream.scene import Scene, are_numbers

__all__ = ["Controls", "Exposure", "StreamReport", "StreamTracker"]

LONGEST = 16  # frames; the same as the state's
REMEMBERED = 64  # frames that a score may reach back over
DRIFT_FRAMES, DRIFT_UNSURE_PX = 4, 0.3  # frames before, standard error above which drift is unknown
ESTIMATE_ONLY = "estimate only, dose too low for atoms"


@dataclass
class _Told:
    """A frame that the graph has seen, waiting for its score."""

    frame: int  # index within its series
    number: int  # calls of the graph before it
    controls: Controls
    score: Score


class StreamTracker:
    """Follows one stream; its methods may be called from any thread."""

    def __init__(
        self, temporal: Literal["auto", "off"] | int = "auto", probe_every: int = 8
    ) -> None:
        """temporal: longest mean in frames, `off` for none, `auto` for up to 16 and the best kind;
        probe_every: frames from one probe to the next."""
        self.longest = _longest(temporal)
        if probe_every < 1:
            raise ValueError(f"probe_every: expected 1 or more frames, got {probe_every}")
        self._temporal, self._every = temporal, probe_every
        self._lock = threading.Lock()
        # Probes are rarer than scores: their differences need a longer memory.
        self._quality, self._dose = Quality(max(WINDOW, 32 * probe_every)), Dose()
        self._to_probe, self._patience, self._stride = probe_every, 0, 1
        self._number = self._scored = 0
        self._start()

    def _start(self) -> None:
        self._choice = network_of(self.longest)
        self._dose.clear()
        self._before: Exposure | None = None
        self._facts: Facts | None = None
        self._report: StreamReport | None = None
        self._change()

    def _change(self) -> None:
        """Another scene: what was measured is of the one before; what is shown stays."""
        self._quality.clear()
        self._told: deque[_Told] = deque(maxlen=REMEMBERED)
        self._header: dict[str, Any] | None = None
        self._scene = Scene()

    def controls(self) -> Controls:
        """What to tell the graph for the frame that is submitted next."""
        with self._lock:
            show = SHOWN.index(self._choice) if self._choice in SHOWN else 0
            longest = 1 if self._choice == "single" else self.longest
            return Controls(longest, show, self._probe(longest))

    def _probe(self, longest: int) -> int | None:
        self._to_probe -= 1
        if self._temporal == "off" or self._to_probe > 0:
            return None
        self._to_probe = -(-self._every // self._stride) * self._stride
        return LONGEST if longest == 1 else 1

    def forget(self) -> None:
        """A series starts or the calibration is another: forgets dose, scores, drift and choice.

        Frames of the old series may still be told afterwards: a frame index that does not grow
        starts anew by itself.
        """
        with self._lock:
            self._start()

    def told(
        self,
        facts: Facts,
        exposure: Exposure,
        controls: Controls,
        display_range: float | None = None,
    ) -> StreamReport:
        """Takes the facts of a frame, in the frames' order, with the controls it was given.

        display_range: white less black level of the published picture, counts; its running mean is
        the peak of `upsnr_db`. Facts that are not numbers change nothing.
        """
        with self._lock:
            good = are_numbers(facts)
            if good:
                self._start_or_change(facts, exposure)
            self._number += 1
            score = Score(controls.shown)
            self._told.append(_Told(exposure.frame, self._number, controls, score))
            if not good:
                return StreamReport(controls.shown, 1.0, None, None, 0.0, None, self._header)
            return self._take(facts, exposure, controls, display_range)

    def _start_or_change(self, facts: Facts, exposure: Exposure) -> None:
        if self._before is not None and exposure.frame <= self._before.frame:
            self._start()
        elif self._scene.left(facts):
            self._change()

    def _take(
        self, facts: Facts, exposure: Exposure, controls: Controls, display_range: float | None
    ) -> StreamReport:
        self._facts = facts
        self._scene.add(facts)
        self._quality.saw_range(display_range)
        self._take_scores(facts)
        dose = self._dose.add(facts.level, facts.gain_adu_per_e, exposure)
        drift = self._drift(facts)
        of_one = controls.shown in ("single", "estimate")
        averaged = 1.0 if of_one else max(1.0, facts.averaged)
        self._report = StreamReport(
            controls.shown, averaged, drift, drift_nm_s(drift, exposure, self._before),
            facts.moving, dose, self._header,
        )  # fmt: skip
        self._before = exposure
        return self._report

    def _take_scores(self, facts: Facts) -> None:
        told = self._back(facts.scored)
        if told is not None:
            self._take_network(told, facts)
        probed = self._back(facts.scored_probe)
        if probed is not None and probed.controls.probe_longest is not None:
            kind = network_of(probed.controls.probe_longest)
            self._quality.add_probe(probed.score, kind, facts.gain_probe)
            self._keep_step(paired=probed.score.network is not None)
        if told is not None:
            self._header = self._quality.header(told.frame, told.score)
        if self._temporal == "auto" and (told is not None or probed is not None):
            self._choice = best_kind(self._quality, self._choice)

    def _take_network(self, told: _Told, facts: Facts) -> None:
        self._keep_stride(told)
        kind = told.controls.network
        gains: dict[Kind, float] = {kind: facts.gain_network, "estimate": facts.gain_estimate}
        if kind == "temporal":  # a mean of one frame is the frame
            gains["mean"] = facts.gain_mean
        self._quality.add_network(told.score, gains, kind, facts.error)

    def _back(self, frames: float) -> _Told | None:
        """The frame so many calls ago; None for none, or where it is of another scene."""
        back = round(frames)
        return self._told[-1 - back] if 1 <= back < len(self._told) else None

    def _keep_stride(self, told: _Told) -> None:
        """Learns how many frames lie between those that are scored."""
        self._stride = min(max(1, told.number - self._scored), self._every)
        self._scored = told.number

    def _keep_step(self, paired: bool) -> None:
        """Moves the probes onto frames whose other outputs are scored too.

        Outputs wait for their score in turns, every `stride` frames. A probe of a frame between has
        nothing to be compared with; the next then comes a frame later. The one after may have been
        submitted before that was known and moves nothing.
        """
        self._patience -= 1
        if not paired and self._patience <= 0:
            self._to_probe += 1
            self._patience = 2

    def _drift(self, facts: Facts) -> tuple[float, float] | None:
        drift = facts.drift_rows, facts.drift_columns
        known = all(math.isfinite(each) for each in drift) and facts.drift_error >= 0
        if not known or facts.drift_error > DRIFT_UNSURE_PX or self._scene.frames < DRIFT_FRAMES:
            return None
        return drift

    def status(self) -> dict[str, Any]:
        """What /status says of the stream: noise, dose, quality, drift, averaged, moving, shown."""
        with self._lock:
            report = self._report
            return {
                "noise": noise_status(self._facts), "dose": self._dose.status(),
                "pixels": pixels_status(self._facts),
                "quality": self._quality_status(), "drift": self._drift_status(),
                "averaged": report.averaged if report else None,
                "moving": report.moving if report else None,
                "shown": report.shown if report else self._choice,
            }  # fmt: skip

    def _quality_status(self) -> dict[str, Any]:
        upsnr = self._quality.upsnr_db(self._choice) or (None, None)
        return {
            "shown": self._choice, "word": self._word(), "upsnr_db": upsnr[0],
            "error_db": upsnr[1], "gains": self._quality.table(),
        }  # fmt: skip

    def _word(self) -> str | None:
        if self._choice != "estimate":
            return None
        dose = self._dose.e_per_px
        return ESTIMATE_ONLY if dose is None else f"{ESTIMATE_ONLY} ({dose:.2g} e/px)"

    def _drift_status(self) -> dict[str, Any]:
        report, facts = self._report, self._facts
        drift = report.drift_px if report else None
        speed = report.drift_nm_s if report else None
        return {
            "px_per_frame": None if drift is None else list(drift),
            "error_px_per_frame": facts.drift_error if facts and drift is not None else None,
            "nm_per_s": None if speed is None else list(speed),
        }


def _longest(temporal: Literal["auto", "off"] | int) -> int:
    if temporal == "auto":
        return LONGEST
    longest = 1 if temporal == "off" else temporal
    if not isinstance(longest, int) or not 1 <= longest <= LONGEST:
        raise ValueError(f"temporal: expected auto, off or 1..{LONGEST} frames, got {temporal!r}")
    return longest
