"""What the service measures of itself, for Prometheus and for the status page."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from scgn_live.ledger import Ledger
from scgn_live.reports import published
from scgn_live.ring import Ring, Slot

if TYPE_CHECKING:
    from scgn.stream.tracker import StreamReport

BUCKETS_S = (
    0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
)  # fmt: skip
STAGES = ("wait", "engine", "publish", "total")
RECENT = 4096  # frames behind the percentiles of the status page
RATE_WINDOW_S = 10.0
SOURCES_MAX = 64  # cameras whose newest report is kept

FROM_THE_START = (
    ("received", ""), ("published", ""), ("missing", ""), ("series", ""), ("dropped", "overload"),
    ("failed", "engine_error"), ("failed", "non_finite"), ("rejected", "duplicate"),
    ("rejected", "header_format"),
)  # fmt: skip
_HELP = {
    "received": "Frames that came in",
    "published": "Frames published",
    "dropped": "Frames let go on purpose",
    "failed": "Frames that could not be processed",
    "missing": "Frame indices that never arrived",
    "rejected": "Messages that were not frames",
    "series": "Series opened",
}


class LedgerCollector(Collector):
    """The ledger's totals and the ring's depths, read when asked: no cost per frame."""

    def __init__(self, ledger: Ledger, ring: Ring) -> None:
        self._ledger, self._ring = ledger, ring

    def collect(self) -> Iterable[Metric]:
        families = {
            bucket: CounterMetricFamily(f"scgn_{bucket}", text, labels=["reason"])
            for bucket, text in _HELP.items()
        }
        # From the start: a rate cannot see the step from no series at all to 1.
        totals = dict.fromkeys(FROM_THE_START, 0) | self._ledger.totals()
        for (bucket, reason), count in totals.items():
            families[bucket].add_metric([reason], count)
        yield from families.values()
        depth = GaugeMetricFamily("scgn_ring_slots", "Ring slots by state", labels=["state"])
        for state, count in self._ring.depths().items():
            depth.add_metric([state], count)
        yield depth
        yield _gauge("scgn_series_open", "Series that go on", len(self._ledger.open_runs()))


class Facts(TypedDict):
    """What the service is at; ids are empty where there is none; refused: connections, by list."""

    ready: bool
    calibration: str
    mismatched: int
    model: str
    engine: str
    version: str
    refused: dict[str, int]


class FactsCollector(Collector):
    """Readiness, calibration, model and the age of what viewers see, read when asked."""

    def __init__(self, facts: Callable[[], Facts], age_s: Callable[[], float]) -> None:
        self._facts, self._age_s = facts, age_s

    def collect(self) -> Iterable[Metric]:
        facts = self._facts()
        yield _gauge("scgn_ready", "1 when a frame sent now would be denoised", facts["ready"])
        active = facts["calibration"] != ""
        yield _gauge("scgn_calibration_active", "1 while frames are corrected", active)
        yield CounterMetricFamily(
            "scgn_calibration_mismatched_frames", "Frames that the active calibration does not fit",
            value=facts["mismatched"],
        )  # fmt: skip
        refused = CounterMetricFamily(
            "scgn_refused_connections", "Connections whose key is on no list", labels=["list"]
        )
        for name, count in facts["refused"].items():
            refused.add_metric([name], count)
        yield refused
        text = "Time since the newest published frame was received, s; NaN before the first"
        yield _gauge("scgn_frame_age_seconds", text, self._age_s())
        names = ("model", "engine", "calibration", "version")
        info = GaugeMetricFamily("scgn_info", "What frames go through", labels=names)
        info.add_metric(
            [facts["model"], facts["engine"], facts["calibration"], facts["version"]], 1
        )
        yield info


class StreamCollector(Collector):
    """What is known of each camera's stream: gauges of cameras with an open series alone.

    reports: the newest published words by source; noise: by source, as the status tells it.
    """

    def __init__(
        self,
        ledger: Ledger,
        reports: Callable[[], Mapping[str, Mapping[str, Any]]],
        noise: Callable[[], Mapping[str, Mapping[str, Any]]],
    ) -> None:
        self._ledger, self._reports, self._noise = ledger, reports, noise

    def collect(self) -> Iterable[Metric]:
        open_now = {run.start.source for run, _ in self._ledger.open_runs()}
        reports = {s: told for s, told in self._reports().items() if s in open_now}
        noise = {s: told for s, told in self._noise().items() if s in open_now}
        for name, (text, key) in _OF_STREAMS.items():
            values = {source: told[key] for source, told in reports.items()}
            yield _by_source(name, text, values)
        upsnr = {
            source: (told["quality"] or {}).get("upsnr_db") for source, told in reports.items()
        }
        yield _by_source("scgn_upsnr_db", "PSNR without truth of what is shown, dB", upsnr)
        drift = GaugeMetricFamily(
            "scgn_drift_px", "Drift of the specimen, px a frame", labels=["source", "axis"]
        )
        for source, told in reports.items():
            for axis, value in zip(("rows", "columns"), told["drift_px"] or (), strict=False):
                drift.add_metric([source, axis], value)
        yield drift
        sigma = {source: told.get("sigma_adu") for source, told in noise.items()}
        yield _by_source("scgn_noise_sigma_adu", "Noise of one pixel and frame, counts", sigma)
        info = GaugeMetricFamily(
            "scgn_noise_info", "Where a camera's noise is known from", labels=["source", "from"]
        )
        for source, told in noise.items():
            if told.get("from") is not None:
                info.add_metric([source, str(told["from"])], 1)
        yield info


_OF_STREAMS = {
    "scgn_averaged_frames": ("Effective frames behind the newest one", "averaged"),
    "scgn_moving_share": ("Share of pixels where the past is refused", "moving"),
    "scgn_dose_e_per_px": ("Dose of one frame, electrons a pixel", "dose_e_per_px"),
}


def _by_source(name: str, text: str, values: Mapping[str, float | None]) -> Metric:
    """A gauge with a row for each source whose value is known."""
    family = GaugeMetricFamily(name, text, labels=["source"])
    for source, value in values.items():
        if value is not None:
            family.add_metric([source], value)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


class Metrics:
    """Times of every stage. `frame_left` is called once a frame, by the publisher."""

    def __init__(
        self,
        ledger: Ledger,
        ring: Ring,
        facts: Callable[[], Facts] | None = None,
        noise: Callable[[], Mapping[str, Mapping[str, Any]]] = dict,
    ) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(LedgerCollector(ledger, ring))
        self.registry.register(StreamCollector(ledger, self.reports, noise))
        ProcessCollector(registry=self.registry)
        if facts is not None:
            self.registry.register(FactsCollector(facts, self.age_s))
        self._ledger = ledger
        stage_s = Histogram(
            "scgn_stage_seconds", "Time of one frame in each stage, s", ["stage"],
            buckets=BUCKETS_S, registry=self.registry,
        )  # fmt: skip
        self._stage_s = {stage: stage_s.labels(stage) for stage in STAGES}
        self._lock = threading.Lock()
        self._recent: deque[tuple[float, float, float]] = deque(maxlen=RECENT)
        self._reports: OrderedDict[str, StreamReport] = OrderedDict()  # newest by source

    def reports(self) -> dict[str, dict[str, Any]]:
        """What the newest published frame of each source told of its stream."""
        with self._lock:
            reports = dict(self._reports)
        return {source: published(report) for source, report in reports.items()}

    def age_s(self) -> float:
        """Time since the newest frame that went out was received, s; NaN before the first."""
        with self._lock:
            if not self._recent:
                return float("nan")
            left_s, took_s, _ = self._recent[-1]
        return time.monotonic() - (left_s - took_s)

    def frame_left(self, slot: Slot, left_s: float) -> None:
        """One frame went out at `left_s` (monotonic)."""
        self._stage_s["wait"].observe(slot.taken_s - slot.received_s)
        self._stage_s["engine"].observe(slot.done_s - slot.taken_s)
        self._stage_s["publish"].observe(left_s - slot.done_s)
        self._stage_s["total"].observe(left_s - slot.received_s)
        with self._lock:
            self._recent.append((left_s, left_s - slot.received_s, slot.done_s - slot.taken_s))
            self._reports.pop(slot.header.source, None)
            if slot.report is not None:
                self._reports[slot.header.source] = slot.report
                if len(self._reports) > SOURCES_MAX:
                    self._reports.popitem(last=False)

    def summary(self) -> dict[str, Any]:
        """Rates over the last seconds (frames/s) and percentiles over the last frames (ms)."""
        with self._lock:
            rows = np.array(self._recent).reshape(-1, 3)
        now = time.monotonic()
        inside = rows[rows[:, 0] > now - RATE_WINDOW_S]
        span_s = now - inside[0, 0] if len(inside) else 0.0
        return {
            "rate_in_fps": round(self._ledger.rate_in_fps(RATE_WINDOW_S), 2),
            "rate_out_fps": round((len(inside) - 1) / span_s, 2) if len(inside) > 1 else 0.0,
            "latency_ms": _percentiles_ms(rows[:, 1]),
            "engine_ms": _percentiles_ms(rows[:, 2]),
            "frames_measured": len(rows),
        }

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)


def _percentiles_ms(seconds: Any) -> dict[str, float | None]:
    if len(seconds) == 0:
        return {"p50": None, "p90": None, "p99": None, "max": None}
    values = np.percentile(1000 * seconds, (50, 90, 99, 100))
    return dict(
        zip(("p50", "p90", "p99", "max"), (round(float(v), 3) for v in values), strict=True)
    )
