"""docs/deploy.md, "With keys": typed as it stands, it makes keys that the deployment files find,
that the service's settings take, that let in whom they should and that nobody else can read."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from deployed import DEPLOY, PAGE, blocks, composed, curve_conf, section, unit, variables
from support import ROOT, noise_frame, running_app, wait_for

from scgn_client import FrameSender, client_keys
from scgn_client.cli import _parser, main
from scgn_live.config import load_settings
from scgn_live.curve import AllowList, server_keys
from scgn_live.settings import Settings

COMPOSE, SYSTEMD, KUBERNETES = (
    f"### Keys for {way}" for way in ("Docker Compose", "systemd", "Kubernetes")
)
PORTS = {"ingest": 5555, "frames": 5556, "latest": 5557}
KUBECTL = shutil.which("kubectl")
NOTED = """#!/bin/bash
printf '%s\\n' "${0##*/} $*" >> "$NOTES"
"""
STUBS = {
    "sudo": NOTED, "systemctl": NOTED,
    "scgn-live": f'#!/bin/bash\nexec {sys.executable} -m scgn_live "$@"\n',
    # What follows the image is the program's.
    "docker": NOTED + """[ "$1" = run ] || exit 0
while [[ "$1" != scgn-live:* ]]; do shift; done
shift; exec scgn-live "$@"
""",
    # A list is really made where kubectl is installed, and what is applied is kept.
    "kubectl": NOTED + f"""case "$*" in
*" apply -f -") cat >> "$NOTES.applied"; echo --- >> "$NOTES.applied";;
*--dry-run=client*) [ -z "{KUBECTL or ""}" ] || exec {KUBECTL or ":"} "$@";;
esac
""",
}  # fmt: skip
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
pytestmark = needs_bash


@dataclass(frozen=True)
class Typed:
    """A machine on which a block of the page was typed: its root, the checkout, what was called."""

    root: Path
    checkout: Path
    calls: list[str]

    @property
    def keys(self) -> Path:
        there = [self.checkout / "deploy/secrets/keys", self.root / "etc/scgn-live/keys"]
        (found,) = [folder for folder in there if folder.exists()]
        return found

    def applied(self) -> list[dict[str, Any]]:
        return [o for o in yaml.safe_load_all((self.root / "notes.applied").read_text()) if o]


def typed(root: Path, block: str, umask: int = 0o022) -> Typed:
    """Types a block in a checkout; what needs root, a daemon or a cluster is only noted."""
    checkout, programs = root / "checkout", root / "bin"
    if not checkout.exists():
        shutil.copytree(
            DEPLOY, checkout / "deploy", ignore=shutil.ignore_patterns("keys", "scgn_*")
        )
        programs.mkdir()
        for name, text in STUBS.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        (root / "notes").touch()
    text = block.replace("/opt/scgn-live/bin/", "").replace("/etc/", f"{root}/etc/")
    source = os.pathsep.join(str(ROOT / part) for part in ("client", "models", "service"))
    words = ["bash", "-euo", "pipefail", "-c", f"umask {umask:04o}\n{text}"]
    environment = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": source,
                   "NOTES": str(root / "notes"), "HOME": str(root)}  # fmt: skip
    ended = subprocess.run(
        words, cwd=checkout, env=environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return Typed(root, checkout, (root / "notes").read_text().splitlines())


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The root of one where the service is installed, its settings' folder closed to others."""
    (tmp_path / "etc" / "scgn-live").mkdir(parents=True, mode=0o700)
    return tmp_path


def people(settings: Settings) -> dict[str, set[str]]:
    """Names on the lists; every file holds a key."""
    found = {}
    for name, folder in (("cameras", settings.camera_keys), ("viewers", settings.viewer_keys)):
        assert folder is not None
        found[name] = {path.stem for path in folder.glob("*.key")}
        assert len(listed(folder)) == len(found[name])
    return found


def listed(folder: Path | None) -> set[bytes]:
    """The keys of a list, as the service reads it."""
    return AllowList("any", folder, b"own").keys() - {b"own"}


