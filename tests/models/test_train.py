"""Training: the same weights from the same seed however often it stops, and better frames."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scgn.checkpoint import load_network
from scgn.denoise import Denoiser
from scgn.network import SCGN
from scgn.simulate import Recipe, SimulatedBatch
from scgn.sizes import SIZES
from scgn.train import (
    VALIDATION_SEED,
    TrainingError,
    TrainingPlan,
    TrainingState,
    begin,
    checkpoints,
    draw,
    export,
    frame_errors,
    learning_rate,
    resume,
    save_state,
    start_flat,
    train,
    train_step,
)
from scgn.units import noise_units

CPU = torch.device("cpu")
SHORT = TrainingPlan(steps=12, sides_px=(16, 24), pixels_per_step=2 * 16 * 16, warmup_steps=4)
# One bright crystal or melt at a good dose: a flat frame is no better than the noisy one, and tens
# of steps are enough to learn what hundreds teach of the whole range of doses.
LEARNS = TrainingPlan(
    steps=40,
    sides_px=(32,),
    pixels_per_step=2 * 32 * 32,
    peak_rate=3e-3,
    warmup_steps=4,
    average_decay=0.9,
    recipe=Recipe((8.0, 10.0), (20.0, 40.0), (0.0, 0.0), (0.0, 0.0), (0.6, 0.7)),
)


def run(state: TrainingState, plan: TrainingPlan, until: int) -> list[float]:
    return [train_step(state, plan, CPU) for _ in range(state.step, until)]


def assert_same_weights(first: SCGN, second: SCGN) -> None:
    ours, theirs = first.state_dict(), second.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def uninterrupted() -> TrainingState:
    """The short plan from start to end in one go."""
    state = begin(SHORT, CPU)
    losses = run(state, SHORT, SHORT.steps)
    assert len(losses) == 12
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)
    return state


@dataclass(frozen=True)
class Finished:
    """What one whole call of `train` left behind."""

    weights: Path
    rows: list[dict[str, float]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Finished:
    folder = tmp_path_factory.mktemp("run") / "new" / "folder"
    weights = train(LEARNS, folder, CPU, every_s=math.inf)
    lines = (folder / "log.jsonl").read_text().splitlines()
    return Finished(weights, [json.loads(line) for line in lines])


# ---- the same seed, the same weights ----


def test_same_seed_gives_the_same_bits(uninterrupted) -> None:
    again = begin(SHORT, CPU)
    run(again, SHORT, SHORT.steps)
    assert_same_weights(again.network, uninterrupted.network)
    assert_same_weights(again.average, uninterrupted.average)


def test_other_seed_gives_other_weights_and_data() -> None:
    first, other = begin(SHORT, CPU), begin(replace(SHORT, seed=1), CPU)
    assert not torch.equal(first.network.blocks[0].fuse.weight, other.network.blocks[0].fuse.weight)
    pair = draw(SHORT, 0, CPU), draw(replace(SHORT, seed=1), 0, CPU)
    assert pair[0].noisy.shape != pair[1].noisy.shape or not torch.equal(
        pair[0].noisy, pair[1].noisy
    )


@pytest.mark.parametrize("stops", [(5,), (1, 2, 11)])
def test_stopping_and_resuming_gives_the_same_bits(tmp_path, uninterrupted, stops) -> None:
    """Each part in a state of its own, with nothing but the file between them."""
    kept = tmp_path / "state.safetensors"
    for stop in (*stops, SHORT.steps):
        state = begin(SHORT, CPU)
        if kept.exists():
            resume(kept, state, SHORT, CPU)
        run(state, SHORT, stop)
        save_state(kept, state, SHORT)
    assert state.step == SHORT.steps
    assert_same_weights(state.network, uninterrupted.network)
    assert_same_weights(state.average, uninterrupted.average)


def test_checkpoints_come_when_due_and_at_the_end() -> None:
    plan = replace(SHORT, steps=3)
    often, seldom = begin(plan, CPU), begin(plan, CPU)
    assert [often.step for _ in checkpoints(often, plan, every_s=0)] == [1, 2, 3, 3]
    assert [seldom.step for _ in checkpoints(seldom, plan, every_s=math.inf)] == [3]
    assert_same_weights(often.average, seldom.average)


def test_average_trails_the_weights(uninterrupted) -> None:
    plan = replace(SHORT, average_decay=0.0)
    state = begin(plan, CPU)
    run(state, plan, 2)
    assert_same_weights(state.average, state.network)
    assert not torch.equal(uninterrupted.average.tail.weight, uninterrupted.network.tail.weight)
    assert not uninterrupted.average.training


# ---- the parts of the recipe ----


@pytest.mark.parametrize("size", ["tiny", "compact"])
def test_start_flat_returns_the_level(size) -> None:
    torch.manual_seed(0)
    network = SCGN(SIZES[size], residual="image").eval()
    start_flat(network)
    frames = 300 + 9 * torch.randn(2, 1, 24, 31)
    units = noise_units(frames)
    with torch.inference_mode():
        result = units.leave(network(units.enter(frames)))
    torch.testing.assert_close(result, units.level.expand_as(result), rtol=0, atol=1e-3)


def test_start_flat_can_learn() -> None:
    """Zeros must not stop the gradient: one step changes the blocks, not the tail alone."""
    state = begin(SHORT, CPU)
    before = {name: value.clone() for name, value in state.network.named_parameters()}
    run(state, SHORT, 2)
    changed = {n for n, v in state.network.named_parameters() if not torch.equal(v, before[n])}
    assert {"head.weight", "tail.weight", "blocks.1.fuse.weight"} <= changed
    assert "blocks.0.unit1.frequency.fourier_unit.mix.weight" in changed


def test_learning_rate_warms_up_and_falls_to_a_hundredth() -> None:
    plan = TrainingPlan(steps=1000, warmup_steps=100, peak_rate=2e-3)
    rates = [learning_rate(plan, step) for step in range(1200)]
    assert rates[0] == pytest.approx(2e-5)
    assert rates[49] == pytest.approx(1e-3)
    assert max(rates) == rates[99] == rates[100] == pytest.approx(2e-3)
    assert rates[550] == pytest.approx(2e-3 * 0.505)
    assert all(a < b for a, b in itertools.pairwise(rates[:100]))
    assert all(a > b for a, b in itertools.pairwise(rates[100:1000]))
    assert rates[1000] == rates[1199] == pytest.approx(2e-5)
    assert learning_rate(replace(plan, warmup_steps=0), 0) == pytest.approx(2e-3)


def test_each_step_draws_its_own_frames_of_the_planned_area() -> None:
    plan = TrainingPlan(sides_px=(16, 32), pixels_per_step=4 * 32 * 32)
    shapes = [tuple(draw(plan, step, CPU).noisy.shape) for step in range(12)]
    assert set(shapes) == {(16, 1, 16, 16), (4, 1, 32, 32)}
    huge = draw(replace(plan, sides_px=(80,)), 0, CPU)
    assert huge.clean.shape == (1, 1, 80, 80), "one frame at least"
    torch.testing.assert_close(draw(plan, 3, CPU).noisy, draw(plan, 3, CPU).noisy, rtol=0, atol=0)


def test_validation_draws_no_training_frame() -> None:
    assert TrainingPlan().seed != VALIDATION_SEED


def test_frame_errors_are_in_noise_units() -> None:
    """A network that returns its input is wrong by the noise itself: 1 whatever the gain."""
    rng = np.random.default_rng(0)
    clean = torch.full((3, 1, 128, 128), 50.0)
    noisy = clean + 4 * torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
    gain = torch.tensor([1.0, 10.0, 0.1]).view(3, 1, 1, 1)
    errors = frame_errors(torch.nn.Identity(), SimulatedBatch(noisy * gain, clean * gain))  # type: ignore[arg-type]
    torch.testing.assert_close(errors, torch.ones(3), rtol=0.03, atol=0)


# ---- a whole run ----


def test_exported_weights_carry_the_plan(finished) -> None:
    checkpoint = load_network(str(finished.weights))
    provenance = checkpoint.provenance
    training = provenance.training
    assert training["plan"] == json.loads(json.dumps(asdict(LEARNS)))
    recipe = Recipe(**{name: tuple(ends) for name, ends in training["plan"]["recipe"].items()})
    assert recipe == LEARNS.recipe
    assert training["steps_done"] == 40
    assert training["torch"] == torch.__version__
    assert training["commit"]
    assert (provenance.name, provenance.residual) == ("tiny-clean", "image")
    assert (provenance.target, provenance.input_units) == ("clean", "noise")
    assert np.isfinite(Denoiser(checkpoint, CPU)(np.eye(9, 14))).all()


def test_exported_weights_are_the_average_of_the_kept_state(finished) -> None:
    state = begin(LEARNS, CPU)
    resume(finished.weights.with_name("state.safetensors"), state, LEARNS, CPU)
    assert state.step == 40
    assert_same_weights(load_network(str(finished.weights)).network, state.average)


def test_another_plan_is_not_continued(finished) -> None:
    plan = replace(LEARNS, seed=5, peak_rate=1.0)
    with pytest.raises(TrainingError, match=r"holds a run with .*'peak_rate': .*'seed': 0"):
        train(plan, finished.weights.parent, CPU)


def test_start_from_another_size_is_refused(tmp_path, finished) -> None:
    plan = replace(SHORT, size="compact", start_from=str(finished.weights))
    with pytest.raises(TrainingError, match=r"expected Size\(channels=24.*got Size\(channels=16"):
        begin(plan, CPU)


def test_minutes_of_every_sitting_count(tmp_path) -> None:
    state = begin(SHORT, CPU)
    run(state, SHORT, 1)
    state.minutes = 41.5
    save_state(tmp_path / "state.safetensors", state, SHORT)
    again = begin(SHORT, CPU)
    resume(tmp_path / "state.safetensors", again, SHORT, CPU)
    assert (again.step, again.minutes) == (1, 41.5)


def test_run_can_start_from_given_weights_and_says_so(tmp_path, finished) -> None:
    plan = replace(SHORT, steps=2, start_from=str(finished.weights))
    origin = load_network(str(finished.weights))
    state = begin(plan, CPU)
    assert_same_weights(state.network, origin.network)
    assert_same_weights(state.average, origin.network)
    run(state, plan, 2)
    assert not torch.equal(state.network.tail.weight, origin.network.tail.weight)
    export(tmp_path / "later.safetensors", state, plan)
    training = load_network(str(tmp_path / "later.safetensors")).provenance.training
    assert training["started_from"]["id"] == origin.id
    assert training["started_from"]["training"] == origin.provenance.training
    assert str(finished.weights.parent) not in json.dumps(training), "no folder of this machine"


def test_short_run_beats_the_noisy_frames(finished) -> None:
    """By far more than the flat frame that training starts from, measured on the same frames."""
    assert [row["step"] for row in finished.rows] == [40]
    frames = replace(LEARNS, seed=VALIDATION_SEED, sides_px=(256,), pixels_per_step=16 * 256**2)
    data = draw(frames, 0, CPU)
    units = noise_units(data.noisy)
    clean = units.enter(data.clean)
    noisy = (units.enter(data.noisy) - clean).square().mean(dim=(1, 2, 3))
    flat_db = 10 * (noisy / clean.square().mean(dim=(1, 2, 3))).log10()
    assert finished.rows[0]["gain_db"] > 3 + max(0.0, float(flat_db.mean()))
    assert finished.rows[0]["rmse_noise_units"] < 0.8 * float(noisy.sqrt().mean())
