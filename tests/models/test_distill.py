"""Students and their teachers: what a student sees, what it is taught, and `scgn distill`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import shaken
from torch import Tensor

from scgn.__main__ import main
from scgn.architectures import build_network, parameters
from scgn.checkpoint import CheckpointError, describe, load_network, save_checkpoint
from scgn.network import Network
from scgn.peers.peer import Peer
from scgn.sizes import STUDENTS, Size
from scgn.stream.facts import SEEN
from scgn.student import QUARTER, Student
from scgn.train import Sitting, TrainingError, TrainingPlan
from scgn.train.command import seconds_per_step
from scgn.train.data import Pairs, pairs
from scgn.train.plan import MoviePlan
from scgn.train.run import checkpoints
from scgn.train.state import begin
from scgn.train.teacher import Teacher

CPU = torch.device("cpu")
SHORT = TrainingPlan(
    size="preview", steps=2, sides_px=(16,), movies=MoviePlan(frames=6, movies=0.03, looks=3),
    teacher="tiny-clean",
)  # fmt: skip
LOOKS = 3 * 2  # of two movies


def frames(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- students ----


@pytest.mark.parametrize("inputs", [1, 2])
def test_student_keeps_the_side_of_its_frames(inputs) -> None:
    student = shaken(Student(Size(8, 1), inputs), seed=0)
    with torch.inference_mode():
        assert student(frames(3, inputs, 16, 24)).shape == (3, 1, 16, 24)


@pytest.mark.parametrize("shape", [(16, 24), (17, 23), (5, 6)])
@pytest.mark.parametrize("design", STUDENTS.values(), ids=STUDENTS)
def test_student_network_takes_any_frame(design, shape) -> None:
    network = build_network(replace(design, size=Size(8, 1))).eval()
    with torch.inference_mode():
        result = network(frames(2, len(SEEN), *shape))
    assert result.shape == (2, 1, *shape)
    assert result.isfinite().all()


@torch.inference_mode()
def test_student_sees_four_times_as_far() -> None:
    """Four convolutions reach four positions of four pixels, and no pixel beyond."""
    student = shaken(Student(Size(32, 1)), seed=0)
    before = frames(1, 1, 96, 96)
    after = before.clone()
    after[..., 48, 51] += 10
    changed = (student(after) != student(before))[0, 0]
    reach = range(4 * (48 // QUARTER - 4), 4 * (48 // QUARTER + 5))
    near = torch.zeros(96, dtype=torch.bool)
    near[list(reach)] = True
    assert torch.equal(changed, near[:, None] & near[None, :])


@pytest.mark.parametrize("design", STUDENTS.values(), ids=STUDENTS)
def test_fresh_student_leaves_the_estimate_as_it_is(design) -> None:
    network = build_network(design)
    network.start_flat()
    with torch.inference_mode():
        assert not network.eval()(frames(1, len(SEEN), 32, 32)).any()


# ---- teachers ----


def taught(share: float) -> tuple[Pairs, Pairs, Tensor]:
    """Frames before and after a teacher with that share, and the teacher's own result."""
    plan = replace(SHORT, teacher_share=share)
    data = pairs(plan, 0)
    with torch.inference_mode():
        result = load_network("tiny-clean").network(data.given)
    return data, Teacher(plan, CPU)(data), result


def test_teacher_without_a_share_leaves_the_truth() -> None:
    data, after, _ = taught(0)
    assert torch.equal(after.wanted, data.wanted)
    assert torch.equal(after.given, data.given)


def test_teacher_with_all_of_it_is_what_is_wanted() -> None:
    data, after, result = taught(1)
    torch.testing.assert_close(after.wanted, result, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(after.wanted, data.wanted, atol=1e-2)
    assert torch.equal(after.given, data.given)


def test_teacher_with_half_stands_in_the_middle() -> None:
    data, after, result = taught(0.5)
    torch.testing.assert_close(after.wanted, (data.wanted + result) / 2, rtol=1e-5, atol=1e-5)
    assert not after.wanted.requires_grad


def test_teacher_in_half_precision_gives_float32() -> None:
    plan = replace(SHORT, precision="bfloat16", teacher_share=1.0)
    data = pairs(plan, 0)
    exact = Teacher(replace(plan, precision="float32"), CPU)(data).wanted
    rounded = Teacher(plan, CPU)(data).wanted
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.05 * float(data.given.std()))


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_share_outside_of_0_to_1_is_refused(share) -> None:
    with pytest.raises(TrainingError, match=f"teacher_share: expected 0..1, got {share}"):
        Teacher(replace(SHORT, teacher_share=share), CPU)


def test_teacher_of_another_target_is_refused() -> None:
    with pytest.raises(TrainingError, match="teacher tiny-clean") as raised:
        Teacher(replace(SHORT, target="atom_map", loss="rmse"), CPU)
    assert "expected ('atom_map', 'noise'), got ('clean', 'noise')" in str(raised.value)


def test_teacher_of_other_units_is_refused(tmp_path, network_of) -> None:
    path, network = tmp_path / "counts.safetensors", network_of()
    save_checkpoint(path, network, describe(network, "counts", input_units="counts"))
    with pytest.raises(TrainingError, match=r"counts\.safetensors") as raised:
        Teacher(replace(SHORT, teacher=str(path)), CPU)
    assert "expected ('clean', 'noise'), got ('clean', 'counts')" in str(raised.value)


