"""What a search says of references as posted, by rule, and in words for an operator."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scgn.proof.candidates import ABSENT_MAX, Candidate, Search
from scgn.proof.evidence import SURE
from scgn.proof.posted import References

ACCEPTED, SUSPICIOUS, REFUSED = "accepted", "suspicious", "refused"
COULD_TELL = 2 * SURE  # expected evidence of right references; chance takes hardly half of it away
STRENGTHS = (0.7, 1.4)  # of a part that belongs to these frames
DEVIATIONS = 5.0  # standard errors before a strength is believed to be wrong
ENOUGH = 8  # pixels, masked as well as deviating; X-rays leave some that no mask has
TURNED = {
    "as-is": "not turned",
    "flip-up-down": "flipped up-down",
    "flip-left-right": "flipped left-right",
    "rotate-180": "rotated by 180 degrees",
    "rotate-90": "rotated by 90 degrees",
    "rotate-270": "rotated by 270 degrees",
    "transpose": "transposed",
    "anti-transpose": "anti-transposed",
}


@dataclass(frozen=True)
class Judgement:
    """verdict: accepted, suspicious, refused; proved: accepted, and nothing else fits the frames;
    posted: the candidate that was asked for, None where it cannot be applied; best: the way that
    the frames speak for, nearest to the posted one; told: what of `orientation`, `gain_convention`
    the frames tell beyond doubt.
    """

    verdict: str
    proved: bool
    reasons: list[str]
    posted: Candidate | None = None
    best: Candidate | None = None
    told: tuple[str, ...] = ()

    def doubted(self, doubts: list[str]) -> Judgement:
        """The same with doubts: at least suspicious, and not proved."""
        if not doubts:
            return self
        verdict = SUSPICIOUS if self.verdict == ACCEPTED else self.verdict
        reasons = self.reasons + doubts
        return Judgement(verdict, False, reasons, self.posted, self.best, self.told)


def judge(search: Search, references: References, frames: int) -> Judgement:
    """Judge references as posted against all the ways in which they could be meant."""
    posted = _posted(search, references)
    if search.patterns.flat:
        same = "no pixel differs from its neighbours: there is no pattern to prove"
        return Judgement(ACCEPTED, False, [f"in the references {same}"], posted)
    best = max(search.candidates, key=lambda candidate: candidate.evidence)
    if best.evidence <= SURE:
        return _nothing_fits(search, posted, frames)
    alive = [c for c in search.candidates if best.evidence - c.evidence < SURE]
    chosen = _nearest(alive, references)
    told = _told(search, chosen, alive)
    if posted and any(search.same(posted, candidate) for candidate in alive):
        return _fits(search, posted, told, frames)
    verdict = REFUSED if posted is None or posted.residual > 1 else SUSPICIOUS
    apart = _parts_elsewhere(search, chosen)
    told = () if apart else told  # no one way is right for all of them
    reasons = [_repair(search, references, posted, chosen, told), *apart]
    reasons += _parts_nowhere(search, chosen)
    return Judgement(verdict, False, reasons, posted, chosen, told)


def _posted(search: Search, references: References) -> Candidate | None:
    wanted = (
        references.orientation,
        references.gain_convention if references.gain is not None else None,
    )
    found = (c for c in search.candidates if (c.orientation, c.gain_convention) == wanted)
    return next(found, None)


def _nearest(alive: list[Candidate], references: References) -> Candidate:
    """Of the ways that fit the one that changes least of what was posted."""

    def kept(candidate: Candidate) -> tuple[bool, bool, float]:
        return (
            candidate.orientation == references.orientation,
            candidate.gain_convention == references.gain_convention,
            candidate.evidence,
        )

    return max(alive, key=kept)


def _told(search: Search, chosen: Candidate, alive: list[Candidate]) -> tuple[str, ...]:
    told = []
    if all(search.same_turn(chosen, other) for other in alive):
        told.append("orientation")
    if search.patterns.responses and all(search.same_gain(chosen, other) for other in alive):
        told.append("gain_convention")
    return tuple(told)


def _fits(search: Search, posted: Candidate, told: tuple[str, ...], frames: int) -> Judgement:
    """Nothing fits better than what was posted."""
    reasons = [f"as posted it {_removes(search, posted)}"]
    open_ = [word for word in _asked(search) if word not in told]
    if open_:
        untold = " and ".join(word.replace("_", " ") for word in open_)
        reasons.append(
            f"the frames are too few or too faint to tell its {untold} ({frames} frames)"
        )
    doubts = _parts_elsewhere(search, posted) + _parts_nowhere(search, posted)
    doubts += _strengths(posted)
    fits = Judgement(ACCEPTED, not open_, reasons, posted, posted, told).doubted(doubts)
    if posted.residual > 1 and posted.worse > SURE:
        return Judgement(REFUSED, False, fits.reasons, posted, posted, told)
    return fits


def _asked(search: Search) -> list[str]:
    return ["orientation", *(["gain_convention"] if search.patterns.responses else [])]


def _repair(
    search: Search,
    references: References,
    posted: Candidate | None,
    chosen: Candidate,
    told: tuple[str, ...],
) -> str:
    now = _wrong(search, references, posted)
    changes, turned = [], []
    if "orientation" in told and chosen.orientation != references.orientation:
        changes.append(f"orientation={chosen.orientation}")
        turned.append(TURNED[chosen.orientation])
    if "gain_convention" in told and chosen.gain_convention != references.gain_convention:
        changes.append(f"gain_convention={chosen.gain_convention}")
        turned.append(f"with the gain to {chosen.gain_convention}")
    if not changes:
        return f"{now}; other ways fit better, but the frames cannot tell which of them"
    return f"{now}; {' and '.join(turned)} it {_removes(search, chosen)}: post it with " + (
        " and ".join(changes)
    )


def _wrong(search: Search, references: References, posted: Candidate | None) -> str:
    if posted is not None:
        return f"as posted it {_removes(search, posted)}"
    if references.applicable:
        given = f"orientation={references.orientation}"
        return f"as posted, with {given}, it does not have the frames' shape"
    return "it does not say whether its gain multiplies or divides"


def _removes(search: Search, candidate: Candidate) -> str:
    """What correcting with a candidate does, in words."""
    if not candidate.strengths:
        number = int(search.deviating.sum())
        covered = round(candidate.removed * number)
        return f"covers {covered} of the {number} pixels that deviate in the frames"
    error = f" +- {candidate.error:.0%}" if candidate.error > 0.05 else ""
    pattern = _pattern(search)
    if candidate.residual > 1:
        return f"makes {pattern} worse ({candidate.residual:.1f} times)"
    return f"removes {candidate.removed:.0%}{error} of {pattern}"


def _pattern(search: Search) -> str:
    if search.patterns.dark is None:
        return "the gain's fixed pattern"
    return "the fixed pattern" if search.patterns.responses else "the dark's fixed pattern"


def _nothing_fits(search: Search, posted: Candidate | None, frames: int) -> Judgement:
    """No way to take the references is sure to belong to the frames."""
    shown = posted or search.candidates[0]
    if not could_tell(search, shown):
        took = f", removed {shown.removed:.0%} +- {shown.error:.0%}" if shown.strengths else ""
        few = f"the frames are too few or too faint to tell ({frames} frames{took})"
        return Judgement(ACCEPTED, False, [few], posted)
    reasons = [
        "nothing in the references matches these frames in any orientation: another camera, "
        "exposure or region, or frames that are corrected already?"
    ]
    if posted and posted.worse > SURE:
        return Judgement(
            REFUSED, False, [f"as posted it {_removes(search, posted)}", *reasons], posted
        )
    return Judgement(SUSPICIOUS, False, reasons, posted)


def could_tell(search: Search, candidate: Candidate) -> bool:
    """Whether right references would have been recognised in these frames for sure."""
    if any(expected(error) > COULD_TELL for _, error in candidate.strengths.values()):
        return True
    deviating, defects = int(search.deviating.sum()), int(search.patterns.defects.sum())
    both = min(deviating, defects)
    rarity = search.deviating.size / max(deviating, defects, 1)
    return both >= ENOUGH and both * math.log(rarity) > COULD_TELL


def expected(error: float) -> float:
    """Evidence of a pattern that is as strong as it should be, from its strength's error."""
    return 1 / (2 * error**2) if error > 0 else float("inf")


