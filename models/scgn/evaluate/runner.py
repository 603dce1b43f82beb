"""All methods on the same frames at every dose; a method already done is not done again."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scgn.atoms import (
    ANGSTROM_PER_NM,
    FoundAtoms,
    beam_contrast,
    find_atoms,
    position_bound_pm,
    score_detection,
)
from scgn.checkpoint import replace_file
from scgn.evaluate import EvaluationError
from scgn.evaluate.methods import GAUSSIAN_PX, Method
from scgn.evaluate.score import RULES, atoms_inside, described_rules, gain_row, score_row, tune
from scgn.metrics import gaussian_filter, psnr_db
from scgn.simulate import SimulatedBatch, evaluation_set, noise_only_set
from scgn.simulate.sets import DOSES_E_PER_PX, TEST_SEED, TUNING_SEED

Result = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """Frames that methods are judged on.

    doses_e_per_px: electrons per pixel of the empty beam; seed: of the test scenes, the same at
    every dose; tuning_seed: of the scenes that classical methods are tuned on, another one;
    noise_frames: how many frames without atoms; gain_frames: how many the changed gains are
    tried on.
    """

    doses_e_per_px: tuple[float, ...] = DOSES_E_PER_PX
    frames: int = 24
    side_px: int = 256
    seed: int = TEST_SEED
    tuning_seed: int = TUNING_SEED
    tuning_frames: int = 6
    noise_frames: int = 4
    gain_frames: int = 4

    def __post_init__(self) -> None:
        if self.seed == self.tuning_seed:
            raise EvaluationError(f"seed: expected another than that of tuning, got {self.seed}")

    def test(self, dose: float) -> SimulatedBatch:
        """Test frames at a dose."""
        return evaluation_set(dose, self.frames, self.side_px, self.seed)

    def tuning(self, dose: float) -> SimulatedBatch:
        """Frames for choosing parameters at a dose; none is in the test."""
        return evaluation_set(dose, self.tuning_frames, self.side_px, self.tuning_seed)

    def empty(self, dose: float) -> SimulatedBatch:
        """Frames of the beam alone at a dose."""
        return noise_only_set(dose, self.noise_frames, self.side_px, self.seed)


def some_frames(data: SimulatedBatch, which: slice) -> SimulatedBatch:
    """Those frames of a set; its list of atoms is left whole."""
    parts: dict[str, Any] = vars(data)
    cut = {name: value[which] for name, value in parts.items() if isinstance(value, Tensor)}
    return SimulatedBatch(**{**parts, **cut})


def described_set(plan: Plan) -> Result:
    """What the test frames are: a digest of their pixels, and how much of their atoms is visible.

    spots: that the rule finds in the noise-free frames; spots_at_atoms: share of them at a true
    atom; atoms_as_spots: share of the true atoms among them; imaging_rmse_pm: from these spots to
    their atoms, which no denoiser can mend; by dose: best_gaussian_db, mean PSNR when each frame's
    width is chosen with the truth in hand, and position_bound_pm, median over the spots.
    """
    doses = plan.doses_e_per_px
    sets = [plan.test(dose) for dose in doses]
    data = sets[-1]  # scenes are the same at every dose, so one tells of all
    seen = visible_spots(data)
    score, _ = score_detection(seen, atoms_inside(data), data.pixel_nm, RULES["clean"])
    return {
        "pixels_sha256": pixels_digest(sets), "best_gaussian_db": list(map(best_gaussian_db, sets)),
        "position_bound_pm": [median_bound_pm(seen, data.pixel_nm, dose) for dose in doses],
        "spots": score.found, "spots_at_atoms": score.precision, "true_atoms": score.true,
        "atoms_as_spots": score.recall, "imaging_rmse_pm": score.position_rmse_pm,
        "vacuum_nm2": float((data.vacuum.sum(dim=(1, 2, 3)) * data.pixel_nm**2).sum()),
        "pixel_nm": [float(data.pixel_nm.min()), float(data.pixel_nm.max())],
        "without_clear_sign": int((data.sign == 0).sum()),
    }  # fmt: skip


def pixels_digest(sets: Sequence[SimulatedBatch]) -> str:
    """Sixteen hex digits that change with any pixel of any noisy frame."""
    digest = hashlib.sha256()
    for data in sets:
        digest.update(data.noisy.numpy().tobytes())
    return digest.hexdigest()[:16]


def best_gaussian_db(data: SimulatedBatch) -> float:
    """Mean PSNR of the frames, each by the width that suits it best, of those others try."""
    total = 0.0
    for noisy, clean in zip(data.noisy[:, None], data.clean[:, None], strict=True):
        total += max(psnr_db(gaussian_filter(noisy, width), clean) for width in GAUSSIAN_PX)
    return total / len(data.noisy)


def visible_spots(data: SimulatedBatch) -> FoundAtoms:
    """What the rule finds in the noise-free frames."""
    contrast = beam_contrast(data.clean, data.beam, data.sign)
    return find_atoms(contrast, data.pixel_nm, RULES["clean"])


def median_bound_pm(spots: FoundAtoms, pixel_nm: Tensor, dose_e_per_px: float) -> float:
    """Median over the spots of the least error that counted electrons allow; NaN without any."""
    pixel_a = (ANGSTROM_PER_NM * pixel_nm[spots.frame]).tolist()
    pairs = zip(spots.contrast.tolist(), pixel_a, strict=True)
    bounds = [position_bound_pm(contrast, dose_e_per_px / a**2) for contrast, a in pairs]
    return float(torch.tensor(bounds).median())


def evaluate_method(method: Method, plan: Plan) -> Result:
    """Every figure of one method: its facts and one row per dose."""
    rows = []
    for dose in plan.doses_e_per_px:
        tuned, test = tune(method, plan.tuning(dose)), plan.test(dose)
        row = {"dose_e_per_px": dose} | score_row(method, tuned, test, plan.empty(dose))
        if method.learned:
            row |= gain_row(method, tuned.psnr, some_frames(test, slice(plan.gain_frames)))
        rows.append(row)
    told = {"name": method.name, "target": method.target, "learned": method.learned}
    return {**told, "facts": method.facts, "rows": rows}


def settings_of(method: Method, plan: Plan, test_set: Result) -> Result:
    """What a result depends on; another value of any makes it stale."""
    grid = {name: list(values) for name, values in method.grid.items()}
    content: Result = json.loads(json.dumps({
        "plan": asdict(plan), "pixels_sha256": test_set["pixels_sha256"],
        "rules": described_rules(), "grid": grid, "facts": method.facts,
    }))  # fmt: skip
    return content


def tidy(value: Any) -> Any:
    """The same for JSON: five digits, and None for what is not a finite number."""
    if isinstance(value, dict):
        return {key: tidy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [tidy(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def write_json(path: Path, content: Result) -> None:
    """Tidy JSON, never half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(tidy(content), indent=1) + "\n"
    replace_file(path, lambda beside: beside.write_text(text))


