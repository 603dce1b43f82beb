"""`scgn compile` as its user types it: what it prints, what it keeps, what it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest
import torch
from networks import shaken

from scgn.__main__ import main
from scgn.architectures import build_network
from scgn.backends import BACKENDS, BackendError, backend_named
from scgn.backends.backend import why_not
from scgn.backends.openvino import OpenVino
from scgn.backends.tensorrt import TensorRtRtx
from scgn.checkpoint import describe, load_network, save_checkpoint
from scgn.compile import default_precision, shape_of
from scgn.deploy.graph import INPUTS, OUTPUTS
from scgn.network import Network
from scgn.sizes import Design, Size

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def saved(folder: Path, network: Network) -> str:
    """Path of that network's file."""
    path = folder / "small.safetensors"
    save_checkpoint(path, network, describe(network, "small"))
    return str(path)


@pytest.fixture
def scgn(tmp_path, network_of) -> str:
    """A small SCGN's file."""
    return saved(tmp_path, network_of(residual="image"))


@pytest.fixture
def student(tmp_path) -> str:
    """A small student's file."""
    return saved(tmp_path, shaken(build_network(Design("student4", Size(8, 1), "none")), seed=0))


def command(network: str, folder: Path, *flags: str) -> list[str]:
    """The arguments, for a CPU and a cache of the test's own."""
    cache = str(folder / "engines")
    return ["compile", "--network", network, "--device", "cpu", "--cache", cache, *flags]


def test_engine_is_built_and_then_found(tmp_path, scgn, capsys) -> None:
    flags = command(scgn, tmp_path, "--backend", "openvino", "--size", "16x24")
    assert main(flags) == 0
    steps, line = capsys.readouterr().out.splitlines()
    assert steps == "scgn compile: 16x24: exporting to ONNX"
    identity = load_network(scgn).id
    precision = default_precision(backend_named("openvino"), CPU)
    assert line.startswith(f"{identity} 16x24 {precision}: openvino ")
    assert re.search(r", 0\.\d MiB, built and run once in \d+\.\d s$", line)
    assert main(flags) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert ", found and run once in " in line
    assert len(list((tmp_path / "engines").iterdir())) == 1


def test_every_size_has_a_line(tmp_path, student, capsys) -> None:
    assert main(command(student, tmp_path, "--backend", "eager", "--size", "16x24", "24X16")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["16x24", "24x16"]
    assert not (tmp_path / "engines").exists(), "eager keeps nothing"


def test_onnx_file_holds_the_graph(tmp_path, scgn, capsys) -> None:
    path = tmp_path / "graph.onnx"
    flags = ("--backend", "eager", "--size", "16x24", "--onnx", str(path), "--batch", "2")
    assert main(command(scgn, tmp_path, *flags, "--camera-dtype", ">u2")) == 0
    assert ": eager " in capsys.readouterr().out
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [given.name for given in model.graph.input] == list(INPUTS)
    assert [made.name for made in model.graph.output] == list(OUTPUTS)
    raw = model.graph.input[0].type.tensor_type
    assert [side.dim_value for side in raw.shape.dim] == [2, 16, 24, 2]
    assert raw.elem_type == onnx.TensorProto.UINT8


def test_auto_says_what_it_chose_and_keeps_an_engine_of_each_precision(
    tmp_path, student, capsys
) -> None:
    for precision in ("float32", "bfloat16"):
        assert main(command(student, tmp_path, "--size", "16x24", "--precision", precision)) == 0
        assert f" 16x24 {precision}: openvino " in capsys.readouterr().out
    assert len(list((tmp_path / "engines").glob("*.engine"))) == 2


# ---- what is refused ----


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--size", "0x10"], r"scgn: shape: expected at least 4 px a side, got \(0, 10\)"),
        (["--size", "16x24", "--batch", "0"], "scgn: batch: expected at least 1, got 0"),
        (["--size", "16x24", "--backend", "tensorrt"], "backend tensorrt: runs on cuda, not on"),
        (["--size", "16x24", "--network", "none"], "scgn: no network 'none'"),
    ],
)
def test_what_cannot_be_compiled_is_said_in_one_line(
    tmp_path, student, capsys, flags, message
) -> None:
    assert main(command(student, tmp_path, *flags)) == 2
    printed = capsys.readouterr()
    assert len(printed.err.splitlines()) == 1
    assert re.match(f"scgn: .*{message.removeprefix('scgn: ')}", printed.err)
    assert printed.out == ""
    assert not (tmp_path / "engines").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--size", "16"], "expected ROWSxCOLUMNS, got '16'"),
        (["--size", "16x"], "expected ROWSxCOLUMNS, got '16x'"),
        (["--size", "-16x24"], "--size: expected at least one argument"),
        (["--size", "16x24x2"], "expected ROWSxCOLUMNS, got '16x24x2'"),
        (["--size", "16x24", "--backend", "fastest"], "invalid choice: 'fastest'"),
        (["--size", "16x24", "--camera-dtype", "u2"], "invalid choice: 'u2'"),
        (["--size", "16x24", "--precision", "float64"], "invalid choice: 'float64'"),
        ([], "the following arguments are required: --size"),
    ],
)
def test_what_cannot_be_parsed_ends_with_status_2(capsys, flags, message) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["compile", *flags])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_size_is_rows_by_columns() -> None:
    assert shape_of("16x24") == (16, 24)
    assert shape_of("2048X4096") == (2048, 4096)


def test_precision_is_the_devices_unless_given() -> None:
    found = {name: default_precision(backend_named(name), CPU) for name in BACKENDS}
    assert found["eager"] == found["onnxruntime"] == "float32"
    assert found["rtx"] == found["tensorrt"] == "float16"
    assert default_precision(backend_named("inductor"), CUDA) == "float16"


@pytest.mark.parametrize(("has", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_openvino_takes_bfloat16_where_the_cpu_multiplies_in_it(
    has, precision, monkeypatch
) -> None:
    monkeypatch.setattr(OpenVino, "has_bfloat16", lambda _: has)
    assert default_precision(backend_named("openvino"), CPU) == precision


# ---- TensorRT-RTX, which builds without a GPU ----


def test_rtx_builds_one_engine_without_a_gpu(tmp_path, scgn, capsys) -> None:
    try:
        TensorRtRtx().version()
    except BackendError as error:
        pytest.skip(str(error))
    flags = command(scgn, tmp_path, "--backend", "rtx", "--size", "16x24")
    assert main(flags) == 0
    printed = capsys.readouterr().out
    assert " in 1 engine\n" in printed
    assert " 16x24 float16: rtx " in printed
    assert "built and not run (no GPU here)" in printed
    assert main(flags) == 0
    assert "found and not run" in capsys.readouterr().out
    assert why_not(TensorRtRtx(), CPU) == "runs on cuda, not on cpu"
