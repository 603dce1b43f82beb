"""The live view without a browser: real sockets, a real WebSocket, frames only when asked for."""

from __future__ import annotations

import contextlib
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from live_client import Browser, live_sidecar
from support import event_parts, frame_parts, noise_frame, push, running_app, wait_for
from websockets.exceptions import ConnectionClosed

from scgn_live.app import App
from scgn_live.sidecar.live import feed as feed_module
from scgn_live.sidecar.live import viewer as viewer_module
from scgn_live.sidecar.live import watched as watched_module
from scgn_live.sidecar.live.feed import connectable
from scgn_live.sidecar.live.frames import browser_message, number, to_16_bit
from scgn_live.sidecar.live.routes import PAGE

TOKEN = "a token of the test"

# Conversion.


@pytest.mark.parametrize("dtype", ["|u1", "<u2", ">u2"])
def test_unsigned_counts_are_kept_as_they_are(dtype: str) -> None:
    counts = noise_frame(1, dtype=dtype)
    counts[3, 2:5] = np.iinfo(dtype).max
    found = to_16_bit(counts)
    assert (found.scale, found.offset, found.saturated, found.nonfinite) == (1, 0, 3, 0)
    assert found.pixels.dtype.str == "<u2"
    assert np.array_equal(found.pixels, counts)


@given(
    st.sampled_from(["<i2", "<i4", "<u4"]).flatmap(
        lambda dtype: hnp.arrays(np.dtype(dtype), hnp.array_shapes(min_dims=2, max_dims=2))
    )
)
def test_other_whole_numbers_are_exact_where_16_bits_hold_them(counts: Any) -> None:
    found = to_16_bit(counts)
    back = found.offset + found.scale * found.pixels.astype(np.float64)
    if int(counts.max()) - int(counts.min()) <= 65535:
        assert np.array_equal(back, counts)
        assert found.scale == 1
    assert abs(back - counts).max() <= found.scale / 2 * (1 + 1e-6)
    assert found.saturated == np.count_nonzero(counts == np.iinfo(counts.dtype).max)


@given(
    st.sampled_from(["<f4", "<f2"]).flatmap(
        lambda dtype: hnp.arrays(np.dtype(dtype), hnp.array_shapes(min_dims=2, max_dims=2))
    )
)
def test_floats_are_linear_between_their_finite_extremes(counts: Any) -> None:
    found = to_16_bit(counts)
    finite = np.isfinite(counts)
    assert found.nonfinite == np.count_nonzero(~finite)
    assert np.all(found.pixels[~finite] == 0)
    values = counts.astype(np.float64)[finite]
    back = (found.offset + found.scale * found.pixels.astype(np.float64))[finite]
    if values.size:
        span = values.max() - values.min()
        # Half a step, and what single precision loses in a difference.
        assert abs(back - values).max(initial=0) <= 0.5 * span / 65535 + 1e-6 * span + 1e-44
    assert found.saturated is None


def test_numbers_that_a_browser_would_round_are_told_as_text() -> None:
    assert number(2**53 - 1) == 2**53 - 1
    assert number(2**53) == "9007199254740992"


def test_where_the_service_is_bound_is_turned_into_where_to_reach_it() -> None:
    assert connectable("tcp://0.0.0.0:5557") == "tcp://127.0.0.1:5557"
    assert connectable("tcp://*:5557") == "tcp://127.0.0.1:5557"
    assert connectable("tcp://[::]:5557") == "tcp://127.0.0.1:5557"
    assert connectable("tcp://192.0.2.7:5557") == "tcp://192.0.2.7:5557"
    assert connectable("ipc:///run/latest") == "ipc:///run/latest"
    assert connectable("tcp://127.0.0.1:*") is None


# Frames.


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with running_app(tmp_path, viewers=2) as running:
        yield running


@pytest.fixture
def host(app: App) -> Iterator[str]:
    with live_sidecar(app) as address:
        yield address


def published(app: App) -> int:
    """Frames published so far."""
    return app.ledger.totals().get(("published", ""), 0)


@contextlib.contextmanager
def watching(app: App, host: str) -> Iterator[Browser]:
    """A browser that has asked for a frame, once the service knows of it."""
    with Browser(host) as browser:
        browser.want("frame", source=None)
        wait_for(lambda: app.publisher.viewers == 1, "the sidecar connecting to latest")
        yield browser


def send(app: App, camera: Any, index: int, frame: Any, **header: Any) -> None:
    """Send one frame and wait until it is published."""
    before = published(app)
    camera.send_multipart(frame_parts("s", index, frame, **header))
    wait_for(lambda: published(app) > before, "the frame being published")


