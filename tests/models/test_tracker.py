"""A stream's tracker: its numbers, how sure they are, and what `auto` shows."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import deque
from itertools import pairwise
from threading import Thread

import numpy as np
import pytest

from scgn.stream.facts import SHOWN, Facts
from scgn.stream.quality import KINDS, Quality, Score
from scgn.stream.running import Running
from scgn.stream.tracker import Controls, Exposure, StreamTracker

PLAIN = Facts(
    level=8, scale=3, mean=8, averaged=9, drift_rows=0.1, drift_columns=-0.2, drift_error=0.01,
    moving=0.02, cut=0, noise_from=2, gain_adu_per_e=2, read_noise_adu=1, line_rows=0.5,
    line_columns=0.1, correlation_px=0.4, filled=0, flagged=0, saturated=0, scored=0,
    gain_network=0, gain_mean=0, gain_estimate=0, error=1, scored_probe=0, gain_probe=0,
)  # fmt: skip
EQUAL = {"temporal": 1.0, "single": 1.0, "mean": 1.0, "estimate": 1.0}
COMMON, OWN = 1.0, 0.1  # deviation of a score's noise that all kinds share, and of each kind's own


class Graph:
    """Stands for the graph: scores every `gap`-th frame with gains of known truth."""

    def __init__(self, gains, seed=0, gap=2, in_flight=2, **settings) -> None:
        self.gains, self.gap = gains, gap
        self.random = np.random.default_rng(seed)
        self.tracker = StreamTracker(**settings)
        self.submitted = deque(maxlen=64)
        self.ahead = deque(self.tracker.controls() for _ in range(in_flight))
        self.waiting, self.frame, self.reports = None, 0, []

    def step(self, frame=None, **facts):
        self.ahead.append(self.tracker.controls())
        self.submitted.append(self.ahead.popleft())
        self.frame += 1
        scores = {**self.network_scores(), **self.probe_scores()}
        row = PLAIN._replace(**{**scores, **facts})
        exposure = Exposure(self.frame if frame is None else frame)
        report = self.tracker.told(row, exposure, self.submitted[-1], display_range=10.0)
        self.reports.append(report)
        return report

    def run(self, frames):
        shown = [self.step().shown for _ in range(frames)]
        return shown, sum(one != other for one, other in pairwise(shown))

    def network_scores(self):
        if self.waiting is None:
            self.waiting = self.frame
        back = self.frame - self.waiting
        if back < self.gap:
            self.common = COMMON * self.random.standard_normal()
            return {}
        self.waiting = self.frame
        kind = self.submitted[-1 - back].network
        error = 1 + 0.3 * self.random.standard_normal()
        return {
            "scored": back, "gain_network": self.gain(kind), "gain_mean": self.gain("mean"),
            "gain_estimate": self.gain("estimate"), "error": error,
        }  # fmt: skip

    def probe_scores(self):
        if len(self.submitted) <= self.gap:
            return {}
        longest = self.submitted[-1 - self.gap].probe_longest
        if longest is None:
            return {}
        kind = "single" if longest == 1 else "temporal"
        return {"scored_probe": self.gap, "gain_probe": self.gain(kind)}

    def gain(self, kind):
        return self.gains[kind] + self.common + OWN * self.random.standard_normal()


# How sure a number is


@pytest.mark.parametrize("wander", [0.0, 1.0])
def test_intervals_cover_the_truth_whatever_the_number_of_samples(wander) -> None:
    """Also where the truth wanders by as much as a sample's deviation, in 400 samples."""
    inside = {n: [] for n in (2, 3, 4, 6, 12, 24, 64, 160)}
    random = np.random.default_rng(3)
    for _ in range(1200):
        phase = random.uniform(0, 2 * np.pi)
        truth = wander * np.sin(phase + np.arange(160) / 400 * 2 * np.pi)
        samples = truth + random.standard_normal(160)
        of_samples, of_truth = Running(64), Running(64)
        for tick, (sample, true) in enumerate(zip(samples, truth, strict=True)):
            of_samples.add(sample, tick)
            of_truth.add(true, tick)
            if tick + 1 in inside:
                miss = abs(of_samples.mean - of_truth.mean)
                inside[tick + 1].append(miss <= of_samples.reach)
    coverage = {n: float(np.mean(each)) for n, each in inside.items()}
    assert all(0.92 <= share <= 0.985 for share in coverage.values()), coverage


