"""What bfloat16 costs on a CPU: PSNR against the truth beside float32's, and how far the two agree.

OpenVINO, 256x256, the first tuning scenes of `scgn evaluate` at each dose; agreement is the worst
frame's, peak to peak against root mean square difference. Each frame is alone, as a stream's first.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from benchmarks.bench_backends import NETWORKS, SIDE_PX, Call, agreement_db, way
from benchmarks.harness import arguments, save
from scgn.checkpoint import load_network
from scgn.metrics import psnr_db
from scgn.simulate import evaluation_set
from scgn.simulate.sets import DOSES_E_PER_PX, TUNING_SEED

PRECISIONS = ("float32", "bfloat16")
CAMERA = "<f4"


def at_dose(calls: dict[str, Call], dose: float, frames: int) -> dict[str, Any]:
    """Mean PSNR of each precision, dB, and the worst agreement, dB."""
    data = evaluation_set(dose, frames, SIDE_PX, TUNING_SEED)
    scores: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    agreements = []
    for noisy, clean in zip(data.noisy[:, 0], data.clean[:, 0], strict=True):
        pixels = noisy.numpy().astype(CAMERA)
        results = {name: call(pixels).copy() for name, call in calls.items()}
        for name, result in results.items():
            scores[name].append(psnr_db(torch.from_numpy(result), clean))
        agreements.append(agreement_db(results["bfloat16"], results["float32"]))
    means = {name: round(float(np.mean(values)), 3) for name, values in scores.items()}
    return {"psnr_db": means, "worst_agreement_db": min(agreements)}


def main() -> None:
    """Measure; --save writes results/bench_precision.json."""
    args = arguments(__doc__).parse_args()
    begun, frames, rows = time.monotonic(), 1 if args.quick else 4, {}
    for network in NETWORKS:
        checkpoint = load_network(network)
        calls = {name: way(checkpoint, "openvino", name, CAMERA, True)[0] for name in PRECISIONS}
        rows[network] = {f"{dose:g}": at_dose(calls, dose, frames) for dose in DOSES_E_PER_PX}
    save("bench_precision", {"by_dose_e_per_px": rows}, time.monotonic() - begun)


if __name__ == "__main__":
    main()