def evaluated(method: Method, plan: Plan, test_set: Result, folder: Path) -> Result:
    """The method's result, from the folder where it was taken with the same settings."""
    path, settings = folder / f"{method.name}.json", settings_of(method, plan, test_set)
    if path.exists():
        kept: Result = json.loads(path.read_text())
        if kept["settings"] == tidy(settings):
            return kept
    result = {**evaluate_method(method, plan), "settings": settings, "machine": machine()}
    write_json(path, result)
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def machine() -> Result:
    """What the times were taken on."""
    model = platform.processor()
    if (cpus := Path("/proc/cpuinfo")).exists():
        named = (line for line in cpus.read_text().splitlines() if "model name" in line)
        model = next(named, model).partition(":")[2].strip() or model
    if torch.cuda.is_available():
        model += f", {torch.cuda.get_device_name()}"
    return {
        "cpu": model, "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "python": platform.python_version(), "torch": metadata.version("torch"),
    }  # fmt: skip


def evaluate(methods: Sequence[Method], plan: Plan, folder: Path) -> Result:
    """The whole table; one file per method stays in `folder`.

    Raises EvaluationError for two methods of one name: LABEL=PATH gives another.
    """
    names = [method.name for method in methods]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise EvaluationError(f"expected one method of each name, got several {', '.join(twice)}")
    test_set = described_set(plan)
    results = []
    for method in methods:
        results.append(evaluated(method, plan, test_set, folder))
        print(f"{method.name}: done", file=sys.stderr)
    command = " ".join(["scgn", *(word for word in sys.argv[1:])])
    return {
        "command": command, "date": time.strftime("%Y-%m-%d"), "machine": machine(),
        "plan": asdict(plan), "rules": described_rules(), "test_set": test_set,
        "methods": results,
    }  # fmt: skip