def test_a_frame_comes_as_published(app: App, host: str) -> None:
    frame = noise_frame(3)
    frame[0, :2] = 65535
    with watching(app, host) as browser, push(app.endpoints()["ingest"]) as camera:
        send(app, camera, 0, frame, t_acquired_ns=2**63 + 1, user={"secret": 1})
        got = browser.binary()
    assert got.start % 8 == 0
    header = got.header
    expected = {
        "type": "frame",
        "source": "cam",
        "series": "s",
        "frame": 0,
        "model": "pass-through",
    }
    assert expected.items() <= header.items()
    assert header["t_acquired_ns"] == str(2**63 + 1)
    assert abs(int(header["t_received_ns"]) - time.time_ns()) < 60e9
    assert "user" not in header
    raw = header["channels"][1]
    assert raw == {
        "name": "raw", "dtype": "<u2", "shape": [16, 12], "scale": 1.0, "offset": 0.0,
        "saturated": 2, "nonfinite": 0,
    }  # fmt: skip
    assert np.array_equal(got.counts["raw"], frame)
    assert np.array_equal(got.counts["denoised"], frame)


def test_who_asks_late_gets_the_newest_and_never_an_older_one(app: App, host: str) -> None:
    with watching(app, host) as browser, push(app.endpoints()["ingest"]) as camera:
        send(app, camera, 0, noise_frame(0))
        assert browser.binary().header["frame"] == 0
        for index in range(1, 8):
            send(app, camera, index, noise_frame(index))
        assert browser.frame().header["frame"] == 7
        browser.want("frame", source=None)
        # Nothing newer: the service tells of itself, but sends no frame again.
        assert browser.hear()["type"] == "status"  # type: ignore[index]
        send(app, camera, 8, noise_frame(8))
        assert browser.binary().header["frame"] == 8


def test_a_slow_browser_gets_fewer_frames_and_no_older_ones(app: App, host: str) -> None:
    stop = threading.Event()

    def film() -> None:
        with push(app.endpoints()["ingest"]) as camera:
            for index in range(10_000):
                camera.send_multipart(frame_parts("s", index, noise_frame(index % 5, (64, 64))))
                if stop.wait(0.003):
                    return

    with watching(app, host) as browser:
        filming = threading.Thread(target=film)
        filming.start()
        try:
            behind, indices = [], [browser.binary().header["frame"]]
            for _ in range(8):
                count = published(app)
                wait_for(lambda at=count: published(app) > at + 15, "fifteen more frames")  # type: ignore[misc]
                newest = published(app) - 1
                indices.append(browser.frame().header["frame"])
                behind.append(newest - indices[-1])
        finally:
            stop.set()
            filming.join()
    assert indices == sorted(set(indices))
    assert np.median(behind) <= 1, f"older than what was published when asked: {behind}"
    assert indices[-1] > 8 * 15, "the frames between were kept for it"


def test_at_most_so_many_frames_a_second(tmp_path: Path) -> None:
    with running_app(tmp_path, viewer_fps=20.0) as app, live_sidecar(app) as host:
        with watching(app, host) as browser, push(app.endpoints()["ingest"]) as camera:
            send(app, camera, 0, noise_frame(0))
            browser.binary()
            began_s = time.monotonic()
            for index in range(1, 6):
                send(app, camera, index, noise_frame(index))
                assert browser.frame().header["frame"] == index
            assert time.monotonic() - began_s > 0.9 * 5 / 20


