"""Every promise in docs/promises.md and every threat in docs/security.md names tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from support import ROOT

PAGES = {"promises.md": 30, "security.md": 20}  # and how many rows each has at least
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)(?:\[([\w-]+)\])?`")
FAULTS = ROOT / "tests" / "chaos" / "faults"


def rows(page: str) -> list[list[str]]:
    """The cells of every row of the page's tables whose last column says what holds it."""
    found, wanted = [], False
    for line in (ROOT / "docs" / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line[:1] == "|" else []
        if not cells:
            wanted = False
        elif cells[-1] in ("held by", "test"):
            wanted = True
        elif wanted and not set(cells[0]) <= {"-", ":"}:
            found.append(cells)
    return found


@cache
def defined(path: Path) -> set[str]:
    """Names of the functions, classes and variables at the top of a file."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


@pytest.mark.parametrize("page", PAGES)
def test_every_row_names_a_test(page: str) -> None:
    found = rows(page)
    assert len(found) >= PAGES[page]
    for cells in found:
        assert NAMED.search(cells[-1]), f"{page}: no test holds: {cells[0]}"
        unread = NAMED.sub("", cells[-1]).strip()
        assert not unread, f"{page}: this is no test: {unread}"


@pytest.mark.parametrize("page", PAGES)
def test_every_named_test_exists(page: str) -> None:
    for path, name, case in NAMED.findall((ROOT / "docs" / page).read_text()):
        assert (ROOT / path).exists(), f"{page}: {path}"
        assert name.startswith(("test_", "Test")), f"{page}: pytest would not run {name}"
        assert name in defined(ROOT / path), f"{page}: {path}::{name}"
        if case:
            faults = set().union(*(defined(p) for p in FAULTS.glob("*.py")))
            assert case in faults, f"{page}: no fault {case}"


def test_a_promise_without_its_test_is_seen(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text("def test_it(): ...\nTestMachine = object\n")
    assert defined(tmp_path / "test_x.py") == {"test_it", "TestMachine"}
    assert NAMED.findall("`tests/a/test_b.py::test_c[d_e]` `tests/test_b.py::TestM`") == [
        ("tests/a/test_b.py", "test_c", "d_e"), ("tests/test_b.py", "TestM", ""),
    ]  # fmt: skip
