"""From a corrected frame and the stream's state to what a network sees, and to the next state.

One frame's way: flags and hits filled; spectrum; registration against the long mean; a cut, or not;
the running means rolled by whole pixels and brought up to date; the noise; two estimates. Behind
the network: the result brought back to the frame's own coordinates, and earlier outputs scored by
this frame's raw pixels. Nothing looks ahead, nothing is learned here.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from scgn.stream.drift import START_PX, Drift, Match, Track
from scgn.stream.estimate import Estimate
from scgn.stream.facts import CONTROL
from scgn.stream.fill import Fill, Filled
from scgn.stream.grid import TINY, Grid, beside_axes, phase, power_of, turned
from scgn.stream.means import Means, RunningMeans, lineless
from scgn.stream.noise import Noise
from scgn.stream.state import KEPT, LONGEST, NUMBERS, RING, STATE, empty_state

DIFFERENCES = 64.0  # frame differences behind the noise's spectrum, at most
LAW_FRAMES = 64.0  # behind variance against signal
# A cut: the frame agrees with the mean less than so much of what frames before it did, by so many
# standard errors.
CUT, CUT_SURE, CUT_LEAST = 0.4, 6.0, 60.0
LEVEL_STEP = 0.3  # of the larger level: another dose, another past
LAG = 2  # frames: outputs are scored by frames so much later, whose noise they do not share
# What brings each channel to about 1 in noise units.
SHORT_SCALE = (1.4, 2.0, 2.8)
SKEW_MAX = 100.0  # of a pixel: a few electrons in a frame
SEEN_MAX = 200.0  # a defect that nobody named must not drown the rest
LONG_SCALE, CHANGE_SCALE, AGE_SCALE = 4.0, 0.25, 0.2


class Numbers(NamedTuple):
    """The state's `numbers`, each (B,1,1,1) or (B,2,1,1) rows and columns.

    frame: number of this frame since everything was forgotten; frames: behind the means;
    differences: behind the noise; level: mean level of the long mean, counts; position, velocity,
    pp, pv, vv: `scgn.stream.drift.Track`; law: weight, m, m^2, d^2, m d^2 of frame
    differences, and m's own noise;
    waiting_at: number of the frame whose outputs wait, 0 for none; agreement: running mean of how
    well frames matched the mean, nats, 0 while there is none.
    """

    frame: Tensor
    frames: Tensor
    differences: Tensor
    level: Tensor
    waiting_at: Tensor
    position: Tensor
    velocity: Tensor
    pp: Tensor
    pv: Tensor
    vv: Tensor
    law: Tensor
    agreement: Tensor

    @classmethod
    def of(cls, numbers: Tensor) -> Numbers:
        """From the state's (B,NUMBERS)."""
        column = numbers[:, :, None, None]
        places = ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (6, 8), (8, 10), (10, 12), (12, 14),
                  (14, 16), (16, 22), (22, 23))  # fmt: skip
        return cls(*(column[:, low:high] for low, high in places))

    def packed(self) -> Tensor:
        """As the state's (B,NUMBERS)."""
        nothing = torch.zeros_like(self.frame)
        parts = [*self[:5], nothing, *self[5:]]
        parts.append(nothing.expand(-1, NUMBERS - 23, -1, -1))
        return torch.cat(parts, dim=1)[:, :, 0, 0]


class Seen(NamedTuple):
    """What the network gets, and what the way back needs. All in the means' coordinates.

    given: (B,len(SEEN),H,W) in noise units; base: the estimate that it corrects, counts less the level;
    estimate: of the frame alone; scale: deviation of one frame's point noise, (B,1,1,1) counts.
    """

    given: Tensor
    base: Tensor
    estimate: Tensor
    long: Tensor
    scale: Tensor
    level: Tensor
    position: Tensor
    frame: Tensor


class State(NamedTuple):
    """The tensors of `scgn.stream.state.STATE`, in its order."""

    ring: Tensor
    long: Tensor
    age: Tensor
    waiting: Tensor
    probe: Tensor
    probe_at: Tensor
    held: Tensor
    spectra: Tensor
    noise: Tensor
    numbers: Tensor


