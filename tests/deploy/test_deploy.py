"""The settings file, the image, and what the pages say about both."""

from __future__ import annotations

import http.server
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter
from support import ROOT

from scgn_live.__main__ import USAGE
from scgn_live.config import load_settings
from scgn_live.settings import Settings

TOML = (ROOT / "deploy" / "scgn-live.toml").read_text()
LINE = re.compile(r"^# ([a-z]\w*) = (.+)$", re.M)
UNSET = "# unset by default"
VERSIONED = ("Dockerfile", "deploy/compose.yaml", "deploy/compose.gpu.yaml", "docs/deploy.md",
             "deploy/kubernetes/scgn-live.yaml")  # fmt: skip


def shown() -> dict[str, Any]:
    """Every setting of the file as if its line were none of a comment."""
    return {key: tomllib.loads(f"{key} = {text}")[key] for key, text in LINE.findall(TOML)}


def unset() -> set[str]:
    return {key for key, text in LINE.findall(TOML) if text.endswith(UNSET)}


def as_shown(default: Any) -> Any:
    """A setting's default as TOML can say it, home folders by their sign."""
    if isinstance(default, Path):
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        return str(default).replace(cache, "~/.cache").replace(str(Path.home()), "~")
    return list(default) if isinstance(default, tuple) else default


# The settings file.


def test_every_setting_is_shown_once_with_its_default() -> None:
    names = [key for key, _ in LINE.findall(TOML)]
    assert sorted(names) == sorted(Settings.model_fields)
    for key, value in shown().items():
        default = as_shown(Settings.model_fields[key].default)
        assert default is None if key in unset() else default == value, key


def test_the_file_changes_nothing_as_it_is_and_nothing_uncommented(tmp_path: Path) -> None:
    assert tomllib.loads(TOML) == {}
    kept = [f"{key} = {text}" for key, text in LINE.findall(TOML) if key not in unset()]
    file = tmp_path / "service.toml"
    file.write_text("\n".join(line for line in kept if "~/.cache" not in line))
    assert load_settings(["--config", str(file)]) == load_settings()


def test_examples_of_what_is_unset_would_do() -> None:
    assert unset()
    for key in unset():
        TypeAdapter(Settings.model_fields[key].annotation).validate_python(shown()[key])


def test_comments_name_every_choice_and_unit() -> None:
    for paragraph in TOML.split("\n\n"):
        keys = [key for key, _ in LINE.findall(paragraph)]
        words = set(re.findall(r"[\w-]+", LINE.sub("", paragraph)))
        for field in (Settings.model_fields[key] for key in keys):
            kinds = [field.annotation, *get_args(field.annotation)]
            choices = {c for kind in kinds for c in get_args(kind) if isinstance(c, str)}
            unit = re.search(r", (s|px|MB)\b", field.description or "")
            assert words, keys
            assert choices <= words, keys
            assert unit is None or unit[1] in words, keys


# The image.


def test_what_is_copied_exists_and_is_let_in(image: Any) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        source for name, words in image.stages[0] if name == "COPY" for source in words.split()[:-1]
    }
    assert "*" in ignored
    assert copied == let_in
    assert all((ROOT / source).exists() for source in copied)


def test_packages_of_the_wheel_are_what_the_image_begins_with(image: Any) -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    stubs = next(words for name, words in image.stages[0] if "for package in" in words)
    assert (
        re.search(r"for package in ([^;]+);", stubs)[1].split()
        == (  # type: ignore[index]
            build["targets"]["wheel"]["packages"]
        )
    )


