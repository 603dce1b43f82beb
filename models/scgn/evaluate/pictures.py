"""Frames side by side: noisy, each method, clean; one row per dose, one grey window per row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from scgn.evaluate.methods import Method, truth
from scgn.evaluate.runner import Plan, Result, some_frames
from scgn.metrics import MAP_PEAK, psnr_db
from scgn.simulate import SimulatedBatch

GAP_PX, LABEL_PX, CAPTION_PX = 4, 64, 16
WINDOW = (0.005, 0.995)  # quantiles of the clean frame that become black and white
Grey = NDArray[np.uint8]


def grey(frame: Tensor, low: float, high: float) -> Grey:
    """(H,W) counts to 8 bits through a window."""
    scaled = (frame - low) / max(high - low, 1e-12)
    return np.asarray((255 * scaled).clamp(0, 255).byte().numpy())


def window_of(clean: Tensor) -> tuple[float, float]:
    """Counts that become black and white."""
    low, high = clean.flatten().quantile(torch.tensor(WINDOW)).tolist()
    return low, high


def centre(frame: Tensor, side_px: int) -> Tensor:
    """The middle of (H,W), at most side_px square."""
    rows, columns = (max(0, (n - side_px) // 2) for n in frame.shape)
    return frame[rows : rows + side_px, columns : columns + side_px]


def sheet(cells: Sequence[Sequence[tuple[Grey, str]]], labels: Sequence[str]) -> Any:
    """A picture of rows of (frame, caption below it), each row with a label on its left."""
    height, width = cells[0][0][0].shape
    step_y, step_x = height + CAPTION_PX + GAP_PX, width + GAP_PX
    size = (LABEL_PX + step_x * max(map(len, cells)), step_y * len(cells) + GAP_PX)
    picture = Image.new("L", size, 255)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=11)
    for row, (line, label) in enumerate(zip(cells, labels, strict=True)):
        top = GAP_PX + row * step_y
        draw.text((GAP_PX, top + height / 2), label, fill=0, font=font, anchor="lm")
        for column, (frame, caption) in enumerate(line):
            left = LABEL_PX + column * step_x
            picture.paste(Image.fromarray(frame), (left, top))
            middle = (left + width / 2, top + height + CAPTION_PX / 2)
            draw.text(middle, caption, fill=0, font=font, anchor="mm")
    return picture


def tuned_for(method: Method, quality: Result, dose: float) -> dict[str, float]:
    """The parameters that a result has for a method at a dose."""
    rows = next(m["rows"] for m in quality["methods"] if m["name"] == method.name)
    tuned: dict[str, float] = next(r["tuned"] for r in rows if r["dose_e_per_px"] == dose)
    return tuned


def row_of(
    methods: Sequence[Method], quality: Result, data: SimulatedBatch, dose: float, side_px: int
) -> list[tuple[Grey, str]]:
    """Noisy, every method, truth of one frame, with its PSNR in each caption."""
    goal = truth(methods[0], data)[0, 0]
    as_counts = methods[0].target == "clean"
    low, high = window_of(data.clean) if as_counts else (0.0, MAP_PEAK)
    cells = []
    for method in methods:
        found = method.filter(data.noisy, **tuned_for(method, quality, dose))[0, 0]
        caption = f"{method.name} {psnr_db(found, goal, None if as_counts else MAP_PEAK):.1f}"
        cells.append((grey(centre(found, side_px), low, high), caption))
    noisy = grey(centre(data.noisy[0, 0], side_px), *window_of(data.noisy))
    start = [] if methods[0].name == "noisy" else [(noisy, "noisy")]
    return [*start, *cells, (grey(centre(goal, side_px), low, high), methods[0].target)]


def comparison(
    methods: Sequence[Method], quality: Result, plan: Plan, index: int, side_px: int = 160
) -> Any:
    """One test frame at every dose by methods of one target, as a Pillow picture."""
    rows = []
    for dose in plan.doses_e_per_px:
        data = some_frames(plan.test(dose), slice(index, index + 1))
        rows.append(row_of(methods, quality, data, dose, side_px))
    return sheet(rows, [f"{dose:g} e/px" for dose in plan.doses_e_per_px])


def write_pictures(
    methods: Sequence[Method], quality: Result, plan: Plan, indices: Sequence[int], stem: Path
) -> list[Path]:
    """STEM_TARGET_INDEX.png of each target and frame; returns their paths."""
    paths = []
    for target in sorted({method.target for method in methods}):
        alike = [method for method in methods if method.target == target]
        for index in indices:
            paths.append(stem.with_name(f"{stem.name}_{target}_{index}.png"))
            comparison(alike, quality, plan, index).save(paths[-1])
    return paths
