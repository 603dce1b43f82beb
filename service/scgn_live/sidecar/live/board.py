"""What the service says of itself, asked once a second for all browsers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from scgn_live.control import ControlError, request
from scgn_live.sidecar.live.feed import SOURCES_MAX, LatestFeed, connectable
from scgn_live.sidecar.live.watched import WhileWatched
from scgn_live.sidecar.watch import FrameProcess

EVERY_S = 1.0
ASK_S = 2.0
COUNTS = ("expected", "published", "missing", "in_flight", "dropped", "failed", "rejected")


class StatusBoard(WhileWatched):
    """The newest status as `text`; asked for only while a visible browser is there."""

    def __init__(self, frames: FrameProcess, feed: LatestFeed) -> None:
        super().__init__()
        self.text = ""
        self.viewers = 0
        self._frames = frames
        self._feed = feed

    async def work(self) -> None:
        """Ask and tell, and wait for a second."""
        try:
            status = await request(self._frames.control, ASK_S, do="status")
        except ControlError:
            status = {}  # the reasons below say why
        if endpoint := status.get("endpoints", {}).get("latest"):
            self._feed.endpoint = connectable(endpoint)
        self.text = json.dumps(self._shown(status), separators=(",", ":"))
        self.tell()
        await asyncio.sleep(EVERY_S)

    def _shown(self, status: Mapping[str, Any]) -> dict[str, Any]:
        reasons = self._frames.reasons_not_ready()
        plain = (
            "rate_in_fps", "rate_out_fps", "calibration", "model", "engine", "overload", "temporal",
        )  # fmt: skip
        latency = status.get("latency_ms") or {}
        return {
            "type": "status", "ready": not reasons, "reasons": reasons,
            **{key: status.get(key) for key in plain},
            "latency_ms": {key: latency.get(key) for key in ("p50", "p99")},
            "sources": newest_series(status.get("series", []), status.get("sources", {})),
            "viewers": self.viewers,
        }  # fmt: skip


def newest_series(
    rows: list[Mapping[str, Any]], streams: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Each camera's newest series with its ledger, and what is known of its stream (None: each of
    its frames is alone), of the cameras that came last.
    """
    newest: dict[str, Mapping[str, Any]] = {}
    for row in rows:  # oldest first
        newest.pop(row["source"], None)
        newest[row["source"]] = row
    keys = ("source", "series", "state", "pixel_size_nm", "exposure_ms", *COUNTS)
    chosen = list(newest.values())[-SOURCES_MAX:]
    return [
        {**{key: row.get(key) for key in keys}, "stream": _of_stream(streams.get(row["source"]))}
        for row in chosen
    ]


def _of_stream(known: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if known is None:
        return None
    return {key: known.get(key) for key in ("noise", "dose", "quality", "shown")}
