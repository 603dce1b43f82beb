"""The package's surface: names load on first use, references need no torch, the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import scgn
from scgn.__main__ import main

MODELS = Path(__file__).parents[2] / "models"


@pytest.mark.parametrize("module", ["scgn", "scgn.calibration", "scgn.sizes", "scgn.proof.prove"])
def test_import_brings_no_torch(module) -> None:
    """A fresh interpreter: an HTTP process checks uploads without loading gigabytes."""
    code = f"import sys; import {module}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=MODELS)


@pytest.mark.parametrize("name", scgn.__all__)
def test_every_name_is_there(name) -> None:
    assert getattr(scgn, name) is not None
    assert name in vars(sys.modules["scgn"]) or name in scgn._HOMES


def test_surface_and_homes_agree() -> None:
    assert sorted(scgn.__all__) == sorted(scgn._HOMES)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'no_such_name'"):
        _ = scgn.no_such_name


def test_info_prints_the_provenance(capsys) -> None:
    assert main(["info", "tiny-clean"]) == 0
    printed = json.loads(capsys.readouterr().out)
    checkpoint = scgn.load_network("tiny-clean")
    assert printed["id"] == checkpoint.id
    assert printed["training"] == checkpoint.provenance.training
    assert (printed["target"], printed["input_units"]) == ("clean", "noise")


@pytest.mark.parametrize("arguments", [[], ["train"], ["train", "--size", "huge", "--out", "x"]])
def test_wrong_arguments_end_with_usage(capsys, arguments) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: scgn" in capsys.readouterr().err
