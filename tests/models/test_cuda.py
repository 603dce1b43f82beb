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


def test_generator_draws_the_same_scenes_on_the_device() -> None:
    """Structures come from the CPU; images agree, noise is the device's own."""
    from scgn.simulate import Recipe, simulate

    here, there = (
        simulate(np.random.default_rng(3), 4, 96, Recipe(film_share=0.0), None, torch.device(name))
        for name in ("cpu", "cuda")
    )
    np.testing.assert_allclose(there.clean.cpu().numpy(), here.clean.numpy(), rtol=1e-3, atol=1e-2)
    assert torch.equal(there.vacuum.cpu(), here.vacuum)
    assert bool(there.noisy.isfinite().all())


def test_training_in_half_precision_stops_and_goes_on(tmp_path) -> None:
    """Three sittings of one step with workers end with finite weights of the plan's steps."""
    from scgn.train import Sitting, TrainingPlan, train

    plan = TrainingPlan(steps=3, sides_px=(64,), pixels_per_step=2 * 64 * 64, precision="bfloat16")
    for _ in range(3):
        weights = train(plan, tmp_path, torch.device("cuda"), Sitting(stop_after_s=0, workers=2))
    checkpoint = load_network(str(weights))
    assert checkpoint.provenance.training["steps_done"] == 3
    assert all(bool(value.isfinite().all()) for value in checkpoint.network.state_dict().values())
