"""A quality result as Markdown: in full with its definitions, and compact for a README."""

from __future__ import annotations

import math
from typing import Any

Result = dict[str, Any]

COLUMNS = {  # key of a row: heading, digits after the point
    "psnr_db": ("PSNR dB", 2),
    "ssim": ("SSIM", 3),
    "iou": ("IoU", 3),
    "f1": ("F1", 3),
    "f1_own": ("F1, own threshold", 3),
    "precision": ("precision", 3),
    "recall": ("recall", 3),
    "position_rmse_pm": ("position RMSE pm", 1),
    "false_per_nm2_vacuum": ("false/nm² of vacuum", 3),
    "false_per_nm2_noise": ("false/nm², noise only", 3),
    "false_per_noise_frame": ("false per noise frame", 1),
    "ms_per_frame": ("ms/frame", 0),
}
TARGETS = {
    "clean": "Noise-free intensity",
    "atom_map": "Atom maps (spots on black), metrics as published",
}
DEFINITIONS = """\
PSNR: peak is the range of each clean frame; mean over the frames. SSIM: 11x11 Gaussian window of
sigma 1.5, same range. For atom maps both, and the IoU of {{> 127.5}}, are taken as published: on
frames clipped and truncated to 8 bits, peak and range 255.

Atoms here are spots: local maxima of the Laplacian of a Gaussian (sigma {scale_nm} nm, at least
{scale_px_min} px) above a contrast of {contrast_min} of the empty beam ({map_min} of 255 for atom
maps), largest within {separation_nm} nm; the same rule for every method. Truth is what this rule
finds in the noise-free target at a true atom; its other spots (fringes, gaps) are ignored, whether
they are found or not. Pairs are one to one, within {match_nm} nm. False atoms per nm²: found where
the target shows no spot, in vacuum; and on frames of the beam alone. {by_chance}
Own threshold: the contrast that gives a method, networks too, its highest F1 on the tuning frames.
Position RMSE is the distance to the matched true atom, at most {match_nm} nm by definition, so
compare it at like recall.

Classical methods are tuned on {tuning_frames} frames of other scenes (seed {tuning_seed}) at each
dose, twice: for the highest PSNR (PSNR, SSIM, pictures), and for the highest F1 (what concerns
atoms, IoU). Networks give one frame for both. ms/frame is the median of one frame at a time."""


