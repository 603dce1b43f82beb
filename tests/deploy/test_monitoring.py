"""Dashboard and alerts: every metric and label they ask for is one that the service has."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from support import ROOT, frame_parts, noise_frame, push, running_app, wait_for

from scgn_live.control import request

PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards" / "scgn-live.json").read_text())
RULES = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"][0]["rules"]
ALERTS = [rule["alert"] for rule in RULES]
OTHERS = {"up": {"job", "instance"}, "ALERTS": {"alertname", "alertstate", "severity", "job"}}
SCRAPED = {"job", "instance"}  # labels that the scrape adds
WORDS = {
    "and", "or", "unless", "on", "by", "offset", "sum", "rate", "increase", "absent", "changes",
    "vector", "histogram_quantile", "max_over_time",
}  # fmt: skip
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}

Labels = dict[str, dict[str, set[str]]]


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Labels:
    """Every metric of a service that took frames -> label -> its values."""
    state = tmp_path_factory.mktemp("state")
    with running_app(state) as app, push(app.ingest.endpoint) as camera:
        camera.send_multipart([b"junk"])
        for index in (0, 3):
            camera.send_multipart(frame_parts("s", index, noise_frame(1)))
        wait_for(lambda: app.metrics.summary()["frames_measured"] == 2, "two frames leaving")
        answer = asyncio.run(request(f"ipc://{state}/control", 10, do="metrics"))
    found: Labels = {}
    for family in text_string_to_metric_families(answer["text"].decode()):
        for suffix in SUFFIXES.get(family.type, ("",)):
            found[family.name + suffix] = defaultdict(set)
        for sample in family.samples:
            labels = found.setdefault(sample.name, defaultdict(set))
            for label, value in sample.labels.items():
                labels[label].add(value)
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[Any]:
    """Every PromQL expression, under the name of what asks it."""
    for rule in RULES:
        yield pytest.param(rule["expr"], id=rule["alert"])
    for panel in [*panels(), *DASHBOARD["annotations"]["list"]]:
        for target in panel.get("targets", [panel]):
            name = panel.get("title", panel.get("name"))
            yield pytest.param(target["expr"], id=f"{name} {target.get('refId', '')}".strip())


EXPRESSIONS = list(expressions())


def selectors(expression: str) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Metric name and (label, operator, value) of every selector."""
    for name, inside in re.findall(r"\b(scgn_\w+|up|ALERTS)\b(?:\{([^}]*)\})?", expression):
        yield name, re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', inside)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_is_asked_for_exists(expression: str, metrics: Labels) -> None:
    asked = list(selectors(expression))
    assert asked
    for name, matchers in asked:
        assert name in metrics or name in OTHERS, name
        for label, operator, value in matchers:
            known = metrics.get(name, {})
            assert label in {*known, *SCRAPED, *OTHERS.get(name, ())}, f"{name}: {label}"
            if label in known and operator in ("=", "=~"):
                assert set(value.split("|")) <= known[label], f"{name}: {label} = {value}"


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_no_word_is_misspelt(expression: str) -> None:
    bare = re.sub(r'\{[^}]*\}|"[^"]*"|\[[^\]]*\]|\b(?:by|on) \([^)]*\)|offset \w+', " ", expression)
    words = set(re.findall(r"[a-zA-Z_]\w*", bare))
    assert words <= WORDS | {name for name, _ in selectors(expression)}


@pytest.mark.parametrize("rule", RULES, ids=ALERTS)
def test_an_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"\d+[sm]", rule["for"])
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook"}
    page, _, anchor = notes["runbook"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.M)
    assert anchor in {re.sub(r"[^\w-]", "", h.lower().replace(" ", "-")) for h in headings}
    assert anchor == rule["alert"].lower()


def test_alerts_runbook_and_unit_tests_are_of_each_other() -> None:
    runbook = (ROOT / "docs" / "alerts.md").read_text()
    section = runbook.partition("\n## When an alert fires\n")[2]
    assert re.findall(r"^### (\w+)$", section, re.M) == ALERTS
    assert len(set(ALERTS)) == len(ALERTS)
    tried = (PROMETHEUS / "alerts_test.yml").read_text()
    assert set(re.findall(r'alertname="(\w+)"', tried)) == set(ALERTS)


def test_windows_hold_several_scrapes() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["global"]
    scrape_s = int(config["scrape_interval"].removesuffix("s"))
    for rule in RULES:
        for minutes in re.findall(r"\[(\d+)m\]", rule["expr"]):
            assert 60 * int(minutes) >= 4 * scrape_s


def test_the_dashboard_asks_the_four_questions() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    asked = ["Is it fresh?", "Is it whole?", "Is it right?", "Is it loaded?"]
    assert rows == ["Now", *asked]
    assert all(panel["description"] for panel in panels())


def test_panels_share_the_grid_without_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        x, y, w, h = (panel["gridPos"][key] for key in "xywh")
        cells = {(x + i, y + j) for i in range(w) for j in range(h)}
        assert x + w <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    identities = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identities)) == len(identities)


def test_every_query_goes_to_the_provisioned_source() -> None:
    file = GRAFANA / "provisioning" / "datasources" / "prometheus.yml"
    uid = yaml.safe_load(file.read_text())["datasources"][0]["uid"]
    asking = [*panels(), *DASHBOARD["templating"]["list"], *DASHBOARD["annotations"]["list"]]
    asking += [target for panel in panels() for target in panel["targets"]]
    assert {entry["datasource"]["uid"] for entry in asking} == {uid}
    (variable,) = DASHBOARD["templating"]["list"]
    for panel in panels():
        for target in panel["targets"]:
            chosen = f"${variable['name']}" in target["expr"]
            assert chosen or target["expr"].startswith("ALERTS"), panel["title"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize(
    "words",
    [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml"),
     ("check", "config", "--syntax-only", "prometheus.yml")],
)  # fmt: skip
def test_promtool_agrees(words: tuple[str, ...]) -> None:
    found = subprocess.run(["promtool", *words], cwd=PROMETHEUS, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