assert State._fields == STATE


class Front(nn.Module):
    """Everything before and after the network, for frames of one shape and camera dtype."""

    def __init__(self, shape: tuple[int, int], camera_dtype: str = "<f4") -> None:
        super().__init__()
        self.grid = Grid(*shape)
        self.fill = Fill(*shape, camera_dtype)
        self.noise, self.estimate = Noise(self.grid), Estimate(self.grid)
        self.drift, self.means = Drift(self.grid), RunningMeans(self.grid)
        self.register_buffer("row_places", torch.arange(shape[0]).double())
        self.register_buffer("column_places", torch.arange(shape[1]).double())

    def forward(
        self, raw: Tensor, frames: Tensor, calibrated: tuple[Tensor, Tensor] | None,
        control: Tensor, state: State,
    ) -> tuple[Seen, State, dict[str, Tensor]]:  # fmt: skip
        """raw: counts as sent, frames: corrected, both (B,1,H,W); calibrated: `noise` and `law` of
        `scgn.deploy.references`, or None; control: (B,len(CONTROL)).

        Returns what the network sees, the state without the outputs of this frame (`keep`), and
        facts by their names, each (B,1,1,1).
        """
        reset, steps, longest, _ = (control[:, i, None, None, None] for i in range(4))
        known = Numbers.of(state.numbers)
        kept, heard = (reset < 0.5).to(frames.dtype), (reset < 1.5).to(frames.dtype)
        known = known._replace(
            frames=kept * known.frames, differences=heard * known.differences,
            frame=heard * known.frame, law=heard * known.law, waiting_at=kept * known.waiting_at,
        )  # fmt: skip
        first = (known.frame < 0.5).to(frames.dtype)
        filled = self.fill(raw, frames, state.held * heard, first)
        level = filled.frames.mean(dim=(-2, -1), keepdim=True)
        away = filled.frames - level
        spectrum = self.grid.spectrum(away)
        power = power_of(spectrum)

        heard_power, before_point, before_lines, before_gain = state.noise.split(1, dim=1)
        known = self.other_dose(known, level, before_point)
        last, mean = state.spectra[:, 0:1], state.spectra[:, 1:2]
        track, match = self.registered(
            spectrum, mean, before_gain, before_point + before_lines, known, steps
        )
        cut = self.is_cut(match, known)
        fresh = torch.maximum(cut, (known.frames < 0.5).to(cut.dtype))
        known = known._replace(
            frames=known.frames * (1 - fresh), waiting_at=known.waiting_at * (1 - fresh)
        )
        track = Track(
            *(self.begun(part, fresh, *start) for part, start in zip(track, STARTS, strict=True))
        )
        whole = track.position.round()
        position = track.position - whole

        # The noise with this frame's difference from the last in it.
        moved = (track.position - known.position) * (1 - fresh)
        noise, differences = self.heard(spectrum, last, moved, heard_power, known, fresh)
        known = known._replace(differences=differences)
        beside = beside_axes(power)
        smooth = self.estimate.wide(beside)
        point, lines = self.known_noise(power, smooth, noise, known, calibrated, level)
        variance = self.grid.mean(point)
        variance = torch.where(variance > 0, variance, torch.ones_like(variance))

        # Into the means' coordinates.
        rolled = self.rolled(torch.cat(
            (state.ring, state.long, state.waiting, state.probe, state.age * (1 - fresh)), dim=1
        ), whole)  # fmt: skip
        ring, long, waiting, probe, age = rolled.split((RING, 1, KEPT, 1, 1), dim=1)
        cosine, sine = phase(self.grid, position[:, :1], position[:, 1:])
        here = turned(spectrum, cosine, sine)
        frame = self.grid.frames(here)
        law = self.law(known, level, variance)
        skew = (variance.sqrt() / level.clamp(min=TINY)).clamp(max=SKEW_MAX) * (level > 0)
        most = torch.where(longest > 1.5, longest, torch.full_like(longest, float(LONGEST)))
        means = self.means(frame, ring, long, age, most, point, law[0], skew)
        known = known._replace(law=self.learned_law(known, frame, ring, long, age, level))

        # What the network sees: alone, the frame is every mean.
        alone = (longest < 1.5).to(frame.dtype)
        seen_long = alone * frame + (1 - alone) * means.long
        seen_age = alone + (1 - alone) * means.age
        long_spectrum = self.grid.spectrum(means.long)
        behind = (1 / means.age).mean(dim=(-2, -1), keepdim=True)
        one = self.estimate.gain(power, beside, smooth, point, lines)
        estimate = self.grid.frames(here * one.unsqueeze(2))
        many = self.estimate(power_of(long_spectrum), point * behind, lines * behind)
        base = self.grid.frames(long_spectrum * many.unsqueeze(2))
        # Where the past was refused, the frame's own estimate is the safer one.
        young = ((1 / means.age / behind - 1.5) / 1.5).clamp(min=0.0, max=1.0)
        base = base + torch.maximum(young, alone) * (estimate - base)
        scale = variance.sqrt()
        short = [alone * frame + (1 - alone) * part for part in means.short]
        rest = seen_long - base
        given = torch.cat((
            frame / scale, *(part * times / scale for part, times in zip(short, SHORT_SCALE, strict=True)),
            seen_long * LONG_SCALE / scale, estimate * LONG_SCALE / scale, base * LONG_SCALE / scale,
            means.change * (1 - alone) * CHANGE_SCALE, seen_age.log() * AGE_SCALE,
            (rest.mean(dim=-2, keepdim=True) * LONG_SCALE / scale).expand_as(frame),
            (rest.mean(dim=-1, keepdim=True) * LONG_SCALE / scale).expand_as(frame),
        ), dim=1).clamp(min=-SEEN_MAX, max=SEEN_MAX)  # fmt: skip
        seen = Seen(given, base, estimate, seen_long, scale, level, position, frame)

        number = known.frame + 1
        # The first match has nothing before it; a longer mean matches better, so the past fades.
        begun = (known.frames > 1.5).to(level.dtype)
        agreed = begun * known.agreement + (match.value - begun * known.agreement) * (
            1 - 0.7 * begun
        )
        scores = self.scores(
            frame,
            ring,
            waiting,
            probe,
            known.waiting_at,
            state.probe_at[:, :, None, None] * kept * (1 - fresh),
            number,
        )
        share = 1 / (known.frames + 1).clamp(max=float(LONGEST))
        numbers = known._replace(
            frame=number, frames=known.frames + 1, position=position, velocity=track.velocity,
            pp=track.pp, pv=track.pv, vv=track.vv, agreement=agreed * (1 - fresh),
            level=known.level * (known.frames > 0.5) + (level - known.level * (known.frames > 0.5)) * share,
            waiting_at=known.waiting_at * (scores["scored"] < 0.5),
        )  # fmt: skip
        probe_at = (
            state.probe_at
            * kept[:, :, 0, 0]
            * (1 - fresh[:, :, 0, 0])
            * (scores["scored_probe"] < 0.5)[:, :, 0, 0]
        )
        after = State(
            means.ring, means.long, means.age, waiting, probe, probe_at, filled.top,
            torch.cat((spectrum, long_spectrum), dim=1),
            torch.cat((noise, point, lines, many), dim=1), numbers.packed(),
        )  # fmt: skip
        facts = self.facts(
            filled,
            level,
            scale,
            means,
            numbers,
            track,
            fresh * (1 - first),
            noise,
            lines,
            point,
            law,
            calibrated,
        )
        return seen, after, facts | scores

    def alone(self, frames: Tensor) -> Seen:
        """What is seen of frames (B,1,H,W) without a past, a calibration or a flag."""
        control = torch.zeros(len(frames), len(CONTROL), dtype=frames.dtype, device=frames.device)
        control[:, CONTROL.index("longest")] = 1
        shape = (frames.shape[-2], frames.shape[-1])
        blank = empty_state(shape, len(frames), frames.dtype)
        state = State(*(part.to(frames.device) for part in blank))
        return self(frames, frames, None, control, state)[0]

    # Noise.

    def known_noise(
        self, power: Tensor, smooth: Tensor, differences: Tensor, known: Numbers,
        calibrated: tuple[Tensor, Tensor] | None, level: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """(N, L): of the stream, or else the calibration, or else this frame."""
        point, lines = self.noise.of_frame(power, smooth)
        if calibrated is not None:
            said = self.noise.of_calibration(*calibrated, level)
            told = calibrated[1][5] > 0.5
            point, lines = (
                torch.where(told, a, b) for a, b in zip(said, (point, lines), strict=True)
            )
        heard = known.differences > 0.5
        of_stream = self.noise.of_differences(differences)
        point, lines = (
            torch.where(heard, a, b) for a, b in zip(of_stream, (point, lines), strict=True)
        )
        return point, lines

    def heard(
        self, spectrum: Tensor, last: Tensor, moved: Tensor, noise: Tensor, known: Numbers,
        fresh: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """The mean power of differences with this frame's in it, and how many those are."""
        cosine, sine = phase(self.grid, moved[:, :1], moved[:, 1:])
        change = turned(spectrum, cosine, sine) - last
        count = (known.differences + 1).clamp(max=DIFFERENCES)
        better = noise * (known.differences > 0.5)
        better = better + (power_of(change) / 2 - better) / count
        return fresh * noise + (1 - fresh) * better, fresh * known.differences + (1 - fresh) * count

    def other_dose(self, known: Numbers, level: Tensor, point: Tensor) -> Numbers:
        """Without means and noise where the level says that the dose is another."""
        change = (level - known.level).abs()
        far = change > LEVEL_STEP * torch.maximum(level.abs(), known.level.abs())
        sure = change > 0.05 * self.grid.mean(point).sqrt()
        same = 1 - (far & sure & (known.frames > 0.5)).to(level.dtype)
        return known._replace(
            frames=known.frames * same, differences=known.differences * same, law=known.law * same
        )

    def law(self, known: Numbers, level: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """(gain, variance at level 0) of the point noise, counts and counts^2, by least squares.

        0 and the mean variance while signal varies too little to tell.
        """
        weight, m, mm, d, md, own = (known.law[:, i : i + 1] for i in range(6))
        spread = mm - own - m * m  # the mean's own noise would flatten the slope
        gain = (md - m * d) / spread.clamp(min=TINY)
        # Variance of the slope of squares (2 d^4 each) over so many pixels.
        pixels = self.grid.shape[0] * self.grid.shape[1] * weight.clamp(min=1.0)
        error2 = 2 * d * d * (spread + own) / (pixels * (spread * spread).clamp(min=TINY))
        sure = ((gain > 0) & (gain * gain > 25 * error2) & (spread > 0)).to(d.dtype)
        gain = sure * gain
        return gain, torch.where(d > 0, (d - gain * m).clamp(min=0.0), variance)

    def learned_law(
        self, known: Numbers, frame: Tensor, ring: Tensor, long: Tensor, age: Tensor, level: Tensor
    ) -> Tensor:
        """The law's sums with the difference of the last two frames; the mean of those before it
        tells the signal and shares no noise with it.
        """
        change = lineless(frame - ring[:, :1])
        square = change * change / 2
        # Neither of the two is in the signal.
        share = 1 / age.clamp(min=1.0, max=float(LONGEST))
        signal = level + (long - share * ring[:, :1]) / (1 - share).clamp(min=0.5)
        there = (age >= 6).to(frame.dtype)
        count = there.mean(dim=(-2, -1), keepdim=True)
        enough = (count > 0.5).to(frame.dtype)

        def mean(values: Tensor) -> Tensor:
            return (there * values).mean(dim=(-2, -1), keepdim=True) / count.clamp(min=1e-3)

        own = mean(square) * mean(1 / (age - 1).clamp(min=1.0))
        sums = torch.cat((
            torch.ones_like(count), mean(signal), mean(signal * signal), mean(square),
            mean(signal * square), own,
        ), dim=1)  # fmt: skip
        weight = (known.law[:, :1] + enough).clamp(max=LAW_FRAMES)
        share = enough / weight.clamp(min=1.0)
        better = known.law + share * (sums - known.law)
        return torch.cat((weight, better[:, 1:]), dim=1)

    # Place.

    def registered(
        self, spectrum: Tensor, mean: Tensor, gain: Tensor, noise: Tensor, known: Numbers,
        steps: Tensor,
    ) -> tuple[Track, Match]:  # fmt: skip
        """The track with this frame in it, and how like the mean the frame is.

        gain, noise: of the mean's estimate and of one frame, as the frame before left them.
        """
        fresh = (known.frames < 0.5).to(noise.dtype)
        track = Track(known.position, known.velocity, known.pp, known.pv, known.vv)
        track = Track(
            *(self.begun(part, fresh, *start) for part, start in zip(track, STARTS, strict=True))
        )
        prior = track.predicted(steps.clamp(min=1.0, max=64.0))
        agreement = known.agreement * (known.frames > 1.5)
        return self.drift(spectrum, mean, gain, noise, prior, 1 - fresh, agreement)

    def begun(self, part: Tensor, fresh: Tensor, start: float, keep: bool) -> Tensor:
        """A part of the track, or its start where everything begins anew."""
        if keep:
            return part
        return part * (1 - fresh) + fresh * start

    def is_cut(self, match: Match, known: Numbers) -> Tensor:
        """1 where the frame is not of the mean's scene, surely; (B,1,1,1)."""
        usual = known.agreement
        wrong = (match.value < CUT * usual) & (known.frames > 1.5) & (usual > CUT_LEAST)
        surely = usual - match.value > CUT_SURE * usual.clamp(min=1.0).sqrt()
        return (wrong & surely).to(usual.dtype)

    def rolled(self, planes: Tensor, whole: Tensor) -> Tensor:
        """Planes moved by whole pixels (B,2,1,1); the last is an age, 0 where nothing was seen."""
        rows, columns = self.grid.shape
        index = self.row_places[None, :, None] - whole[:, :1, 0]  # (B,H,1)
        across = self.column_places[None, None] - whole[:, 1:, 0]  # (B,1,W)
        inside = (index >= 0) & (index < rows) & (across >= 0) & (across < columns)
        index = index - rows * (index / rows).floor()
        across = across - columns * (across / columns).floor()
        place = (index * columns + across).round().long().flatten(1)
        flat = planes.flatten(2)
        if len(planes) == 1:
            moved = flat.index_select(2, place[0])
        else:
            moved = torch.stack(
                [part.index_select(1, to) for part, to in zip(flat, place, strict=True)]
            )
        moved = moved.view(planes.shape)
        return torch.cat((moved[:, :-1], moved[:, -1:] * inside[:, None].to(planes.dtype)), dim=1)

    # After the network.

    def back(self, there: Tensor, seen: Seen) -> Tensor:
        """A result in the means' coordinates, less its level -> counts of the frame's own."""
        cosine, sine = phase(self.grid, -seen.position[:, :1], -seen.position[:, 1:])
        return seen.level + self.grid.frames(turned(self.grid.spectrum(there), cosine, sine))

    def keep(self, after: State, outputs: tuple[Tensor, ...], control: Tensor) -> State:
        """The state with this frame's outputs (network, mean, estimate) waiting to be scored.

        The network's is kept as the probe, too: of a probe's call that is all that is used.
        """
        numbers = Numbers.of(after.numbers)
        free = (numbers.waiting_at < 0.5).to(after.waiting.dtype)
        waiting = torch.cat(outputs, dim=1)
        at = numbers.waiting_at + free * numbers.frame
        return after._replace(
            waiting=after.waiting + free * (waiting - after.waiting),
            numbers=numbers._replace(waiting_at=at).packed(),
        )

    def scores(
        self, frame: Tensor, ring: Tensor, waiting: Tensor, probe: Tensor, waiting_at: Tensor,
        probe_at: Tensor, number: Tensor,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Earlier outputs against this frame, whose noise they do not share."""

        def gain(output: Tensor) -> Tensor:
            return (2 * output * frame - output * output).mean(dim=(-2, -1), keepdim=True)

        due = ((waiting_at > 0.5) & (number - waiting_at > LAG - 0.5)).to(frame.dtype)
        between = ring[:, :1]  # the frame between: it shares no noise with either
        network = waiting[:, :1]
        error = ((between - network) * (frame - network)).mean(dim=(-2, -1), keepdim=True)
        probed = ((probe_at > 0.5) & (number - probe_at > LAG - 0.5)).to(frame.dtype)
        return {
            "scored": due * (number - waiting_at), "error": due * error,
            "gain_network": due * gain(network), "gain_mean": due * gain(waiting[:, 1:2]),
            "gain_estimate": due * gain(waiting[:, 2:3]),
            "scored_probe": probed * (number - probe_at), "gain_probe": probed * gain(probe),
        }  # fmt: skip

    def facts(
        self, filled: Filled, level: Tensor, scale: Tensor, means: Means, numbers: Numbers,
        track: Track, cut: Tensor, noise: Tensor, lines: Tensor, point: Tensor,
        law: tuple[Tensor, Tensor], calibrated: tuple[Tensor, Tensor] | None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Facts of this frame, each (B,1,1,1), but for the scores and the result's mean."""
        grid, mean = self.grid, dict(dim=(-2, -1), keepdim=True)
        heard = (numbers.differences > 0.5).to(level.dtype)
        source = 2 * heard
        gain, base = law
        if calibrated is not None:
            told = (calibrated[1][5] > 0.5).to(level.dtype)
            source = source + (1 - heard) * told
            gain = torch.where(gain > 0, gain, told * calibrated[1][0])
        half = numbers.frames.clamp(max=float(LONGEST)) / 2
        # Width of a Gaussian blur with the noise's mean squared frequency: of power exp(-4 pi^2 s^2 k^2)
        # in two dimensions, mean k^2 = 1 / (4 pi^2 s^2); white noise has 1/6.
        k2 = grid.mean(point * grid.radius2) / grid.mean(point).clamp(min=TINY)
        narrow = (1 / (4 * torch.pi**2 * k2.clamp(min=1e-6)) - 6 / (4 * torch.pi**2)).clamp(min=0.0)
        return {
            "level": level, "scale": scale,
            "averaged": median(means.age), "drift_rows": track.velocity[:, :1],
            "drift_columns": track.velocity[:, 1:],
            "drift_error": track.vv.mean(dim=1, keepdim=True).clamp(min=0.0).sqrt(),
            "moving": (means.age < half).to(level.dtype).mean(**mean), "cut": cut,
            "noise_from": source, "gain_adu_per_e": gain, "read_noise_adu": base.sqrt(),
            "line_rows": grid.mean(lines * grid.on_column).sqrt(),
            "line_columns": grid.mean(lines * grid.on_row).sqrt(),
            "correlation_px": narrow.sqrt(), "filled": filled.hits, "flagged": filled.flagged,
            "saturated": filled.saturated,
        }  # fmt: skip


# (start, keep): position, velocity, pp, pv, vv of a track that begins.
STARTS = ((0.0, False), (0.0, False), (1e-4, False), (0.0, False), (START_PX**2, False))


def median(values: Tensor) -> Tensor:
    """Median over each frame of a regular sample of its pixels; (B,1,H,W) -> (B,1,1,1)."""
    rows, columns = (max(1, side // 16) for side in values.shape[-2:])
    sample = values[..., ::rows, ::columns].flatten(1)
    middle = (sample.shape[1] + 1) // 2
    return sample.topk(middle, dim=1, largest=False, sorted=True).values[:, middle - 1 :][
        :, :1, None, None
    ]
