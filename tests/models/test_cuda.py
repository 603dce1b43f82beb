"""On a CUDA device the denoiser gives what it gives on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scgn.calibration import build_calibration
from scgn.checkpoint import load_network
from scgn.denoise import Denoiser

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


@pytest.mark.parametrize("shape", [(256, 256), (65, 47)])
def test_denoiser_agrees_with_the_cpu(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    raw = rng.poisson(30, shape).astype("<u2")
    mask = np.zeros(shape, bool)
    mask[3, 4] = True
    calibration = build_calibration(
        np.full(shape, 2.0), rng.uniform(0.9, 1.1, shape), mask, "multiply"
    )
    results = [
        Denoiser(load_network("tiny-clean"), torch.device(name))(raw, calibration)
        for name in ("cpu", "cuda")
    ]
    # TF32 convolutions keep three digits; the frame's own spread is the scale that matters.
    np.testing.assert_allclose(results[0], results[1], atol=0.02 * float(raw.std()))
