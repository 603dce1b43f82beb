"""systemd units: their commands parse, their exit statuses and times are the service's."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from deployed import UNITS, curve_conf, unit, variables
from support import ROOT

from scgn_client.cli import _parser
from scgn_live.__main__ import main
from scgn_live.config import load_settings
from scgn_live.settings import EXIT_CONFIG, PREFIX, Settings

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)


def command(name: str) -> list[str]:
    (line,) = unit(name)["ExecStart"]
    return shlex.split(line)


def test_the_service_starts_with_settings_that_load(tmp_path: Path, token: Path) -> None:
    program, verb, *flags = command("scgn-live")
    assert (Path(program).name, verb) == ("scgn-live", "serve")
    at = flags.index("--config") + 1
    assert Path(flags[at]).name == "scgn-live.toml"
    flags[at] = str(ROOT / "deploy" / "scgn-live.toml")
    places = {"${STATE_DIRECTORY}": tmp_path / "state", "${CACHE_DIRECTORY}": tmp_path / "cache",
              "${CREDENTIALS_DIRECTORY}": token.parent}  # fmt: skip
    for variable, folder in places.items():
        flags = [flag.replace(variable, str(folder)) for flag in flags]
    assert not any("$" in flag for flag in flags)
    found = load_settings(flags)
    assert found.token_file == token
    assert found.state_dir == tmp_path / "state"
    assert found.engine_cache.is_relative_to(tmp_path / "cache")


def test_folders_that_it_names_are_made_for_it() -> None:
    found = unit("scgn-live")
    used = set(re.findall(r"\$\{(\w+)_DIRECTORY\}", found["ExecStart"][0]))
    assert used == {"STATE", "CACHE", "CREDENTIALS"}
    assert found["StateDirectoryMode"] == found["CacheDirectoryMode"] == ["0700"]
    (credential,) = found["LoadCredential"]
    name, _, file = credential.partition(":")
    assert f"${{CREDENTIALS_DIRECTORY}}/{name}" in found["ExecStart"][0]
    assert f"> {file})" in (ROOT / "docs" / "deploy.md").read_text()


def test_it_is_not_restarted_where_that_would_not_help(capsys: pytest.CaptureFixture[str]) -> None:
    wrong_setting = main(["check", "--http", "nowhere"])
    assert "http" in capsys.readouterr().err
    final = {int(word) for word in unit("scgn-live")["RestartPreventExitStatus"][0].split()}
    assert final == {wrong_setting, EXIT_CONFIG}
    assert unit("scgn-live")["Restart"] == ["on-failure"]


def test_the_stop_is_the_supervisors_and_long_enough() -> None:
    found = unit("scgn-live")
    assert found["KillMode"] == ["mixed"]
    waits_s = int(found["TimeoutStopSec"][0].removesuffix("s"))
    assert waits_s > 2 * (Settings().shutdown_s + 3)


def test_the_camera_sends_what_the_service_takes() -> None:
    program, *words = command("scgn-live-camera")
    assert Path(program).name == "scgn-client"
    asked = _parser().parse_args(words)
    assert asked.endpoint == Settings().ingest
    assert "x".join(map(str, asked.shape)) in Settings().shapes
    assert unit("scgn-live-camera")["BindsTo"] == ["scgn-live.service"]


def test_drop_ins_for_keys_only_add() -> None:
    """What they change is named here: nothing of the hardening is taken back."""
    base, more = unit("scgn-live"), unit("scgn-live", curve_conf("scgn-live"))
    changed = {key for key in more if more[key] != base.get(key)}
    assert changed == {"LoadCredential", "Environment", "IPAddressDeny", "IPAddressAllow"}
    assert all(more[key][: len(base.get(key, []))] == base.get(key, []) for key in changed)
    base = unit("scgn-live-camera")
    more = unit("scgn-live-camera", curve_conf("scgn-live-camera"))
    assert {key for key in more if more[key] != base.get(key)} == {"LoadCredential", "ExecStart"}
    (with_keys,) = more["ExecStart"]
    assert shlex.split(with_keys)[: len(command("scgn-live-camera"))] == command("scgn-live-camera")


def test_the_secret_key_is_a_credential_and_no_variable() -> None:
    for name in ("scgn-live", "scgn-live-camera"):
        found = unit(name, curve_conf(name))
        secrets = [c for c in found["LoadCredential"] if "key_secret" in c]
        assert len(secrets) == 1
        said = [value for line in found.get("Environment", []) for value in line.split()]
        named = [word for word in (*said, *shlex.split(found["ExecStart"][0])) if "secret" in word]
        assert len(named) == 1
        assert re.search(r"(%d|\$\{CREDENTIALS_DIRECTORY\})/[\w.]+$", named[0])
        assert named[0].rpartition("/")[2] == secrets[0].partition(":")[0]
    settings = {name for name in variables(unit("scgn-live", curve_conf("scgn-live")))
                if name.startswith(PREFIX)}  # fmt: skip
    assert {name.removeprefix(PREFIX).lower() for name in settings} <= set(Settings.model_fields)


@pytest.mark.parametrize("keys", [False, True], ids=["", "keys"])
@pytest.mark.parametrize("name", ["scgn-live", "scgn-live-camera"])
def test_hardened(name: str, keys: bool) -> None:
    found = unit(name, *([curve_conf(name)] if keys else []))
    for key in ("DynamicUser", "NoNewPrivileges", "PrivateTmp", "ProtectHome"):
        assert found[key] == ["yes"]
    assert found["ProtectSystem"] == ["strict"]
    assert found["CapabilityBoundingSet"] == [""]
    assert "MemoryDenyWriteExecute" not in found  # compilers of the network write code


def test_programs_are_the_projects(project: dict[str, Any]) -> None:
    programs = {Path(command(path.stem)[0]) for path in UNITS.glob("*.service")}
    assert {program.name for program in programs} <= set(project["scripts"])
    page = (ROOT / "docs" / "deploy.md").read_text()
    assert all(f"-m venv {program.parents[1]}\n" in page for program in programs)


def verified(folder: Path, *paths: Path) -> tuple[int, list[str]]:
    """What systemd says of copies of these units and drop-ins."""
    for path in paths:
        copy = folder / path.relative_to(UNITS)
        copy.parent.mkdir(exist_ok=True)
        # The program is not installed here, and that it must be is not the question.
        copy.write_text(re.sub(r"^(ExecStart=)\S+", r"\1/bin/true", path.read_text(), flags=re.M))
    words = ["systemd-analyze", "--man=no", "verify", *map(str, folder.glob("*.service"))]
    found = subprocess.run(words, capture_output=True, text=True)
    said = [line for line in (found.stdout + found.stderr).splitlines() if "scgn" in line]
    return found.returncode, said


@needs_systemd
@pytest.mark.parametrize("pattern", ["*.service", "**/*.*"], ids=["", "keys"])
def test_systemd_agrees(tmp_path: Path, pattern: str) -> None:
    paths = [path for path in UNITS.glob(pattern) if path.is_file()]
    assert len(paths) == (2 if pattern == "*.service" else 4)
    assert verified(tmp_path, *paths) == (0, [])


@needs_systemd
def test_systemd_reads_the_drop_ins(tmp_path: Path) -> None:
    """Else its silence about them would say nothing."""
    drop_in = tmp_path / "scgn-live.service.d" / "wrong.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nIPAddressAllow=nowhere\n")
    _, said = verified(tmp_path, UNITS / "scgn-live.service")
    assert any("wrong.conf" in line for line in said)
