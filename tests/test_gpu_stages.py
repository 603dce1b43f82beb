"""The GPU's benchmark stages, as far as a CPU can run them: rows, resumption, reports, typos.

No number that comes out here means anything; that there is one of each does.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support import ROOT

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("_benchmarks")


@pytest.fixture
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def with_eager(tmp_path: Path) -> Path:
    """A folder whose `engines` stage found `eager` to be the fastest, the only one it ran."""
    rows = {"tiny 32 float16 eager": {"ms": {"median": 1.0}}, "tiny 32 float16 rtx": {"error": ""}}
    write_rows(tmp_path, "engines", rows)
    return tmp_path


def write_rows(out: Path, stage: str, rows: dict[str, Any]) -> None:
    (out / f"{stage}.json").write_text(json.dumps({"rows": rows}))


# ---- rows and calls ----


class Measured:
    """Steps of a made-up stage, which give what `rows` says; times: how often each ran."""

    def __init__(self, **rows: Any) -> None:
        self.rows, self.times = rows, dict.fromkeys(rows, 0)

    def stage(self, seconds: float = 1.0) -> Any:
        from benchmarks.gpu.sitting import Stage, Step

        steps = {key: Step(lambda key=key: self.measure(key), seconds) for key in self.rows}
        return Stage("ms", lambda _: steps)

    def measure(self, key: str) -> Any:
        self.times[key] += 1
        if isinstance(self.rows[key], BaseException):
            raise self.rows[key]
        return self.rows[key]


def sat(measured: Measured, out: Path, again: bool = False, seconds: float = 60.0) -> Any:
    """One call, its worker in this process."""
    from benchmarks.gpu.rows import Rows
    from benchmarks.gpu.sitting import Call, sit, work

    call, stage = Call(out, again, seconds), measured.stage()

    def worker(left_s: float) -> str:
        work(stage, Rows(out, "made-up", "ms", {"gpu": "none"}), call)
        return "status 0: "

    return sit(stage, Rows(out, "made-up", "ms", {"gpu": "none"}), call, worker)


def test_rows_that_are_there_are_not_measured_again(tmp_path) -> None:
    measured = Measured(first={"ms": 1}, second={"ms": {"median": 2, "p99": 3}})
    assert sat(measured, tmp_path)["done"]
    assert sat(measured, tmp_path)["rows"] == measured.rows
    assert measured.times == {"first": 1, "second": 1}


def test_failed_row_keeps_its_error_and_only_again_tries_it(tmp_path) -> None:
    from benchmarks.gpu.rows import NotHere

    measured = Measured(bad=ValueError("odd"), absent=NotHere("no such runtime"), good={"ms": 1})
    rows = sat(measured, tmp_path)["rows"]
    assert "ValueError: odd" in rows["bad"]["error"]
    assert rows["absent"] == {"not_here": "no such runtime"}
    assert rows["good"] == {"ms": 1}, "the rows behind have their turn"
    measured.rows["bad"] = measured.rows["absent"] = {"ms": 2}
    assert "error" in sat(measured, tmp_path)["rows"]["bad"]
    rows = sat(measured, tmp_path, again=True)["rows"]
    assert rows["bad"] == rows["absent"] == {"ms": 2}
    assert measured.times == {"bad": 2, "absent": 2, "good": 1}


def test_call_without_time_leaves_the_rest_to_the_next(tmp_path) -> None:
    measured = Measured(first={"ms": 1})
    assert not sat(measured, tmp_path, seconds=0.5)["done"]
    assert measured.times["first"] == 0
    assert sat(measured, tmp_path)["done"]


@pytest.mark.parametrize(
    ("ended", "left_s", "kept"),
    [("out of time", 100, False), ("out of time", 500, True), ("status -11: ", 100, True)],
)
def test_row_under_way_when_its_process_ended(tmp_path, ended, left_s, kept) -> None:
    """Cut short by a call's end it is tried by the next; a crash, or a whole call, is an error."""
    from benchmarks.gpu.rows import BEGUN, Rows

    rows = Rows(tmp_path, "made-up", "ms", {})
    rows.put("first", {BEGUN: left_s})
    rows.settle(ended)
    again = Rows(tmp_path, "made-up", "ms", {})
    assert again.todo(["first"]) == ([] if kept else ["first"])
    assert not kept or ended in again.rows["first"]["error"]


