"""Of a graph's work, how much a second: beside what the device can do at best."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from benchmarks.gpu import profiling
from benchmarks.gpu.rows import Row
from benchmarks.gpu.subjects import checkpoint_named


@lru_cache(maxsize=18)
def work_of(network: str, side: int, out: Path) -> tuple[int, int]:
    """Operations of a call, and bytes of eager's in float32."""
    from scgn.deploy import DeployRecipe, deploy

    graph = deploy(checkpoint_named(network, out)[0], DeployRecipe((side, side)))
    return profiling.floating_operations(graph), profiling.bytes_through_memory(graph)


def reached(network: str, side: int, out: Path, ms: float, unfused: bool) -> Row:
    """Work of the graph by time, beside the ceilings that `probe` found.

    unfused: eager in float32; what a compiler has left to move is not known from outside.
    """
    operations, moved = work_of(network, side, out)
    row: Row = {"gflop": round(operations / 1e9, 1), "tflop_s": round(operations / ms / 1e9, 2)}
    if unfused:
        row["gb_s_at_least"] = round(moved / ms / 1e6, 1)
    return row | {f"ceiling_{name}": value for name, value in ceilings(out).items()}


def ceilings(out: Path) -> dict[str, float]:
    """From probe.json, where it is."""
    path = out / "probe.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    wanted = {"tflop_s": "product 8192 float16", "gb_s": "copy on the device"}
    found = {name: rows.get(key, {}).get(name) for name, key in wanted.items()}
    return {name: value for name, value in found.items() if value is not None}
