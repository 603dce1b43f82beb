"""All scenarios in one table; a scenario already judged is not judged again."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scgn.evaluate import EvaluationError
from scgn.evaluate.movies.judge import FRAMES, SIDE_PX, judge_scenario
from scgn.evaluate.movies.watch import ESTIMATE, remembering
from scgn.evaluate.runner import machine, write_json
from scgn.evaluate.table import cell, markdown
from scgn.simulate.movies.staged import EVENTS, SCENARIOS

Result = dict[str, Any]
SEEDS = (90411, 90412)  # nobody has tuned on them
DOSES_E_PER_PX = (2.0, 8.0)
COLUMNS = {  # key of a summary: heading
    "flat": "flat", "mean8_gaussian": "mean of 8 + Gaussian", "single": "single",
    "estimate": "estimate", "temporal": "temporal", "gain": "over single",
    "worst_gain": "worst frame", "moving_gain": "moving", "moving_mean8_gain": "moving, mean of 8",
    "inner_temporal": "inner", "registration_gain": "by registration",
}  # fmt: skip
AT_EVIDENCE = ("came_at_6_sigma", "came_at_9_sigma", "went_at_6_sigma", "went_at_9_sigma")
SHOWN_FRAMES = (1, 2, 3, 4, 6, 8, 12, 24)
DEFINITIONS = """\
PSNR in dB, peak the clean frame's range, mean over the frames from the middle of the movie on,
where what happens happens, and over the seeds. Single: the same network without a past. Estimate:
what the network corrects. Worst frame: least temporal less single of any frame, the first left out.
Moving: temporal less single where the clean frame differs from the mean of its eight predecessors
by more than a quarter of the local contrast. Inner: where no drift brings anything new. By
registration: inner, over the same without registration. Drift: rms error from the twelfth frame on,
px a frame. Trace: of the scene before a cut, largest from the second frame on. Events: contrast of
a spot in the output, by frames since it came or went; at 6 and 9 sigma of a matched filter's
evidence since then."""


@dataclass(frozen=True)
class ScenarioPlan:
    """What is judged. network: by name or path, None for the estimate."""

    network: str | None = None
    scenarios: tuple[str, ...] = SCENARIOS
    doses_e_per_px: tuple[float, ...] = DOSES_E_PER_PX
    seeds: tuple[int, ...] = SEEDS
    frames: int = FRAMES
    side_px: int = SIDE_PX

    def __post_init__(self) -> None:
        if wrong := [name for name in self.scenarios if name not in SCENARIOS]:
            known = ", ".join(SCENARIOS)
            raise EvaluationError(f"no scenario {', '.join(wrong)}; there are {known}")


def judged(name: str, dose: float, plan: ScenarioPlan, network_id: str, folder: Path) -> Result:
    """One scenario at one dose, from the folder where it was judged with the same settings."""
    path = folder / f"{network_id}_{name}_{dose:g}.json"
    settings: Result = json.loads(json.dumps(
        {"network": network_id, "seeds": plan.seeds, "frames": plan.frames, "side_px": plan.side_px}
    ))  # fmt: skip
    if path.exists():
        kept: Result = json.loads(path.read_text())
        if kept["settings"] == settings:
            return kept
    found = judge_scenario(name, dose, plan.seeds, plan.network, plan.frames, plan.side_px)
    write_json(path, found | {"settings": settings, "machine": machine()})
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def judge_all(plan: ScenarioPlan, folder: Path) -> Result:
    """Every scenario at every dose; one file of each stays in `folder`."""
    network_id, results = remembering(plan.network).id, []
    for name in plan.scenarios:
        for dose in plan.doses_e_per_px:
            results.append(judged(name, dose, plan, network_id, folder))
            print(f"{name}, {dose:g} e/px: done", file=sys.stderr)
    told = asdict(plan) | {"network": plan.network or ESTIMATE}
    return {"network": network_id, "plan": told, "machine": machine(), "results": results}


def scenario_report(result: Result) -> str:
    """The whole result as Markdown."""
    plan = result["plan"]
    title = f"{result['network']}, seeds {', '.join(map(str, plan['seeds']))}"
    parts = [f"# Scenarios: {title}"]
    for dose in plan["doses_e_per_px"]:
        some = [r for r in result["results"] if r["dose_e_per_px"] == dose]
        parts += [f"## {dose:g} e/px", scenario_table(some)]
        if events := [r for r in some if r["scenario"] in EVENTS]:
            parts.append(event_table(events))
    return "\n\n".join([*parts, DEFINITIONS]) + "\n"


def scenario_table(results: Sequence[Result]) -> str:
    """A row per scenario at one dose."""
    lines = []
    for result in results:
        summary = result["summary"]
        later = result.get("trace", [])[1:]
        trace = max((abs(share) for frame in later for share in frame), default=None)
        lines.append([
            result["scenario"], *(cell(summary.get(key), 2) for key in COLUMNS),
            cell(summary.get("drift_error_px"), 3), cell(trace, 3),
        ])  # fmt: skip
    return markdown(["scenario", *COLUMNS.values(), "drift", "trace"], lines)


def event_table(results: Sequence[Result]) -> str:
    """Step responses at one dose: came / went by frames, then at 6 and 9 sigma."""
    lines = []
    for result in results:
        events = result["events"]
        by_frames = [
            " / ".join(cell(events[word].get(str(n), [None])[0], 2) for word in ("came", "went"))
            for n in SHOWN_FRAMES
        ]
        evidence = [cell(events[key][0], 2) for key in AT_EVIDENCE]
        lines.append([result["scenario"], cell(events["sigma"], 1), *by_frames, *evidence])
    heading = ["came / went after", "sigma of one", *map(str, SHOWN_FRAMES)]
    return markdown([*heading, "came 6", "came 9", "went 6", "went 9"], lines)
