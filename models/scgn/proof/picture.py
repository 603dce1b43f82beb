"""A proof as one picture for an operator."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from scgn.proof.candidates import Candidate
from scgn.proof.numbers import Transfer
from scgn.proof.report import Proof
from scgn.references import Floats
from scgn.stacks import library

BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#555555"  # Okabe and Ito
COLOURS = {"multiply": BLUE, "divide": ORANGE, None: BLUE}
VERDICTS = {"accepted": GREEN, "suspicious": "#e69f00", "refused": ORANGE}
WIDE = 110  # characters of a line of the title
WIDER_MAX = 5.0  # than the narrowest range of a frame another one's is shown
SHOWN_MAX = 4.0  # residual; what is above is drawn to there, with its number


def save_picture(path: Path, proof: Proof) -> None:
    """Write a PNG: the frames' mean raw and corrected, what every way to mean the references leaves
    of the fixed pattern, the gain's histogram, photon transfer. Raises StackError without
    matplotlib.
    """
    figure = library("matplotlib.figure").Figure(figsize=(10, 7.3), dpi=110, layout="constrained")
    figure.get_layout_engine().set(h_pad=0.1)
    upper, lower = figure.subfigures(2, 1, height_ratios=(10, 11))
    _frames(upper, proof)
    bars, gain, transfer = lower.subplots(1, 3, width_ratios=(13, 9, 9))
    _residuals(bars, proof)
    _gain(gain, proof)
    _transfer(transfer, proof)
    _title(figure, proof)
    figure.savefig(path, format="png")


def _title(figure: Any, proof: Proof) -> None:
    proved = "proved" if proof.proved else "not proved"
    lines = [line for reason in proof.reasons[:3] for line in textwrap.wrap(reason, WIDE)]
    head = f"{proof.verdict.upper()}, {proved}"
    colour = VERDICTS[proof.verdict]
    frame = {"facecolor": colour, "edgecolor": colour, "alpha": 0.25}
    figure.suptitle("\n".join([head, *lines]), fontsize=10, weight="bold", bbox=frame)


def _frames(figure: Any, proof: Proof) -> None:
    """Side by side, over ranges of one width, so that their patterns can be compared."""
    if not proof.pictures:
        _empty(figure.subplots(), "no frames")
        return
    units = {name: _in_counts(name, frame, proof) for name, frame in proof.pictures.items()}
    ends = {name: np.quantile(frame, (0.01, 0.5, 0.99)) for name, frame in units.items()}
    widths = [high - low for low, _, high in ends.values()]
    width = max(min(widths), max(widths) / WIDER_MAX) or 1.0
    for axes, (name, frame) in zip(
        figure.subplots(1, len(units), squeeze=False)[0], units.items(), strict=True
    ):
        middle = ends[name][1]
        reach = (middle - 0.6 * width, middle + 0.6 * width)
        image = axes.imshow(
            frame, cmap="cividis", vmin=reach[0], vmax=reach[1], interpolation="nearest"
        )
        axes.set_title(_frame_title(name, proof), fontsize=10)
        axes.set(xticks=[], yticks=[])
        figure.colorbar(image, ax=axes, shrink=0.85)


def _frame_title(name: str, proof: Proof) -> str:
    way = {"as posted": proof.as_posted, "best": proof.best}.get(name)
    if way is None:
        return "mean frame, raw"
    convention = f", gain: {way.gain_convention}" if way.gain_convention else ""
    return f"corrected {'as posted ' * (name != 'best')}({way.orientation}{convention})"


def _in_counts(name: str, frame: Floats, proof: Proof) -> Floats:
    way = {"as posted": proof.as_posted, "best": proof.best}.get(name)
    return np.asarray(frame * np.float32(_unit(way, proof)))


def _unit(way: Candidate | None, proof: Proof) -> float:
    """Raw counts in one of what a corrected frame counts."""
    gain = proof.numbers.gain
    if way is None or way.gain_convention is None or gain is None:
        return 1.0
    return gain.mean if way.gain_convention == "divide" else 1 / gain.mean


def _residuals(axes: Any, proof: Proof) -> None:
    """A bar for each way, the posted one framed."""
    if not proof.candidates:
        _empty(axes, "no frames of this shape")
        return
    names = list(dict.fromkeys(way.orientation for way in proof.candidates))
    conventions = list(dict.fromkeys(way.gain_convention for way in proof.candidates))
    height = 0.8 / len(conventions)
    for way in proof.candidates:
        place = names.index(way.orientation) + height * conventions.index(way.gain_convention)
        _bar(axes, place, height, way, proof)
    axes.axvline(1, color=GREY, lw=1, ls="--")
    widest = min(SHOWN_MAX, max(1.0, *(way.residual for way in proof.candidates)))
    ticks = np.arange(len(names)) + height * (len(conventions) - 1) / 2
    axes.set_yticks(ticks, names, fontsize=8)
    axes.set(xlim=(0, 1.3 * widest), ylim=(len(names), -1.1))
    axes.text(1 + 0.02 * widest, -0.9, "no references", color=GREY, fontsize=8, va="top")
    masks = not proof.candidates[0].strengths
    axes.set_xlabel("deviating pixels left unmasked" if masks else "fixed pattern left, variance")
    _legend(axes, conventions)


def _bar(axes: Any, place: float, height: float, way: Candidate, proof: Proof) -> None:
    posted, best = way == proof.as_posted, way == proof.best
    length, edge = min(way.residual, SHOWN_MAX), "black" if posted else "none"
    error = min(way.error, SHOWN_MAX) if way.strengths else 0.0
    colour = COLOURS[way.gain_convention]
    axes.barh(place, length, height, color=colour, edgecolor=edge, lw=1.6, alpha=0.8)
    axes.plot([max(0.0, length - error), length + error], [place, place], color="black", lw=0.8)
    words = [word for word, true in (("posted", posted), ("best", best)) if true]
    words += [f"{way.residual:.1f}"] if way.residual > SHOWN_MAX else []
    if words:
        text = axes.annotate(
            ", ".join(words), (min(length + error, SHOWN_MAX), place), (4, 0),
            textcoords="offset points", va="center", fontsize=8, weight="bold",
        )  # fmt: skip
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5})


def _legend(axes: Any, conventions: list[Any]) -> None:
    if conventions == [None]:
        return
    patch = library("matplotlib.patches").Patch
    marks = [patch(color=COLOURS[name], alpha=0.8, label=f"gain: {name}") for name in conventions]
    axes.legend(
        handles=marks,
        fontsize=8,
        frameon=False,
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=2,
        borderaxespad=0,
    )


def _gain(axes: Any, proof: Proof) -> None:
    gain = proof.numbers.gain
    if gain is None:
        _empty(axes, "no gain reference")
        return
    axes.stairs(gain.counts, gain.edges, fill=True, color=BLUE, alpha=0.6)
    axes.set(yscale="log", xlabel="gain reference", ylabel="pixels", ylim=(0.5, None))
    axes.set_title(f"{gain.min:.3g} to {gain.max:.3g}, deviation {gain.std:.3g}", fontsize=8)


def _transfer(axes: Any, proof: Proof) -> None:
    """Variance against signal of raw and of corrected frames, in raw counts."""
    raw, after = proof.numbers.raw, proof.numbers.corrected
    if raw is None:
        _empty(axes, "no photon transfer:\nfewer than two frames")
        return
    _line(axes, "raw", raw, 1.0, GREY, "s")
    if after is not None:
        _line(axes, "corrected", after, _unit(proof.as_posted, proof), BLUE, "o")
    axes.set(xlabel="signal, counts", ylabel="variance, counts\u00b2")
    axes.set_ylim(0, 1.3 * axes.get_ylim()[1])
    axes.legend(fontsize=8, frameon=False, loc="upper left")


def _line(axes: Any, name: str, transfer: Transfer, unit: float, colour: str, mark: str) -> None:
    signal, variance = unit * np.array(transfer.signal), unit**2 * np.array(transfer.variance)
    gain = transfer.gain_adu_per_e
    words = "no slope" if gain is None else f"slope {unit * gain:.3g}"
    axes.plot(signal, variance, mark, ms=3.5, color=colour, label=f"{name}: {words}")
    if len(signal) > 1:
        ends = np.array([signal.min(), signal.max()])
        axes.plot(
            ends, unit**2 * transfer.offset + unit * transfer.slope * ends, color=colour, lw=1
        )


def _empty(axes: Any, words: str) -> None:
    axes.text(0.5, 0.5, words, ha="center", va="center", color=GREY)
    axes.set_axis_off()
