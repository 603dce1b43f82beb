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
from torch import Tensor

from scgn.checkpoint import load_network
from scgn.denoise import Denoiser
from scgn.network import SCGN, Network
from scgn.sizes import DESIGNS, SIZES
from scgn.stream.facts import SEEN
from scgn.stream.front import LONG_SCALE
from scgn.train import Sitting, TrainingError, TrainingPlan, named_plan, train
from scgn.train.data import VALIDATION_SEED, Pairs, draw, pairs, stream, validation_pairs
from scgn.train.movies import VALIDATION_TIMES, draw_looks
from scgn.train.plan import MoviePlan, learning_rate
from scgn.train.run import checkpoints, export, frame_errors, no_correction, train_step, validate
from scgn.train.state import TrainingState, begin, resume, save_state
from scgn.units import ATOM_MAP_PEAK, noise_units

CPU = torch.device("cpu")
FEW = MoviePlan(frames=6, movies=0.04, looks=3)
SHORT = TrainingPlan(
    steps=12, sides_px=(16, 24), movies=FEW, pixels_per_step=2 * 16 * 16, warmup_steps=4
)
# One movie again and again: the estimate is good, so on others tens of steps teach nothing.
LEARNS = replace(SHORT, steps=40, sides_px=(32,), peak_rate=3e-3, average_decay=0.9, epoch_steps=1)


def run(state: TrainingState, plan: TrainingPlan, until: int) -> list[float]:
    steps = range(state.step, until)
    return [float(train_step(state, plan, pairs(plan, step))) for step in steps]


def assert_same_weights(first: Network, second: Network) -> None:
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
    weights = train(LEARNS, folder, CPU, Sitting(every_s=math.inf))
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
    one, another = pairs(SHORT, 0).given, pairs(replace(SHORT, seed=1), 0).given
    assert one.shape != another.shape or not torch.equal(one, another)


@pytest.mark.parametrize("stops", [(5,), (1, 2, 11)])
def test_stopping_and_resuming_gives_the_same_bits(tmp_path, uninterrupted, stops) -> None:
    """Each part in a state of its own, with nothing but the file between them."""
    kept = tmp_path / "state.safetensors"
    for stop in (*stops, SHORT.steps):
        state = begin(SHORT, CPU)
        if kept.exists():
            resume(kept, state, SHORT)
        run(state, SHORT, stop)
        save_state(kept, state, SHORT)
    assert state.step == SHORT.steps
    assert_same_weights(state.network, uninterrupted.network)
    assert_same_weights(state.average, uninterrupted.average)


def test_checkpoints_come_when_due_and_at_the_end() -> None:
    plan = replace(SHORT, steps=3)
    often, seldom = begin(plan, CPU), begin(plan, CPU)
    yielded = [often.step for _ in checkpoints(often, plan, None, Sitting(every_s=0))]
    assert yielded == [1, 2, 3, 3]
    assert [seldom.step for _ in checkpoints(seldom, plan, None, Sitting())] == [3]
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
    network.start_flat()
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


def test_each_step_draws_movies_of_its_own_of_the_planned_area() -> None:
    plan = TrainingPlan(sides_px=(16, 32), movies=MoviePlan(frames=6, movies=0.0625, looks=3))
    shapes = {tuple(pairs(plan, step).given.shape) for step in range(8)}
    assert shapes == {(3 * 4, len(SEEN), 16, 16), (3 * 1, len(SEEN), 32, 32)}
    huge = pairs(replace(plan, sides_px=(80,)), 0)
    assert huge.wanted.shape == (3, 1, 80, 80), "one movie at least"
    first, again = pairs(plan, 3), pairs(plan, 3)
    assert torch.equal(first.given, again.given)
    assert torch.equal(first.wanted, again.wanted)
    assert not torch.equal(first.wanted, pairs(plan, 5).wanted)


def test_looks_hold_the_first_frame_and_the_last() -> None:
    """A first frame is every mean; the last one has a history behind it."""
    data = draw_looks(replace(SHORT, movies=replace(FEW, frames=12)), 1)
    age = data.given[:, SEEN.index("age")].flatten(1).mean(dim=1)
    movies = len(age) // FEW.looks
    assert (age[:movies] == 0).all(), "log of one frame"
    assert age[-movies:].max() > 0.2 * math.log(4)
    frame, long = (data.given[:movies, SEEN.index(name)] for name in ("frame", "long"))
    torch.testing.assert_close(long, 4 * frame, rtol=1e-3, atol=1e-3)


def test_each_step_of_a_map_draws_its_own_frames_of_the_planned_area() -> None:
    plan = TrainingPlan(sides_px=(16, 32), pixels_per_step=4 * 32 * 32)
    shapes = [tuple(draw(plan, step).noisy.shape) for step in range(12)]
    assert set(shapes) == {(16, 1, 16, 16), (4, 1, 32, 32)}
    huge = draw(replace(plan, sides_px=(80,)), 0)
    assert huge.clean.shape == (1, 1, 80, 80), "one frame at least"
    torch.testing.assert_close(draw(plan, 3).noisy, draw(plan, 3).noisy, rtol=0, atol=0)


