"""What the deployment files are held against: the real routes and settings, the Dockerfile."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from deployed import composed
from support import ROOT, settings

from scgn_live.sidecar.app import build_app


class Image(NamedTuple):
    """The Dockerfile: (instruction, arguments) of each stage, and variables of the last one."""

    stages: list[list[tuple[str, str]]]
    environment: dict[str, str]

    def last(self, instruction: str) -> str:
        """Arguments of the last such instruction of the last stage."""
        return [words for name, words in self.stages[-1] if name == instruction][-1]


@pytest.fixture(scope="session")
def image() -> Image:
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    found = [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines if line]
    stages: list[list[tuple[str, str]]] = []
    for name, words in found:
        if name == "FROM":
            stages.append([])
        if stages:
            stages[-1].append((name, words))
    variables = [pair for name, words in stages[-1] if name == "ENV" for pair in words.split()]
    return Image(stages, dict(pair.split("=", 1) for pair in variables))


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    return composed("compose.yaml")


@pytest.fixture(scope="session")
def project() -> dict[str, Any]:
    """[project] of pyproject.toml."""
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


@pytest.fixture(scope="session")
def routes(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Paths that the service answers."""
    app = build_app(settings(tmp_path_factory.mktemp("state")), "ipc:///nobody")
    return set(app.openapi()["paths"])


@pytest.fixture
def token(tmp_path: Path) -> Path:
    """A token's file, in place of the one that is made where the service runs."""
    path = tmp_path / "token"
    path.write_text("0123456789abcdef0123456789abcdef")
    return path


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SCGN_")]:
        monkeypatch.delenv(name)
