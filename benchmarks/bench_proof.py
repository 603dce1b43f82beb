"""Proofs of calibrations on 100 random cameras: which repairs are named, what is accepted or not.

Each camera's references are posted as they are right and in one of the 15 wrong placements (8
orientations x 2 gain conventions, in turn); for every second camera also those of another one of
its kind. Two of three cameras come with dark, gain and mask, the others with a gain alone, their
dark level taken off by the camera. A claim is what a proof says that the frames tell; without any
it "cannot tell". Evidence is a log likelihood ratio: a claim takes `needed`, `ideal` is what the
gain gives on average to a perfect comparison, under white noise and over an even scene.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import arguments, percentiles, save
from scgn.proof.evidence import SURE
from scgn.proof.orientation import ORIENTATIONS, inverse, oriented
from scgn.proof.posted import CONVENTIONS, References
from scgn.proof.prove import prove
from scgn.proof.report import Proof
from scgn_client.nucleation import Nucleation

Doubles = NDArray[np.float64]
Place = tuple[str, str]
PLACES: list[Place] = [(name, way) for name in ORIENTATIONS for way in CONVENTIONS]
RIGHT = PLACES[0]
SIDES = (64, 96, 128, 192, 256)
SCENES = ("none", "static", "drifting")
ADU_PER_E, OFFSET_ADU = 20.0, 100.0
DARK_E = 10.0  # deviation of the dark's pixels, and of its columns, at a strength of 1
DEAD = 1e-3
DRIFT_PX = 1.3  # a frame
SEED = 20_260
OWN, FOREIGN, FRAMES = 0, 1, 2  # what a random stream is for


@dataclass(frozen=True)
class Case:
    """One camera and how it is used: noise in electrons, strength of its pattern relative."""

    number: int
    side: int
    scene: str
    frames: int
    strength: float
    dose: float
    read: float
    lines: float

    @property
    def gain_alone(self) -> bool:
        """Whether only a gain is posted."""
        return self.number % 3 == 2

    @property
    def ideal(self) -> float:
        """Evidence of the gain that a perfect comparison expects."""
        signal = self.side**2 * (self.strength * self.dose) ** 2
        return signal * self.frames / (2 * (self.dose + self.read**2))

    def rng(self, purpose: int) -> np.random.Generator:
        """Random numbers for one purpose, always the same."""
        return np.random.default_rng([SEED, self.number, purpose])


def case(number: int) -> Case:
    """A random camera, always the same for a number."""
    rng = np.random.default_rng([SEED, number])
    return Case(
        number,
        side=int(rng.choice(SIDES)),
        scene=str(rng.choice(SCENES)),
        frames=int(rng.integers(8, 33)),
        strength=float(np.exp(rng.uniform(np.log(0.005), np.log(0.04)))),
        dose=float(np.exp(rng.uniform(np.log(0.5), np.log(20)))),
        read=float(rng.uniform(0.1, 1.0)),
        lines=float(rng.uniform(0, 0.6)),
    )


def sensor(of: Case, owner: int) -> tuple[Doubles, Doubles, NDArray[np.bool_]]:
    """Dark (counts), response (0 where dead) and mask of a camera, or of another one."""
    rng, shape = of.rng(owner), (of.side, of.side)
    response = 1 + of.strength * rng.normal(size=shape)
    response *= 1 + of.strength / 2 * rng.normal(size=of.side)
    mask = rng.random(shape) < DEAD
    pattern = rng.normal(size=shape) + rng.normal(size=of.side)
    dark = OFFSET_ADU + ADU_PER_E * DARK_E * of.strength * pattern
    return dark * (not of.gain_alone), np.where(mask, 0, response / response.mean()), mask


def filmed(of: Case) -> NDArray[np.int32]:
    """Raw frames of a camera, (frames, rows, columns)."""
    dark, response, _ = sensor(of, OWN)
    rng, scene, stack = of.rng(FRAMES), np.ones(dark.shape), []
    if of.scene != "none":
        scene = Nucleation(dark.shape, of.number).expected(400).astype(np.float64)
    for index in range(of.frames):
        moved = round(DRIFT_PX * index) if of.scene == "drifting" else 0
        electrons = rng.poisson(of.dose * np.roll(scene, moved, 1)).astype(np.float64)
        electrons += rng.normal(0, of.read, dark.shape) + rng.normal(0, of.lines, of.side)
        stack.append(np.rint(dark + ADU_PER_E * response * electrons))
    return np.array(stack, np.int32)


def posted(of: Case, owner: int, place: Place) -> References:
    """Files that `place` puts right, posted to be taken as-is and multiplied with."""
    dark, response, mask = sensor(of, owner)
    inverted = np.divide(1, response, out=np.zeros_like(response), where=~mask)
    files = (dark, response if place[1] == "divide" else inverted, mask)
    dark, gain, mask = (oriented(file, inverse(place[0])).copy() for file in files)
    if of.gain_alone:
        return References(gain=gain, gain_convention="multiply")
    return References(dark, gain, mask, gain_convention="multiply")


def outcome(proof: Proof, place: Place) -> str:
    """What a proof claims, and whether that is right; `wrong` must never come."""
    truth = dict(zip(("orientation", "gain_convention"), place, strict=True))
    if proof.best is None or not proof.told:
        return "cannot tell"
    if any(getattr(proof.best, word) != truth[word] for word in proof.told):
        return "wrong"
    return "named" if len(proof.told) == len(truth) else f"{proof.told[0]} only"


@dataclass(frozen=True, eq=False)
class Row:
    """What proofs say of one camera's references: right, misplaced, and of another camera."""

    case: Case
    place: Place
    seconds: float
    right: Proof
    misplaced: Proof
    foreign: Proof | None


def measured(of: Case) -> Row:
    """All proofs of one camera."""
    stack, place = filmed(of), PLACES[1 + of.number % 15]
    begun = time.perf_counter()
    right = prove(posted(of, OWN, RIGHT), stack)
    seconds = time.perf_counter() - begun
    misplaced = prove(posted(of, OWN, place), stack)
    foreign = posted(of, FOREIGN, PLACES[of.number % 16])
    other = prove(foreign, stack) if of.number % 2 else None
    return Row(of, place, seconds, right, misplaced, other)


def verdicts(proofs: list[Proof]) -> dict[str, int]:
    """How often each came; accepted ones by whether they count as proved."""
    words = [p.verdict + ", proved" * p.proved for p in proofs]
    return dict(sorted(Counter(words).items()))


def untold(rows: list[Row], said: list[str]) -> list[dict[str, Any]]:
    """The cameras whose placement was not named in full, with what could be known at best."""
    found = []
    for row, word in zip(rows, said, strict=True):
        if word != "named":
            values = asdict(row.case) | {"ideal": row.case.ideal}
            rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}
            found.append({"said": word} | rounded)
    return found


def main() -> None:
    """Measure; --save writes results/bench_proof.json."""
    args = arguments(__doc__).parse_args()
    begun = time.monotonic()
    rows = [measured(case(number)) for number in range(10 if args.quick else 100)]
    said = [outcome(row.misplaced, row.place) for row in rows]
    result = {
        "cameras": len(rows),
        "right": verdicts([row.right for row in rows]),
        "misplaced": verdicts([row.misplaced for row in rows]),
        "foreign": verdicts([row.foreign for row in rows if row.foreign]),
        "repairs": dict(Counter(said)),
        "needed": SURE,
        "not_named": untold(rows, said),
        "seconds_a_proof": percentiles([row.seconds for row in rows]),
    }
    save("bench_proof", result, time.monotonic() - begun)


if __name__ == "__main__":
    main()
