"""Stages that need a CUDA device: `python3 benchmarks/gpu/run.py STAGE... --out FOLDER`.

Runs from a bare checkout with torch 2.11 to 2.13, numpy, safetensors and tqdm (pytest and
pytest-timeout for `tests`; scipy, scikit-image and PyWavelets for `quality`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / name) for name in ("client", "models", "service", ".")]

SIDES_PX = (256, 512, 1024)
WARM, TIMED = 10, 50
CALL_S = 560


def machine() -> dict[str, Any]:
    """Device and versions."""
    import torch

    capability = ".".join(str(n) for n in torch.cuda.get_device_capability())
    return {
        "gpu": torch.cuda.get_device_name(), "capability": capability, "torch": torch.__version__,
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


def tests() -> dict[str, Any]:
    """`pytest -m gpu`; its closing lines."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "tests/models"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return {"status": done.returncode, "output": done.stdout[-2000:]}


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


STAGES: dict[str, Callable[[], dict[str, Any]]] = {
    "tests": tests, "eager": eager, "generator": generator,
}  # fmt: skip


def train_stage(out: Path) -> dict[str, Any]:
    """One sitting of the runs that are not finished; kept under OUT/train."""
    from benchmarks.gpu.training import train_next

    return train_next(out / "train")


def quality_stage(out: Path) -> dict[str, Any]:
    """`scgn evaluate` of every network that `train` has finished, on the GPU; goes on next call."""
    from benchmarks.gpu.training import finished_weights

    methods = [f"{path.parent.name}={path}" for path in finished_weights(out / "train")]
    command = [
        sys.executable, "-m", "scgn", "evaluate", "noisy", "gaussian", *methods,
        "--out", str(out / "quality"), "--device", "cuda",
    ]  # fmt: skip
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path[:3])}
    try:
        done = subprocess.run(command, env=env, timeout=CALL_S, capture_output=True, text=True)
    except subprocess.TimeoutExpired:
        return {"status": None, "output": "not done yet: call again, what is done is kept"}
    return {"status": done.returncode, "output": done.stdout[-4000:], "error": done.stderr[-2000:]}


# Resumed at every call: their results lie in folders of their own.
RESUMED: dict[str, Callable[[Path], dict[str, Any]]] = {
    "train": train_stage, "quality": quality_stage,
}  # fmt: skip


def main() -> int:
    """Run the stages asked for that have no result yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="+", choices=sorted(STAGES | RESUMED))
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "gpu")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    failed = False
    for stage in args.stages:
        path = args.out / f"{stage}.json"
        if stage in RESUMED or not path.exists():
            found = RESUMED[stage](args.out) if stage in RESUMED else STAGES[stage]()
            result = {"stage": stage, "machine": machine(), **found}
            failed |= bool(found.get("status"))
            if not found.get("status"):  # what failed is run again by the next call
                path.write_text(json.dumps(result, indent=2) + "\n")
            print(json.dumps(result, indent=2))
        else:
            print(path.read_text())
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
