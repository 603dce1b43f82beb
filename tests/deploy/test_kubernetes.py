"""The Kubernetes manifest: its settings load, and ports, paths, users and volumes agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import ROOT

from scgn_live.config import load_settings
from scgn_live.settings import Settings, SettingsError

MANIFEST = (ROOT / "deploy" / "kubernetes" / "scgn-live.yaml").read_text()
NAME = {"app.kubernetes.io/name": "scgn-live"}


@pytest.fixture
def objects() -> dict[str, Any]:
    return {found["kind"]: found for found in yaml.safe_load_all(MANIFEST)}


@pytest.fixture
def pod(objects: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = objects["Deployment"]["spec"]["template"]["spec"]
    return found


@pytest.fixture
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod["containers"]
    return dict(found)


@pytest.fixture
def loaded(objects: dict[str, Any], tmp_path: Path, token: Path) -> Settings:
    """The config map's settings, with a token that exists here."""
    (text,) = objects["ConfigMap"]["data"].values()
    said = tomllib.loads(text)["token_file"]
    file = tmp_path / "service.toml"
    file.write_text(text.replace(said, str(token)))
    return load_settings(["--config", str(file)])


def targets(container: dict[str, Any]) -> dict[str, str]:
    return {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}


def test_it_opens_http_alone(loaded: Settings) -> None:
    assert not loaded.insecure
    assert [k for k in ("ingest", "frames", "latest", "http") if loaded.beyond(k)] == ["http"]


def test_ports_are_the_settings(
    loaded: Settings, objects: dict[str, Any], container: dict[str, Any]
) -> None:
    port = loaded.http_address[1]
    assert container["ports"] == [{"name": "http", "containerPort": port}]
    assert objects["Service"]["spec"]["ports"] == [
        {"name": "http", "port": port, "targetPort": "http"}
    ]
    (rule,) = objects["NetworkPolicy"]["spec"]["ingress"]
    assert rule["ports"] == [{"port": "http", "protocol": "TCP"}]
    forwarded = re.search(
        r"port-forward deploy/scgn-live (.+)", (ROOT / "docs/deploy.md").read_text()
    )
    assert forwarded is not None
    sockets = [loaded.ingest, loaded.frames, loaded.latest]
    assert forwarded[1].split() == [str(port), *(place.rpartition(":")[2] for place in sockets)]


def test_probes_ask_what_the_service_answers(
    container: dict[str, Any], routes: set[str], loaded: Settings
) -> None:
    probes = {kind: container[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness")}
    paths = {kind: probe["httpGet"]["path"] for kind, probe in probes.items()}
    assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    assert set(paths.values()) <= routes
    assert {probe["httpGet"]["port"] for probe in probes.values()} == {"http"}
    allowed_s = {
        k: probe["periodSeconds"] * probe["failureThreshold"] for k, probe in probes.items()
    }
    assert allowed_s["startup"] >= 300
    assert allowed_s["liveness"] > loaded.live_s
    assert all(probe["timeoutSeconds"] < probe["periodSeconds"] for probe in probes.values())


def test_the_stop_waits_for_frames_in_flight(pod: dict[str, Any], loaded: Settings) -> None:
    assert pod["terminationGracePeriodSeconds"] > 2 * (loaded.shutdown_s + 3)


def test_one_pod_on_one_gpu(objects: dict[str, Any], container: dict[str, Any]) -> None:
    spec = objects["Deployment"]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert re.search(r":\d+\.\d+\.\d+-gpu$", container["image"])


def test_memory_is_enough_for_what_the_settings_allow(
    container: dict[str, Any], loaded: Settings
) -> None:
    limit_mb = int(container["resources"]["limits"]["memory"].removesuffix("Gi")) * 1024
    asked_mb = loaded.check_mb + loaded.stream_mb + loaded.proof_mb + loaded.max_upload_mb
    assert limit_mb > asked_mb + 4096  # network, CUDA, Python


def test_it_runs_as_the_images_user_on_a_read_only_system(
    pod: dict[str, Any], container: dict[str, Any], image: Any
) -> None:
    outer, inner = pod["securityContext"], container["securityContext"]
    assert image.last("USER") == f"{outer['runAsUser']}:{outer['runAsGroup']}"
    assert outer["runAsNonRoot"] is True
    assert outer["fsGroup"] == outer["runAsGroup"]
    assert outer["seccompProfile"] == {"type": "RuntimeDefault"}
    assert (inner["readOnlyRootFilesystem"], inner["allowPrivilegeEscalation"]) == (True, False)
    assert inner["capabilities"] == {"drop": ["ALL"]}
    # Else every start would open the engines to the group, and the cache would not believe them.
    assert outer["fsGroupChangePolicy"] == "OnRootMismatch"
    assert pod["automountServiceAccountToken"] is False


def test_variables_of_its_own_service_would_be_refused(
    pod: dict[str, Any], objects: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = objects["Service"]["metadata"]["name"].upper().replace("-", "_")
    monkeypatch.setenv(f"{name}_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(SettingsError, match="unknown live_service_host"):
        load_settings()
    assert pod["enableServiceLinks"] is False


def test_volumes_are_where_the_settings_look(
    pod: dict[str, Any], container: dict[str, Any], objects: dict[str, Any], image: Any
) -> None:
    where = targets(container)
    assert set(where) == {volume["name"] for volume in pod["volumes"]}
    (key,) = objects["ConfigMap"]["data"]
    assert container["args"] == ["--config", f"{where['config']}/{key}"]
    said = tomllib.loads(objects["ConfigMap"]["data"][key])["token_file"]
    assert Path(said).parent == Path(where["token"])
    assert where["state"] == image.last("VOLUME")
    assert where["tmp"] == "/tmp"


def test_names_refer_to_each_other(pod: dict[str, Any], objects: dict[str, Any]) -> None:
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["config"]["configMap"]["name"] == objects["ConfigMap"]["metadata"]["name"]
    claim = volumes["state"]["persistentVolumeClaim"]["claimName"]
    assert claim == objects["PersistentVolumeClaim"]["metadata"]["name"]
    secret = volumes["token"]["secret"]["secretName"]
    assert (
        f"create secret generic {secret} --from-literal=token="
        in (ROOT / "docs" / "deploy.md").read_text()
    )
    assert objects["Deployment"]["spec"]["template"]["metadata"]["labels"] == NAME
    assert objects["Deployment"]["spec"]["selector"]["matchLabels"] == NAME
    assert objects["Service"]["spec"]["selector"] == NAME
    assert objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == NAME
