"""Every setting of the service: TOML file < environment `SCGN_*` < flags; unknown keys refused."""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, FiniteFloat, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from scgn_client.wire import DTYPES

PREFIX = "SCGN_"
EXIT_CONFIG = 78  # sysexits: the settings cannot work here; restarting would not help
NOT_SETTINGS = {"SCGN_CONFIG", "SCGN_TORCH"}  # ours too, but read by other parts


class SettingsError(ValueError):
    """The settings are not usable; the message names the key, what was expected and what came."""


def frame_kind(text: str) -> tuple[tuple[int, int], str]:
    """`512x512` or `512x512:<u2` -> ((512, 512), "<u2"); ValueError otherwise."""
    found = re.fullmatch(r"(\d+)x(\d+)(?::(.+))?", text)
    dtype = (found and found[3]) or "<u2"
    if found is None or dtype not in DTYPES:
        raise ValueError(f"expected ROWSxCOLUMNS or ROWSxCOLUMNS:DTYPE of {sorted(DTYPES)}")
    return (int(found[1]), int(found[2])), dtype


class Settings(BaseSettings):
    """Settings of one service; each field says its unit."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, cli_kebab_case=True,
        cli_implicit_flags=True, cli_hide_none_type=True,
    )  # fmt: skip

    ingest: str = Field("tcp://127.0.0.1:5555", description="where cameras' frames come in")
    ingest_role: Literal["pull-bind", "pull-connect", "sub-connect"] = Field(
        "pull-bind",
        description="bind and let cameras connect, or connect to a camera's bound PUSH or PUB",
    )
    frames: str = Field("tcp://127.0.0.1:5556", description="where every denoised frame goes out")
    latest: str = Field("tcp://127.0.0.1:5557", description="where the newest frame alone goes out")
    http: str = Field("127.0.0.1:8000", description="host:port of health, status and calibrations")
    insecure: bool = Field(False, description="allow addresses beyond loopback without any key")

    network: str = Field(
        "preview-clean",
        description="shipped network by name, or path of a .safetensors or .pth file",
    )
    engine: Literal["scgn", "pass-through"] = Field(
        "scgn", description="what frames go through; pass-through returns them as they came"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the network runs")
    backend: Literal["auto", "tensorrt", "rtx", "inductor", "openvino", "onnxruntime", "eager"] = (
        Field("auto", description="what runs the network; auto takes the fastest that is installed")
    )
    precision: Literal["float32", "float16", "bfloat16"] | None = Field(
        None,
        description="of the network's products; unset: the fastest that shows no difference",
    )
    output_dtype: Literal["float32", "float16", "uint16"] = Field(
        "float32", description="of denoised pixels; uint16 rounds and clips to 0..65535"
    )
    shapes: tuple[str, ...] = Field(
        ("256x256",),
        description="frames to be ready for, ROWSxCOLUMNS or ROWSxCOLUMNS:DTYPE (default <u2);"
        " others run uncompiled until their engine is built",
    )
    in_flight: int = Field(3, ge=1, le=16, description="frames (or batches) on the device at once")
    batch: int = Field(
        1,
        ge=1,
        le=16,
        description="frames a call when so many of one kind wait; pays to 256x256",
    )
    engine_cache: Path = Field(
        Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "scgn-live" / "engines",
        description="folder of built engines; keep it as private as a folder of programs",
    )
    threads: int = Field(0, ge=0, description="CPU threads of the network; 0 takes every core")

    overload: Literal["latest", "block"] = Field(
        "latest", description="when full: drop the oldest waiting frame, or make the camera wait"
    )
    ring_slots: int = Field(
        4, ge=2, le=1024, description="frames held; with `latest` a frame's age is at most these"
    )
    max_rows: int = Field(4096, ge=4, description="tallest frame accepted, px")
    max_columns: int = Field(4096, ge=4, description="widest frame accepted, px")
    max_series: int = Field(64, ge=1, description="series open at once; more end the idlest")
    series_idle_s: FiniteFloat = Field(
        600, gt=0, description="a series silent for so long is ended, s"
    )

    publish_raw: bool = Field(True, description="send the raw frame beside the denoised one")
    subscriber_queue: int = Field(
        64, ge=1, description="frames kept for a slow subscriber before it misses some"
    )
    ready_s: FiniteFloat = Field(
        2, gt=0, description="not ready once the frame loop stood so long, s"
    )
    shutdown_s: FiniteFloat = Field(
        5, gt=0, description="time to finish frames in flight at the end, s"
    )
    state_dir: Path = Field(
        Path.home() / ".local" / "state" / "scgn-live",
        description="folder that survives restarts: calibrations and which one is active",
    )
    max_upload_mb: FiniteFloat = Field(256, gt=0, description="largest calibration upload, MB")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="log level")

    @property
    def max_frame_bytes(self) -> int:
        """Largest payload accepted, bytes: the largest shape in the widest dtype."""
        return self.max_rows * self.max_columns * 4

    @property
    def http_address(self) -> tuple[str, int]:
        """Host and port of the sidecar."""
        host, _, port = self.http.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def frame_kinds(self) -> list[tuple[tuple[int, int], str]]:
        """`shapes` as (rows, columns) and dtype."""
        return [frame_kind(text) for text in self.shapes]

    @field_validator("shapes")
    @classmethod
    def _shapes_are_frames(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            frame_kind(text)
        return value

    @field_validator("state_dir", "engine_cache")
    @classmethod
    def _home_is_known(cls, value: Path) -> Path:
        return value.expanduser()

    @model_validator(mode="after")
    def _http_has_a_port(self) -> Self:
        host, _, port = self.http.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"http: expected host:port, got {self.http!r}")
        return self

    @model_validator(mode="after")
    def _loopback_unless_insecure(self) -> Self:
        open_to_all = [key for key in ("ingest", "frames", "latest", "http") if self.beyond(key)]
        if open_to_all and not self.insecure:
            shown = ", ".join(f"{key} = {getattr(self, key)!r}" for key in open_to_all)
            raise ValueError(f"{shown}: beyond loopback needs insecure = true (no keys are set)")
        return self

    def beyond(self, key: str) -> bool:
        """Whether the endpoint under `key` is bound to an address other machines can reach."""
        if key == "ingest" and self.ingest_role != "pull-bind":
            return False
        endpoint = getattr(self, key)
        if endpoint.startswith(("ipc://", "inproc://")):
            return False
        host = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}").hostname
        try:
            return host != "localhost" and not ipaddress.ip_address(host or "").is_loopback
        except ValueError:
            return True  # a name, an interface, `*`: may be anything

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings)


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
