"""Deployment files as tests read them: compose files over each other, units with their drop-ins,
the page's blocks of shell."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml
from support import ROOT

DEPLOY = ROOT / "deploy"
UNITS = DEPLOY / "systemd"
PAGE = (ROOT / "docs" / "deploy.md").read_text()
Unit = dict[str, list[str]]


def composed(*names: str) -> dict[str, Any]:
    """Compose files, each over those before it, with the variables' defaults."""
    found: dict[str, Any] = {}
    for name in names:
        text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (DEPLOY / name).read_text())
        found = _over(found, yaml.safe_load(text))
    return found


def _over(base: Any, more: Any, key: str = "") -> Any:
    """Compose's rules: mappings are merged and lists appended, but a command is replaced."""
    if isinstance(base, dict) and isinstance(more, dict):
        both = {k: _over(base[k], v, k) for k, v in more.items() if k in base}
        return {**base, **more, **both}
    if isinstance(base, list) and isinstance(more, list) and key not in ("command", "entrypoint"):
        return base + more
    return more


def unit(name: str, *drop_ins: Path) -> Unit:
    """Key -> its values, over all sections; an empty one takes back those before it, as for systemd
    (but where it is all there is)."""
    found: Unit = defaultdict(list)
    for path in (UNITS / f"{name}.service", *drop_ins):
        for line in path.read_text().replace("\\\n", " ").splitlines():
            if line and not line.startswith(("#", "[")):
                key, _, value = line.partition("=")
                if not value:
                    found[key].clear()
                found[key].append(value)
    return {key: [v for v in values if v] or values for key, values in found.items()}


def curve_conf(name: str) -> Path:
    """The drop-in for keys."""
    return UNITS / f"{name}.service.d" / "curve.conf"


def variables(found: Unit) -> dict[str, str]:
    """The environment that a unit sets."""
    return dict(pair.split("=", 1) for line in found["Environment"] for pair in shlex.split(line))


def section(heading: str) -> str:
    """The page under a heading, to the next one of its kind or a higher one."""
    marks = heading.partition(" ")[0]
    after = PAGE.partition(f"\n{heading}\n")[2]
    assert after, heading
    return re.split(rf"^#{{1,{len(marks)}}} ", after, flags=re.MULTILINE)[0]


def blocks(heading: str) -> list[str]:
    """Indented blocks under a heading: what is typed into a shell."""
    text = re.sub(r"^```.*?^```$", "", section(heading), flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"(?:^    .*\n)+", text, flags=re.MULTILINE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in found]
