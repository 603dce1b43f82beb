"""What the benchmarks would train: one budget for all, every plan a network that can be built."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from support import ROOT


@pytest.fixture
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.mark.usefixtures("_benchmarks")
def test_compared_networks_share_data_and_budget() -> None:
    from benchmarks.quality import ABLATION, PEERS, RUNS, plan_of

    plans = {run.name: plan_of(run) for run in RUNS}
    assert len(plans) == len(RUNS)
    assert len({run.label for run in RUNS}) == len(RUNS)
    for run in PEERS:
        assert replace(plans[run.name], size="compact") == plans["scgn"]
    for run in ABLATION:
        white = replace(plans[run.name], size="compact", recipe=plans["scgn"].recipe)
        assert white == plans["scgn"], "the ablation differs by network and noise alone"


@pytest.mark.usefixtures("_benchmarks")
def test_gpu_stage_trains_what_ships_first() -> None:
    from benchmarks.gpu.training import plans

    found = plans()
    assert list(found)[:2] == ["paper-clean", "paper-atom-map"]
    assert {plan.target for plan in found.values()} == {"clean", "atom_map"}
    assert found["paper-recipe"].precision == "float32", "raw counts lose their digits in bfloat16"
    for plan in found.values():
        assert plan.design.inputs == (11 if plan.target == "clean" else 1)
        assert plan.steps >= 12_000


@pytest.mark.usefixtures("_benchmarks")
def test_gpu_stage_says_where_an_unfinished_run_stands(tmp_path) -> None:
    from benchmarks.gpu.training import steps_done

    assert steps_done(tmp_path) == 0
    (tmp_path / "log.jsonl").write_text('{"step": 5}\n{"step": 9}\n')
    assert steps_done(tmp_path) == 9


def test_gpu_stages_need_no_service() -> None:
    """A GPU machine has torch and little else: no sockets, no HTTP, no imaging libraries."""
    blocked = ("zmq", "msgpack", "pydantic", "fastapi", "scipy", "skimage", "matplotlib", "PIL")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked}))\n"
        f"sys.path[:0] = ['{ROOT}', '{ROOT / 'models'}']\n"
        "import benchmarks.gpu.run, benchmarks.gpu.training as t; assert t.plans()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
