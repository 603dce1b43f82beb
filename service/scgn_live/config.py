"""Settings from their sources: TOML file < environment `SCGN_*` < flags; unknown keys refused."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
)

from scgn_live.settings import PREFIX, TOKEN, Settings, SettingsError

NOT_SETTINGS = {"SCGN_CONFIG", "SCGN_TORCH", TOKEN}  # ours too, but read by other parts


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read as TOML: {error}") from error


def _refuse_unknown(origin: str, keys: Sequence[str]) -> None:
    known = Settings.model_fields
    if unknown := [key for key in keys if key not in known]:
        raise SettingsError(f"{origin}: unknown {', '.join(unknown)}; known: {', '.join(known)}")


def load_settings(
    flags: Sequence[str] = (), environment: Mapping[str, str] = os.environ, prog: str = "scgn-live"
) -> Settings:
    """Settings from `--config` (or SCGN_CONFIG), the environment and flags, the later the stronger.

    Raises SettingsError; `--help` and unknown flags exit as argparse does.
    """
    flags, config = _split_config(list(flags), environment)
    stored = _read_toml(Path(config)) if config else {}
    _refuse_unknown(str(config), list(stored))
    named = [k for k in environment if k.startswith(PREFIX) and k not in NOT_SETTINGS]
    _refuse_unknown("environment", [k.removeprefix(PREFIX).lower() for k in named])

    class Sourced(Settings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *args: Any, **kwargs: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            cli = CliSettingsSource[Any](
                settings_cls, cli_parse_args=list(flags), cli_prog_name=prog
            )
            return cli, EnvSettingsSource(settings_cls), InitSettingsSource(settings_cls, stored)

    Sourced.__doc__ = "Denoise a camera's frames; flags beat SCGN_* variables beat --config FILE."
    try:
        return Settings.model_validate(Sourced().model_dump())  # type: ignore[call-arg]
    except ValidationError as error:
        raise SettingsError("; ".join(_sentence(dict(e)) for e in error.errors())) from error
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _sentence(error: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    text = error["msg"].removeprefix("Value error, ")
    return f"{key}: {text}, got {error['input']!r}" if key else text


def _split_config(flags: list[str], environment: Mapping[str, str]) -> tuple[list[str], str | None]:
    """`--config FILE` apart from the flags that are settings."""
    config = environment.get("SCGN_CONFIG")
    rest = []
    while flags:
        flag = flags.pop(0)
        if flag == "--config":
            if not flags:
                raise SettingsError("--config: expected a file, got nothing")
            config = flags.pop(0)
        elif flag.startswith("--config="):
            config = flag.partition("=")[2]
        else:
            rest.append(flag)
    return rest, config
