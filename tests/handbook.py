"""The handbook as tests read it: its blocks of shell, its tables, and a shell to type into."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import ROOT

TEXT = (ROOT / "docs" / "operate.md").read_text()
DONE = "--- done ---"


@dataclass(frozen=True)
class Block:
    """Lines of shell, and the heading they stand under."""

    heading: str
    lines: str


def blocks() -> list[Block]:
    """Every ```sh block, in the order of the page."""
    found = []
    for section in re.split(r"^## ", TEXT, flags=re.MULTILINE):
        heading = section.partition("\n")[0].strip()
        shells = re.findall(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
        found += [Block(heading, lines) for lines in shells]
    return found


def tables(heading: str) -> list[list[str]]:
    """Rows of the tables under a heading, cell by cell, without their heads."""
    (section,) = (s for s in re.split(r"^## ", TEXT, flags=re.MULTILINE) if s.startswith(heading))
    rows = [line for line in section.splitlines() if line.startswith("|")]
    heads = {index for index, row in enumerate(rows) if row.startswith("|---")}
    kept = [row for i, row in enumerate(rows) if i not in heads and i + 1 not in heads]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in kept]


class Shell:
    """A bash that an operator types into, in a folder with the references; ends at any failure."""

    def __init__(self, folder: Path, url: str) -> None:
        self._bash = subprocess.Popen(
            ["bash", "-euo", "pipefail"], cwd=folder, env={"SCGN": url, "PATH": os.environ["PATH"]},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(self, lines: str) -> str:
        """What the lines print; AssertionError with it when one of them fails."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f"{lines}\necho; echo '{DONE}'\n")
        self._bash.stdin.flush()
        printed = []
        for line in self._bash.stdout:
            if line.strip() == DONE:
                return "".join(printed)
            printed.append(line)
        raise AssertionError(f"failed:\n{lines}\nprinted:\n{''.join(printed)}")

    def close(self) -> None:
        with self._bash:
            self._bash.kill()


def answers(printed: str) -> list[dict[str, Any]]:
    """JSON objects that curl printed one after the other."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while (at := printed.find("{", at)) >= 0:
        answer, at = decoder.raw_decode(printed, at)
        found.append(answer)
    return found
