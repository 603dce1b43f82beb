"""The demo, as a stranger runs it: everything real, and the last line proves it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import ROOT


@pytest.mark.timeout(180)
def test_the_demo_proves_itself(tmp_path: Path) -> None:
    picture = tmp_path / "proof" / "demo.png"
    words = ["demo", "--frames", "24", "--size", "128", "--picture", str(picture)]
    done = subprocess.run(
        [sys.executable, "-m", "scgn_live", *words],
        cwd=ROOT, capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    *steps, last = done.stdout.splitlines()
    proof = json.loads(last)
    assert any(step.startswith("demo: proof: 24 of 24 frames published") for step in steps)
    assert (proof["frames"], proof["published"]) == (24, 24)
    assert (proof["dropped"], proof["missing"], proof["failed"]) == (0, 0, 0)
    assert 0 < proof["latency_ms_p50"] <= proof["latency_ms_p99"]
    assert proof["frames_scored"] >= 15, "frames after the calibration are judged, not the rest"
    assert proof["psnr_denoised_db"] > proof["psnr_noisy_db"] + 6
    assert proof["psnr_denoised_db"] > proof["psnr_gaussian_db"]
    assert proof["picture"] == str(picture)
    with Image.open(picture) as sheet:
        assert sheet.width > 5 * 128
        assert len(np.unique(np.asarray(sheet))) > 100
