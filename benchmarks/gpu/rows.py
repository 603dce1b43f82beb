"""Rows of a stage: kept in OUT/STAGE.json after each one, with a table for people beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
FAILED = ("error", "not_here")  # keys of rows that only `--again` measures once more
BEGUN = "begun_left_s"  # of a row under way: seconds that its call had left
OUT_OF_TIME = "out of time"  # how a process ended that its call's end cut short
WHOLE_CALL_S = 400.0  # a row that ran into the end of a call after so long is too long for any


class NotHere(RuntimeError):
    """This machine cannot give this row; the message says why."""


class Rows:
    """The rows of one stage in one folder. What another process wrote is read by `load`."""

    def __init__(self, out: Path, stage: str, unit: str, machine: dict[str, Any]) -> None:
        self.path = out / f"{stage}.json"
        self._head = {"stage": stage, "unit": unit, "machine": machine}
        self.rows: dict[str, Row] = {}
        self.load()

    def load(self) -> None:
        """As they are on disk."""
        if self.path.exists():
            self.rows = json.loads(self.path.read_text())["rows"]

    def content(self) -> dict[str, Any]:
        """What is kept."""
        return {**self._head, "rows": self.rows}

    def save(self) -> None:
        """Written beside and renamed: a process that is killed leaves whole rows."""
        beside = self.path.with_suffix(".new")
        beside.write_text(json.dumps(self.content(), indent=2) + "\n")
        beside.replace(self.path)
        self.path.with_suffix(".md").write_text(markdown(self.content()))

    def put(self, key: str, row: Row) -> None:
        """Keep one row."""
        self.rows[key] = row
        self.save()

    def todo(self, keys: Iterable[str]) -> list[str]:
        """Those without a result, in their order."""
        return [key for key in keys if key not in self.rows]

    def forget_failed(self) -> None:
        """Have what failed, or could not be had here, measured once more."""
        kept = {k: row for k, row in self.rows.items() if not any(word in row for word in FAILED)}
        if kept != self.rows:
            self.rows = kept
            self.save()

    def settle(self, ended: str) -> None:
        """What a process left under way: an error, or to be tried by a call with more time."""
        for key, row in list(self.rows.items()):
            if BEGUN not in row:
                continue
            cut_short = ended == OUT_OF_TIME and row[BEGUN] < WHOLE_CALL_S
            del self.rows[key]
            if not cut_short:
                self.rows[key] = {"error": f"its process ended: {ended}"}
            self.save()


def flat(row: Row, prefix: str = "") -> dict[str, str]:
    """Cells of a row; what is nested goes by both names."""
    cells: dict[str, str] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            cells |= flat(value, f"{prefix}{name} ")
        else:
            cells[prefix + name] = str(value).replace("\n", " ").replace("|", "/")[:200]
    return cells


def markdown(content: dict[str, Any]) -> str:
    """A heading, the machine, and a table of all rows."""
    cells = {key: flat(row) for key, row in content["rows"].items()}
    columns = list(dict.fromkeys(name for row in cells.values() for name in row))
    lines = [f"# {content['stage']} ({content['unit']})", "", str(content["machine"]), ""]
    lines += [line(["row", *columns]), line(["---"] * (1 + len(columns)))]
    lines += [line([key, *(row.get(name, "") for name in columns)]) for key, row in cells.items()]
    return "\n".join(lines) + "\n"


def line(cells: Iterable[str]) -> str:
    """One of a table."""
    return f"| {' | '.join(cells)} |"
