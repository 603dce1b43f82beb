"""The distribution as a whole: a light client, no pickle, a README that tells the truth."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

SOURCES = sorted(
    path for room in ("client", "models", "service") for path in (ROOT / room).rglob("*.py")
)
HEAVY = ("torch", "fastapi", "uvicorn", "pydantic", "starlette", "PIL", "tifffile", "mrcfile")


def modules_after(statement: str) -> set[str]:
    """What a fresh interpreter has loaded after one statement."""
    script = f"{statement}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in json.loads(found.stdout)}


@pytest.mark.parametrize(
    "statement", ["import scgn_client", "import scgn_client.cli", "import scgn_client.admin"]
)
def test_the_client_is_light(statement: str) -> None:
    loaded = modules_after(statement)
    assert "scgn_client" in loaded
    assert loaded.isdisjoint({*HEAVY, "scgn", "scgn_live"})


def test_checking_an_upload_needs_no_torch() -> None:
    assert "torch" not in modules_after("import scgn_live.sidecar.app")


def test_no_pickle_anywhere() -> None:
    for path in SOURCES:
        text = path.read_text()
        assert not re.search(r"^\s*(import|from) (pickle|marshal|shelve|dill)\b", text, re.M), path
        for call in ast.walk(ast.parse(text)):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                words = {k.arg: ast.unparse(k.value) for k in call.keywords}
                where = ast.unparse(call.func)
                if where == "np.load":
                    assert words.get("allow_pickle") == "False", f"{path}:{call.lineno}"
                if where == "torch.load":
                    assert words.get("weights_only") == "True", f"{path}:{call.lineno}"


def test_the_readme_examples_are_python() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len(blocks) >= 3
    for block in blocks:
        ast.parse(block)
    camera = blocks[0].strip().splitlines()
    assert len(camera) < 15, "the integrator's quick start is under 15 lines"


def test_every_link_in_the_docs_leads_somewhere() -> None:
    for page in [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("benchmarks/**/*.md"),
    ]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_table_is_the_result_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.report import table

    text = (ROOT / "README.md").read_text()
    assert table() in text, "run python -m benchmarks.report"


def test_docs_list_every_reason_and_setting() -> None:
    from scgn_client.wire import REASONS

    text = (ROOT / "docs" / "wire.md").read_text()
    assert all(f"`{reason}`" in text for reason in REASONS)


def test_plain_pyzmq_example_of_the_readme_is_accepted(tmp_path: Path) -> None:
    from support import running_app, wait_for

    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    plain = next(block for block in blocks if "import msgpack" in block)
    with running_app(tmp_path) as app:
        script = plain.replace("tcp://127.0.0.1:5555", app.endpoints()["ingest"])
        subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
        wait_for(lambda: app.ledger.totals().get(("published", "")) == 100, "100 frames published")
