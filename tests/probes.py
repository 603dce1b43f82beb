"""What tests of health share: the HTTP side on a real server, and what probes see of it."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from support import DEADLINE_S, wait_for

from scgn_live.running import free_ports
from scgn_live.settings import Settings
from scgn_live.sidecar.app import build_app

READY, LIVE = (200, {"ready": True, "reasons": []}), (200, {"live": True, "reasons": []})


@dataclass(frozen=True)
class Probes:
    """What a load balancer and an orchestrator ask, at host:port."""

    host: str

    def ask(self, path: str, method: str = "GET") -> tuple[int, Any]:
        """Status and content of one answer, on a connection of its own."""
        with contextlib.closing(http.client.HTTPConnection(self.host, timeout=10)) as connection:
            connection.request(method, path)
            answer = connection.getresponse()
            content = answer.read()
            shown = "json" in answer.headers["content-type"]
            return answer.status, json.loads(content) if shown else content.decode()

    def ready(self) -> tuple[int, Any]:
        return self.ask("/readyz")

    def live(self) -> tuple[int, Any]:
        return self.ask("/livez")

    def becomes_ready(self) -> None:
        wait_for(lambda: self.ready() == READY, "being ready")

    def told(self, words: str, path: str = "/readyz", deadline_s: float = DEADLINE_S) -> str:
        """The reason that begins with `words`, once it is the only one of a 503."""
        seen: list[Any] = []

        def only_that() -> bool:
            seen.append(self.ask(path))
            status, content = seen[-1]
            reasons = content["reasons"]
            return status == 503 and len(reasons) == 1 and reasons[0].startswith(words)

        try:
            wait_for(only_that, f"{words!r} at {path}", deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; last seen: {seen[-1]}") from None
        return str(seen[-1][1]["reasons"][0])

    def times_s(self, count: int) -> list[float]:
        """How long probes wait on a kept connection, in turn for both paths."""
        found = []
        with contextlib.closing(http.client.HTTPConnection(self.host, timeout=10)) as connection:
            for index in range(count):
                begun = time.perf_counter()
                connection.request("GET", ("/readyz", "/livez")[index % 2])
                connection.getresponse().read()
                found.append(time.perf_counter() - begun)
        return found


@contextlib.contextmanager
def sidecar(of: Settings) -> Iterator[Probes]:
    """The HTTP process' application on a real server, beside whatever stands at its control."""
    (port,) = free_ports(1)
    application = build_app(of, f"ipc://{of.state_dir}/control")
    config = uvicorn.Config(application, "127.0.0.1", port, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started, "the sidecar listening")
        yield Probes(f"127.0.0.1:{port}")
    finally:
        server.should_exit = True
        thread.join(DEADLINE_S)
