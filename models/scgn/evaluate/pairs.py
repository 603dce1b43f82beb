"""A folder of paired frames that somebody else made: the published metrics of a network on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from scgn.evaluate import EvaluationError
from scgn.evaluate.methods import Method
from scgn.evaluate.real import read_frames
from scgn.metrics import atom_map_scores

NOISY_NAMES = ("noisy", "lq", "input")
TRUE_NAMES = ("clean", "gt", "label", "hq", "atom_map")
SUFFIXES = (".png", ".tif", ".tiff", ".npy")


def side_of(folder: Path, names: tuple[str, ...]) -> Path:
    """The one sub-folder with one of these names, whatever their case."""
    found = [path for path in sorted(folder.iterdir()) if path.name.lower() in names]
    if len(found) != 1:
        got = ", ".join(path.name for path in sorted(folder.iterdir())[:8]) or "nothing"
        raise EvaluationError(f"{folder}: expected one sub-folder of {', '.join(names)}, got {got}")
    return found[0]


def frames_in(folder: Path) -> dict[str, Path]:
    """Files of frames by their name without suffix."""
    found = {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES}
    if not found:
        raise EvaluationError(f"{folder}: expected files {' '.join(SUFFIXES)}, got none")
    return found


def paired_files(folder: Path) -> list[tuple[Path, Path]]:
    """(noisy, true) files of the same name; EvaluationError where one lacks the other."""
    if not folder.is_dir():
        raise EvaluationError(f"{folder}: expected a folder with noisy and clean frames")
    noisy, true = (frames_in(side_of(folder, names)) for names in (NOISY_NAMES, TRUE_NAMES))
    if alone := sorted(noisy.keys() ^ true.keys()):
        got = f"{', '.join(alone[:5])} on one side only"
        raise EvaluationError(f"{folder}: expected the same file names, got {got} ({len(alone)})")
    return [(noisy[name], true[name]) for name in sorted(noisy)]


def evaluate_pairs(folder: Path, method: Method) -> dict[str, Any]:
    """psnr_db, ssim and iou as published, mean over the pairs, of a network and of its input.

    Raises EvaluationError also where the two frames of a pair differ in shape.
    """
    rows: dict[str, list[dict[str, float]]] = {"noisy": [], method.name: []}
    for noisy_path, true_path in paired_files(folder):
        noisy, true = read_frames(noisy_path), read_frames(true_path)
        if noisy.shape != true.shape:
            got = f"{tuple(noisy.shape)} and {tuple(true.shape)}"
            raise EvaluationError(f"{noisy_path.name}: expected equal shapes, got {got}")
        rows["noisy"].append(atom_map_scores(noisy, true))
        rows[method.name].append(atom_map_scores(method.filter(noisy), true))
    means = {name: _mean(found) for name, found in rows.items()}
    return {"pairs": len(rows["noisy"]), "method": {"name": method.name, **method.facts}, **means}


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: float(torch.tensor([row[key] for row in rows]).mean()) for key in rows[0]}