def test_process_that_dies_before_any_row_does_not_loop(tmp_path) -> None:
    from benchmarks.gpu.rows import Rows
    from benchmarks.gpu.sitting import Call, sit

    rows = Rows(tmp_path, "made-up", "ms", {})
    measured = Measured(first={}, second={})
    got = sit(measured.stage(), rows, Call(tmp_path), lambda _: "status 1: no torch")
    assert all("no torch" in row["error"] for row in got["rows"].values())


def test_process_out_of_time_unwinds(tmp_path) -> None:
    from benchmarks.gpu.sitting import ended

    code = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        "from benchmarks.gpu.sitting import unwind_when_told\n"
        "unwind_when_told()\n"
        "try:\n    time.sleep(60)\nfinally:\n    print('put away', file=sys.stderr)"
    )
    log = tmp_path / "log"
    assert ended([sys.executable, "-c", code], log, 3) == "out of time"
    assert log.read_text() == "put away\n"
    assert "ZeroDivisionError" in ended([sys.executable, "-c", "1 / 0"], log, 60)


def test_table_has_a_column_for_each_figure(tmp_path) -> None:
    sat(Measured(a={"ms": {"median": 1, "p99": 2}}, b={"error": "one|two\nthree"}), tmp_path)
    sat(Measured(a={}, b={}), tmp_path)
    lines = (tmp_path / "made-up.md").read_text().splitlines()
    assert lines[0] == "# made-up (ms)"
    assert "| row | ms median | ms p99 | error |" in lines
    assert "| a | 1 | 2 |  |" in lines
    assert "| b |  |  | one/two three |" in lines


# ---- what stages measure, small and on a CPU ----


def test_probe_measures_each_kind() -> None:
    from benchmarks.gpu import probe

    rows = [
        probe.convolution(4, 16, "float16", CPU), probe.convolution(4, 16, "tf32", CPU),
        probe.product(16, CPU), probe.transforms(36, True, CPU, 2),
        probe.transforms(36, False, CPU, 2),
    ]  # fmt: skip
    assert all(row["tflop_s"] >= 0 and row["ms"]["median"] > 0 for row in rows)
    assert probe.copy_on_device(1 << 16, CPU)["gb_s"] > 0
    assert probe.transfer(1 << 16, True, CPU)["us"]["p99"] > 0
    assert probe.runs_at_all("eager", CPU)["finite"]


def test_probe_says_why_a_runtime_is_not_there() -> None:
    from benchmarks.gpu import probe
    from benchmarks.gpu.rows import NotHere

    with pytest.raises(NotHere, match="runs on cuda, not on cpu"):
        probe.runs_at_all("rtx", CPU)


def test_engine_row_is_whole(tmp_path) -> None:
    from benchmarks.gpu.engines import Case, measured

    write_rows(tmp_path, "probe", {"product 8192 float16": {"tflop_s": 700.0}})
    row = measured(Case("tiny", 32, "float32", "eager"), tmp_path, CPU)
    assert row["db"] > 90
    assert row["weights"] == "trained"
    assert row["gflop"] > 0
    assert row["gb_s_at_least"] > 0
    assert row["ceiling_tflop_s"] == 700.0
    half = measured(Case("tiny", 32, "float16", "eager"), tmp_path, CPU)
    assert 40 < half["db"] < row["db"]


def test_engine_rows_of_untrained_networks_and_of_the_published_way(tmp_path) -> None:
    from benchmarks.gpu.engines import Case, measured

    row = measured(Case("fast", 32, "float32", "eager"), tmp_path, CPU)
    shipped = "fast-clean" in shipped_names()
    assert row["weights"] == ("trained" if shipped else "random")
    assert row["db"] > 90
    assert measured(Case("tiny", 32, "float32", "denoiser"), tmp_path, CPU)["host_to_host"]


