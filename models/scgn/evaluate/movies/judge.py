"""A staged movie (`scgn.simulate.scenarios`) judged with the truth: one network, one dose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scgn.denoise import Denoiser
from scgn.evaluate.movies.events import samples_of, step_response
from scgn.evaluate.movies.measures import (
    Floats,
    best_gaussians,
    decibel,
    mean_square,
    moving,
    running_mean,
    share_of,
)
from scgn.evaluate.movies.watch import Watched, alone, remembering, watched
from scgn.simulate.movies import Movies
from scgn.simulate.movies.staged import SPEEDS_PX
from scgn.simulate.scenarios import scenario
from scgn.stream.tracker import DRIFT_UNSURE_PX

FRAMES, SIDE_PX = 24, 256
FOUND_FROM = 12  # frame from which on the drift counts
INNER_PX = 2 * (FRAMES - 1) + 2  # what every drift leaves in the frame, with a margin
FEWEST_MOVING = 200  # pixels; fewer tell nothing
Result = dict[str, Any]


def judge_scenario(
    name: str, dose_e_per_px: float, seeds: Sequence[int], network: str | None = None,
    frames: int = FRAMES, side_px: int = SIDE_PX,
) -> Result:  # fmt: skip
    """Everything measured of one scenario; network: by name or path, None for the estimate itself.

    db: PSNR by method and area by frame, mean over the seeds (NaN where the clean frame shows
    nothing); of the areas `inner` is what stays in the frame in any scenario that drifts and
    `moving` where the clean frame differs from the mean of its eight predecessors. summary:
    the same from the middle of the movie on, where what happens has happened. ValueError for a
    name that is none.
    """
    denoiser, unregistered = remembering(network), remembering(network)
    parts = []
    for seed in seeds:
        movies = scenario(name, dose_e_per_px, seed, frames, side_px)
        parts.append(judge_movies(movies, name, denoiser, unregistered))
    result = {
        "scenario": name, "dose_e_per_px": dose_e_per_px, "network": denoiser.id,
        "seeds": list(seeds), "frames": frames, "side_px": side_px, "db": mean_curves(parts),
        "drift_error_px": [part["drift_error_px"] for part in parts],
        "drift_unknown": float(np.mean([part["drift_unknown"] for part in parts])),
        "cuts": [part["cuts"] for part in parts],
        "averaged": np.mean([part["averaged"] for part in parts], axis=0).tolist(),
        "refused": np.mean([part["refused"] for part in parts], axis=0).tolist(),
    }  # fmt: skip
    if name == "cut":
        result["trace"] = np.array([part["trace"] for part in parts]).T.tolist()
    if samples := [s for part in parts for s in part["events"]]:
        result["events"] = step_response(samples)
    return result | {"summary": summary_of(result)}


def judge_movies(movies: Movies, name: str, denoiser: Denoiser, unregistered: Denoiser) -> Result:
    """One movie (B = 1) of a scenario."""
    noisy, clean = movies.noisy[0], movies.clean[0]
    temporal = watched(denoiser, noisy.numpy())
    outputs = {
        "flat": noisy.mean(dim=(-2, -1), keepdim=True).expand_as(noisy),
        "mean8_gaussian": best_gaussians(running_mean(noisy, 8), clean),
        "single": alone(denoiser, noisy.numpy()),
        "estimate": temporal.estimate, "temporal": temporal.output,
    }  # fmt: skip
    if name == "rest" or name in SPEEDS_PX:
        outputs["unregistered"] = watched(unregistered, noisy.numpy(), at_rest=True).output
    result: Result = {"db": curves(outputs, clean, areas(movies)), **drift_errors(movies, temporal)}
    result["cuts"] = np.flatnonzero(temporal.fact("cut")).tolist()
    result["averaged"] = temporal.fact("averaged")
    result["refused"] = temporal.fact("moving")
    result["events"] = []
    if movies.twin_noisy is not None:
        twin = watched(denoiser, movies.twin_noisy[0].numpy()).output
        result["events"] = samples_of(movies, temporal.output, twin)
    if name == "cut":
        result["trace"] = trace_of_before(movies, denoiser, temporal.output)
    return result


def areas(movies: Movies) -> dict[str, Tensor]:
    """Masks (T,H,W) by name; `moving` only where the specimen itself does not drift."""
    clean = movies.clean[0]
    margin = min(INNER_PX, clean.shape[-1] // 4)
    inner = torch.zeros_like(clean, dtype=torch.bool)
    inner[:, margin:-margin, margin:-margin] = True
    found = {"whole": torch.ones_like(inner), "inner": inner}
    return found if bool(movies.drift_px.any()) else found | {"moving": moving(clean)}


def curves(
    outputs: dict[str, Tensor], clean: Tensor, masks: dict[str, Tensor]
) -> dict[str, dict[str, Floats]]:
    """PSNR by area, method and frame; peak is the range of the whole clean frame."""
    return {
        area: {
            method: np.array([
                decibel(mean_square(frame, true, where), true)
                if int(where.sum()) >= FEWEST_MOVING else np.nan
                for frame, true, where in zip(frames, clean, mask, strict=True)
            ])
            for method, frames in outputs.items()
        }
        for area, mask in masks.items()
    }  # fmt: skip


def mean_curves(parts: Sequence[Result]) -> dict[str, dict[str, list[float]]]:
    """Mean over the seeds that have a value."""
    return {
        area: {
            method: nanmean(np.array([part["db"][area][method] for part in parts]), 0).tolist()
            for method in by_method
        }
        for area, by_method in parts[0]["db"].items()
    }


def nanmean(values: NDArray[np.float64], axis: int | None = None) -> NDArray[np.float64]:
    """Mean of the values that are there, NaN (and no warning) where none is."""
    there = np.isfinite(values)
    total = np.where(there, values, 0).sum(axis=axis)
    return np.asarray(np.where(there.any(axis=axis), total / there.sum(axis=axis).clip(1), np.nan))


def drift_errors(movies: Movies, shown: Watched) -> Result:
    """rms of published less true drift from FOUND_FROM on, px a frame; share of frames where none
    is published.
    """
    true = np.diff(movies.drift_px[0].double().numpy(), axis=0, prepend=np.nan)[FOUND_FROM:]
    found = np.stack([shown.fact("drift_rows"), shown.fact("drift_columns")], axis=1)[FOUND_FROM:]
    sure = shown.fact("drift_error")[FOUND_FROM:] <= DRIFT_UNSURE_PX
    known = np.isfinite(found).all(axis=1) & sure
    error = (found - true)[known]
    rms = float(np.sqrt(np.square(error).sum(axis=1).mean())) if known.any() else np.nan
    return {"drift_error_px": rms, "drift_unknown": float(1 - known.mean()) if len(known) else 0.0}


def trace_of_before(movies: Movies, denoiser: Denoiser, output: Tensor) -> Floats:
    """How much of the scene before a cut is in each frame after it, (T - cut,).

    Twin run: the same frames after the cut, before it the scene upside down and mirrored. The
    difference of the outputs, which noise has no part in, is fitted with that of the scenes.
    """
    cut, noisy = int(movies.cut_frame[0]), movies.noisy[0]
    turned = torch.cat([noisy[:cut].flip(-2, -1), noisy[cut:]])
    other = watched(denoiser, turned.numpy()).output
    before = movies.clean[0, cut - 1]
    return np.asarray(share_of((output - other)[cut:], before - before.flip(-2, -1)).numpy())


def summary_of(result: Result) -> Result:
    """The few numbers of a table's row, from the middle of the movie on."""
    middle = result["frames"] // 2
    whole, found = result["db"]["whole"], {}
    later = {method: np.array(values)[middle:] for method, values in whole.items()}
    found = {method: float(nanmean(values)) for method, values in later.items()}
    gain = np.array(whole["temporal"]) - np.array(whole["single"])
    found |= {"gain": float(nanmean(gain[middle:])), "worst_gain": float(np.nanmin(gain[1:]))}
    found["mean_gain"] = float(nanmean(gain))
    inner = result["db"]["inner"]
    found["inner_temporal"] = float(nanmean(np.array(inner["temporal"])[middle:]))
    found["inner_gain"] = found["inner_temporal"] - float(
        nanmean(np.array(inner["single"])[middle:])
    )
    if "unregistered" in inner:
        without = float(nanmean(np.array(inner["unregistered"])[middle:]))
        found["registration_gain"] = found["inner_temporal"] - without
    if "moving" in result["db"]:
        moves = {m: np.array(v)[middle:] for m, v in result["db"]["moving"].items()}
        found["moving_gain"] = float(nanmean(moves["temporal"] - moves["single"]))
        found["moving_mean8_gain"] = float(nanmean(moves["mean8_gaussian"] - moves["single"]))
    errors = np.square(result["drift_error_px"])
    return found | {"drift_error_px": float(np.sqrt(nanmean(errors)))}