def test_torch_of_the_image_is_the_one_of_dev(image: Any) -> None:
    install = next(words for name, words in image.stages[0] if "+cpu" in words)
    asked = re.search(r"\$\((sed [^)]+)\)", install)
    assert asked is not None
    found = subprocess.run(
        shlex.split(asked[1]), cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f'TORCH = "{found.stdout.strip()}"' in (ROOT / "dev.py").read_text()


def test_nothing_reports_starts_to_the_outside(image: Any) -> None:
    install = next(words for name, words in image.stages[0] if "uninstall" in words)
    assert install.endswith("&& pip uninstall --yes openvino-telemetry")  # after all that bring it
    script = "import sys; sys.modules['openvino_telemetry'] = None; import openvino as o; o.Core()"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_extras_exist(project: dict[str, Any], compose: dict[str, Any]) -> None:
    text = (ROOT / "Dockerfile").read_text() + (ROOT / "deploy" / "compose.gpu.yaml").read_text()
    named = {compose["services"]["scgn-live"]["build"]["args"]["EXTRA"]}
    named |= set(re.findall(r"EXTRA(?:=|: )([a-z]+)", text))
    assert named == {"gpu", "service"}
    assert named <= set(project["optional-dependencies"])


def test_it_runs_without_privileges_compilers_or_surprises(image: Any) -> None:
    *_, user = [words for name, words in image.stages[-1] if name == "USER"]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    runs = " ".join(words for name, words in image.stages[-1] if name == "RUN")
    assert f"--uid {user.split(':')[0]} --gid {user.split(':')[1]}" in runs
    assert not re.search(r"\b(apt-get|gcc|pip)\b", runs)
    assert image.last("STOPSIGNAL") == "SIGTERM"  # what serve stops on
    home = image.last("VOLUME")
    assert f"-m 0700 {home}" in runs
    ours = {
        k.removeprefix("SCGN_").lower(): v for k, v in image.environment.items() if "SCGN_" in k
    }
    assert set(ours) <= set(Settings.model_fields)
    assert all(folder.startswith(home) for folder in ours.values())


def test_bases_are_pinned() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^ARG BASE=\w+:\d+\.\d+\.\d+-[\w-]+$", text, re.M)
    assert set(re.findall(r"^FROM (\S+)", text, re.M)) == {"${BASE}"}


def test_the_entry_point_is_the_command(image: Any, project: dict[str, Any]) -> None:
    program, verb = json.loads(image.last("ENTRYPOINT"))
    assert program in project["scripts"]
    assert f"{program} {verb} " in USAGE


def test_the_smoke_import_holds_here(image: Any) -> None:
    smoke = next(words for name, words in image.stages[-1] if "import scgn_client" in words)
    script = re.search(r'python -c "([^"]+)"', smoke)
    assert script is not None
    subprocess.run([sys.executable, "-c", script[1]], check=True, timeout=60)


class Answering(http.server.BaseHTTPRequestHandler):
    """Answers with the status that its server holds, and notes the path."""

    def do_GET(self) -> None:
        self.server.path = self.path  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize(("status", "expected"), [(200, 0), (503, 1), (None, 1)])
def test_the_health_check_asks_and_believes(
    image: Any, routes: set[str], status: int | None, expected: int
) -> None:
    program, *words = json.loads(image.last("HEALTHCHECK").partition("CMD ")[2])
    assert program == "python"
    with http.server.HTTPServer(("127.0.0.1", 0), Answering) as server:
        server.status = status  # type: ignore[attr-defined]
        words = [word.replace("8000", str(server.server_port)) for word in words]
        if status is None:
            server.server_close()
        else:
            threading.Thread(target=server.handle_request).start()
        ended = subprocess.run([sys.executable, *words], capture_output=True, timeout=30)
        assert ended.returncode == expected
        assert status is None or server.path in routes  # type: ignore[attr-defined]


def test_the_health_check_asks_the_default_port(image: Any) -> None:
    assert f"'127.0.0.1', {Settings().http_address[1]}," in image.last("HEALTHCHECK")


# Pages.


def test_versions_are_the_projects(project: dict[str, Any]) -> None:
    for name in VERSIONED:
        found = set(re.findall(r"\bscgn-live:(\d+\.\d+\.\d+)", (ROOT / name).read_text()))
        assert found == {project["version"]}, name
    assert f'image.version="{project["version"]}"' in (ROOT / "Dockerfile").read_text()


def test_files_that_the_pages_name_exist() -> None:
    for page in ("deploy.md", "alerts.md"):
        text = (ROOT / "docs" / page).read_text()
        named = set(re.findall(r"\bdeploy/[\w./-]+\.(?:yaml|yml|toml|service|json|conf)\b", text))
        assert named
        assert all((ROOT / name).exists() for name in named), page