def assert_guarded(settings: Settings) -> None:
    assert settings.unguarded() == []
    assert not settings.insecure
    assert [key for key in PORTS if settings.beyond(key)] == list(PORTS)
    assert [int(getattr(settings, key).rpartition(":")[2]) for key in PORTS] == [*PORTS.values()]
    armed = server_keys(settings, "cameras")
    assert armed is not None


def loaded(environment: dict[str, str], token: Path, *flags: str) -> Settings:
    """Settings of such a process, with a token that is here."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (environment | {"SCGN_TOKEN_FILE": str(token)}).items():
            patch.setenv(name, value)
        return load_settings(list(flags))


# Each way, typed and started.


def test_compose(machine: Path, token: Path) -> None:
    made = typed(machine, *blocks(COMPOSE))
    stack = composed("compose.yaml", "compose.curve.yaml")
    here = made.checkout / "deploy"
    service, camera = stack["services"]["scgn-live"], stack["services"]["camera"]
    inside = {f"/run/secrets/{name}": here / stack["secrets"][name]["file"]
              for name in service["secrets"] + camera["secrets"]}  # fmt: skip
    del inside["/run/secrets/scgn_token"]  # of the fixture
    for volume in service["volumes"]:
        if isinstance(volume, dict):
            assert volume["read_only"] is True
            assert volume["bind"] == {"create_host_path": False}
            assert (here / volume["source"]).is_dir(), "a folder, for keys that come later"
            inside[volume["target"]] = here / volume["source"]
    assert all(path.exists() for path in inside.values())
    (started,) = [shlex.split(call) for call in made.calls if call.startswith("docker ")]
    files = [name for flag, name in itertools.pairwise(started) if flag == "-f"]
    assert files == ["deploy/compose.yaml", "deploy/compose.curve.yaml"]
    environment = {name: str(inside.get(value, value))
                   for name, value in service["environment"].items()}  # fmt: skip
    environment["SCGN_CONFIG"] = str(here / "scgn-live.toml")
    settings = loaded(environment, token)
    assert_guarded(settings)
    assert people(settings) == {"cameras": {"simulated", "camera-1"}, "viewers": {"control-room"}}
    # The simulated camera is on the list with the key it is given, and expects this service.
    asked = _parser().parse_args(camera["command"])
    own = client_keys(inside[str(asked.service_key)], inside[str(asked.key)])
    assert own.public in listed(settings.camera_keys)
    assert own.service == server_keys(settings, "").public  # type: ignore[union-attr]


def test_what_the_containers_read_of_a_mounted_file_is_theirs(machine: Path, image: Any) -> None:
    """Compose keeps the host's owner and mode: secrets become the user's, all else is open."""
    made = typed(machine, *blocks(COMPOSE))
    (line,) = [call for call in made.calls if call.startswith("sudo ")]
    _, program, user, *files = shlex.split(line)
    assert (program, user) == ("chown", image.last("USER").partition(":")[0])
    secrets = composed("compose.curve.yaml")["secrets"]
    used = {str(Path("deploy") / found["file"]) for found in secrets.values()}
    closed = {name for name in used if (made.checkout / name).stat().st_mode & 0o077 == 0}
    assert closed == set(files)
    assert all(name.endswith(".key_secret") for name in closed)


def installed(made: Typed, name: str) -> dict[str, list[str]]:
    """A unit with the drop-ins that were installed, in systemd's order."""
    folder = made.root / "etc/systemd/system" / f"{name}.service.d"
    return unit(name, *sorted(folder.glob("*.conf")))


def credentials(made: Typed, found: dict[str, list[str]], token: Path) -> Path:
    """The folder that systemd would make of LoadCredential."""
    folder = made.root / "credentials"
    folder.mkdir(exist_ok=True)
    for name, _, source in (line.partition(":") for line in found["LoadCredential"]):
        there = source.replace("/etc/", f"{made.root}/etc/")
        shutil.copy(token if name == "token" else there, folder / name)
    return folder