def test_teacher_that_sees_something_else_is_refused(tmp_path, network_of) -> None:
    path, network = tmp_path / "alone.safetensors", network_of(residual="image")
    save_checkpoint(path, network, describe(network, "alone"))
    with pytest.raises(TrainingError, match=r"expected one that sees 11 channels, got 1"):
        Teacher(replace(SHORT, teacher=str(path)), CPU)


def test_missing_teacher_is_refused() -> None:
    with pytest.raises(CheckpointError, match="no network 'nobody'"):
        Teacher(replace(SHORT, teacher="nobody"), CPU)


# ---- runs ----


def weights_of(plan: TrainingPlan) -> dict[str, Tensor]:
    """Of a whole run of the plan, without its files."""
    state = begin(plan, CPU)
    for _ in checkpoints(state, plan, None, Sitting()):
        assert state.step == plan.steps
    return state.network.state_dict()


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_same_seed_and_teacher_give_the_same_bits() -> None:
    first = weights_of(SHORT)
    assert same(first, weights_of(SHORT))
    assert not same(first, weights_of(replace(SHORT, seed=1)))


def test_teacher_and_its_share_decide_the_weights() -> None:
    without = weights_of(replace(SHORT, teacher=None))
    assert same(without, weights_of(replace(SHORT, teacher_share=0.0)))
    assert not same(without, weights_of(SHORT))
    assert not same(weights_of(SHORT), weights_of(replace(SHORT, teacher_share=1.0)))


def test_teacher_counts_in_the_work_of_a_step(monkeypatch) -> None:
    """Minutes become steps by it, and a teacher often costs more than its student."""
    calls: list[int] = []
    call = Teacher.__call__

    def counted(self: Teacher, data: Pairs) -> Pairs:
        calls.append(len(data.given))
        return call(self, data)

    monkeypatch.setattr(Teacher, "__call__", counted)
    assert seconds_per_step(SHORT, CPU) > 0
    assert calls == [LOOKS] * 5


# ---- the command ----


def command(out: Path, *flags: str, teacher: str = "tiny-clean") -> list[str]:
    small = ["--threads", "1", "--device", "cpu", "--sides", "32", "--movies", "0.06"]
    run = ["--teacher", teacher, "--steps", "2", "--out", str(out)]
    return ["distill", *run, *small, *flags]


def plan_in(out: Path) -> dict[str, Any]:
    """The plan that the weights tell of."""
    plan: dict[str, Any] = network_in(out)[1]["plan"]
    return plan


def network_in(out: Path) -> tuple[Network, dict[str, Any]]:
    checkpoint = load_network(str(out / "weights.safetensors"))
    return checkpoint.network, checkpoint.provenance.training


def test_distill_writes_a_student_that_names_its_teacher(tmp_path, capsys) -> None:
    assert main(command(tmp_path, "--size", "preview")) == 0
    assert capsys.readouterr().out.split()[0] == str(tmp_path / "weights.safetensors")
    network, training = network_in(tmp_path)
    assert isinstance(network, Peer)
    assert isinstance(network.body, Student)
    assert network.design == STUDENTS["preview"]
    assert training["parameters"] == parameters(network)
    assert (training["plan"]["teacher"], training["plan"]["teacher_share"]) == ("tiny-clean", 0.5)


def test_distill_names_a_teachers_file_and_not_its_folder(tmp_path, network_of, capsys) -> None:
    path, network = tmp_path / "mine.safetensors", network_of(residual="stream")
    save_checkpoint(path, network, describe(network, "mine"))
    out = tmp_path / "run"
    assert main(command(out, "--teacher-share", "1", teacher=str(path))) == 0
    assert plan_in(out)["teacher"] == "mine.safetensors"
    assert plan_in(out)["teacher_share"] == 1.0
    assert network_in(out)[0].design == STUDENTS["preview"], "the default"
    assert str(tmp_path).encode() not in (out / "weights.safetensors").read_bytes()


def test_run_goes_on_with_its_own_teacher_only(tmp_path, capsys) -> None:
    assert main(command(tmp_path, "--stop-after", "0")) == 0
    for flags, teacher in (((), "compact-clean"), (("--teacher-share", "0.25"), "tiny-clean")):
        assert main(command(tmp_path, *flags, teacher=teacher)) == 2
        assert "holds a run with {'teacher" in capsys.readouterr().err
    assert main(command(tmp_path)) == 0
    assert network_in(tmp_path)[1]["steps_done"] == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--teacher-share", "2"), "scgn: teacher_share: expected 0..1, got 2.0"),
        (("--target", "atom_map"), "scgn: teacher tiny-clean: expected ('atom_map', 'noise')"),
        (("--teacher", "nobody"), "scgn: no network 'nobody'"),
    ],
)
def test_what_cannot_be_taught_is_said(tmp_path, capsys, flags, message) -> None:
    assert main(command(tmp_path, *flags)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "weights.safetensors").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "required: --teacher"),
        (["--teacher", "tiny-clean", "--size", "compact"], "invalid choice: 'compact'"),
    ],
)
def test_distill_needs_a_teacher_and_a_student(tmp_path, capsys, flags, message) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["distill", "--out", str(tmp_path), *flags])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
