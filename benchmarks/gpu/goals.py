"""Stage `report`: the project's goals on a GPU beside what the other stages found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.rows import Row, Rows

Found = dict[str, dict[str, Row]]  # rows by stage


@dataclass(frozen=True)
class Goal:
    """what: for people; at_least: else at most; got: from the rows, None when not measured."""

    what: str
    wanted: float
    unit: str
    at_least: bool
    got: Callable[[Found], float | None]

    def row(self, found: Found) -> Row:
        """What is wanted, what was got, and the verdict."""
        got = self.got(found)
        sign = ">=" if self.at_least else "<="
        head = {"wanted": f"{sign} {self.wanted:g} {self.unit}"}
        if got is None:
            return {**head, "got": None, "verdict": "not measured"}
        short = self.wanted - got if self.at_least else got - self.wanted
        verdict = "met" if short <= 0 else f"missed by {short:.3g} {self.unit}"
        return {**head, "got": f"{got:.4g} {self.unit}", "verdict": verdict}


def numbers(values: Iterable[Any]) -> list[float]:
    """Those that are."""
    return [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]


def pipeline_rows(found: Found, network: str, side: int) -> list[Row]:
    """Of batch 1, fastest first."""
    rows = found.get("pipeline", {})
    named = [row for key, row in rows.items() if key.startswith(f"{network} {side} batch 1 ")]
    return sorted((row for row in named if "fps" in row), key=lambda row: -row["fps"])


def rate(network: str, side: int) -> Callable[[Found], float | None]:
    """Frames/s, host to host, batch 1."""
    return lambda found: next((row["fps"] for row in pipeline_rows(found, network, side)), None)


def idle(found: Found) -> float | None:
    """Percent of the fastest row of the full network at 512."""
    shares = numbers(row.get("idle_share") for row in pipeline_rows(found, "paper", 512)[:1])
    return 100 * shares[0] if shares else None


def half_rows(found: Found) -> dict[str, Row]:
    """Of the full network in float16."""
    rows = found.get("engines", {})
    named = {k: row for k, row in rows.items() if k.startswith("paper ") and " float16 " in k}
    return {k: row for k, row in named.items() if "ms" in row}


def speed_up(found: Found) -> float | None:
    """Of the fastest in float16 over the network as published, eager in float32, at 512."""
    baseline = found.get("engines", {}).get("paper 512 float32 denoiser", {})
    times = [row["ms"]["median"] for key, row in half_rows(found).items() if " 512 " in key]
    return baseline["ms"]["median"] / min(times) if "ms" in baseline and times else None


def worst_db(found: Found) -> float | None:
    """Of all that ran in float16; minus infinity for a result that is not finite."""
    values = [row["db"] for row in half_rows(found).values()]
    known = numbers(values)
    return None if not values else min(known) if len(known) == len(values) else float("-inf")


def added(found: Found) -> float | None:
    """ms at p99, full network, 256, at 80 % of the rate."""
    row = found.get("service", {}).get("paper 256", {})
    return row["added_ms"]["p99"] if "added_ms" in row else None


def full_network(side: int, fps: float) -> Goal:
    """Frames/s of `paper`."""
    what = f"full network, float16, batch 1, {side}x{side}"
    return Goal(what, fps, "frames/s", True, rate("paper", side))


GOALS = (
    full_network(256, 800), full_network(512, 230), full_network(1024, 60),
    Goal("full network in float16 over eager float32, 512x512", 4, "times", True, speed_up),
    Goal("full network in float16 against float64, worst", 70, "dB", True, worst_db),
    Goal("`fast`, batch 1, 512x512", 1000, "frames/s", True, rate("fast", 512)),
    Goal("service adds at p99, 256x256, 80 % load", 5, "ms", False, added),
    Goal("device idle when saturated, full network, 512x512", 5, "%", False, idle),
)  # fmt: skip


def report(out: Path, machine: dict[str, Any]) -> dict[str, Any]:
    """Every goal's row, kept and printed."""
    found = {stage: rows_of(out / f"{stage}.json") for stage in ("engines", "pipeline", "service")}
    rows = Rows(out, "report", "goal against result", machine)
    rows.rows = {goal.what: goal.row(found) for goal in GOALS}
    rows.save()
    print(rows.path.with_suffix(".md").read_text())
    return {**rows.content(), "done": True}


def rows_of(path: Path) -> dict[str, Row]:
    """Of a stage's file; none where it is not there."""
    return json.loads(path.read_text())["rows"] if path.exists() else {}