def shipped_names() -> list[str]:
    from scgn.checkpoint import shipped_names

    return shipped_names()


def test_engine_rows_begin_with_the_most_wanted() -> None:
    from benchmarks.gpu.engines import cases

    keys = [case.key for case in cases()]
    assert keys[0] == "paper 512 float16 inductor"
    assert "paper 512 float32 denoiser" in keys[:8]
    assert len(set(keys)) == len(keys)
    assert "paper 512 tf32 tensorrt" not in keys


def test_work_of_a_convolution_is_known() -> None:
    """8 blocks of 64 channels: the graph does what the paper's network costs, 1.3 MMAC/px."""
    from benchmarks.gpu.profiling import bytes_through_memory, floating_operations
    from benchmarks.gpu.subjects import random_network
    from scgn.checkpoint import checkpoint_of, describe
    from scgn.deploy import DeployRecipe, deploy

    network = random_network("paper")
    graph = deploy(checkpoint_of(network, describe(network, "paper")), DeployRecipe((64, 64)))
    assert 1.2e6 < floating_operations(graph) / 2 / 64**2 < 1.6e6
    assert bytes_through_memory(graph) > 100 * 64 * 64**2 * 4, "hundreds of feature maps"


def test_pipeline_row_is_whole(with_eager) -> None:
    from benchmarks.gpu.pipelines import Case, measured

    row = measured(Case("tiny", 32, 1, 2), with_eager, CPU)
    assert row["fps"] > 0
    assert row["backend"] == "eager"
    assert row["latency_ms"]["p99"] >= row["latency_ms"]["median"] > 0
    assert row["latency_at_80_ms"]["median"] > 0
    assert row["idle_share"] is None, "only a device's profiler knows"


def test_pipeline_row_of_frames_that_never_share_a_call_says_so(with_eager) -> None:
    from benchmarks.gpu.pipelines import Case, measured
    from benchmarks.gpu.rows import NotHere

    with pytest.raises(NotHere, match="never share a call"):
        measured(Case("tiny", 32, 2, 2), with_eager, CPU)


def test_pipeline_runs_are_of_one_stream(with_eager) -> None:
    """Its state is carried over calls and runs, and every eighth frame is probed."""
    from benchmarks.gpu.pipelines import Runner, engine_of
    from scgn.stream.facts import Facts

    _, engine, recipe = engine_of("tiny", 32, 1, with_eager, CPU)
    runner = Runner(engine, recipe, 2, CPU)
    facts = [Facts(*runner._submit(index % 9).wait()[0]) for index in range(18)]
    averaged = [row.averaged for row in facts]
    assert averaged[:4] == pytest.approx([1, 2, 3, 4], abs=0.1)
    assert averaged == sorted(averaged)
    assert [index for index, row in enumerate(facts) if row.scored_probe] != []


def test_failing_submission_ends_a_run(with_eager) -> None:
    from benchmarks.gpu.pipelines import Runner, engine_of

    _, engine, recipe = engine_of("tiny", 32, 1, with_eager, CPU)
    runner = Runner(engine, recipe, 1, CPU)
    runner._frames.clear()
    with pytest.raises(ZeroDivisionError):
        runner.run(3)


def test_service_row_is_whole() -> None:
    from benchmarks.gpu.services import missing, served

    assert missing() == []
    row = served(32, ("--engine", "pass-through"), seconds=0.1)
    assert row["ledger_adds_up"]
    assert row["published"].split(" of ")[0] == row["published"].split(" of ")[1]
    assert row["fps"] > 0
    assert set(row["added_ms"]) == {"p50", "p99"}


