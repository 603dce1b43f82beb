"""Another network under load: no frame lost, none mixed, and the old one when the new one fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import single_frame_networks
from support import frame_parts, noise_frame, push, running_app, subscribed, wait_for

from scgn.checkpoint import load_network
from scgn.denoise import Denoiser
from scgn_live.app import App
from scgn_live.engine import TRIAL_MAX
from scgn_live.model_control import ModelError
from scgn_live.processor import FrameByFrame

SHAPE = (32, 48)
FRAME = noise_frame(1, SHAPE)
FAST = {"engine": "scgn", "backend": "eager", "shapes": ("32x48",), "network": "tiny-clean"}


@contextmanager
def filming(app: App) -> Iterator[list[int]]:
    """A camera that sends the same frame all the time; how many so far."""
    done, sent = threading.Event(), [0]

    def film() -> None:
        with push(app.ingest.endpoint) as camera:
            while not done.is_set():
                camera.send_multipart(frame_parts("s", sent[0], FRAME))
                sent[0] += 1
                time.sleep(0.002)

    thread = threading.Thread(target=film)
    thread.start()
    try:
        yield sent
    finally:
        done.set()
        thread.join()


def use(app: App, name: str) -> None:
    app.models._use({"name": name})
    wait_for(lambda: app.models._models({})["state"] != "building", f"{name} being swapped in", 60)


def test_swaps_under_load_lose_nothing_and_mix_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "nets"
    folder.mkdir()
    expected, names = {}, []
    for path in single_frame_networks(folder):
        checkpoint = load_network(str(path))
        expected[checkpoint.id] = Denoiser(checkpoint, torch.device("cpu"))(FRAME, None)
        names.append(path.stem)
    settings = FAST | {"network": str(folder / f"{names[0]}.safetensors"), "networks": folder}
    with running_app(tmp_path, **settings, subscriber_queue=5000) as app, subscribed(app) as sub:
        with filming(app) as sent:
            for name in (*names[::-1], *names[::-1]):
                use(app, name)
                assert app.models._models({})["state"] == "active"
                before = sent[0]
                wait_for(lambda start=before: sent[0] > start + 5, "frames through it")
        seen = []
        while len(seen) < sent[0]:
            header, pixels = sub.until("frame")
            seen.append((header["frame"], header["model"]))
            denoised = np.frombuffer(pixels[0], "<f4").reshape(SHAPE)
            np.testing.assert_allclose(denoised, expected[header["model"]], atol=0.05)
    assert [index for index, _ in seen] == list(range(len(seen)))
    assert sum(a != b for (_, a), (_, b) in pairwise(seen)) == 4, "four boundaries, no flicker"


def test_what_cannot_be_used_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "broken.safetensors").write_bytes(b"no network")
    with running_app(tmp_path, **FAST, networks=tmp_path / "nets") as app:
        before = app.engine.state.processor.model
        with pytest.raises(ModelError, match="expected one of broken, compact-clean"):
            app.models._use({"name": "no-such"})
        use(app, "broken")
        told = app.models._models({})
        assert (told["state"], told["model"]) == ("failed", before)
        assert "broken" in told["detail"]
        use(app, "preview-clean")
        assert app.engine.state.processor.model != before
        use(app, before)  # by the id that frames name
        assert app.engine.state.processor.model == before
        use(app, "preview-clean")
        app.models._previous({})
        wait_for(lambda: app.engine.state.processor.model == before, "the network before")


class Fails(FrameByFrame):
    """A network that was fine when it was tried, and is not."""

    model = "fails"

    def __call__(self, raw: Any, calibration: Any) -> Any:
        raise RuntimeError("no")


def test_a_network_that_fails_on_its_first_frames_is_taken_back(tmp_path: Path) -> None:
    with running_app(tmp_path) as app, subscribed(app) as sub, push(app.ingest.endpoint) as camera:
        camera.send_multipart(frame_parts("s", 0, FRAME))
        sub.until("frame", frame=0)
        app.engine.use_processor(Fails())
        for index in range(1, 8):
            camera.send_multipart(frame_parts("s", index, FRAME))
        header, _ = sub.until("frame", frame=1 + TRIAL_MAX)
        assert header["model"] == "pass-through"
        assert header["lost"] == {"engine_error": TRIAL_MAX}
        told = app.models._models({})
    assert (told["state"], told["model"]) == ("failed", "pass-through")
    assert "taken back" in told["detail"]


def test_a_pass_through_service_has_no_networks(tmp_path: Path) -> None:
    with running_app(tmp_path) as app, pytest.raises(ModelError, match="expected engine = scgn"):
        app.models._use({"name": "tiny-clean"})
