"""`dev.py audit` fails on a known hole, and tells when it could look nothing up."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from support import ROOT

HOLE = {"id": "PYSEC-2026-1", "fix_versions": ["2.0"], "aliases": [], "description": "reads files"}


@pytest.fixture
def dev() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dev", ROOT / "dev.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def says(monkeypatch: pytest.MonkeyPatch, stdout: str, stderr: str = "") -> list[list[str]]:
    """pip-audit says this; the commands that it was called with."""
    called: list[list[str]] = []

    def run(command: list[Any], **_: Any) -> SimpleNamespace:
        called.append([str(word) for word in command])
        return SimpleNamespace(stdout=stdout, stderr=stderr)

    monkeypatch.setattr(subprocess, "run", run)
    return called


def told(*rows: dict[str, Any]) -> str:
    return json.dumps({"dependencies": list(rows), "fixes": []})


def test_known_hole_fails(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"name": "a", "version": "1.0", "vulns": [HOLE]}, {"name": "b", "version": "3", "vulns": []}
    ]  # fmt: skip
    called = says(monkeypatch, told(*rows))
    assert dev.audit() == 1
    assert "a 1.0: PYSEC-2026-1, mended in 2.0" in capsys.readouterr().out
    monkeypatch.setattr(dev, "ACCEPTED", {"PYSEC-2026-1": "we read no such file"})
    dev.audit()
    assert called[1][-2:] == ["--ignore-vuln", "PYSEC-2026-1"]
    assert "constraints.txt" in called[0]


def test_no_hole_passes(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, told({"name": "b", "version": "3", "vulns": []}))
    assert dev.audit() == 0


@pytest.mark.parametrize(
    ("stdout", "stderr", "words"),
    [
        ("", "ERROR: no route\n", "nothing could be looked up: ERROR: no route"),
        (told({"name": "a", "skip_reason": "not found"}), "", "0 of 1 packages looked up"),
    ],
)
def test_what_was_not_looked_up_is_said(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    stdout: str, stderr: str, words: str,
) -> None:  # fmt: skip
    says(monkeypatch, stdout, stderr)
    assert dev.audit() == 0
    out = capsys.readouterr()
    assert words in out.out + out.err
