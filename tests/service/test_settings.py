"""Settings: TOML < environment < flags, unknown keys refused, loopback unless insecure."""

from __future__ import annotations

from pathlib import Path

import pytest

from scgn_live.config import load_settings
from scgn_live.settings import Settings, SettingsError


def test_the_later_source_is_the_stronger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "service.toml"
    file.write_text('ring_slots = 5\noverload = "block"\nmax_rows = 100\n')
    monkeypatch.setenv("SCGN_RING_SLOTS", "6")
    monkeypatch.setenv("SCGN_MAX_ROWS", "200")
    found = load_settings(["--config", str(file), "--max-rows", "300"])
    assert (found.overload, found.ring_slots, found.max_rows) == ("block", 6, 300)


def test_config_file_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "service.toml"
    file.write_text("max_rows = 77\n")
    monkeypatch.setenv("SCGN_CONFIG", str(file))
    assert load_settings([]).max_rows == 77


def test_unknown_keys_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "service.toml"
    file.write_text("ring_slot = 5\n")
    with pytest.raises(SettingsError, match=r"service\.toml: unknown ring_slot"):
        load_settings([f"--config={file}"])
    monkeypatch.setenv("SCGN_OVERLAOD", "block")
    with pytest.raises(SettingsError, match="environment: unknown overlaod"):
        load_settings([])
    monkeypatch.delenv("SCGN_OVERLAOD")
    with pytest.raises(SystemExit):
        load_settings(["--ring-slot", "5"])
    assert "ring-slot" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("ring_slots", 1, "ring_slots: .*greater than or equal to 2, got '1'"),
        ("overload", "drop", "overload: .*'latest' or 'block', got 'drop'"),
        ("http", "8000", "http: expected host:port, got '8000'"),
        ("http", "127.0.0.1:99999", "http: expected host:port"),
        ("series_idle_s", "inf", "series_idle_s: .*finite"),
        ("max_rows", "many", "max_rows: .*got 'many'"),
        ("temporal", "on", "temporal: expected auto, off, or 2 to 16 frames, got 'on'"),
        ("temporal", "1", "temporal: expected auto, off, or 2 to 16 frames, got '1'"),
        ("temporal", "17", "temporal: expected auto, off, or 2 to 16 frames, got '17'"),
    ],
)
def test_bad_values_name_key_and_value(key: str, value: object, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load_settings([f"--{key.replace('_', '-')}", str(value)])


@pytest.mark.parametrize(
    "bad", ["tcp://0.0.0.0:1", "tcp://*:1", "tcp://eth0:1", "tcp://10.0.0.1:1"]
)
def test_beyond_loopback_needs_insecure(bad: str) -> None:
    for key in ("ingest", "frames", "latest"):
        with pytest.raises(SettingsError, match=f"{key} = .*insecure"):
            load_settings([f"--{key}", bad])
        assert getattr(load_settings([f"--{key}", bad, "--insecure"]), key) == bad
    with pytest.raises(SettingsError, match="insecure"):
        load_settings(["--http", "0.0.0.0:8000"])


def test_an_ingest_that_connects_outwards_is_not_bound(tmp_path: Path) -> None:
    found = load_settings(["--ingest", "tcp://10.0.0.1:9000", "--ingest-role", "sub-connect"])
    assert not found.beyond("ingest")


@pytest.mark.parametrize("fine", ["ipc:///tmp/x", "tcp://127.0.0.1:1", "tcp://localhost:1"])
def test_local_addresses_are_fine(fine: str) -> None:
    assert load_settings(["--frames", fine]).frames == fine


def test_ipv6_loopback_http() -> None:
    assert load_settings(["--http", "[::1]:8000"]).http_address == ("::1", 8000)


def test_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.toml: cannot be read"):
        load_settings(["--config", str(tmp_path / "absent.toml")])
    (tmp_path / "bad.toml").write_text("= 3")
    with pytest.raises(SettingsError, match="cannot be read as TOML"):
        load_settings(["--config", str(tmp_path / "bad.toml")])


def test_config_without_a_file_is_said() -> None:
    with pytest.raises(SettingsError, match="--config: expected a file"):
        load_settings(["--config"])


def test_home_in_state_dir_is_expanded() -> None:
    assert load_settings(["--state-dir", "~/x"]).state_dir == Path.home() / "x"


@pytest.mark.parametrize(
    ("text", "value"), [("auto", "auto"), ("off", "off"), ("2", 2), ("16", 16)]
)
def test_frames_that_are_seen_together_from_every_source(
    text: str, value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "service.toml"
    file.write_text(f"temporal = {text if text.isdigit() else repr(text)}\n")
    assert load_settings(["--config", str(file)]).temporal == value
    assert load_settings(["--temporal", text]).temporal == value
    monkeypatch.setenv("SCGN_TEMPORAL", text)
    found = load_settings([])
    assert found.temporal == value
    assert Settings.model_validate_json(found.model_dump_json()).temporal == value


def test_every_field_has_a_sentence() -> None:
    assert all(field.description for field in Settings.model_fields.values())