def cell(value: float | None, digits: int) -> str:
    """A number with its digits; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def markdown(heading: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, first column left, the others right."""
    rule = ["---", *["---:"] * (len(heading) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [heading, rule, *rows])


def of_target(quality: Result, target: str) -> list[Result]:
    """The results of methods with that target."""
    return [method for method in quality["methods"] if method["target"] == target]


def dose_table(methods: list[Result], dose: float) -> str:
    """One row per method at one dose, every metric that any of them has, best PSNR in bold."""
    rows = {m["name"]: row for m in methods for row in m["rows"] if row["dose_e_per_px"] == dose}
    keys = [key for key in COLUMNS if any(key in row for row in rows.values())]
    best = max(row["psnr_db"] for row in rows.values())
    lines = []
    for name, row in rows.items():
        cells = [cell(row.get(key), COLUMNS[key][1]) for key in keys]
        lines.append([f"**{name}**" if row["psnr_db"] == best else name, *cells])
    return markdown(["method", *(COLUMNS[key][0] for key in keys)], lines)


def learned_table(quality: Result) -> str:
    """Parameters, training and answer to another gain of every network."""
    lines = []
    for method in (m for m in quality["methods"] if m["learned"]):
        facts = method["facts"]
        changes = [
            math.nan if v is None else abs(v)
            for row in method["rows"]
            for v in row["gain_change_db"].values()
        ]
        lines.append([
            method["name"], f"`{facts['id']}`", f"{facts['parameters']:,}",
            cell(facts["training_minutes"], 0), str(facts["training_device"] or "-"),
            cell(max(changes), 3),
        ])  # fmt: skip
    heading = ["network", "id", "parameters", "trained min", "on", "gain x0.5, x3: dB"]
    return markdown(heading, lines)


def tuned_table(quality: Result) -> str:
    """Parameters that tuning chose, by dose."""
    lines = []
    for method in quality["methods"]:
        for row in method["rows"]:
            tuned = [
                ", ".join(f"{name} {value:.3g}" for name, value in row[key].items())
                for key in ("tuned", "tuned_for_atoms")
            ]
            own = cell(row["own_contrast_min"], 3)
            lines.append([method["name"], f"{row['dose_e_per_px']:g}", *tuned, own])
    heading = ["method", "dose e/px", "for PSNR", "for F1", "own threshold"]
    return markdown(heading, lines)


def by_chance(match_nm: float) -> str:
    """What a method gets for free that finds atoms everywhere."""
    share = 1 - math.exp(-20 * math.pi * match_nm**2)
    return f"At 20 per nm² a true atom is hit by chance in {100 * share:.0f} % of cases."


def definitions(quality: Result) -> str:
    """What the columns mean, with this result's own settings."""
    rules, plan = quality["rules"], quality["plan"]
    return DEFINITIONS.format(
        **rules["clean"], map_min=rules["atom_map"]["contrast_min"],
        by_chance=by_chance(rules["clean"]["match_nm"]),
        tuning_frames=plan["tuning_frames"], tuning_seed=plan["tuning_seed"],
    )  # fmt: skip


def reference_lines(quality: Result) -> str:
    """The strongest form of the commonest filter, and the bound on positions, by dose."""

    def by_dose(key: str, digits: int, unit: str) -> str:
        values = zip(quality["plan"]["doses_e_per_px"], quality["test_set"][key], strict=True)
        return ", ".join(f"{cell(value, digits)} {unit} at {dose:g} e/px" for dose, value in values)

    return (
        "For reference. The Gaussian whose width is chosen for each frame with the truth in hand: "
        f"{by_dose('best_gaussian_db', 2, 'dB')}. Least position error of an unbiased estimate "
        "from the counts around one spot (sqrt(2/pi)/(C sqrt(D)) Å along each axis, as a distance, "
        f"median over the spots): {by_dose('position_bound_pm', 0, 'pm')}."
    )


def report(quality: Result) -> str:
    """The whole result as Markdown."""
    plan, told, on = (quality[key] for key in ("plan", "test_set", "machine"))
    parts = [
        "# Quality",
        f"`{quality['command']}`, {quality['date']}, {on['cpu']}, {on['threads']} thread(s), "
        f"torch {on['torch']}. {plan['frames']} frames of {plan['side_px']} px, seed "
        f"{plan['seed']}, the same scenes at every dose. Without noise they show {told['spots']} "
        f"spots, {100 * told['spots_at_atoms']:.0f} % of them at atoms "
        f"({told['imaging_rmse_pm']:.0f} pm away), which are "
        f"{100 * told['atoms_as_spots']:.0f} % of the {told['true_atoms']} atoms.",
    ]
    for target, title in TARGETS.items():
        if methods := of_target(quality, target):
            parts.append(f"## {title}")
            for dose in plan["doses_e_per_px"]:
                parts += [f"### {dose:g} e/px", dose_table(methods, dose)]
        if target == "clean":
            parts.append(reference_lines(quality))
    if any(method["learned"] for method in quality["methods"]):
        parts += ["## Networks", learned_table(quality)]
    parts += ["## Tuned values", tuned_table(quality), "## What is measured", definitions(quality)]
    return "\n\n".join(parts) + "\n"


def compact_table(quality: Result, target: str = "clean") -> str:
    """Rows methods, a column per dose: PSNR / SSIM / F1 (PSNR / SSIM / IoU for an atom map)."""
    keys = ("psnr_db", "ssim", "f1" if target == "clean" else "iou")
    what = " / ".join(COLUMNS[key][0] for key in keys)
    doses = quality["plan"]["doses_e_per_px"]
    lines = []
    for method in of_target(quality, target):
        count = method["facts"].get("parameters")
        cells = [
            " / ".join(cell(row[key], COLUMNS[key][1]) for key in keys) for row in method["rows"]
        ]
        lines.append([method["name"], f"{count:,}" if count else "-", *cells])
    return markdown([f"{what} at", "parameters", *(f"{dose:g} e/px" for dose in doses)], lines)