def test_validation_draws_no_training_frame() -> None:
    assert TrainingPlan().seed != VALIDATION_SEED


def test_power_counts_harm_more_than_as_much_gain() -> None:
    """It is the square of the relative error, and tells the same of a network in dB."""
    data = validation_pairs(LEARNS)
    relative, power = (
        frame_errors(replace(LEARNS, loss=loss), noise_back, data) for loss in ("relative", "power")
    )
    torch.testing.assert_close(power, relative.square())
    assert relative.min() > 1, "a noisy frame is worse than its estimate"


def noise_back(given: Tensor) -> Tensor:
    """A correction that makes the noisy frame of its estimate."""
    frame, base = (given[:, SEEN.index(n)][:, None] for n in ("frame", "base"))
    return LONG_SCALE * frame - base


def test_frame_errors_are_in_noise_units() -> None:
    """A network that returns its input is wrong by the noise itself: 1 whatever the gain."""
    rng = np.random.default_rng(0)
    clean = torch.full((3, 1, 128, 128), 50.0)
    noisy = clean + 4 * torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
    gain = torch.tensor([1.0, 10.0, 0.1]).view(3, 1, 1, 1)
    units = noise_units(noisy * gain)
    data = Pairs(units.enter(noisy * gain), units.enter(clean * gain))
    errors = frame_errors(TrainingPlan(loss="rmse"), torch.nn.Identity(), data)
    torch.testing.assert_close(errors, torch.ones(3), rtol=0.03, atol=0)


# ---- a whole run ----


def test_exported_weights_carry_the_plan(finished) -> None:
    checkpoint = load_network(str(finished.weights))
    provenance = checkpoint.provenance
    training = provenance.training
    assert training["plan"] == json.loads(json.dumps(asdict(LEARNS)))
    assert training["steps_done"] == 40
    assert training["torch"] == torch.__version__
    assert training["commit"]
    assert (provenance.name, provenance.residual) == ("tiny-clean", "stream")
    assert (provenance.target, provenance.input_units) == ("clean", "noise")
    assert np.isfinite(Denoiser(checkpoint, CPU)(np.eye(9, 14))).all()


def test_exported_weights_are_the_average_of_the_kept_state(finished) -> None:
    state = begin(LEARNS, CPU)
    resume(finished.weights.with_name("state.safetensors"), state, LEARNS)
    assert state.step == 40
    assert_same_weights(load_network(str(finished.weights)).network, state.average)


def test_another_plan_is_not_continued(finished) -> None:
    plan = replace(LEARNS, seed=5, peak_rate=1.0)
    with pytest.raises(TrainingError, match=r"holds a run with .*'peak_rate': .*'seed': 0"):
        train(plan, finished.weights.parent, CPU)


def test_start_from_another_size_is_refused(tmp_path, finished) -> None:
    plan = replace(SHORT, size="compact", start_from=str(finished.weights))
    with pytest.raises(TrainingError, match=r"expected .*channels=24.*got .*channels=16"):
        begin(plan, CPU)


def test_minutes_of_every_sitting_count(tmp_path) -> None:
    state = begin(SHORT, CPU)
    run(state, SHORT, 1)
    state.minutes = 41.5
    save_state(tmp_path / "state.safetensors", state, SHORT)
    again = begin(SHORT, CPU)
    resume(tmp_path / "state.safetensors", again, SHORT)
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


def test_relative_error_of_the_estimate_itself_is_one() -> None:
    """A little less, as FLOOR noises count with it: an empty frame's estimate has no error."""
    errors = frame_errors(LEARNS, no_correction, validation_pairs(LEARNS))
    assert errors.max() <= 1.001
    assert errors.median() > 0.95


def test_run_learns_what_it_sees_again_and_again(finished) -> None:
    data, network = pairs(LEARNS, 0), load_network(str(finished.weights)).network
    with torch.inference_mode():
        learned = frame_errors(LEARNS, network, data).mean()
        estimate = frame_errors(LEARNS, no_correction, data).mean()
    assert learned < 0.7 * estimate


def test_log_tells_of_frames_with_and_without_a_past_beside_the_estimate(finished) -> None:
    [row] = finished.rows
    assert row["step"] == 40
    assert all(math.isfinite(value) for value in row.values())
    alone, later, last = (row[f"estimate_above_flat_db_{time}"] for time in VALIDATION_TIMES)
    assert alone < later < last, "a past helps"
    assert abs(row["above_flat_db_0"] - alone) < 3


def test_nothing_learned_is_the_estimate_to_the_digit() -> None:
    data = validation_pairs(LEARNS)
    found = validate(begin(LEARNS, CPU), LEARNS, data)
    for time in VALIDATION_TIMES:
        assert found[f"above_flat_db_{time}"] == found[f"estimate_above_flat_db_{time}"]


# ---- other targets, recipes and networks ----