def test_upsnr_covers_the_truth() -> None:
    """Errors of one score of .3 and .8 of the mean: some told early, some late."""
    inside = []
    for seed in range(150):
        random = np.random.default_rng(seed)
        quality, spread = Quality(), random.choice([0.3, 0.8])
        quality.saw_range(10.0)
        for _ in range(int(random.integers(16, 300))):
            error = 1 + spread * random.standard_normal()
            quality.add_network(Score("temporal"), {"temporal": 2.0}, "temporal", error)
        told = quality.upsnr_db("temporal")
        if told is not None:
            inside.append(abs(told[0] - 20.0) <= 1.96 * told[1])
    assert len(inside) > 100
    assert 0.91 <= np.mean(inside) <= 0.99


def test_upsnr_is_not_told_while_unsure() -> None:
    """Not by chance either, where the interval at its best is a little wider than 3 dB."""
    told = 0
    for seed in range(20):
        random, quality = np.random.default_rng(seed), Quality()
        quality.saw_range(10.0)
        for _ in range(300):
            error = 1 + 3 * random.standard_normal()
            quality.add_network(Score("single"), {"single": 1.0}, "single", error)
            told += quality.upsnr_db("single") is not None
    assert told < 0.01 * 20 * 300


def test_upsnr_needs_a_range() -> None:
    quality = Quality()
    for _ in range(50):
        quality.saw_range(None)
        quality.saw_range(math.nan)
        quality.add_network(Score("single"), {"single": 1.0}, "single", 1.0)
    assert quality.upsnr_db("single") is None
    quality.saw_range(10.0)
    assert quality.upsnr_db("single") == (20.0, 0.0)


def test_real_scores_of_a_running_mean_are_covered() -> None:
    """Poisson frames of fringes, their mean of 16 as the network, scores by the facts' formulas."""
    inside = [_gain_of_a_running_mean_is_covered(seed) for seed in range(60)]
    assert 0.9 <= np.mean(inside) <= 1


def _gain_of_a_running_mean_is_covered(seed) -> bool:
    random = np.random.default_rng(seed)
    scene = np.broadcast_to(8 + 2.4 * np.cos(np.arange(16) / 2), (16, 16))
    measured, true, mean = Running(256), Running(256), scene * 0
    for frame in range(120):
        y, later = random.poisson(scene), random.poisson(scene)
        mean = mean + (y - mean) / min(frame + 1, 16)
        flat = y.mean()
        measured.add(float(np.mean((flat - later) ** 2 - (mean - later) ** 2)), frame)
        true.add(float(np.mean((flat - scene) ** 2 - (mean - scene) ** 2)), frame)
    return abs(measured.mean - true.mean) <= measured.reach


# What the header says


def test_the_right_frame_is_named_when_frames_are_missing() -> None:
    graph = Graph(EQUAL)
    indices = [0, 1, 2, 5, 6, 20, 21, 22, 30, 31, 40, 41]
    named = [graph.step(frame=index).quality for index in indices]
    frames = [quality["frame"] for quality in named if quality]
    assert frames == [2, 2, 6, 6, 21, 21, 30, 30]


def test_header_has_the_wires_map() -> None:
    graph = Graph({**EQUAL, "single": 0.5, "estimate": 0.5})
    graph.run(300)
    quality = next(report.quality for report in reversed(graph.reports) if _probed(report))
    assert list(quality) == [
        "frame", "shown", "gain", "gain_error", "upsnr_db", "error_db", "others"
    ]  # fmt: skip
    assert quality["shown"] == "temporal"
    assert set(quality["others"]) == {"single", "mean", "estimate"}
    assert quality["gain_error"] == pytest.approx(1.0, rel=0.25)
    assert quality["upsnr_db"] == pytest.approx(20, abs=4 * quality["error_db"])
    json.dumps(quality)


def _probed(report) -> bool:
    return bool(report.quality) and "single" in report.quality["others"]


def test_gain_is_the_last_scores() -> None:
    graph = Graph(EQUAL)
    graph.run(6)
    report = graph.step(scored=2, gain_network=123.0, gain_estimate=4.0, gain_mean=5.0)
    assert report.quality["gain"] == 123.0
    assert report.quality["others"]["estimate"][0] == 4.0
    assert graph.step(scored=0).quality["gain"] == 123.0


def test_a_score_from_before_a_cut_is_let_go() -> None:
    graph = Graph(EQUAL)
    graph.run(40)
    report = graph.step(cut=1, scored=2, gain_network=1e9)
    assert report.quality is None
    assert graph.step(scored=2, gain_network=1e9).quality is None
    assert graph.tracker.status()["quality"]["gains"] == {}


@pytest.mark.parametrize("step", [{"level": 13.0}, {"level": 5.0}, {"scale": 5.0}, {"scale": 1.9}])
def test_a_step_of_dose_or_noise_clears_the_sums(step) -> None:
    graph = Graph(EQUAL)
    graph.run(40)
    assert graph.tracker.status()["quality"]["gains"]
    graph.step(**step)
    assert graph.tracker.status()["quality"]["gains"] == {}