def test_systemd(machine: Path, token: Path) -> None:
    made = typed(machine, *blocks(SYSTEMD))
    found = installed(made, "scgn-live")
    place = credentials(made, found, token)
    said = {name: value.replace("%d", str(place)).replace("/etc/", f"{machine}/etc/")
            for name, value in variables(found).items() if name.startswith("SCGN_")}  # fmt: skip
    settings = loaded(said, token)
    assert_guarded(settings)
    assert settings.curve_key == place / "service.key_secret"
    assert people(settings) == {"cameras": {"simulated", "camera-1"}, "viewers": {"control-room"}}
    assert found["IPAddressDeny"] == ["any"]
    assert found["IPAddressAllow"] == ["localhost", "192.168.7.0/24"]
    assert made.calls == ["systemctl daemon-reload", "systemctl restart scgn-live"]

    camera = installed(made, "scgn-live-camera")
    place = credentials(made, camera, token)
    (line,) = camera["ExecStart"]
    words = shlex.split(line.replace("${CREDENTIALS_DIRECTORY}", str(place)))
    asked = _parser().parse_args(words[1:])
    assert asked.service_key is None, "it lies beside the camera's own"
    own = client_keys(place / "service.key", asked.key)
    assert own.public in listed(settings.camera_keys)


def test_systemd_opens_nothing_before_a_network_is_named() -> None:
    assert unit("scgn-live", curve_conf("scgn-live"))["IPAddressAllow"] == ["localhost"]


def reachable(path: Path, root: Path) -> bool:
    """Whether somebody else, in no group of the owner's, gets to read it."""
    on_the_way = [p for p in path.parents if p.is_relative_to(root / "etc")]
    return all(p.stat().st_mode & 0o001 for p in on_the_way) and bool(path.stat().st_mode & 0o004)


def test_the_units_user_reads_lists_and_nothing_secret(machine: Path) -> None:
    """DynamicUser owns nothing. Folders of before, which were closed, are opened by the page."""
    for folder in ("keys/cameras", "keys/viewers"):
        (machine / "etc/scgn-live" / folder).mkdir(parents=True, mode=0o700)
    (machine / "etc/scgn-live/keys").chmod(0o700)
    made = typed(machine, *blocks(SYSTEMD), umask=0o077)
    files = [path for path in made.keys.rglob("*") if path.is_file()]
    seen = {p.relative_to(made.keys).as_posix() for p in files if reachable(p, machine)}
    assert seen == {"service.key", "cameras/simulated.key", "cameras/camera-1.key",
                    "viewers/control-room.key"}  # fmt: skip
    assert all(
        made.keys.joinpath(f).stat().st_mode & 0o005 == 0o005 for f in ("cameras", "viewers")
    )


def manifests(name: str) -> dict[str, Any]:
    found = yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text())
    return {entry["kind"]: entry for entry in found}


