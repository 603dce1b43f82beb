"""What a proof found, as plain values for JSON, for the eye and for the picture."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from scgn.proof.candidates import Candidate
from scgn.proof.numbers import GainNumbers, LevelNumbers, MaskNumbers, Transfer
from scgn.references import Floats


@dataclass(frozen=True)
class Numbers:
    """What can be counted; None where there is nothing to count it of. raw, corrected: photon
    transfer of the frames without references and as posted.
    """

    gain: GainNumbers | None
    mask: MaskNumbers
    level: LevelNumbers | None = None
    raw: Transfer | None = None
    corrected: Transfer | None = None


@dataclass(frozen=True, eq=False)
class Proof:
    """The answer to an operator's upload.

    verdict: `accepted`, `suspicious` or `refused`; proved: accepted, and the frames rule out every
    other way to mean the references; reasons: in words; orientation, gain_convention: as posted;
    as_posted: what that does, None where it cannot be applied or there are no frames; best: the
    way that the frames speak for, whose `orientation` is the one to give for the posted arrays,
    None where there is none; told: which of `orientation`, `gain_convention` the frames tell;
    candidates: all ways that fit the frames' shape; frames: their number, rows, columns; pictures:
    middle of the frames' mean, `raw`, `as posted` and, where it differs, `best`.
    """

    verdict: str
    proved: bool
    reasons: list[str]
    orientation: str
    gain_convention: str | None
    as_posted: Candidate | None
    best: Candidate | None
    told: tuple[str, ...]
    candidates: list[Candidate]
    frames: tuple[int, ...] | None
    numbers: Numbers
    pictures: dict[str, Floats]

    def as_json(self) -> dict[str, Any]:
        """The same in plain values, without pictures; what is not finite is None."""
        values = {
            "verdict": self.verdict,
            "proved": self.proved,
            "reasons": self.reasons,
            "orientation": self.orientation,
            "gain_convention": self.gain_convention,
            "as_posted": self.as_posted and _plain(self.as_posted),
            "best": self.best and _plain(self.best),
            "told": list(self.told),
            "candidates": [_plain(candidate) for candidate in self.candidates],
            "frames": self.frames and {"count": self.frames[0], "shape": list(self.frames[1:])},
            **{name: value and asdict(value) for name, value in vars(self.numbers).items()},
        }
        transfer = {name: values.pop(name) for name in ("raw", "corrected")}
        finite: dict[str, Any] = _finite(values | {"transfer": transfer})
        return finite

    def words(self) -> str:
        """A few lines for the operator."""
        convention = f", gain to {self.gain_convention}" if self.gain_convention else ""
        said = [
            f"verdict      {self.verdict}, {'proved' if self.proved else 'not proved'}",
            f"as posted    orientation {self.orientation}{convention}",
            *(f"reason       {reason}" for reason in self.reasons),
            *_number_words(self.numbers),
        ]
        return "\n".join(said)


def _plain(candidate: Candidate) -> dict[str, Any]:
    strengths = {
        part: {"value": value, "error": error}
        for part, (value, error) in candidate.strengths.items()
    }
    return asdict(candidate) | {"removed": candidate.removed, "strengths": strengths}


def _finite(value: Any) -> Any:
    """Plain values that JSON can say."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number_words(numbers: Numbers) -> list[str]:
    gain, mask, level, transfer = numbers.gain, numbers.mask, numbers.level, numbers.corrected
    said = []
    if gain:
        said.append(f"gain         {gain.min:.4g} to {gain.max:.4g}, deviation {gain.std:.3g}")
    missed, fine = mask.deviating_not_masked, mask.masked_looking_fine
    beside = "" if missed is None else f"; {missed} deviate unmasked, {fine} masked look fine"
    said.append(f"mask         {mask.pixels} pixels ({mask.share:.2%}){beside}")
    if level:
        dark = "none" if level.dark_mean is None else f"{level.dark_mean:.5g}"
        after = f"{level.corrected_mean:.5g} after correction, {level.below_zero:.2%} below 0"
        said.append(f"levels       dark {dark}, frames {level.frames_mean:.5g}; {after}")
    if transfer and transfer.gain_adu_per_e is not None:
        gain_words = (
            f"{transfer.gain_adu_per_e:.4g} +- {transfer.gain_error:.2g} counts per electron"
        )
        said.append(f"transfer     {gain_words}, corrected frames")
    return said