def test_atom_map_is_learned_as_a_map() -> None:
    """The target is spots in 0..1 beside noise units, whatever the camera's gain."""
    plan = replace(SHORT, target="atom_map", loss="rmse")
    drawn = draw(plan, 0)
    data = pairs(plan, 0)
    torch.testing.assert_close(data.wanted * ATOM_MAP_PEAK, drawn.atom_map)
    assert plan.design.residual == "feature"
    state = begin(plan, CPU)
    losses = run(state, plan, 3)
    assert all(math.isfinite(loss) for loss in losses)


def test_exported_atom_map_comes_out_on_the_8_bit_scale(tmp_path) -> None:
    plan = replace(SHORT, target="atom_map", loss="rmse", steps=1)
    weights = train(plan, tmp_path, CPU)
    checkpoint = load_network(str(weights))
    assert (checkpoint.provenance.name, checkpoint.provenance.target) == (
        "tiny-atom-map",
        "atom_map",
    )
    frame = np.random.default_rng(0).poisson(9, (24, 31)).astype(np.float32)
    result = Denoiser(checkpoint, CPU)(frame)
    units = noise_units(torch.from_numpy(frame)[None, None])
    expected = 255 * checkpoint.network(units.enter(torch.from_numpy(frame)[None, None]))
    np.testing.assert_allclose(result, expected[0, 0].detach().numpy(), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(Denoiser(checkpoint, CPU)(7 * frame), result, rtol=1e-3, atol=0.05)


def test_paper_recipe_is_the_papers() -> None:
    """Section 4.1: L1, 2e-4 throughout, 100 epochs of 1,000 whole 8-bit frames, batches of 8."""
    plan = named_plan("paper", size="paper")
    assert plan.steps * plan.pixels_per_step == 100 * 1000 * 256**2
    assert plan.epoch_steps is not None
    assert plan.epoch_steps * plan.pixels_per_step == 1000 * 256**2
    assert {learning_rate(plan, step) for step in (0, 50, 12_499)} == {2e-4}
    assert (plan.loss, plan.input_units, plan.target) == ("l1", "counts", "atom_map")
    small = replace(plan, sides_px=(64,), pixels_per_step=64 * 64, epoch_steps=3)
    first, again, other = (pairs(small, step) for step in (0, 3, 1))
    assert torch.equal(first.given, again.given), "the second epoch repeats the first"
    assert not torch.equal(first.given, other.given)
    assert 0 <= float(first.given.min()) < float(first.given.max()) <= 255
    assert torch.equal(first.given, first.given.round())
    assert 0 <= float(first.wanted.min()) < 1 < 200 < float(first.wanted.max()) <= 255


def test_white_noise_recipe_has_no_lines_and_no_blur() -> None:
    recipe = named_plan("white-noise").recipe
    assert recipe.line_noise == recipe.blur_px == recipe.response == (0.0, 0.0)
    assert recipe.clip_share == 0
    assert recipe.dose_e_per_px == TrainingPlan().recipe.dose_e_per_px


def test_atom_map_of_the_paper_recipe_is_learned_as_the_paper_does() -> None:
    assert named_plan("paper", target="atom_map") == named_plan("paper")
    assert named_plan("ours", target="atom_map").loss == "rmse"
    with pytest.raises(TrainingError, match="recipe paper: expected target atom_map, got clean"):
        named_plan("paper", target="clean")


def test_finished_run_is_left_as_it_is(tmp_path, finished) -> None:
    """Its header tells of the training, not of the day somebody asked again."""
    plan, folder = replace(SHORT, steps=1), tmp_path / "run"
    weights = train(plan, folder, CPU)
    before = weights.read_bytes(), (folder / "log.jsonl").read_text()
    assert train(plan, folder, CPU) == weights
    assert (weights.read_bytes(), (folder / "log.jsonl").read_text()) == before


def test_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(TrainingError, match="'ours', 'paper', 'white-noise'"):
        named_plan("mine")


@pytest.mark.parametrize("size", sorted(set(DESIGNS) - {"paper"}))
def test_every_network_trains_by_the_same_loop(size) -> None:
    plan = replace(SHORT, size=size, sides_px=(16,), warmup_steps=1)
    state = begin(plan, CPU)
    before = {name: value.clone() for name, value in state.network.named_parameters()}
    losses = run(state, plan, 3)
    assert all(math.isfinite(loss) for loss in losses)
    moved = {n for n, v in state.network.named_parameters() if not torch.equal(v, before[n])}
    assert len(moved) > 0.8 * len(before)


def test_half_precision_trains_to_nearly_the_same_loss() -> None:
    half = replace(SHORT, precision="bfloat16")
    first, second = begin(SHORT, CPU), begin(half, CPU)
    assert run(second, half, 4) == pytest.approx(run(first, SHORT, 4), rel=0.05)


def test_workers_draw_the_same_frames() -> None:
    plan = replace(SHORT, steps=3)
    alone = [data.given for data in stream(plan, None, 0, workers=0)]
    ahead = [data.given for data in stream(plan, None, 0, workers=1)]
    assert len(alone) == len(ahead) == 3
    assert all(torch.equal(a, b) for a, b in zip(alone, ahead, strict=True))