def test_one_conversion_serves_every_browser(
    app: App, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def counted(frame: Any) -> list[bytes]:
        made.append(frame.frame)
        return browser_message(frame)

    monkeypatch.setattr(feed_module, "browser_message", counted)
    with watching(app, host) as one, Browser(host) as other:
        with push(app.endpoints()["ingest"]) as camera:
            send(app, camera, 0, noise_frame(0))
            assert one.binary().content == other.frame().content
    assert made == [0]


def test_every_browser_that_waits_gets_the_frame(app: App, host: str) -> None:
    with watching(app, host) as one, Browser(host) as other:
        other.want("frame")
        with push(app.endpoints()["ingest"]) as camera:
            for index in range(20):
                send(app, camera, index, noise_frame(index))
                for browser in (one, other):
                    assert browser.binary().header["frame"] == index
                    browser.want("frame")


def test_large_frames_come_in_parts(app: App, host: str) -> None:
    frame = noise_frame(1, (1100, 2100), "<f4")
    with watching(app, host) as browser, push(app.endpoints()["ingest"]) as camera:
        send(app, camera, 0, frame)
        got = browser.binary()
        browser.want("exact", source="cam", series="s", frame=0)
        exact = browser.binary()
    assert got.header["parts"] == 4
    assert all(
        abs(c - frame).max() <= got.header["channels"][1]["scale"] for c in got.counts.values()
    )
    assert exact.header["parts"] == 6
    assert all(np.array_equal(counts, frame) for counts in exact.pixels(["<f4", "<f4"]))


def test_a_browser_can_follow_one_camera(app: App, host: str) -> None:
    with watching(app, host) as browser, push(app.endpoints()["ingest"]) as camera:
        send(app, camera, 0, noise_frame(0), source="a")
        assert browser.binary().header["source"] == "a"
        browser.want("frame", source="b")
        send(app, camera, 1, noise_frame(1), source="a")
        send(app, camera, 0, noise_frame(2), source="b")
        assert browser.binary().header["source"] == "b"
        browser.want("frame", source="a")
        send(app, camera, 2, noise_frame(3), source="a")
        got = browser.binary().header  # 1, unless the other camera's frame took its place
        assert (got["source"], got["frame"] in (1, 2)) == ("a", True)


def test_the_exact_counts_of_what_was_sent_can_be_had_for_a_while(app: App, host: str) -> None:
    frames = [noise_frame(seed, (15, 13), ">u2") for seed in range(8)]
    with watching(app, host) as browser, push(app.endpoints()["ingest"]) as camera:
        send(app, camera, 0, frames[0])
        browser.binary()
        browser.want("exact", source="cam", series="s", frame=0)
        got = browser.binary()
        assert got.header["type"] == "exact"
        assert [channel["dtype"] for channel in got.header["channels"]] == [">u2", ">u2"]
        assert all(np.array_equal(p, frames[0]) for p in got.pixels([">u2", ">u2"]))
        for index in range(1, 8):
            send(app, camera, index, frames[index])
            assert browser.frame().header["frame"] == index
        browser.want("exact", source="cam", series="s", frame="6")  # as text, as large ones are
        assert np.array_equal(browser.binary().pixels([">u2", ">u2"])[0], frames[6])
        for gone in ({"frame": 0}, {"frame": 7, "series": "other"}, {}):
            browser.say(want="exact", **{"source": "cam", "series": "s", **gone})
            assert browser.told("exact") == {"type": "exact", "held": False}


# What else it says.


def test_the_clock_is_told_at_once(host: str) -> None:
    with Browser(host) as browser:
        before_ns = time.time_ns()
        browser.want("clock", t=12.5)
        answer = browser.hear()
    assert isinstance(answer, dict)
    assert answer["t"] == 12.5
    assert before_ns <= int(answer["server_ns"]) <= time.time_ns()


def test_the_status_names_readiness_rates_and_ledger(app: App, host: str) -> None:
    with watching(app, host) as browser, push(app.endpoints()["ingest"]) as camera:
        camera.send_multipart(event_parts("start", "s", pixel_size_nm=0.02))
        send(app, camera, 2, noise_frame(0))
        told: dict[str, Any] = {}
        wait_for(lambda: told.update(browser.told("status")) or told["sources"], "a status with it")
    assert told["ready"] is True
    assert told["reasons"] == []
    assert (told["model"], told["engine"], told["calibration"]) == (
        "pass-through", "pass-through", None,
    )  # fmt: skip
    assert told["viewers"] == 1
    (row,) = told["sources"]
    assert (row["source"], row["series"], row["state"]) == ("cam", "s", "open")
    assert (row["expected"], row["published"], row["missing"]) == (3, 1, 2)
    assert {"dropped", "failed", "rejected", "pixel_size_nm", "exposure_ms"} <= row.keys()
    assert told["latency_ms"]["p99"] >= told["latency_ms"]["p50"] > 0
    assert {"rate_in_fps", "rate_out_fps", "overload"} <= told.keys()


# Nobody looks.


@pytest.mark.parametrize("word", ["nothing", "status", None])
def test_nothing_is_read_when_nobody_wants_frames(
    app: App, host: str, word: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched_module, "IDLE_S", 0.3)
    with watching(app, host) as browser:
        if word is not None:
            browser.want(word)
            wait_for(lambda: app.publisher.viewers == 0, "the sidecar leaving latest")
            browser.want("frame")  # and back
            wait_for(lambda: app.publisher.viewers == 1, "the sidecar coming back")
    wait_for(lambda: app.publisher.viewers == 0, "the sidecar leaving latest")


def test_a_hidden_page_hears_nothing(app: App, host: str) -> None:
    with watching(app, host) as browser, push(app.endpoints()["ingest"]) as camera:
        browser.want("nothing")
        browser.want("clock", t=0)
        browser.told("clock")  # it has obeyed what came before
        send(app, camera, 0, noise_frame(0))
        with pytest.raises(TimeoutError):
            browser.hear(1.3)  # a status would have come within a second


# Who may look.


def test_so_many_browsers_and_no_more(app: App, host: str) -> None:
    with Browser(host) as one, Browser(host) as two:
        for browser in (one, two):
            browser.want("clock", t=0)
            browser.told("clock")
        with Browser(host) as third:
            assert closed(third) == (1013, "2 browsers watch already")
    wait_for(lambda: let_in(host), "a place being free again")


def let_in(host: str) -> bool:
    with Browser(host) as browser:
        browser.want("clock", t=0)
        try:
            return bool(browser.told("clock"))
        except ConnectionClosed:
            return False


def closed(browser: Browser) -> tuple[int, str]:
    """Close code and words; what came before is passed over."""
    with pytest.raises(ConnectionClosed) as caught:
        while True:
            browser.hear()
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


GARBAGE: list[str | bytes] = [
    "", "want", "[]", "3", '{"want": "all"}', '{"want": null}', "{}", '{"want": ["frame"]}',
    '{"want": "frame", "source": 3}', '{"want": "clock", "t": "' + "x" * 2000 + '"}',
    "[" * 1000, b'{"want": "frame"}',
]  # fmt: skip


def test_anything_else_ends_the_connection(app: App, host: str) -> None:
    for message in GARBAGE:
        with Browser(host) as browser:
            browser.socket.send(message)
            code, reason = closed(browser)
        assert code == 1008, f"{message!r}"
        assert reason.startswith("expected "), f"{message!r}"
    assert let_in(host)


def test_a_token_must_come_first(app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer_module, "TOKEN_S", 0.2)
    attempts: list[Callable[[Browser], None]] = [
        lambda browser: browser.want("frame"),
        lambda browser: browser.say(token="wrong"),
        lambda browser: browser.say(token=[TOKEN]),
        lambda _: None,  # says nothing
    ]
    (tmp_path / "token").write_text(TOKEN)
    with live_sidecar(app, token_file=tmp_path / "token") as host:
        for attempt in attempts:
            with Browser(host) as browser:
                attempt(browser)
                assert closed(browser)[0] == 4401
        assert app.publisher.viewers == 0
        with Browser(host) as browser:
            browser.say(token=TOKEN)
            browser.want("clock", t=1)
            assert browser.told("clock")["t"] == 1


def test_a_token_that_nobody_asked_for_is_passed_over(host: str) -> None:
    with Browser(host) as browser:
        browser.say(token="of another service")
        browser.want("clock", t=1)
        assert browser.told("clock")["t"] == 1


def test_pages_of_other_origins_see_nothing(host: str) -> None:
    with Browser(host, origin="http://elsewhere.example") as browser:
        assert closed(browser)[0] == 4403
    with Browser(host, origin=f"http://{host}") as browser:
        browser.want("clock", t=1)
        assert browser.told("clock")["t"] == 1


# The page.


def fetch(host: str, path: str, **headers: str) -> tuple[int, Any, bytes]:
    request = urllib.request.Request(f"http://{host}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def test_the_page_is_served_under_a_strict_policy(host: str) -> None:
    status, headers, content = fetch(host, "/")
    assert status == 200
    assert content == (PAGE / "index.html").read_bytes()
    policy = headers["content-security-policy"]
    for word in ("default-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"):
        assert word in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-cache"
    again, _, nothing = fetch(host, "/", **{"If-None-Match": headers["etag"]})
    assert (again, nothing) == (304, b"")
    changed, _, _ = fetch(host, "/", **{"If-None-Match": '"other"'})
    assert changed == 200


def test_only_the_files_of_the_page_are_served(host: str) -> None:
    for path in PAGE.iterdir():
        status, headers, content = fetch(host, f"/live/{path.name}")
        assert (status, content) == (200, path.read_bytes())
        assert headers["content-security-policy"]
    for name in ("absent.js", "..%2froutes.py", "%2e%2e/routes.py", ".", "routes.py"):
        assert fetch(host, f"/live/{name}")[0] == 404
