"""Stages that need a CUDA device: `python3 benchmarks/gpu/run.py STAGE... --out FOLDER`.

Each call ends within ten minutes and keeps what it has; call again until it says `done`. Runs from
a bare checkout with torch 2.11 to 2.13, numpy, safetensors and tqdm; README.md says what more a
stage needs.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.gpu import engines, goals, holding, pipelines, probe, services, whole
from benchmarks.gpu.rows import Rows
from benchmarks.gpu.sitting import CALL_S, Call, process, sit, unwind_when_told, work
from benchmarks.gpu.whole import TO_END_S, machine

sys.path[:0] = [folder for folder in whole.FOLDERS if folder not in sys.path]


def stepped(stage: str, call: Call) -> dict[str, Any]:
    """A stage of rows: those that are missing are measured by processes."""
    described = STEPPED[stage]
    rows = Rows(call.out, stage, described.unit, machine())
    return sit(described, rows, call, process(stage, call))


STEPPED = {
    "probe": probe.STAGE, "engines": engines.STAGE, "pipeline": pipelines.STAGE,
    "service": services.STAGE, "holding": holding.STAGE,
}  # fmt: skip
STAGES: dict[str, Callable[[Call], dict[str, Any]]] = {
    "tests": whole.tests, "train": whole.train_stage, "quality": whole.quality_stage,
    "report": lambda call: goals.report(call.out, machine()),
    **{stage: partial(whole.once, measure, stage) for stage, measure in whole.ONCE.items()},
    **{stage: partial(stepped, stage) for stage in STEPPED},
}  # fmt: skip


def run_stage(stage: str, call: Call) -> dict[str, Any]:
    """Go on with a stage and keep its result."""
    if stage != "report" and call.left_s() < 2 * TO_END_S:
        return {"stage": stage, "done": False}
    try:
        found = STAGES[stage](call)
    except Exception:  # the stages behind it have their turn
        found = {"status": 1, "error": traceback.format_exc(), "done": False}
    result = {"stage": stage, "machine": machine(), "done": True, **found}
    (call.out / f"{stage}.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def work_here(stage: str, call: Call) -> int:
    """This is the process that measures rows."""
    unwind_when_told()
    described = STEPPED[stage]
    work(described, Rows(call.out, stage, described.unit, machine()), call)
    return 0


def main() -> int:
    """Run the stages asked for; 0 when all are done, 1 when one failed, 3 to be called again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="+", choices=sorted(STAGES))
    parser.add_argument("--out", type=Path, default=whole.ROOT / "runs" / "gpu")
    parser.add_argument("--again", action="store_true", help="measure once more what failed")
    parser.add_argument("--seconds", type=float, default=CALL_S, help="that this call may take")
    parser.add_argument("--worker", type=float, default=0.0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.out = args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    call = Call(args.out, args.again, args.worker or args.seconds)
    if args.worker:
        return work_here(args.stages[0], call)
    results = [run_stage(stage, call) for stage in args.stages]
    print(json.dumps(results, indent=2))
    failed = any(result.get("status") for result in results)
    waiting = [result["stage"] for result in results if not result["done"]]
    print(f"not done: {', '.join(waiting)}: call again" if waiting else "done")
    return 1 if failed else 3 if waiting else 0


if __name__ == "__main__":
    sys.exit(main())
