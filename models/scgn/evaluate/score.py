"""One method on one set of frames: the figures of a row."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scgn.atoms import (
    DetectionRule,
    FoundAtoms,
    beam_contrast,
    find_atoms,
    per_nm2,
    score_detection,
)
from scgn.evaluate.methods import Method, Parameters, truth
from scgn.metrics import MAP_PEAK, atom_map_scores, psnr_db, ssim
from scgn.simulate import SimulatedBatch

RULES = {"clean": DetectionRule(), "atom_map": DetectionRule(contrast_min=0.5)}
GAINS = (0.5, 3.0)  # what a changed camera mode does to the counts
Row = dict[str, Any]


def described_rules() -> Row:
    """The detection rules as the result file states them."""
    return {target: asdict(rule) for target, rule in RULES.items()}


def denoise_timed(method: Method, noisy: Tensor, values: Parameters) -> tuple[Tensor, float]:
    """Frames denoised one by one, as a stream is, and the median time of one in ms."""
    results, took_ms = [], []
    for frame in noisy[:, None]:
        before = time.perf_counter()
        results.append(method.filter(frame, **values))
        took_ms.append(1e3 * (time.perf_counter() - before))
    return torch.cat(results), float(torch.tensor(took_ms).median())


def atoms_in(method: Method, frames: Tensor, data: SimulatedBatch) -> FoundAtoms:
    """Atoms of denoised (or noise-free) frames by the rule of the method's target."""
    if method.target == "atom_map":
        return find_atoms(frames / MAP_PEAK, data.pixel_nm, RULES["atom_map"])
    contrast = beam_contrast(frames, data.beam, data.sign)
    return find_atoms(contrast, data.pixel_nm, RULES["clean"])


def detection_row(method: Method, denoised: Tensor, data: SimulatedBatch) -> Row:
    """precision, recall, f1, position_rmse_pm, false_per_nm2_vacuum; and iou of an atom map.

    Truth is what the same rule finds in the noise-free target.
    """
    found, true = (atoms_in(method, frames, data) for frames in (denoised, truth(method, data)))
    score, false = score_detection(found, true, data.pixel_nm, RULES[method.target])
    overlap = {}
    if method.target == "atom_map":
        overlap["iou"] = atom_map_scores(denoised, data.atom_map)["iou"]
    return {
        "precision": score.precision,
        "recall": score.recall,
        "f1": score.f1,
        "position_rmse_pm": score.position_rmse_pm,
        "false_per_nm2_vacuum": per_nm2(false, data.vacuum, data.pixel_nm),
        **overlap,
    }


def fidelity_db(method: Method, denoised: Tensor, data: SimulatedBatch) -> float:
    """Mean PSNR of the frames; peak: each clean frame's range, or 255 on 8 bits for an atom map."""
    if method.target == "atom_map":
        return atom_map_scores(denoised, data.atom_map)["psnr_db"]
    pairs = zip(denoised, data.clean, strict=True)
    return sum(psnr_db(frame, clean) for frame, clean in pairs) / len(denoised)


def likeness_row(method: Method, denoised: Tensor, data: SimulatedBatch) -> Row:
    """psnr_db (see `fidelity_db`) and ssim, over the same ranges."""
    if method.target == "atom_map":
        similarity = atom_map_scores(denoised, data.atom_map)["ssim"]
    else:
        pairs = zip(denoised[:, None], data.clean[:, None], strict=True)
        similarity = sum(ssim(frame, clean) for frame, clean in pairs) / len(denoised)
    return {"psnr_db": fidelity_db(method, denoised, data), "ssim": similarity}


@dataclass(frozen=True)
class Tuned:
    """Parameters of a method at one dose: for the highest PSNR, and for the highest F1.

    One width cannot serve both: what hides noise best also hides atoms.
    """

    psnr: Parameters
    f1: Parameters


def tune(method: Method, data: SimulatedBatch) -> Tuned:
    """The best combinations of the method's grid on validation frames."""
    choices = method.choices()
    if len(choices) == 1:
        return Tuned(choices[0], choices[0])
    true, likeness, f1 = atoms_in(method, truth(method, data), data), [], []
    for values in choices:
        denoised = method.filter(data.noisy, **values)
        found = atoms_in(method, denoised, data)
        score, _ = score_detection(found, true, data.pixel_nm, RULES[method.target])
        likeness.append(fidelity_db(method, denoised, data))
        f1.append(score.f1)
    return Tuned(choices[likeness.index(max(likeness))], choices[f1.index(max(f1))])


def score_row(method: Method, tuned: Tuned, data: SimulatedBatch, empty: SimulatedBatch) -> Row:
    """Every figure of a method at one dose; empty: frames that hold no atom.

    Likeness, time and gain with the parameters tuned for it, atoms with those tuned for them.
    """
    denoised, ms_per_frame = denoise_timed(method, data.noisy, tuned.psnr)
    row = {"tuned": tuned.psnr, "tuned_for_atoms": tuned.f1, "ms_per_frame": ms_per_frame}
    row |= likeness_row(method, denoised, data)
    if tuned.f1 != tuned.psnr:
        denoised, _ = denoise_timed(method, data.noisy, tuned.f1)
    return row | detection_row(method, denoised, data) | noise_only_row(method, tuned.f1, empty)


def noise_only_row(method: Method, values: Parameters, empty: SimulatedBatch) -> Row:
    """Atoms seen in frames that hold none: per frame and per nm^2."""
    denoised, _ = denoise_timed(method, empty.noisy, values)
    found = atoms_in(method, denoised, empty)
    everywhere = torch.ones_like(empty.vacuum)
    return {
        "false_per_noise_frame": len(found.frame) / len(denoised),
        "false_per_nm2_noise": per_nm2(found, everywhere, empty.pixel_nm),
    }


def gain_row(method: Method, values: Parameters, data: SimulatedBatch) -> Row:
    """How many dB the PSNR moves when the camera's gain is GAINS times what it was."""
    levels = {}
    for gain in (1.0, *GAINS):
        scaled = replace(data, noisy=gain * data.noisy, clean=gain * data.clean)
        denoised, _ = denoise_timed(method, scaled.noisy, values)
        levels[gain] = likeness_row(method, denoised, scaled)["psnr_db"]
    return {"gain_change_db": {str(gain): levels[gain] - levels[1.0] for gain in GAINS}}
