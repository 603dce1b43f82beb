"""One method on one set of frames: the figures of a row."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from scgn.atoms import (
    DetectionRule,
    FoundAtoms,
    beam_contrast,
    find_atoms,
    match_set,
    per_nm2,
    score_detection,
)
from scgn.evaluate.methods import Method, Parameters, truth
from scgn.metrics import MAP_PEAK, atom_map_scores, psnr_db, ssim
from scgn.simulate import SimulatedBatch

RULES = {"clean": DetectionRule(), "atom_map": DetectionRule(contrast_min=0.5)}
OWN = (0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.5, 4.0, 8.0)  # thresholds tried, over the rule's
GAINS = (0.5, 3.0)  # what a changed camera mode does to the counts
Row = dict[str, Any]


@dataclass(frozen=True)
class Tuned:
    """Parameters of a method at one dose: for the highest PSNR, and for the highest F1.

    One width cannot serve both: what hides noise best also hides atoms. own_contrast_min: the
    threshold of detection that suits the method best (a good denoiser shows less than the full
    contrast of what it doubts), used beside the rule's, which is the same for all.
    """

    psnr: Parameters
    f1: Parameters
    own_contrast_min: float


def described_rules() -> Row:
    """The detection rules as the result file states them."""
    truth_is = "spots of the noise-free target at true atoms; its other spots are ignored"
    return {"truth": truth_is, **{target: asdict(rule) for target, rule in RULES.items()}}


def denoise_timed(method: Method, noisy: Tensor, values: Parameters) -> tuple[Tensor, float]:
    """Frames denoised one by one, as a stream is, and the median time of one in ms."""
    results, took_ms = [], []
    for frame in noisy[:, None]:
        before = time.perf_counter()
        results.append(method.filter(frame, **values))
        took_ms.append(1e3 * (time.perf_counter() - before))
    return torch.cat(results), float(torch.tensor(took_ms).median())


def atoms_in(
    method: Method, frames: Tensor, data: SimulatedBatch, contrast_min: float | None = None
) -> FoundAtoms:
    """Atoms of denoised (or noise-free) frames by the rule of the method's target.

    contrast_min: another threshold than the rule's.
    """
    rule = RULES[method.target]
    rule = rule if contrast_min is None else replace(rule, contrast_min=contrast_min)
    if method.target == "atom_map":
        return find_atoms(frames / MAP_PEAK, data.pixel_nm, rule)
    return find_atoms(beam_contrast(frames, data.beam, data.sign), data.pixel_nm, rule)


def true_spots(
    method: Method, data: SimulatedBatch
) -> tuple[FoundAtoms, Tensor, DetectionRule, Tensor]:
    """What `score_detection` needs of the truth: the target's spots, and which are atoms."""
    rule = RULES[method.target]
    spots = atoms_in(method, truth(method, data), data)
    atomic = torch.zeros(len(spots.frame), dtype=torch.bool)
    atomic[match_set(spots, atoms_inside(data), data.pixel_nm, rule)[0]] = True
    return spots, data.pixel_nm, rule, atomic


def atoms_inside(data: SimulatedBatch) -> FoundAtoms:
    """The true atoms of a set that lie in its frames, one pixel from the rim at least."""
    place, last = data.atoms.position_px, data.clean.shape[-1] - 2
    inside = ((place >= 1) & (place <= last)).all(dim=1) & (data.atoms.amplitude > 0)
    return FoundAtoms(data.atoms.frame, place, data.atoms.amplitude).only(inside)


def detection_row(method: Method, tuned: Tuned, denoised: Tensor, data: SimulatedBatch) -> Row:
    """precision, recall, f1, position_rmse_pm, false_per_nm2_vacuum, f1_own; iou of an atom map.

    f1_own: with the method's own threshold.
    """
    spots = true_spots(method, data)
    score, false = score_detection(atoms_in(method, denoised, data), *spots)
    other = atoms_in(method, denoised, data, tuned.own_contrast_min)
    own, _ = score_detection(other, *spots)
    overlap = {}
    if method.target == "atom_map":
        overlap["iou"] = atom_map_scores(denoised, data.atom_map)["iou"]
    return {
        "precision": score.precision,
        "recall": score.recall,
        "f1": score.f1,
        "f1_own": own.f1,
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


def tune(method: Method, data: SimulatedBatch) -> Tuned:
    """The best combinations of the method's grid on validation frames."""
    rule = RULES[method.target]
    spots = true_spots(method, data)

    def f1(denoised: Tensor, contrast_min: float = rule.contrast_min) -> float:
        found = atoms_in(method, denoised, data, contrast_min)
        return score_detection(found, *spots)[0].f1

    scores = []
    for values in method.choices():
        denoised = method.filter(data.noisy, **values)
        scores.append((fidelity_db(method, denoised, data), f1(denoised), values))
    for_psnr, for_f1 = (max(scores, key=itemgetter(k))[2] for k in (0, 1))
    denoised = method.filter(data.noisy, **for_f1)
    own = max((rule.contrast_min * factor for factor in OWN), key=lambda least: f1(denoised, least))
    return Tuned(for_psnr, for_f1, own)


def score_row(method: Method, tuned: Tuned, data: SimulatedBatch, empty: SimulatedBatch) -> Row:
    """Every figure of a method at one dose; empty: frames that hold no atom.

    Likeness, time and gain with the parameters tuned for it, atoms with those tuned for them.
    """
    denoised, ms_per_frame = denoise_timed(method, data.noisy, tuned.psnr)
    row = {"tuned": tuned.psnr, "tuned_for_atoms": tuned.f1, "ms_per_frame": ms_per_frame}
    row |= likeness_row(method, denoised, data)
    if tuned.f1 != tuned.psnr:
        denoised, _ = denoise_timed(method, data.noisy, tuned.f1)
    row["own_contrast_min"] = tuned.own_contrast_min
    row |= detection_row(method, tuned, denoised, data)
    return row | noise_only_row(method, tuned.f1, empty)


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
