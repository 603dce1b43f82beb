"""What the graph tells of one frame beside its pixels, and what it is told before."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["temporal", "single", "mean", "estimate"]  # of what is shown; the wire's words

# Indices of the graph's input `control`, (B, len(CONTROL)) float32.
# reset: 0 keep everything, 1 forget the means and the drift, 2 forget the noise as well;
# steps: frames of the source since the one before, 1 when none is missing;
# longest: longest mean that the network may see, frames; 1 is the frame alone (`single`);
# show: what leaves the graph, an index of SHOWN; PROBED where the call is a probe, of which nothing
# is shown and the network's output alone is kept, to be scored later.
CONTROL = ("reset", "steps", "longest", "show")
SHOWN = ("network", "mean", "estimate")
PROBED = len(SHOWN)

# Channels of a temporal network's input, noise units (each by a factor of its own), see
# `scgn.stream.front`: the frame, means of the newest 2, 4, 8, the longest mean; estimates of the
# frame and of the longest mean; how strongly the newest frames differ from what was before; frames
# behind the longest mean; what columns and rows have in common beyond the estimate.
SEEN = (
    "frame", "mean_2", "mean_4", "mean_8", "long", "estimate", "base", "change", "age",
    "column_rest", "row_rest",
)  # fmt: skip

NOISE_FROM = ("frame", "calibration", "stream")  # where the noise's spectrum was known from


class Facts(NamedTuple):
    """One row of the graph's output `facts`, (B, len(Facts._fields)) float32; counts are of the
    corrected frame.

    level: mean of the frame, scale: deviation of one frame's point noise, mean: of the result, all
    counts; averaged: effective frames behind this one, median over pixels; drift_rows,
    drift_columns: px a frame, positive towards higher indices, drift_error: their standard error;
    moving: share of pixels where the past is refused; cut: 1 where the whole past was let go;
    noise_from: index of NOISE_FROM; gain_adu_per_e: 0 while unknown; read_noise_adu; line_rows,
    line_columns: deviation of the noise that a row, a column shares, counts; correlation_px: width
    (Gaussian sigma) of the point noise's correlation, 0 for white; filled: single pixels and hits
    that were filled, flagged: pixels with a camera's flag, saturated: pixels at the dtype's largest
    value that are none, all numbers of pixels.

    Scores are of an EARLIER frame, against this one's raw pixels: scored: how many frames back
    (2 or more; 0 for none); gain_network, gain_mean, gain_estimate: mean of
    (flat - y)^2 - (output - y)^2, counts^2; error: mean of (y_between - output) (y - output),
    counts^2, y_between the frame between the two: the network's unbiased mean square error;
    scored_probe, gain_probe: the same of the probe, a second call on the same frame with another
    `longest`.
    """

    level: float
    scale: float
    mean: float
    averaged: float
    drift_rows: float
    drift_columns: float
    drift_error: float
    moving: float
    cut: float
    noise_from: float
    gain_adu_per_e: float
    read_noise_adu: float
    line_rows: float
    line_columns: float
    correlation_px: float
    filled: float
    flagged: float
    saturated: float
    scored: float
    gain_network: float
    gain_mean: float
    gain_estimate: float
    error: float
    scored_probe: float
    gain_probe: float
