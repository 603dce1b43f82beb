"""Stages that are measured in one go, or that keep what they have in folders of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.sitting import Call

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = [str(ROOT / name) for name in ("client", "models", "service", ".")]
SIDES_PX = (256, 512, 1024)
WARM, TIMED = 10, 50
TO_END_S = 20.0  # of a call, for what is under way


def machine() -> dict[str, Any]:
    """Device and versions."""
    import torch

    here = torch.cuda.is_available()
    capability = torch.cuda.get_device_capability() if here else ()
    return {
        "gpu": torch.cuda.get_device_name() if here else None,
        "capability": ".".join(str(number) for number in capability), "torch": torch.__version__,
        "cuda": torch.version.cuda, "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip


def frame_times_ms(denoise: Callable[[], Any]) -> dict[str, float]:
    """Median and p99 of whole calls, host array to host array."""
    for _ in range(WARM):
        denoise()
    times = []
    for _ in range(TIMED):
        begun = time.perf_counter()
        denoise()
        times.append(1000 * (time.perf_counter() - begun))
    times.sort()
    return {"median": round(times[TIMED // 2], 3), "p99": round(times[int(0.99 * TIMED)], 3)}


def eager() -> dict[str, Any]:
    """Every size as it ships, eager, through the service's own Denoiser, host to host.

    Convolutions in TF32, PyTorch's default.
    """
    import numpy as np
    import torch

    from scgn.architectures import build_network
    from scgn.checkpoint import checkpoint_of, describe
    from scgn.denoise import Denoiser
    from scgn.sizes import SIZES, design_named

    rng, rows = np.random.default_rng(0), {}
    for name in SIZES:
        torch.manual_seed(0)
        network = build_network(design_named(name))
        denoiser = Denoiser(checkpoint_of(network, describe(network, name)), torch.device("cuda"))
        for side in SIDES_PX:
            frame = rng.poisson(6, (side, side)).astype("<u2")
            rows[f"{name} {side}"] = frame_times_ms(partial(denoiser, frame))
    return {"unit": "ms per frame", "rows": rows}


def tests(call: Call) -> dict[str, Any]:
    """`pytest -m gpu`; its closing lines. Not run again once all passed."""
    if found := passed(call.out / "tests.json"):
        return found
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-ra", *marked()]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=call.left_s() - TO_END_S
        )
    except subprocess.TimeoutExpired as error:
        return {"status": None, "output": str(error.stdout)[-4000:], "done": False}
    output = {"output": done.stdout[-4000:], "error": done.stderr[-2000:]}
    return {"status": done.returncode, **output, "done": done.returncode == 0}


def marked() -> list[str]:
    """Test files with something for a GPU: others may import what is not here."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path) for path in files if "pytest.mark.gpu" in path.read_text()]


def passed(path: Path) -> dict[str, Any]:
    """An earlier result if it was good, else nothing."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found if found.get("done") else {}


def waited_for(work: Callable[[], Any]) -> None:
    """Do the work and wait until the device is done with it."""
    import torch

    work()
    torch.cuda.synchronize()


def generator() -> dict[str, Any]:
    """Simulated frames per second, images and noise made on the GPU."""
    import numpy as np
    import torch

    from scgn.simulate import Recipe, simulate

    device, rows = torch.device("cuda"), {}
    for side, count in ((128, 64), (256, 32)):
        rng = np.random.default_rng(0)
        draw = partial(simulate, rng, count, side, Recipe(), None, device)
        per_batch = frame_times_ms(partial(waited_for, draw))
        rows[f"{side}, batches of {count}"] = round(1000 * count / per_batch["median"], 1)
    return {"unit": "frames per second", "rows": rows}


ONCE: dict[str, Callable[[], dict[str, Any]]] = {"eager": eager, "generator": generator}


def once(measure: Callable[[], dict[str, Any]], stage: str, call: Call) -> dict[str, Any]:
    """A stage that is measured in one go; not again where its result lies."""
    path = call.out / f"{stage}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found if found.get("rows") else {**measure(), "done": True}


def train_stage(call: Call) -> dict[str, Any]:
    """One sitting of the runs that are not finished; kept under OUT/train."""
    from benchmarks.gpu.training import train_next

    return train_next(call.out / "train", call.left_s() - 2 * TO_END_S)


def quality_stage(call: Call) -> dict[str, Any]:
    """`scgn evaluate` of every network that `train` has finished, on the GPU; goes on next call."""
    from benchmarks.gpu.training import finished_weights

    methods = [f"{path.parent.name}={path}" for path in finished_weights(call.out / "train")]
    command = [
        sys.executable, "-m", "scgn", "evaluate", "noisy", "gaussian", *methods,
        "--out", str(call.out / "quality"), "--device", "cuda",
    ]  # fmt: skip
    env, left_s = os.environ | {"PYTHONPATH": os.pathsep.join(FOLDERS)}, call.left_s()
    try:
        done = subprocess.run(command, env=env, timeout=left_s, capture_output=True, text=True)
    except subprocess.TimeoutExpired:
        return {"status": None, "output": "not done yet", "done": False}
    output = {"output": done.stdout[-4000:], "error": done.stderr[-2000:]}
    return {"status": done.returncode, **output, "done": done.returncode == 0}