def test_dark_frames_are_no_steps() -> None:
    """A level around zero changes its factor all the time."""
    graph = Graph(EQUAL)
    for n in range(40):
        graph.step(level=0.02 * (-1) ** n, scale=3.0)
    assert graph.tracker.status()["quality"]["gains"]


# What auto shows


def test_auto_goes_to_single_where_the_past_harms_and_comes_back() -> None:
    graph = Graph({**EQUAL, "temporal": 0.5, "mean": 0.2, "estimate": 0.3})
    shown, switches = graph.run(600)
    assert (shown[0], shown[-1], switches) == ("temporal", "single", 1)
    assert shown.index("single") >= 24 * 8
    assert graph.reports[-1].averaged == 1
    graph.gains["temporal"] = 1.5
    shown, switches = graph.run(1600)
    assert (shown[-1], switches) == ("temporal", 1)


@pytest.mark.parametrize("gap", [2, 3])
@pytest.mark.parametrize("every", [5, 8, 32])
def test_probes_fall_on_scored_frames(gap, every) -> None:
    graph = Graph({**EQUAL, "single": 2.0}, gap=gap, probe_every=every)
    graph.run(32 * every + 100)
    assert graph.reports[-1].shown == "single"


def test_a_lead_within_chance_changes_nothing() -> None:
    graph = Graph({**EQUAL, "single": 1.01, "estimate": 0.5, "mean": 0.5})
    assert graph.run(1500)[1] == 0


def test_equal_kinds_hardly_ever_change() -> None:
    """Less than once in 1,000 frames; the step to the estimate, by rule, among them."""
    frames, changes = 1500, 0
    for seed in range(8):
        changes += Graph(EQUAL, seed=seed).run(frames)[1]
    assert changes < 8 * frames / 1000


def test_the_mean_is_shown_where_it_is_best() -> None:
    graph = Graph({**EQUAL, "mean": 1.5})
    graph.run(300)
    assert graph.reports[-1].shown == "mean"
    assert graph.tracker.controls().longest == 16


def test_estimate_only_where_nothing_beats_it() -> None:
    graph = Graph({"temporal": 0.9, "single": 0.9, "mean": -1.0, "estimate": 1.0})
    graph.run(500)
    said = graph.tracker.status()["quality"]
    assert said["shown"] == "estimate"
    assert said["word"] == "estimate only, dose too low for atoms (4 e/px)"
    graph.gains["temporal"] = 1.5
    graph.run(800)
    assert graph.tracker.status()["quality"]["word"] is None
    assert graph.reports[-1].shown == "temporal"


def test_a_new_series_starts_with_temporal_and_a_cut_does_not() -> None:
    graph = Graph({**EQUAL, "single": 2.0})
    graph.run(400)
    graph.step(cut=1)
    assert graph.tracker.controls().longest == 1
    graph.tracker.forget()
    assert graph.tracker.controls().longest == 16


# Settings


@pytest.mark.parametrize(
    ("temporal", "longest", "kind", "probes"),
    [("off", 1, "single", set()), (1, 1, "single", {16}), (4, 4, "temporal", {1})],
)
def test_a_fixed_setting_shows_one_kind(temporal, longest, kind, probes) -> None:
    graph = Graph({**EQUAL, "estimate": 9.0}, temporal=temporal)
    shown, _ = graph.run(300)
    assert set(shown) == {kind}
    assert {each.longest for each in graph.submitted} == {longest}
    assert {each.probe_longest for each in graph.submitted} - {None} == probes


@pytest.mark.parametrize("temporal", [0, 17, -1, "on", 2.5])
def test_a_wrong_setting_is_refused(temporal) -> None:
    with pytest.raises(ValueError, match=r"temporal: expected auto, off or 1\.\.16 frames"):
        StreamTracker(temporal)


def test_probe_every_frame_at_most() -> None:
    with pytest.raises(ValueError, match="probe_every: expected 1 or more frames, got 0"):
        StreamTracker(probe_every=0)


def test_controls_name_what_they_show() -> None:
    assert [Controls(16, index, None).shown for index in range(3)] == [
        "temporal", "mean", "estimate"
    ]  # fmt: skip
    assert Controls(1, SHOWN.index("network"), None).shown == "single"


# Dose and drift


def tell(tracker, frame, facts=PLAIN, **exposure):
    return tracker.told(facts, Exposure(frame, **exposure), Controls(16, 0, None))