def _strengths(candidate: Candidate) -> list[str]:
    """Parts whose pattern is in the frames, but not as strong as it should be."""
    found = []
    for part, (strength, error) in candidate.strengths.items():
        sure = abs(strength - 1) > DEVIATIONS * error
        if sure and strength >= ABSENT_MAX and not STRENGTHS[0] <= strength <= STRENGTHS[1]:
            value = f"{strength:.2f} +- {error:.2f}"
            text = f"the frames hold the {part}'s pattern {value} times as strong as it says"
            found.append(f"{text}: {_cause(part, candidate, strength)}")
    return found


def _cause(part: str, candidate: Candidate, strength: float) -> str:
    if part == "dark":
        return "another exposure, or noise of too few frames in the dark?"
    if "dark" not in candidate.strengths and strength < 1:
        return "the frames stand on an offset: post the dark as well"
    return "a wrong dark level, or noise of too few frames in the gain?"


def _parts_elsewhere(search: Search, candidate: Candidate) -> list[str]:
    """Parts that fit in one other way than the candidate."""
    absent = _absent(search, candidate)
    return [text for part in absent if (text := _elsewhere(search, part, candidate))]


def _parts_nowhere(search: Search, candidate: Candidate) -> list[str]:
    """Parts that fit in no way at all."""
    absent = _absent(search, candidate)
    parts = [part for part in absent if not _elsewhere(search, part, candidate)]
    return [f"hardly anything in the {part} matches these frames" for part in parts]


def _absent(search: Search, candidate: Candidate) -> list[str]:
    """Parts that the frames would show if they belonged to them in the candidate's way."""
    found = []
    for part, (strength, error) in candidate.strengths.items():
        weak = strength < ABSENT_MAX and strength + DEVIATIONS * error < 1
        found += [part] if weak and expected(error) > COULD_TELL else []
    evidence = search.part_evidence("mask")
    here = evidence[candidate.orientation, None]
    return found + (["mask"] if max(evidence.values()) > here + SURE else [])


def _elsewhere(search: Search, part: str, candidate: Candidate) -> str | None:
    """Where a part alone fits, when there is one such way and it is not the candidate's."""
    evidence = search.part_evidence(part)
    best = max(evidence, key=lambda way: evidence[way])
    close = [way for way in evidence if evidence[best] - evidence[way] < SURE]
    name, convention = best
    if evidence[best] <= SURE or len(close) > 1 or name == candidate.orientation:
        return None
    how = f" and gain_convention={convention}" if convention else ""
    return (
        f"the {part} alone fits with orientation={name}{how}: turn its file to lie like the others"
    )
