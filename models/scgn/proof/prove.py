"""`prove`: posted references against raw frames of the camera that they are for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgn.proof.candidates import Candidate, Search, search
from scgn.proof.numbers import (
    correction_of,
    doubts,
    gain_numbers,
    level_numbers,
    mask_numbers,
    mask_of,
    transfer_of,
)
from scgn.proof.posted import References
from scgn.proof.report import Numbers, Proof
from scgn.proof.seen import Seen, seen
from scgn.proof.surfaces import middle
from scgn.proof.verdict import ACCEPTED, Judgement, judge
from scgn.references import Floats

Array = NDArray[Any]
SHOWN_PX = 256  # of the frames' middle in the picture, pixel by pixel


def prove(references: References, frames: Array | None) -> Proof:
    """Whether references belong to raw frames (frames, rows, columns), of any real dtype as stored.

    Without frames, or with frames of a shape that no orientation of the references has, only their
    numbers are checked. Raises CalibrationError for arrays that are no frames, and for references
    without a usable pixel in two.
    """
    references.unusable()
    shown = None if frames is None else seen(frames)
    found = None if shown is None else search(references, shown)
    if frames is None or shown is None or found is None:
        return _numbers_only(references, shown)
    judgement = judge(found, references, shown.count)
    numbers = _numbers(references, judgement, frames, shown)
    said = judgement.doubted(doubts(numbers.gain, numbers.mask, numbers.level, shown.sigma))
    return _proof(references, said, numbers, shown, found)


def _numbers_only(references: References, shown: Seen | None) -> Proof:
    reason = "no frames to prove it against"
    if shown is not None:
        ours, theirs = (" x ".join(map(str, x)) for x in (references.shape, shown.mean.shape))
        reason = f"{ours} px cannot lie on frames of {theirs} px in any orientation"
    gain, mask = gain_numbers(references), mask_numbers(mask_of(references), None)
    judgement = Judgement(ACCEPTED, False, [f"{reason}: only its numbers were checked"])
    said = judgement.doubted(doubts(gain, mask, None, None))
    return _proof(references, said, Numbers(gain, mask), shown, None)


def _numbers(references: References, judgement: Judgement, frames: Array, shown: Seen) -> Numbers:
    """Of references as posted, where that can be applied, and of the frames."""
    gain = gain_numbers(references)
    raw = transfer_of(frames, correction_of(None, shown.deviating), offset=True)
    if judgement.posted is None:
        return Numbers(gain, mask_numbers(mask_of(references), None), None, raw)
    turned = references.turned()
    correction = correction_of(turned, shown.deviating)
    level = level_numbers(turned, correction, shown)
    after = transfer_of(frames, correction, offset=turned.dark is None)
    return Numbers(gain, mask_numbers(mask_of(turned), shown), level, raw, after)


def _proof(
    references: References,
    judgement: Judgement,
    numbers: Numbers,
    shown: Seen | None,
    found: Search | None,
) -> Proof:
    return Proof(
        verdict=judgement.verdict,
        proved=judgement.proved,
        reasons=judgement.reasons,
        orientation=references.orientation,
        gain_convention=references.gain_convention,
        as_posted=judgement.posted,
        best=judgement.best,
        told=judgement.told,
        candidates=[] if found is None else found.candidates,
        frames=None if shown is None else (shown.count, *shown.mean.shape),
        numbers=numbers,
        pictures={} if shown is None else _pictures(references, judgement, shown),
    )


def _pictures(references: References, judgement: Judgement, shown: Seen) -> dict[str, Floats]:
    ways = {"as posted": judgement.posted, "best": judgement.best}
    found = {"raw": middle(shown.mean, SHOWN_PX)}
    for name, way in ways.items():
        if way is not None and not (name == "best" and way == judgement.posted):
            found[name] = _corrected(references, way, shown)
    return found


def _corrected(references: References, way: Candidate, shown: Seen) -> Floats:
    """Middle of the frames' mean as a candidate corrects it; what it does not mask stays."""
    turned = references.turned(way.orientation, way.gain_convention)
    correction = correction_of(turned, np.zeros(shown.mean.shape, bool)).middle(SHOWN_PX)
    return np.asarray(correction(middle(shown.mean, SHOWN_PX)[None])[0])