def test_dose_accumulates_over_missing_frames_until_the_next_series() -> None:
    tracker = StreamTracker()
    camera = {"exposure_ms": 20.0, "pixel_size_nm": 0.05}
    assert tell(tracker, 3, **camera).dose_e_per_px == 4.0
    tell(tracker, 4, **camera)
    tell(tracker, 7, **camera)
    said = tracker.status()["dose"]
    assert said == pytest.approx({
        "e_per_px": 4.0, "e_per_a2_s": 4 / 0.25 / 0.02,
        "accumulated_e_per_px": 20.0, "accumulated_e_per_a2": 80.0,
    })  # fmt: skip
    tell(tracker, 0, **camera)  # its index says that a series has started
    assert tracker.status()["dose"]["accumulated_e_per_px"] == 4.0
    tracker.forget()
    assert tracker.status()["dose"]["accumulated_e_per_px"] is None


def test_dose_waits_for_the_gain_and_is_never_negative() -> None:
    tracker = StreamTracker()
    assert tell(tracker, 0, PLAIN._replace(gain_adu_per_e=0)).dose_e_per_px is None
    assert tracker.status()["dose"]["accumulated_e_per_px"] is None
    assert tell(tracker, 1).dose_e_per_px == 4.0
    assert tracker.status()["dose"]["accumulated_e_per_px"] == 8.0
    assert tell(tracker, 2, PLAIN._replace(level=-3)).dose_e_per_px == 0.0
    assert tracker.status()["dose"]["accumulated_e_per_px"] == 8.0
    assert tracker.status()["dose"]["e_per_a2_s"] is None


def test_drift_in_nm_comes_from_times_and_pixel_size() -> None:
    tracker, step_ns = StreamTracker(), 10_000_000
    for frame in (0, 1, 2, 3, 6):
        report = tell(tracker, frame, t_acquired_ns=frame * step_ns, pixel_size_nm=0.05)
        assert (report.drift_px is None) == (frame < 3)
    assert report.drift_px == (0.1, -0.2)
    assert report.drift_nm_s == pytest.approx((0.5, -1.0))
    assert tell(tracker, 7, pixel_size_nm=0.05).drift_nm_s is None
    assert tell(tracker, 8, t_acquired_ns=8 * step_ns).drift_nm_s is None
    json.dumps(tracker.status())


@pytest.mark.parametrize(
    "unknown", [{"drift_error": 0.5}, {"drift_error": math.inf}, {"drift_rows": math.nan}]
)
def test_unsure_drift_is_not_told(unknown) -> None:
    tracker = StreamTracker()
    for frame in range(8):
        report = tell(tracker, frame, PLAIN._replace(**unknown))
    assert report.drift_px is None
    assert report.averaged == 9
    assert tracker.status()["drift"]["px_per_frame"] is None


# Noise, bad facts, threads


@pytest.mark.parametrize(
    ("rows", "columns", "axis"), [(0.5, 0.1, "row"), (0.1, 0.5, "column"), (0.05, 0.05, None)]
)
def test_noise_names_its_line_axis(rows, columns, axis) -> None:
    tracker = StreamTracker()
    assert set(tracker.status()["noise"].values()) == {None}
    tell(tracker, 0, PLAIN._replace(line_rows=rows, line_columns=columns))
    assert tracker.status()["noise"] == {
        "from": "stream", "gain_adu_per_e": 2, "read_noise_adu": 1, "line_axis": axis,
        "line_sigma_adu": max(rows, columns), "correlation_px": 0.4, "sigma_adu": 3,
    }  # fmt: skip


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["level", "scale", "gain_network", "error", "averaged"])
def test_facts_that_are_no_numbers_change_nothing(bad, name) -> None:
    graph = Graph(EQUAL)
    graph.run(50)
    before = graph.tracker.status()
    report = graph.step(**{name: bad, "scored": 2, "cut": 1})
    assert graph.tracker.status() == before
    assert (report.dose_e_per_px, report.drift_px, report.moving) == (None, None, 0)
    assert report.quality == graph.reports[-2].quality
    later = graph.step(scored=2, gain_network=7.0).quality
    assert (later["frame"], later["gain"]) == (graph.frame - 2, 7.0)


def test_memory_is_bounded() -> None:
    graph = Graph(EQUAL)
    graph.run(400)
    tracker = graph.tracker
    assert len(tracker._told) == 64
    assert len(tracker._quality._pairs) <= len(KINDS) * (len(KINDS) - 1) / 2


def test_two_threads_and_a_reader() -> None:
    graph, failures = Graph(EQUAL), []

    def guarded(call) -> None:
        try:
            for _ in range(300):
                call()
        except Exception as failure:
            failures.append(failure)

    calls = (graph.step, graph.tracker.controls, graph.tracker.status, graph.tracker.forget)
    threads = [Thread(target=guarded, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert failures == []


def test_host_code_needs_no_torch() -> None:
    code = "import sys, scgn.stream.tracker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
