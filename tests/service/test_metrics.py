"""What the service says of itself names what the documentation promises."""

from __future__ import annotations

import re
from pathlib import Path

from support import ROOT, frame_parts, noise_frame, push, running_app, subscribed, wait_for

FRAME = noise_frame(1)


def test_documented_metrics_exist_and_count(tmp_path: Path) -> None:
    with running_app(tmp_path) as app, subscribed(app) as sub, push(app.ingest.endpoint) as camera:
        camera.send_multipart([b"junk"])
        for index in (0, 3):
            camera.send_multipart(frame_parts("s", index, FRAME))
            sub.until("frame", frame=index)
        # A frame is measured just after it is sent.
        wait_for(lambda: app.metrics.summary()["frames_measured"] == 2, "both being measured")
        text = app.metrics.exposition().decode()
    documented = re.findall(r"`(scgn_\w+)", (ROOT / "docs" / "operate.md").read_text())
    there = set(re.findall(r"^# TYPE (scgn_\w+)", text, re.MULTILINE))
    assert {name.removesuffix("_total") for name in documented} == {
        name.removesuffix("_total") for name in there if not name.endswith("_created")
    }
    assert 'scgn_published_total{reason=""} 2.0' in text
    assert 'scgn_missing_total{reason=""} 2.0' in text
    assert 'scgn_rejected_total{reason="header_format"} 1.0' in text
    for stage in ("wait", "engine", "publish", "total"):
        assert f'scgn_stage_seconds_count{{stage="{stage}"}} 2.0' in text


def test_summary_counts_the_frames_that_left(tmp_path: Path) -> None:
    with running_app(tmp_path) as app, subscribed(app) as sub, push(app.ingest.endpoint) as camera:
        assert app.metrics.summary()["latency_ms"]["p50"] is None
        for index in range(5):
            camera.send_multipart(frame_parts("s", index, FRAME))
        sub.until("frame", frame=4)
        wait_for(lambda: app.metrics.summary()["frames_measured"] == 5, "all being measured")
        found = app.metrics.summary()
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["max"]
    assert found["rate_out_fps"] > 0
