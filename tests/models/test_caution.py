"""Shrinking: between the network and its estimate, by the factor; what it was is in the header."""

from __future__ import annotations

import pytest
import torch
from networks import shaken

from scgn.__main__ import main
from scgn.architectures import build_network
from scgn.checkpoint import describe, load_network, save_checkpoint
from scgn.sizes import Design, Size
from scgn.train import TrainingError
from scgn.train.caution import FACTORS, chosen, mean_psnr, shrink
from scgn.wiener import wiener

SMALL = {
    "scgn": Design("scgn", Size(8, 1), "wiener"),
    "student": Design("student4", Size(8, 1), "wiener"),
}


def frames() -> torch.Tensor:
    return 3 + torch.randn(1, 1, 20, 24, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", SMALL)
def test_factor_scales_what_is_added_to_the_estimate(name) -> None:
    network, noisy = shaken(build_network(SMALL[name]), seed=1), frames()
    with torch.inference_mode():
        whole = network(noisy) - wiener(noisy)
        shrink(network, 0.25)
        part = network(noisy) - wiener(noisy)
    assert whole.std() > 0.01
    torch.testing.assert_close(part, 0.25 * whole, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("factor", [-0.1, 1.5])
def test_factor_outside_its_range_is_refused(factor) -> None:
    with pytest.raises(TrainingError, match=rf"factor: expected 0..1, got {factor}"):
        shrink(build_network(SMALL["student"]), factor)


def test_a_network_that_only_harms_is_shrunk_most() -> None:
    """Random weights add noise to the estimate: the less of it, the better."""
    table = mean_psnr(shaken(build_network(SMALL["student"]), seed=2))
    assert list(table) == list(FACTORS)
    assert sorted(table, key=lambda factor: -table[factor]) == list(FACTORS)


def test_as_much_is_kept_as_costs_a_tenth_of_a_decibel() -> None:
    assert chosen({0.2: 18.0, 0.4: 19.0, 0.6: 18.95, 0.8: 18.91, 1.0: 18.5}) == 0.8
    assert chosen({0.2: 18.0, 1.0: 19.0}) == 1.0


def test_command_writes_weights_that_say_so(tmp_path, capsys) -> None:
    source, out = tmp_path / "whole.safetensors", tmp_path / "part.safetensors"
    network = shaken(build_network(SMALL["student"]), seed=3)
    save_checkpoint(source, network, describe(network, "small", {"steps_done": 7}))
    assert main(["shrink", str(source), "--factor", "0.5", "--out", str(out)]) == 0
    assert "correction times 0.5" in capsys.readouterr().out
    before, after = load_network(str(source)), load_network(str(out))
    assert after.id != before.id
    told = after.provenance.training
    assert (told["steps_done"], told["shrunk"]["factor"]) == (7, 0.5)
    assert told["shrunk"]["of"] == before.id


def test_a_network_that_corrects_no_estimate_is_refused(tmp_path, capsys) -> None:
    source = tmp_path / "plain.safetensors"
    network = build_network(Design("scgn", Size(8, 1), "image"))
    save_checkpoint(source, network, describe(network, "plain"))
    assert main(["shrink", str(source), "--factor", "0.5", "--out", str(tmp_path / "x")]) == 2
    assert "plain: expected ('wiener', 'noise', 'clean'), got ('image'" in capsys.readouterr().err
