"""What the shipped networks promise: gains do not matter, real frames, nothing made of nothing."""

from __future__ import annotations

import pytest
import torch
from networks import once_trained
from support import SHARED_DATA

from scgn.checkpoint import load_network, shipped_names
from scgn.denoise import Denoiser
from scgn.metrics import psnr_db
from scgn.simulate import evaluation_set, noise_only_set

CPU = torch.device("cpu")
CLEAN = [name for name in shipped_names() if name.endswith("-clean")]
MOVIES = SHARED_DATA / "movies"
needs_movies = pytest.mark.skipif(not MOVIES.exists(), reason=f"no real movies at {MOVIES.name}/")


def test_cpu_networks_ship() -> None:
    assert {"compact-clean", "tiny-clean", "preview-clean"} <= set(CLEAN)


@pytest.mark.parametrize("name", once_trained(CLEAN))
def test_header_tells_how_it_was_trained(name) -> None:
    training = load_network(name).provenance.training
    assert training["steps_done"] == training["plan"]["steps"], "trained to its plan's end"
    assert training["minutes"] > 0
    assert "/" not in str(training["plan"]["start_from"]), "no folder of a machine"


@pytest.mark.parametrize("name", CLEAN)
@pytest.mark.parametrize("gain", [0.5, 3.0])
def test_gain_of_the_camera_hardly_matters(name, gain) -> None:
    """Less than 0.3 dB, for half and three times the counts per electron."""
    data = evaluation_set(2.0, 2, 128)
    denoise = Denoiser(load_network(name), CPU)
    for noisy, clean in zip(data.noisy[:, 0], data.clean[:, 0], strict=True):
        as_is = torch.from_numpy(denoise(noisy.numpy()))
        changed = torch.from_numpy(denoise((gain * noisy).numpy()))
        assert abs(psnr_db(changed, gain * clean) - psnr_db(as_is, clean)) < 0.3


@pytest.mark.parametrize("name", CLEAN)
def test_empty_beam_stays_empty(name) -> None:
    """What is left on frames of noise alone is under a tenth of the noise."""
    check_empty(name, 8.0)


@pytest.mark.parametrize("name", once_trained(CLEAN))
def test_empty_beam_stays_empty_at_half_an_electron(name) -> None:
    """The estimate alone leaves a seventh."""
    check_empty(name, 0.5)


def check_empty(name: str, dose: float) -> None:
    data = noise_only_set(dose, 2, 128)
    denoise = Denoiser(load_network(name), CPU)
    for noisy, clean in zip(data.noisy[:, 0], data.clean[:, 0], strict=True):
        left = torch.from_numpy(denoise(noisy.numpy())) - clean
        assert float((left - left.mean()).std()) < 0.1 * float((noisy - clean).std())


@needs_movies
@pytest.mark.parametrize("name", once_trained(CLEAN))
def test_real_frame_denoised_alone_resembles_the_others(name) -> None:
    """More than the best Gaussian's does, its width chosen with the answer in hand."""
    from scgn.evaluate.methods import method_named
    from scgn.evaluate.real import movie_result

    found = movie_result(MOVIES, [method_named(name, CPU)])
    assert found["noisy"] < found["best_gaussian"]["score"] < found["methods"][name]


@needs_movies
@pytest.mark.parametrize("name", once_trained(["compact-clean", "preview-clean"]))
def test_unseen_second_exposure_is_told_better_than_by_the_best_gaussian(name) -> None:
    """uMSE of two exposures of one liquid cell, 13 % of whose pixels are clipped."""
    from scgn.evaluate.methods import method_named
    from scgn.evaluate.real import pair_result

    found = pair_result(MOVIES, [method_named(name, CPU)])
    assert found["methods"][name] < found["best_gaussian"]["score"] < found["noisy"]
