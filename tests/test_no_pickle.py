"""No file and no message makes the service run code: nothing unpickles, evaluates or executes."""

from __future__ import annotations

import ast
import io
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import ROOT

from scgn.calibration import CalibrationError, load_calibration, read_npy
from scgn.checkpoint import CheckpointError, load_network
from scgn.published import PublishedLayoutError
from scgn.stacks import StackError
from scgn.stacks import read_stack as read_series
from scgn_client.errors import FileFormatError
from scgn_client.files import read_frames
from scgn_live.checking.files import CheckError
from scgn_live.checking.readers import read_stack

ROOMS = ("client", "models", "service", "benchmarks", "deploy")
SOURCES = [ROOT / "dev.py", *(p for room in ROOMS for p in sorted((ROOT / room).rglob("*.py")))]

# Modules that unpickle, or were made to.
MODULES = {
    "pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib",
    "jsonpickle", "multiprocessing", "concurrent.futures.process", "code", "imp",
}  # fmt: skip
# Calls that run what they are given; by the last name, whatever it is called on. A network has an
# `eval()` too, to which nothing is given.
CALLS = {
    "eval", "exec", "__import__", "execfile", "recv_pyobj", "send_pyobj", "read_pickle",
    "to_pickle", "system", "popen", "unsafe_load", "full_load", "load_package",
    "load_state_dict_from_url",
}  # fmt: skip
# Calls that are safe with these words alone.
WORDS = {
    "np.load": {"allow_pickle": "False"}, "numpy.load": {"allow_pickle": "False"},
    "np.lib.format.read_array": {"allow_pickle": "False"},
    "torch.load": {"weights_only": "True"},
}  # fmt: skip
# Calls that have no safe way.
NEVER = ("yaml.load", "yaml.load_all", "torch.jit.load", "torch.hub.load", "torch.export.load")


def wrong(source: str) -> Iterator[str]:
    """What a source file does that runs what it reads, as `line: what`."""
    for node in ast.walk(ast.parse(source)):
        for name in imported(node):
            if name in MODULES or name.partition(".")[0] in MODULES:
                yield f"{getattr(node, 'lineno', 0)}: imports {name}"
        if isinstance(node, ast.Call):
            yield from (f"{node.lineno}: {what}" for what in wrong_call(node))


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def wrong_call(call: ast.Call) -> Iterator[str]:
    where = ast.unparse(call.func)
    words = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    given = bool(call.args or call.keywords) or where.endswith("_pyobj")
    if where in NEVER or (given and where.rpartition(".")[2] in CALLS):
        yield f"calls {where}"
    for name, value in WORDS.get(where, {}).items():
        if words.get(name) != value:
            yield f"calls {where} without {name}={value}"
    if words.get("shell", "False") != "False":
        yield f"calls {where} with a shell"


def test_no_source_runs_what_it_reads() -> None:
    found = {str(p.relative_to(ROOT)): list(wrong(p.read_text())) for p in SOURCES}
    assert len(found) > 100
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from pickle import loads", "import marshal as m", "eval(text)",
        "builtins.exec(text)", "np.load(path)", "np.load(path, allow_pickle=True)",
        "numpy.load(path, None, True)", "torch.load(path)",
        "torch.load(path, weights_only=False)", "yaml.load(text, Loader)", "socket.recv_pyobj()",
        "from multiprocessing import Pool", "subprocess.run(text, shell=True)", "os.system(text)",
        "torch.jit.load(path)", "from concurrent.futures import process",
    ],
)  # fmt: skip
def test_the_search_finds(line: str) -> None:
    assert list(wrong(line))


@pytest.mark.parametrize(
    "line",
    [
        "np.load(path, allow_pickle=False)", "torch.load(path, weights_only=True)", "json.loads(x)",
        "yaml.safe_load(text)", "network.eval()", "subprocess.run(words, shell=False)",
        "subprocess.run(words)", "from concurrent.futures import ThreadPoolExecutor",
    ],
)  # fmt: skip
def test_the_search_leaves_alone(line: str) -> None:
    assert not list(wrong(line))


# What it means: files that would run code are refused, and do not.


class Touches:
    """Unpickling this makes a file: the harmless kin of an attack."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


def objects(marker: Path) -> Any:
    """An array of objects, which numpy pickles."""
    array = np.empty((2, 2), object)
    array[:] = [[Touches(marker)] * 2] * 2
    return array


def pickled_npy(marker: Path) -> bytes:
    content = io.BytesIO()
    np.save(content, objects(marker), allow_pickle=True)
    return content.getvalue()


def pickled_npz(marker: Path) -> bytes:
    content = io.BytesIO()
    np.savez(content, frame=objects(marker))
    return content.getvalue()


def calibration_npz(marker: Path) -> bytes:
    """As our own file, with a pickle where its mask or its header should be."""
    content = io.BytesIO()
    np.savez(content, header=objects(marker), mask=objects(marker))
    return content.getvalue()


def npz_of_bare_pickles(marker: Path) -> bytes:
    """Members that are no .npy but pickles: numpy loads those of a single file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("frame.npy", pickle.dumps(Touches(marker)))
    return content.getvalue()


def torch_file(marker: Path) -> bytes:
    content = io.BytesIO()
    torch.save({"model_state_dict": {"hook": Touches(marker)}}, content)
    return content.getvalue()


def bare(marker: Path) -> bytes:
    return pickle.dumps(Touches(marker))


MADE: dict[str, Callable[[Path], bytes]] = {
    "npy": pickled_npy, "npz": pickled_npz, "calibration": calibration_npz,
    "npz of pickles": npz_of_bare_pickles, "torch": torch_file, "pickle": bare,
}  # fmt: skip
NAMED = (
    CheckError, CalibrationError, StackError, FileFormatError, CheckpointError,
    PublishedLayoutError,
)  # fmt: skip
READERS: dict[str, Callable[[Path], Any]] = {
    "upload": lambda path: read_stack(path, "dark", path.name, 1e8),
    "stored calibration": load_calibration,
    "bytes of a reference": lambda path: read_npy("dark", path.read_bytes()),
    "scgn calibrate": read_series,
    "scgn-client replay": lambda path: list(read_frames(path)),
    "network": lambda path: load_network(str(path)),
}
ENDINGS = (".npy", ".npz", ".pth", ".pt", ".safetensors", ".h5", ".tif", ".mrc", ".dm3")


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("reader", READERS)
def test_no_reader_runs_a_pickle(tmp_path: Path, kind: str, reader: str) -> None:
    marker = tmp_path / "executed"
    content = MADE[kind](marker)
    for ending in ENDINGS:
        path = tmp_path / f"hostile{ending}"
        path.write_bytes(content)
        with pytest.raises(NAMED):
            READERS[reader](path)
        path.unlink()
        assert not marker.exists(), f"{reader} ran {kind} as {ending}"


def test_the_pickles_would_run(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    pickle.loads(bare(marker))
    assert marker.exists()
    marker.unlink()
    np.load(io.BytesIO(pickled_npy(marker)), allow_pickle=True)
    assert marker.exists()
    marker.unlink()
    torch.load(io.BytesIO(torch_file(marker)), weights_only=False)
    assert marker.exists()