def test_kubernetes(machine: Path, token: Path) -> None:
    made = typed(machine, *blocks(KUBERNETES))
    base, more = manifests("scgn-live.yaml"), manifests("curve.yaml")
    pod = base["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    inside = {}
    for mount in container["volumeMounts"]:
        if mount["name"] in ("curve-key", "cameras", "viewers"):
            assert mount["readOnly"] is True
            assert "subPath" not in mount, "what is mounted so is never updated"
            source = "service.key_secret" if mount["name"] == "curve-key" else mount["name"]
            ends = "/service.key_secret" if mount["name"] == "curve-key" else ""
            inside[mount["mountPath"] + ends] = made.keys / source
    assert container["envFrom"] == [
        {"configMapRef": {"name": more["ConfigMap"]["metadata"]["name"], "optional": True}}
    ]
    said = {k: str(inside.get(v, v)) for k, v in more["ConfigMap"]["data"].items()}
    settings = loaded(said, token)
    assert_guarded(settings)
    assert people(settings) == {"cameras": {"camera-1"}, "viewers": {"control-room"}}
    # Names of what is made by hand.
    secret = volumes["curve-key"]["secret"]
    assert (secret["defaultMode"], secret["optional"]) == (0o440, True)
    (line,) = [call for call in made.calls if " create secret " in call]
    assert f" {secret['secretName']} --from-file=deploy/secrets/keys/service.key_secret" in line
    for name in ("cameras", "viewers"):
        assert volumes[name]["configMap"]["optional"] is True
        made_by = f"create configmap {volumes[name]['configMap']['name']} --from-file="
        assert any(f"{made_by}deploy/secrets/keys/{name}" in call for call in made.calls)


@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed")
def test_kubernetes_lists_hold_the_public_keys(machine: Path) -> None:
    made = typed(machine, *blocks(KUBERNETES))
    lists = {o["metadata"]["name"]: o["data"] for o in made.applied() if o["kind"] == "ConfigMap"}
    assert set(lists["scgn-live-cameras"]) == {"camera-1.key"}
    assert set(lists["scgn-live-viewers"]) == {"control-room.key"}
    text = (made.keys / "cameras" / "camera-1.key").read_text()
    assert lists["scgn-live-cameras"]["camera-1.key"] == text
    assert "secret-key" not in (made.root / "notes.applied").read_text()


def test_kubernetes_opens_three_ports_to_one_network(machine: Path) -> None:
    made = typed(machine, *blocks(KUBERNETES))
    applied = {o["kind"]: o for o in made.applied() if o["metadata"]["name"] == "scgn-live-frames"}
    for found, network in ((manifests("curve.yaml"), "192.0.2.0/24"), (applied, "192.168.7.0/24")):
        service, policy = found["Service"]["spec"], found["NetworkPolicy"]["spec"]
        opened = {p["name"]: (p["port"], p["targetPort"]) for p in service["ports"]}
        assert opened == {name: (port, port) for name, port in PORTS.items()}
        assert service["loadBalancerSourceRanges"] == [network]
        assert service["externalTrafficPolicy"] == "Local", "the policy sees the camera's address"
        (rule,) = policy["ingress"]
        assert rule["from"] == [{"ipBlock": {"cidr": network}}]
        assert rule["ports"] == [{"port": port, "protocol": "TCP"} for port in PORTS.values()]
        labels = manifests("scgn-live.yaml")["Deployment"]["spec"]["selector"]["matchLabels"]
        assert service["selector"] == policy["podSelector"]["matchLabels"] == labels
        assert policy["policyTypes"] == ["Ingress"]


# What all of them promise.


@pytest.mark.parametrize("umask", [0o022, 0o077])
@pytest.mark.parametrize("way", [COMPOSE, SYSTEMD, KUBERNETES])
def test_secrets_stay_their_owners(machine: Path, way: str, umask: int) -> None:
    made = typed(machine, *blocks(way), umask=umask)
    secrets = list(made.keys.rglob("*.key_secret"))
    assert len(secrets) >= 3
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in secrets} == {"0o600"}
    assert stat.S_IMODE((made.keys / "hand-out").stat().st_mode) == 0o700
    if way != SYSTEMD:
        assert stat.S_IMODE(made.keys.parent.stat().st_mode) == 0o700
    holding = [p for p in made.root.rglob("*") if p.is_file() and "secret-key" in _text(p)]
    assert set(holding) == set(secrets), "no other file holds one"


def _text(path: Path) -> str:
    return path.read_text(errors="replace")


def test_no_line_of_the_page_opens_a_secret() -> None:
    for line in re.findall(r"^    .*chmod.*$", PAGE, flags=re.MULTILINE):
        words = shlex.split(line, comments=True)
        modes = [int(w, 8) for w in words if re.fullmatch(r"0[0-7]{3}", w)]
        assert modes, line
        assert "-R" not in words
        assert "*" not in line, "a pattern takes what is put there later"
        opened = [w for w in words if "/" in w]
        assert not any("secret" in Path(w).name or "hand-out" in w for w in opened)


