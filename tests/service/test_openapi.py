"""The OpenAPI document against a running service: schemathesis asks all it allows, and more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemathesis
import schemathesis.engine
from schemathesis.config import (
    ChecksConfig,
    GenerationConfig,
    PositiveDataAcceptanceConfig,
    ProjectConfig,
    ProjectsConfig,
    SchemathesisConfig,
    SimpleCheckConfig,
)
from schemathesis.engine import events
from uploads import Http, npy

from scgn_live.running import RunningService, start_service

TOKEN = "correct-horse-battery-staple"
EXAMPLES = 6  # of each operation and phase, beside those that cover every parameter
# A form of files is no frame only because it fits the document.
FINE: list[str | int] = ["2xx", 401, 404, 409, 413, 415, 422]


@dataclass
class Found:
    """What a run came upon: statuses by operation, failures and errors in words."""

    statuses: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    wrong: list[str] = field(default_factory=list)

    def note(self, event: Any) -> None:
        if isinstance(event, (events.NonFatalError, events.FatalError)):
            self.wrong.append(str(getattr(event, "info", event)))
        if not isinstance(event, events.ScenarioFinished):
            return
        record = event.recorder
        for case, interaction in record.interactions.items():
            if interaction.response is not None:
                label = record.cases[case].value.operation.label
                self.statuses[label].add(interaction.response.status_code)
        for checks in record.checks.values():
            for check in checks:
                if check.failure_info is not None:
                    failure = check.failure_info.failure
                    self.wrong.append(f"{record.label}: {failure.title}: {failure.message}")


def explored(url: str, headers: dict[str, str], parameters: dict[str, Any], **checks: Any) -> Found:
    """What schemathesis finds in the document of a service, with every check but `checks`."""
    project = ProjectConfig(
        headers=headers,
        parameters=parameters,
        request_timeout=60,
        generation=GenerationConfig(max_examples=EXAMPLES, database="none"),
        checks=ChecksConfig(
            positive_data_acceptance=PositiveDataAcceptanceConfig(expected_statuses=FINE),
            **checks,
        ),
    )
    config = SchemathesisConfig(seed=1, projects=ProjectsConfig(default=project))
    given = {"Authorization": f"Bearer {TOKEN}"}  # the document itself is behind the door
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config, headers=given)
    found = Found()
    for event in schemathesis.engine.from_schema(schema).execute():
        found.note(event)
    return found


@pytest.fixture(scope="module", params=["open", "locked"])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningService]:
    folder: Path = tmp_path_factory.mktemp(request.param)
    flags = ["--state-dir", str(folder), "--engine", "pass-through"]
    if request.param == "locked":
        (folder / "token").write_text(TOKEN)
        flags += ["--token-file", str(folder / "token")]
    running = start_service(flags)
    yield running
    assert running.stop() == 0
    log = running.log.read_text()
    assert "Exception in ASGI" not in log
    assert '"process ended"' not in log
    running.log.unlink()


def test_nothing_is_found_and_every_operation_is_reached(service: RunningService) -> None:
    web = Http.of(service, token=TOKEN)
    kept = [web.stored({"dark": npy(np.full((20, 20), level))})["id"] for level in (1.0, 2.0)]
    job = web.post("/calibrations/from-stream", frames=4000).json["id"]
    pids = [service.pid_of(role) for role in ("http", "frames")]
    known = {"path.identity": kept[1], "path.job": job}
    found = explored(service.http, {"Authorization": f"Bearer {TOKEN}"}, known)
    assert found.wrong == []
    documented = {
        f"{method.upper()} {path}"
        for path, operations in web.get("/openapi.json").json["paths"].items()
        for method in operations
    }
    assert set(found.statuses) >= documented
    reached = {label for label in documented if min(found.statuses[label]) < 300}
    # schemathesis makes no references; what is not there any more cannot be deleted again; and a
    # service that passes frames through has no networks, and none with a memory.
    assert documented - reached <= {
        "POST /calibrations", "DELETE /calibrations/{identity}", "POST /models/{name}/activate",
        "POST /models/rollback", "POST /temporal",
    }  # fmt: skip
    assert max(max(statuses) for statuses in found.statuses.values()) < 500
    assert [service.pid_of(role) for role in ("http", "frames")] == pids
    assert web.get("/readyz").status == 200


def test_without_the_token_the_door_stays_closed(service: RunningService) -> None:
    if Http.of(service).get("/status").status != 401:
        return  # this one has no lock
    # Whoever has no key is not told either what may be done with a path.
    off = SimpleCheckConfig(enabled=False)
    found = explored(service.http, {}, {}, unsupported_method=off)
    assert found.wrong == []
    for label, statuses in found.statuses.items():
        free = label.endswith(("z", "/live", "/ready"))
        assert statuses <= ({200, 401, 405} if free else {401}), label
