"""Judging published frames against a simulated camera, whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from scgn.calibration import build_calibration
from scgn.denoise import Correction
from scgn.metrics import best_gaussian, gaussian_filter, psnr_db
from scgn_client.camera import SimulatedCamera
from scgn_client.messages import Array, PublishedFrame


@dataclass(frozen=True)
class Score:
    """PSNR in dB of one frame, peak = the clean frame's range; `gaussian` is the filtered frame."""

    noisy_db: float
    gaussian_db: float
    denoised_db: float
    gaussian: NDArray[np.float32]


def correction_of(camera: SimulatedCamera) -> Correction:
    """The camera's own references, ready to correct its frames."""
    calibration = build_calibration(
        camera.dark_reference, camera.gain_reference, camera.pixel_mask, "multiply"
    )
    return Correction(calibration, torch.device("cpu"))


def correct(raw: Array, camera: SimulatedCamera) -> NDArray[np.float32]:
    """A raw frame corrected with the camera's references: what a denoiser starts from."""
    counts = torch.from_numpy(raw.astype(np.float32))
    return np.asarray(correction_of(camera)(counts).numpy())


def score_frames(frames: list[PublishedFrame], camera: SimulatedCamera) -> list[Score]:
    """Each frame beside the best Gaussian on the same corrected frame and the noisy frame itself.

    The Gaussian's width is chosen per frame with the truth in hand: its best case.
    """
    correction = correction_of(camera)
    scores = []
    for frame in frames:
        assert frame.raw is not None, "scoring needs the raw channel"
        clean = torch.from_numpy(camera.frame(frame.frame).clean)[None, None]
        noisy = correction(torch.from_numpy(frame.raw.astype(np.float32)))[None, None]
        denoised = torch.from_numpy(np.array(frame.denoised))[None, None]
        gaussian_db, width_px = best_gaussian(noisy, clean)
        smooth = np.asarray(gaussian_filter(noisy, width_px)[0, 0].numpy())
        scores.append(Score(psnr_db(noisy, clean), gaussian_db, psnr_db(denoised, clean), smooth))
    return scores
