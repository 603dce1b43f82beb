"""Frames side by side in one PNG, each with its own grey window and a caption."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

CAPTION_PX = 26
GAP_PX = 6
CROP_PX = 160  # of a larger frame its middle is shown: atoms want to be seen, not guessed
SIDE_PX = 320  # panels are enlarged by whole factors up to about this


@dataclass(frozen=True)
class Panel:
    """One frame, (rows, columns), and what to write above it."""

    caption: str
    frame: NDArray[Any]


def grey(frame: NDArray[Any]) -> NDArray[np.uint8]:
    """8-bit view between the 0.5 % and 99.5 % quantiles: hot pixels do not set the scale."""
    values = frame.astype(np.float64)
    low, high = np.quantile(values, (0.005, 0.995))
    scaled = (values - low) / max(high - low, 1e-12) * 255
    return np.asarray(np.clip(scaled, 0, 255).astype(np.uint8))


def middle(frame: NDArray[Any]) -> NDArray[Any]:
    """The middle of a frame, at most CROP_PX a side."""
    top, left = (max(0, (side - CROP_PX) // 2) for side in frame.shape)
    return frame[top : top + CROP_PX, left : left + CROP_PX]


def before_and_after(path: Path, panels: list[Panel]) -> None:
    """Write the middles of the panels from left to right; makes the folder, smooths nothing."""
    frames = [middle(panel.frame) for panel in panels]
    factor = max(1, round(SIDE_PX / max(frames[0].shape)))
    tiles = [np.kron(grey(frame), np.ones((factor, factor), np.uint8)) for frame in frames]
    height = max(tile.shape[0] for tile in tiles) + CAPTION_PX
    width = sum(tile.shape[1] for tile in tiles) + GAP_PX * (len(tiles) - 1)
    sheet = Image.new("L", (width, height), 255)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    left = 0
    for panel, tile in zip(panels, tiles, strict=True):
        draw.text((left + 2, 4), panel.caption, fill=0, font=font)
        sheet.paste(Image.fromarray(tile), (left, CAPTION_PX))
        left += tile.shape[1] + GAP_PX
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