@pytest.mark.timeout(240)
def test_holding_rows_are_whole() -> None:
    from benchmarks.gpu.holding import soak, swaps

    few = ["--quick", "--overload", "block"]  # two busy cores are no device: a frame may wait
    few.append("--flag=--backend=eager")  # no build: what is tried are the rows
    row = swaps(few, ("preview-clean", "tiny-clean"), 64, calibrations=40, models=10)
    assert row["nothing_lost"]
    assert row["mixed"] == 0
    assert row["frames"] > 0
    row = soak(few, "tiny-clean", 32, minutes=1)
    assert row["holds"]["no_restart"]
    assert row["rate_fps"] == pytest.approx(0.8 * row["capacity_fps"], rel=0.01)
    assert row["last_p99_ms"] > 0


def test_service_names_what_is_missing(monkeypatch, tmp_path) -> None:
    from benchmarks.gpu import services
    from benchmarks.gpu.rows import NotHere

    monkeypatch.setitem(services.NEEDED, "no_such_module", "such-package")
    with pytest.raises(NotHere, match="the service needs such-package"):
        services.measured("paper", 256, tmp_path)


def test_tests_for_a_gpu_are_found_without_those_that_need_more() -> None:
    from benchmarks.gpu.whole import marked

    names = {Path(name).name for name in marked()}
    assert {"test_cuda.py", "test_backends.py"} <= names
    assert "test_calibrate.py" not in names


def test_idle_share_counts_overlap_once() -> None:
    from benchmarks.gpu.profiling import idle_share

    assert idle_share([]) is None
    assert idle_share([(0, 4), (2, 5), (8, 10), (3, 4)]) == 0.3


# ---- goals and the command ----


def test_goals_are_met_missed_or_not_measured(tmp_path) -> None:
    from benchmarks.gpu.goals import report

    times = {"paper 512 float32 denoiser": 40.0, "paper 512 float16 inductor": 8.0}
    engines = {key: {"ms": {"median": ms}, "db": 80.5} for key, ms in times.items()}
    engines["paper 256 float16 rtx"] = {"error": "no"}
    write_rows(tmp_path, "engines", engines)
    row = {"fps": 120.0, "idle_share": 0.03}
    slow = {"fps": 100.0, "idle_share": 0.4}
    write_rows(
        tmp_path, "pipeline", {"paper 512 batch 1 slots 1": slow, "paper 512 batch 1 slots 3": row}
    )
    write_rows(tmp_path, "service", {"paper 256": {"not_here": "the service needs pyzmq"}})
    verdicts = {key: row["verdict"] for key, row in report(tmp_path, {})["rows"].items()}
    assert verdicts["full network, float16, batch 1, 512x512"] == "missed by 110 frames/s"
    assert verdicts["full network, float16, batch 1, 1024x1024"] == "not measured"
    assert verdicts["full network in float16 over eager float32, 512x512"] == "met"
    assert verdicts["full network in float16 against float64, worst"] == "met"
    assert verdicts["service adds at p99, 256x256, 80 % load"] == "not measured"
    assert verdicts["device idle when saturated, full network, 512x512"] == "met"
    assert "missed by 110 frames/s" in (tmp_path / "report.md").read_text()


def test_result_that_is_not_finite_misses_the_goal(tmp_path) -> None:
    from benchmarks.gpu.goals import report

    rows = {"paper 512 float16 inductor": {"ms": {"median": 8.0}, "db": "not finite"}}
    write_rows(tmp_path, "engines", rows)
    verdict = report(tmp_path, {})["rows"]["full network in float16 against float64, worst"]
    assert verdict["verdict"].startswith("missed")


@pytest.mark.skipif(torch.cuda.is_available(), reason="would measure for minutes")
def test_command_without_a_gpu_says_so_in_every_row(tmp_path) -> None:
    program = str(ROOT / "benchmarks" / "gpu" / "run.py")
    words = ["probe", "service", "report", "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, program, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "done"
    for stage in ("probe", "service"):
        rows = json.loads((tmp_path / f"{stage}.json").read_text())["rows"]
        assert {row["not_here"] for row in rows.values()} == {"no CUDA device on this machine"}