def test_keys_are_where_git_and_the_image_take_nothing() -> None:
    assert "*" in (DEPLOY / "secrets" / ".gitignore").read_text().splitlines()
    assert "!deploy" not in (ROOT / ".dockerignore").read_text()
    found = subprocess.run(
        ["git", "check-ignore", "deploy/secrets/keys/service.key_secret"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if found.returncode == 128:
        pytest.skip("no git checkout")
    assert found.returncode == 0


def test_the_image_makes_keys_where_nothing_is_installed(machine: Path, image: Any) -> None:
    (function,) = blocks("## With keys")[:1]
    made = typed(machine, f"{function}\nscgn-live keys made --camera cam --viewer wall\n")
    (call,) = made.calls
    assert f"--user {os.getuid()} --volume {made.checkout}:/here --workdir /here" in call
    program = json_entry(image)
    assert f"--entrypoint {program} " in call
    assert (made.checkout / "made" / "hand-out" / "cam" / "cam.key_secret").exists()


def json_entry(image: Any) -> str:
    return str(yaml.safe_load(image.last("ENTRYPOINT"))[0])


@pytest.mark.parametrize("way", [COMPOSE, SYSTEMD, KUBERNETES])
def test_a_camera_more_and_one_less(machine: Path, way: str) -> None:
    text = section("## With keys").replace("\n", " ")
    add, remove = (
        re.search(rf"`({verb} [^`]+)`", text) for verb in ("scgn-live keys FOLDER", "rm")
    )
    assert add is not None
    assert remove is not None
    made = typed(machine, *blocks(way), umask=0o077)
    cameras, typed_as = made.keys / "cameras", "deploy/secrets/keys"
    if way == SYSTEMD:
        typed_as = "/etc/scgn-live/keys"
    before = listed(cameras)
    typed(machine, add[1].replace("FOLDER", typed_as), umask=0o077)
    assert len(listed(cameras) - before) == 1
    assert (cameras / "camera-2.key").stat().st_mode & 0o004, "as it was made"
    typed(machine, remove[1].replace("FOLDER", typed_as))
    assert listed(cameras) == before


# The other machines.


@contextmanager
def elsewhere(made: Typed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A service with those keys, and a folder into which the hand-outs were moved."""
    folder = made.root / "elsewhere"
    shutil.copytree(made.keys / "hand-out", folder)
    monkeypatch.chdir(folder)
    changes = {"curve_key": made.keys / "service.key_secret", "camera_keys": made.keys / "cameras",
               "viewer_keys": made.keys / "viewers"}  # fmt: skip
    with running_app(made.root, **changes) as app:
        yield app


def test_the_other_machines_connect(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = typed(machine, *blocks(COMPOSE))
    moved, spoken = blocks("### On the other machines")
    assert all((made.checkout / line.split()[2]).exists() for line in moved.splitlines())
    with elsewhere(made, monkeypatch) as app:
        ends = app.endpoints()

        def here(text: str) -> str:
            for name, port in PORTS.items():
                text = text.replace(f"tcp://192.168.7.10:{port}", ends[name])
            assert "192.168" not in text
            return text

        send, watch = (shlex.split(here(line))[1:] for line in spoken.splitlines())
        assert (send[0], watch[0]) == ("send", "watch")
        assert main([*send, "--shape", "16x12", "--frames", "3", "--timeout", "5"]) == 0
        wait_for(lambda: app.ledger.totals().get(("published", "")) == 3, "three frames leaving")
        (snippet,) = re.findall(
            r"^```python\n(.*?)^```$",
            section("### On the other machines"),
            re.DOTALL | re.MULTILINE,
        )
        own = client_keys("camera-1/service.key", "camera-1/camera-1.key_secret")
        with (
            ThreadPoolExecutor(2) as watchers,
            FrameSender(ends["ingest"], "camera-1", keys=own) as sender,
        ):
            status = watchers.submit(main, [*watch, "--frames", "1", "--timeout", "5"])
            script = [sys.executable, "-c", here(snippet)]
            shown = watchers.submit(subprocess.run, script, capture_output=True, text=True)
            while not (status.done() and shown.done()):  # both see what is sent from now on
                sender.send(noise_frame(1))
                time.sleep(0.01)
            assert status.result() == 0
            assert re.fullmatch(r"[\d.]+\n", shown.result().stdout), shown.result().stderr
