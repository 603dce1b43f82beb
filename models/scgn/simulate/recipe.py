"""The ranges that simulated frames are drawn from."""

from __future__ import annotations

from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True)
class Recipe:
    """Each pair is (lowest, highest).

    spacing_px: of neighbouring atoms (with spacing_a: A, it decides the pixel size);
    dose_e_per_px: electrons per pixel of the empty beam, log-uniform; columns: atoms in a column,
    log-uniform; phase_max_rad: log-uniform, a frame whose phase is larger is scaled down to it;
    film_rad: rms phase of the amorphous support, in film_share of the frames; spots_share: of
    frames drawn as plain Gaussian spots of `contrast` on a level field instead (scanning images,
    the published training set); blob_share: of frames with absorbing particles; read_noise_e: per
    pixel, electrons; line_noise: deviation of column or row noise relative to the point noise, in
    four of ten frames; blur_px: sigma of the point spread, in half of the frames; response:
    relative deviation between pixels that calibration left; hot_share: of pixels, in a fifth of
    the frames; clip_share: of frames whose negative counts are cut; gain_adu_per_e: counts per
    electron, log-uniform, whole where a camera counts (no read noise).
    """

    spacing_px: Range = (5.0, 26.0)
    spacing_a: Range = (1.4, 4.1)
    dose_e_per_px: Range = (0.15, 100.0)
    columns: Range = (3.0, 40.0)
    phase_max_rad: Range = (0.3, 1.4)
    film_rad: Range = (0.0, 0.1)
    film_share: float = 0.4
    spots_share: float = 0.3
    contrast: Range = (0.1, 0.8)
    blob_share: float = 0.12
    read_noise_e: Range = (0.0, 1.5)
    line_noise: Range = (0.0, 1.0)
    blur_px: Range = (0.3, 0.9)
    response: Range = (0.0, 0.02)
    hot_share: Range = (0.0, 5e-4)
    clip_share: float = 0.1
    gain_adu_per_e: Range = (1.0, 100.0)
