"""Every setting of the service, what it may be, and what does not go together."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, FiniteFloat, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from scgn_client.wire import DTYPES

PREFIX = "SCGN_"
EXIT_CONFIG = 78  # sysexits: the settings cannot work here; restarting would not help
TOKEN = "SCGN_TOKEN"  # a secret: never among the values that are shown and handed on
TOKEN_LENGTH_MIN = 16


# How many frames of a camera the network may see together: as many as help, this one alone, or N.
TEMPORAL_MIN, TEMPORAL_MAX = 2, 16
Temporal = Literal["auto", "off"] | Annotated[int, Field(ge=TEMPORAL_MIN, le=TEMPORAL_MAX)]


class SettingsError(ValueError):
    """The settings are not usable; the message names the key, what was expected and what came."""


def frame_kind(text: str) -> tuple[tuple[int, int], str]:
    """`512x512` or `512x512:<u2` -> ((512, 512), "<u2"); ValueError otherwise."""
    found = re.fullmatch(r"(\d+)x(\d+)(?::(.+))?", text)
    dtype = (found and found[3]) or "<u2"
    if found is None or dtype not in DTYPES:
        raise ValueError(f"expected ROWSxCOLUMNS or ROWSxCOLUMNS:DTYPE of {sorted(DTYPES)}")
    return (int(found[1]), int(found[2])), dtype


def temporal_of(value: object) -> Temporal:
    """The value of `temporal` as it is; ValueError says what was expected."""
    if value in ("auto", "off") and isinstance(value, str):
        return "auto" if value == "auto" else "off"
    if type(value) is int and TEMPORAL_MIN <= value <= TEMPORAL_MAX:
        return value
    raise ValueError(f"expected auto, off, or {TEMPORAL_MIN} to {TEMPORAL_MAX} frames")


def _unreadable(folder: Path) -> str | None:
    """Why a folder cannot be listed. An unseen list would be an empty one: it refuses everybody."""
    try:
        next(folder.iterdir(), None)
    except OSError as error:
        return error.strerror or str(error)
    return None


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
    insecure: bool = Field(False, description="allow addresses beyond loopback without keys")
    curve_key: Path | None = Field(
        None, description="the service's .key_secret (`scgn-live keys`): CURVE on all its sockets"
    )
    camera_keys: Path | None = Field(
        None, description="folder of the public keys of cameras that may send"
    )
    viewer_keys: Path | None = Field(
        None, description="folder of the public keys of viewers that may look"
    )
    ingest_key: Path | None = Field(
        None, description="public key of the camera that the ingest connects to, if it has one"
    )
    token_file: Path | None = Field(
        None, description="file of the HTTP bearer token; the variable SCGN_TOKEN is the stronger"
    )

    network: str = Field(
        "preview-clean",
        description="shipped network by name, or path of a .safetensors or .pth file",
    )
    networks: Path | None = Field(
        None, description="folder of .safetensors that may be used beside the shipped networks"
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
    temporal: Temporal = Field(
        "auto",
        description="frames of a camera that the network may see together, 2 to 16; auto: as many"
        " as help, up to 16; off: each frame alone",
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
        64, ge=1, description="most frames kept for a slow subscriber before it misses some"
    )
    subscriber_mb: FiniteFloat = Field(
        256, gt=0,
        description="memory for them, of the largest of `shapes`, MB; two are kept at least",
    )  # fmt: skip
    memory_mb: FiniteFloat | None = Field(
        None, gt=0,
        description="memory at which the frame process is made anew, MB; unset: 3/4 of all",
    )  # fmt: skip
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
    require_calibration: bool = Field(
        False, description="not ready without an active calibration that fits the frames"
    )
    proof_frames: int = Field(
        32, ge=0, le=1024, description="raw frames of a camera kept to prove a calibration against"
    )
    proof_every_s: FiniteFloat = Field(0.1, ge=0, description="time between two kept frames, s")
    proof_mb: FiniteFloat = Field(256, gt=0, description="memory for kept frames, MB")
    stream_mb: FiniteFloat = Field(
        1024, gt=0, description="memory for a series that a calibration is made of, MB"
    )
    max_upload_mb: FiniteFloat = Field(256, gt=0, description="largest calibration upload, MB")
    check_s: FiniteFloat = Field(60, gt=0, description="time that checking an upload may take, s")
    check_mb: FiniteFloat = Field(
        4096, gt=0, description="memory that checking an upload may take, MB"
    )
    live_s: FiniteFloat = Field(
        15, gt=0, description="not live once the frame process was silent so long, s"
    )
    viewers: int = Field(32, ge=0, description="browsers that may watch the live view at once")
    viewer_fps: FiniteFloat = Field(60, gt=0, description="most frames a second for one browser")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="log level")

    @property
    def max_frame_bytes(self) -> int:
        """Largest payload accepted, bytes: the largest shape in the widest dtype."""
        return self.max_rows * self.max_columns * 4

    def token(self, environment: Mapping[str, str] = os.environ) -> str | None:
        """The HTTP bearer token, of the environment or else of `token_file`; None without either.

        Raises SettingsError for a file that cannot be read and for a token that can be guessed.
        """
        value, where = environment.get(TOKEN), TOKEN
        if not value and self.token_file is not None:
            where = f"token_file {self.token_file}"
            try:
                value = self.token_file.read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(f"{where}: cannot be read: {error}") from error
        elif not value:
            return None
        if len(value) < TOKEN_LENGTH_MIN or not value.isascii() or not value.isprintable():
            got = f"{len(value)}" if value.isascii() else "others"
            expected = f"expected {TOKEN_LENGTH_MIN} ASCII characters or more"
            raise SettingsError(f"{where}: {expected}, got {got}")
        return value

    @property
    def http_address(self) -> tuple[str, int]:
        """Host and port of the sidecar."""
        host, _, port = self.http.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def frame_kinds(self) -> list[tuple[tuple[int, int], str]]:
        """`shapes` as (rows, columns) and dtype."""
        return [frame_kind(text) for text in self.shapes]

    @field_validator("temporal", mode="before")
    @classmethod
    def _temporal_is_known(cls, value: object) -> Temporal:
        # Flags and variables come as text.
        return temporal_of(int(value) if isinstance(value, str) and value.isdecimal() else value)

    @field_validator("shapes")
    @classmethod
    def _shapes_are_frames(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            frame_kind(text)
        return value

    @field_validator(
        "state_dir", "engine_cache", "token_file", "curve_key", "camera_keys", "viewer_keys",
        "ingest_key", "networks",
    )  # fmt: skip
    @classmethod
    def _home_is_known(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser()

    @model_validator(mode="after")
    def _http_has_a_port(self) -> Self:
        host, _, port = self.http.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"http: expected host:port, got {self.http!r}")
        return self

    @model_validator(mode="after")
    def _loopback_unless_insecure(self) -> Self:
        open_to_all = self.unguarded()
        if open_to_all and not self.insecure:
            shown = ", ".join(f"{key} = {getattr(self, key)!r}" for key in open_to_all)
            needs = ["a token"] if "http" in open_to_all else []
            needs += ["curve_key"] if open_to_all != ["http"] else []
            way = f"{' and '.join(needs)}, or insecure = true"
            raise ValueError(f"{shown}: beyond loopback needs {way}")
        return self

    @model_validator(mode="after")
    def _curve_is_whole(self) -> Self:
        named = [key for key in ("camera_keys", "viewer_keys", "ingest_key") if getattr(self, key)]
        if named and self.curve_key is None:
            raise ValueError(f"{', '.join(named)}: expected a curve_key beside it, got none")
        for key in ("camera_keys", "viewer_keys"):
            folder = getattr(self, key)
            if folder is not None and (reason := _unreadable(folder)):
                raise ValueError(f"{key}: expected a folder of .key files, got {folder}: {reason}")
        if self.curve_key is not None and self.ingest_role != "pull-bind" and not self.ingest_key:
            raise ValueError("ingest_key: expected the camera's public key, as curve_key is set")
        return self

    def unguarded(self) -> list[str]:
        """Endpoints that anyone who reaches them can use."""
        sockets = ("ingest", "frames", "latest") if self.curve_key is None else ()
        open_to_all = [key for key in sockets if self.beyond(key)]
        return [*open_to_all, *(["http"] if self.beyond("http") and self.token() is None else [])]

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
