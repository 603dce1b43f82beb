"""compose.yaml: what it starts agrees with the settings, the client, the image and each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from deployed import DEPLOY, PAGE, composed

from scgn_client.cli import _parser
from scgn_live.config import load_settings
from scgn_live.settings import PREFIX, Settings

SECRETS = "/run/secrets/"
SOCKETS = ("ingest", "frames", "latest")
BASE, CURVE = "compose.yaml", "compose.curve.yaml"
either = pytest.mark.parametrize("stack", [composed(BASE), composed(BASE, CURVE)], ids=["", "keys"])


@pytest.fixture
def service(compose: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = compose["services"]["scgn-live"]
    return found


@pytest.fixture
def loaded(service: dict[str, Any], token: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings that the container would come to, with a token that exists here."""
    inside = {there: DEPLOY / here for here, there in mounts(service).items()}
    for name, value in service["environment"].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SCGN_CONFIG", str(inside[service["environment"]["SCGN_CONFIG"]]))
    monkeypatch.setenv("SCGN_TOKEN_FILE", str(token))
    return load_settings()


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """Source -> target of every volume."""
    entries = [v for v in service.get("volumes", []) if isinstance(v, str)]
    return dict(entry.split(":")[:2] for entry in entries)


@either
def test_every_image_is_pinned(stack: dict[str, Any]) -> None:
    for name, service in stack["services"].items():
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), name


def test_every_mount_exists_or_is_a_volume(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for source in mounts(service):
            bound = source.startswith(".")
            assert (DEPLOY / source).exists() if bound else source in compose["volumes"], name
            assert not bound or f"{source}:{mounts(service)[source]}:ro" in service["volumes"]


@either
def test_every_service_is_hardened_and_published_on_loopback_only(stack: dict[str, Any]) -> None:
    for service in stack["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_secrets_are_files_that_git_does_not_take(compose: dict[str, Any]) -> None:
    for secret in compose["secrets"].values():
        path = DEPLOY / secret["file"]
        assert path.parent == DEPLOY / "secrets"
        assert f"> deploy/secrets/{path.name}\n" in PAGE
    assert "*" in (DEPLOY / "secrets" / ".gitignore").read_text().splitlines()
    for service in compose["services"].values():
        assert set(service.get("secrets", [])) <= set(compose["secrets"])
        named = [v for v in service.get("environment", {}).values() if v.startswith(SECRETS)]
        assert {value.removeprefix(SECRETS) for value in named} <= set(service.get("secrets", []))


def test_the_service_opens_http_alone(loaded: Settings, service: dict[str, Any]) -> None:
    assert not loaded.insecure
    assert [k for k in (*SOCKETS, "http") if loaded.beyond(k)] == ["http"]
    port = loaded.http_address[1]
    assert service["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_keys_publish_their_three_ports_where_the_operator_says() -> None:
    published = composed(CURVE)["services"]["scgn-live"]["ports"]
    ports = [Settings.model_fields[key].default.rpartition(":")[2] for key in SOCKETS]
    assert published == [f"127.0.0.1:{port}:{port}" for port in ports]
    more = set(re.findall(r'^ +- "(.+)"$', (DEPLOY / CURVE).read_text(), re.M))
    assert more == {f"${{INSTRUMENT_ADDRESS:-127.0.0.1}}:{port}:{port}" for port in ports}
    assert "export INSTRUMENT_ADDRESS=" in PAGE
    # In an operator's shell it must be none that a service started there would take for a setting.
    assert not "INSTRUMENT_ADDRESS".startswith(PREFIX)


def test_keys_change_nothing_else() -> None:
    over = composed(CURVE)
    assert set(over) == {"services", "secrets"}
    assert {name: set(found) for name, found in over["services"].items()} == {
        "scgn-live": {"environment", "secrets", "volumes", "ports"},
        "camera": {"command", "secrets"},
    }
    base = composed(BASE)["services"]["camera"]["command"]
    assert over["services"]["camera"]["command"][: len(base)] == base
    named = [v for v in over["services"]["scgn-live"]["environment"].values() if SECRETS in v]
    named += [word for word in over["services"]["camera"]["command"] if SECRETS in word]
    assert {value.removeprefix(SECRETS) for value in named} == set(over["secrets"])


def test_it_may_write_where_it_must(service: dict[str, Any], image: Any) -> None:
    assert mounts(service)["state"] == image.last("VOLUME")
    assert service["tmpfs"][0].startswith("/tmp")


def test_the_stop_waits_for_frames_in_flight(service: dict[str, Any]) -> None:
    waits_s = int(service["stop_grace_period"].removesuffix("s"))
    assert waits_s > 2 * (Settings().shutdown_s + 3)  # two processes, one after the other at worst


def test_the_camera_sends_what_the_service_takes(compose: dict[str, Any]) -> None:
    camera = compose["services"]["camera"]
    assert camera["network_mode"] == "service:scgn-live"
    assert camera["image"] == compose["services"]["scgn-live"]["image"]
    assert camera["entrypoint"] == ["scgn-client"]
    asked = _parser().parse_args(camera["command"])
    assert asked.endpoint == Settings().ingest
    assert "x".join(map(str, asked.shape)) in Settings().shapes
    assert asked.on_timeout == "raise"  # what brings it back into the service's new namespace


def test_the_gpu_comes_over_it(compose: dict[str, Any]) -> None:
    over = yaml.safe_load((DEPLOY / "compose.gpu.yaml").read_text())["services"]
    assert set(over) == {"scgn-live", "camera"}
    images = {name: service["image"] for name, service in over.items()}
    assert all(images[name] == f"{compose['services'][name]['image']}-gpu" for name in images)
    reserved = over["scgn-live"]["deploy"]["resources"]["reservations"]["devices"]
    assert reserved == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]


def test_prometheus_asks_the_service_with_its_token(
    compose: dict[str, Any], loaded: Settings, routes: set[str]
) -> None:
    prometheus = compose["services"]["prometheus"]
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"scgn-live:{loaded.http_address[1]}"]}]
    assert job["metrics_path"] in routes
    key = job["authorization"]["credentials_file"].removeprefix(SECRETS)
    assert key in prometheus["secrets"]
    assert f"{SECRETS}{key}" == compose["services"]["scgn-live"]["environment"]["SCGN_TOKEN_FILE"]
    folder = mounts(prometheus)["./prometheus"]
    assert f"--config.file={folder}/prometheus.yml" in prometheus["command"]
    assert all((DEPLOY / "prometheus" / name).exists() for name in config["rule_files"])


def test_grafana_finds_prometheus_and_the_dashboard(compose: dict[str, Any]) -> None:
    grafana, folder = compose["services"]["grafana"], DEPLOY / "grafana"
    sources = yaml.safe_load((folder / "provisioning/datasources/prometheus.yml").read_text())
    (source,) = sources["datasources"]
    assert urlsplit(source["url"]).hostname in compose["services"]
    job = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["global"]
    assert source["jsonData"]["timeInterval"] == job["scrape_interval"]
    (provider,) = yaml.safe_load((folder / "provisioning/dashboards/scgn-live.yml").read_text())[
        "providers"
    ]
    there = mounts(grafana)["./grafana/dashboards"]
    assert provider["options"]["path"] == there
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (folder / "dashboards" / home.removeprefix(f"{there}/")).exists()
