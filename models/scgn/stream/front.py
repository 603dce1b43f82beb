"""From a corrected frame and the stream's state to what a network sees, and to the next state.

One frame's way: flags and hits filled; spectrum; registration against the long mean; a cut, or not;
the noise; the running means rolled by whole pixels and brought up to date; two estimates. Behind
the network: the result brought back to the frame's own coordinates, and earlier outputs scored by
this frame's raw pixels. Nothing looks ahead, nothing is learned here.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from scgn.stream.drift import Drift, Match, Track
from scgn.stream.estimate import Estimate
from scgn.stream.facts import CONTROL, PROBED
from scgn.stream.fill import Fill, Filled
from scgn.stream.grid import TINY, Grid, beside_axes, phase, power_of, turned
from scgn.stream.law import Law, law_of, learned
from scgn.stream.linear import wide
from scgn.stream.means import Means, RunningMeans
from scgn.stream.noise import Noise
from scgn.stream.numbers import Numbers
from scgn.stream.restore import Restore
from scgn.stream.scores import scores, since
from scgn.stream.state import KEPT, LONGEST, RING, STATE, empty_state

DIFFERENCES = 64.0  # frame differences behind the noise's spectrum, at most
# A cut: the frame agrees with the mean less than so much of what frames before it did, by so many
# standard errors; where those agreed with less than so many nats, nobody can tell.
CUT, CUT_SURE, CUT_LEAST = 0.4, 6.0, 60.0
LEVEL_STEP = 0.3  # of the larger level: another dose, another past
LEVEL_SURE = 0.05  # of a pixel's noise; a frame's level is known far better
SKEW_MAX = 100.0  # of a pixel: a few electrons in a frame
# What brings each channel of a network's input to about 1 in noise units.
SHORT_SCALE = (1.4, 2.0, 2.8)
LONG_SCALE, CHANGE_SCALE, AGE_SCALE = 4.0, 0.25, 0.2
WIDE_PX = 16  # blocks; a network corrects nothing that varies over more than some of them
SEEN_MAX = 200.0  # a defect that nobody named must not drown the rest

Calibrated = tuple[Tensor, Tensor]  # `noise_power` and `law` of `scgn.deploy.references`


class Seen(NamedTuple):
    """What the network gets, and what the way back needs. All in the means' coordinates.

    given: (B,len(SEEN),H,W) in noise units; base: the estimate that it corrects, estimate: of the
    frame alone, long: the longest mean, (B,1,H,W) counts less the level; scale: deviation of one
    frame's point noise, level, both (B,1,1,1) counts; position: (B,2,1,1) px.
    """

    given: Tensor
    base: Tensor
    estimate: Tensor
    long: Tensor
    scale: Tensor
    level: Tensor
    position: Tensor


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


class Frame(NamedTuple):
    """One frame by its spectrum: level (B,1,1,1) counts; spectrum of the rest, and its power;
    beside, smooth: that power off the axes, and its average.
    """

    level: Tensor
    spectrum: Tensor
    power: Tensor
    beside: Tensor
    smooth: Tensor


class Heard(NamedTuple):
    """Noise of one frame: the stream's mean power of differences and what follows from it or from
    what else there is, spectra of point and line noise.
    """

    power: Tensor
    point: Tensor
    lines: Tensor


class Front(nn.Module):
    """Everything before and after the network, for frames of one shape and camera dtype."""

    row_places: Tensor
    column_places: Tensor

    def __init__(self, shape: tuple[int, int], camera_dtype: str = "<f4") -> None:
        super().__init__()
        self.grid = Grid(*shape)
        self.fill = Fill(*shape, camera_dtype)
        self.noise, self.estimate = Noise(self.grid), Estimate(self.grid)
        self.drift, self.means = Drift(self.grid), RunningMeans(self.grid)
        self.restore, self.wide = Restore(self.grid), wide(shape, WIDE_PX)
        self.register_buffer("row_places", torch.arange(shape[0]).double())
        self.register_buffer("column_places", torch.arange(shape[1]).double())

    def forward(
        self, raw: Tensor, frames: Tensor, calibrated: Calibrated | None, control: Tensor,
        state: State,
    ) -> tuple[Seen, State, dict[str, Tensor]]:  # fmt: skip
        """raw: counts as sent, frames: corrected, both (B,1,H,W); control: (B,len(CONTROL)).

        Returns what the network sees, the state without the outputs of this frame (`keep`), and
        facts by their names, each (B,1,1,1), but for the mean of the result.
        """
        reset, steps, longest, _ = (control[:, i, None, None, None] for i in range(len(CONTROL)))
        known = Numbers.of(state.numbers).kept(reset)
        first = (known.frame < 0.5).to(frames.dtype)
        filled = self.fill(raw, frames, state.held * (1 - first), first)
        frame = self.frame(filled.frames)
        before = state.noise[:, 1:2] + state.noise[:, 2:3]
        known = self.same_dose(known, frame.level, before)
        track, match = self.registered(frame, state, before, known, steps)
        cut = self.is_cut(match, known)
        fresh = torch.maximum(cut, (known.frames < 0.5).to(cut.dtype))
        known, track = known.begun(fresh), track.begun(fresh)
        heard, known = self.heard(frame, track, state, known, fresh, calibrated)

        whole = track.position.round()
        track = track._replace(position=track.position - whole)
        planes = self.rolled(state, whole, fresh)
        number = known.frame + 1
        probe_at = state.probe_at[:, :, None, None] * (reset < 0.5) * (1 - fresh)
        # A probe of this very frame is where the means are by now.
        just = (probe_at > number - 0.5).to(frames.dtype)
        planes = planes._replace(probe=planes.probe + just * (state.probe - planes.probe))
        here, there = self.moved(frame.spectrum, track.position)
        means, law, known = self.brought_up(there, planes, heard, known, frame.level, longest)
        spectrum = self.grid.spectrum(means.long)
        alone = (longest < 1.5).to(frames.dtype)
        seen, gain = self.seen(frame, here, there, means, spectrum, heard, track, alone)

        told = scores(
            there, planes.ring[:, :1], planes.waiting, planes.probe,
            since(number, known.waiting_at), since(number, probe_at),
        )  # fmt: skip
        numbers = self.counted(known, frame.level, track, match, fresh)._replace(
            waiting_at=known.waiting_at * (told["scored"] < 0.5)
        )
        after = State(
            means.ring, means.long, means.age, planes.waiting, planes.probe,
            (probe_at * (told["scored_probe"] < 0.5))[:, :, 0, 0], filled.top,
            torch.cat((frame.spectrum, spectrum), dim=1), torch.cat((*heard, gain), dim=1),
            numbers.packed(),
        )  # fmt: skip
        facts = self.facts(filled, seen, means, numbers, heard, law, calibrated)
        facts["moving"] = self.moving(means.age, numbers.frames, longest)
        return seen, after, facts | told | {"cut": fresh * (1 - first)}

    def alone(self, frames: Tensor) -> Seen:
        """What is seen of frames (B,1,H,W) without a past, a calibration or a flag."""
        control = torch.zeros(len(frames), len(CONTROL), dtype=frames.dtype, device=frames.device)
        control[:, CONTROL.index("longest")] = 1
        blank = empty_state(self.grid.shape, len(frames), frames.dtype)
        state = State(*(part.to(frames.device) for part in blank))
        return self(frames, frames, None, control, state)[0]  # type: ignore[no-any-return]

    def frame(self, counts: Tensor) -> Frame:
        """A filled frame by its spectrum."""
        level = counts.mean(dim=(-2, -1), keepdim=True)
        spectrum = self.grid.spectrum(counts - level)
        power = power_of(spectrum)
        beside = beside_axes(power)
        return Frame(level, spectrum, power, beside, self.estimate.wide(beside))

    # Noise.

    def heard(
        self, frame: Frame, track: Track, state: State, known: Numbers, fresh: Tensor,
        calibrated: Calibrated | None,
    ) -> tuple[Heard, Numbers]:  # fmt: skip
        """The noise with this frame's difference from the last in it, the scene brought over it."""
        moved = (track.position - known.position) * (1 - fresh)
        cosine, sine = phase(self.grid, moved[:, :1], moved[:, 1:])
        change = power_of(turned(frame.spectrum, cosine, sine) - state.spectra[:, :1]) / 2
        count = (known.differences + 1).clamp(max=DIFFERENCES)
        before = state.noise[:, :1] * (known.differences > 0.5)
        power = torch.where(fresh > 0.5, before, before + (change - before) / count)
        known = known._replace(differences=torch.where(fresh > 0.5, known.differences, count))
        return Heard(power, *self.known_noise(frame, power, known, calibrated)), known

    def known_noise(
        self, frame: Frame, differences: Tensor, known: Numbers, calibrated: Calibrated | None
    ) -> tuple[Tensor, Tensor]:
        """(point, lines): of the stream, or else the calibration, or else this frame."""
        found = self.noise.of_frame(frame.power, frame.smooth)
        if calibrated is not None:
            said = self.noise.of_calibration(*calibrated, frame.level)
            found = either(calibrated[1][5] > 0.5, said, found)
        return either(known.differences > 0.5, self.noise.of_differences(differences), found)

    def same_dose(self, known: Numbers, level: Tensor, noise: Tensor) -> Numbers:
        """Without means and noise where the level says that the dose is another."""
        change = (level - known.level).abs()
        far = change > LEVEL_STEP * torch.maximum(level.abs(), known.level.abs())
        sure = change > LEVEL_SURE * self.grid.mean(noise).sqrt()
        same = 1 - (far & sure & (known.frames > 0.5)).to(level.dtype)
        return known._replace(
            frames=known.frames * same, differences=known.differences * same, law=known.law * same
        )

    # Place.

    def registered(
        self, frame: Frame, state: State, noise: Tensor, known: Numbers, steps: Tensor
    ) -> tuple[Track, Match]:
        """The track with this frame in it, and how like the mean the frame is; noise and the gain
        of the mean's estimate are those that the frame before left.
        """
        fresh = (known.frames < 0.5).to(noise.dtype)
        prior = known.track.begun(fresh).predicted(steps.clamp(min=1.0, max=64.0))
        agreement = known.agreement * (known.frames > 1.5)
        mean, gain = state.spectra[:, 1:2], state.noise[:, 3:4]
        return self.drift.match(frame.spectrum, mean, gain, noise, prior, 1 - fresh, agreement)

    def is_cut(self, match: Match, known: Numbers) -> Tensor:
        """1 where the frame is not of the mean's scene, surely; (B,1,1,1)."""
        usual = known.agreement
        wrong = (match.value < CUT * usual) & (known.frames > 1.5) & (usual > CUT_LEAST)
        surely = usual - match.value > CUT_SURE * usual.clamp(min=1.0).sqrt()
        return (wrong & surely).to(usual.dtype)

    def rolled(self, state: State, whole: Tensor, fresh: Tensor) -> State:
        """The state's planes moved by whole pixels (B,2,1,1): what comes in has no age."""
        rows, columns = self.grid.shape
        index = self.row_places[None, :, None] - whole[:, :1, 0]  # (B,H,1)
        across = self.column_places[None, None] - whole[:, 1:, 0]  # (B,1,W)
        inside = (index >= 0) & (index < rows) & (across >= 0) & (across < columns)
        index = index - rows * (index / rows).floor()
        across = across - columns * (across / columns).floor()
        place = (index * columns + across).round().long().flatten(1)
        planes = torch.cat((state.ring, state.long, state.waiting, state.probe, state.age), dim=1)
        flat = planes.flatten(2)
        if len(planes) == 1:
            moved = flat.index_select(2, place[0])
        else:
            each = zip(flat, place, strict=True)
            moved = torch.stack([part.index_select(1, where) for part, where in each])
        parts = moved.view(planes.shape).split_with_sizes((RING, 1, KEPT, 1, 1), dim=1)
        age = parts[4] * inside[:, None].to(planes.dtype) * (1 - fresh)
        return state._replace(
            ring=parts[0], long=parts[1], waiting=parts[2], probe=parts[3], age=age
        )

    def moved(self, spectrum: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """A frame brought to the means' coordinates: its spectrum and its pixels."""
        cosine, sine = phase(self.grid, position[:, :1], position[:, 1:])
        here = turned(spectrum, cosine, sine)
        return here, self.grid.frames(here)

    # Means.

    def brought_up(
        self, frame: Tensor, planes: State, heard: Heard, known: Numbers, level: Tensor,
        longest: Tensor,
    ) -> tuple[Means, Law, Numbers]:  # fmt: skip
        """The means with this frame in them, and how its noise grows with the signal."""
        rows, columns = self.grid.shape
        variance = self.grid.mean(heard.point)
        law = law_of(known.law, variance, rows * columns)
        most = torch.where(longest > 1.5, longest, torch.full_like(longest, float(LONGEST)))
        means = self.means(
            frame, planes.ring, planes.long, planes.age, most, heard.point, law.gain,
            self.skew(heard, level),
        )  # fmt: skip
        sums = learned(known.law, frame, planes.ring[:, :1], planes.long, planes.age, level)
        return means, law, known._replace(law=sums)

    def skew(self, heard: Heard, level: Tensor) -> Tensor:
        """Skewness of a pixel's noise, were it all of electrons counted from 0; (B,1,1,1)."""
        sigma = self.grid.mean(heard.point).sqrt()
        return (sigma / level.clamp(min=TINY)).clamp(max=SKEW_MAX) * (level > 0)

    def counted(
        self, known: Numbers, level: Tensor, track: Track, match: Match, fresh: Tensor
    ) -> Numbers:
        """The numbers with this frame in them."""
        # The first match has nothing before it; a longer mean matches better, so the past fades.
        usual = known.agreement * (known.frames > 1.5)
        agreed = torch.where(known.frames > 1.5, usual + 0.3 * (match.value - usual), match.value)
        before = known.level * (known.frames > 0.5)
        share = 1 / (known.frames + 1).clamp(max=float(LONGEST))
        return known._replace(
            frame=known.frame + 1, frames=known.frames + 1, agreement=agreed * (1 - fresh),
            level=before + share * (level - before), **track._asdict(),
        )  # fmt: skip

    # What the network sees.

    def seen(
        self, frame: Frame, here: Tensor, there: Tensor, means: Means, spectrum: Tensor,
        heard: Heard, track: Track, alone: Tensor,
    ) -> tuple[Seen, Tensor]:  # fmt: skip
        """The network's input, and the gain of the long mean's estimate.

        here, there: the frame in the means' coordinates, spectrum and pixels; spectrum: of the long
        mean; alone: 1 where the frame is to be seen without its past.
        """
        one = self.estimate.gain(frame.power, frame.beside, frame.smooth, heard.point, heard.lines)
        estimate = self.grid.frames(here * one.unsqueeze(2))
        behind = (1 / means.age).mean(dim=(-2, -1), keepdim=True)
        many = self.estimate(power_of(spectrum), heard.point * behind, heard.lines * behind)
        base = self.grid.frames(spectrum * many.unsqueeze(2))
        both = torch.cat((estimate, base), dim=1)
        ages = torch.cat((torch.ones_like(means.age), means.age), dim=1)
        made_of = torch.cat((there, means.long), dim=1)
        skew = self.skew(heard, frame.level)
        restored = self.restore(both, made_of, ages, heard.point, skew)
        estimate, base = restored[:, :1], restored[:, 1:]
        base = base + alone * (estimate - base)
        long = there + (1 - alone) * (means.long - there)
        short = [there + (1 - alone) * (part - there) for part in means.short]
        age = 1 + (1 - alone) * (means.age - 1)
        variance = self.grid.mean(heard.point)
        scale = torch.where(variance > 0, variance, torch.ones_like(variance)).sqrt()
        rest = long - base
        lines = [rest.mean(dim=axis, keepdim=True).expand_as(rest) for axis in (-2, -1)]
        scaled = [part * times for part, times in zip(short, SHORT_SCALE, strict=True)]
        scaled += [part * LONG_SCALE for part in (long, estimate, base)]
        change = means.change * (1 - alone) * CHANGE_SCALE
        given = (
            there / scale, *(part / scale for part in scaled), change, age.log() * AGE_SCALE,
            *(part * LONG_SCALE / scale for part in lines),
        )  # fmt: skip
        whole = torch.cat(given, dim=1).clamp(min=-SEEN_MAX, max=SEEN_MAX)
        return Seen(whole, base, estimate, long, scale, frame.level, track.position), many

    # After the network.

    def corrected(self, seen: Seen, correction: Tensor) -> Tensor:
        """The estimate with a network's correction, less its level, (B,1,H,W) counts.

        What is wide in the correction goes: means of regions are the estimate's, which keeps them,
        whatever a network makes of them; and the level is the frame's own.
        """
        there: Tensor = seen.base + self.narrow(correction) * seen.scale / LONG_SCALE
        return there

    def narrow(self, correction: Tensor) -> Tensor:
        """A correction without what is wide in it."""
        rest = correction - self.wide(correction)
        narrow: Tensor = rest - rest.mean(dim=(-2, -1), keepdim=True)
        return narrow

    def back(self, there: Tensor, seen: Seen) -> Tensor:
        """A result in the means' coordinates, less its level -> counts of the frame's own."""
        _, frame = self.moved(self.grid.spectrum(there), -seen.position)
        return seen.level + frame

    def keep(self, after: State, outputs: tuple[Tensor, Tensor, Tensor], control: Tensor) -> State:
        """The state with this frame's outputs (network, mean, estimate) waiting to be scored, where
        none waits already; in a probe's call the network's is kept as the probe.
        """
        probed = (control[:, CONTROL.index("show")] > PROBED - 0.5).to(after.probe.dtype)
        probe = after.probe + probed[:, None, None, None] * (outputs[0] - after.probe)
        numbers = Numbers.of(after.numbers)
        free = (numbers.waiting_at < 0.5).to(after.waiting.dtype)
        waiting = after.waiting + free * (torch.cat(outputs, dim=1) - after.waiting)
        at = numbers.waiting_at + free * numbers.frame
        stamp = probed[:, None] * numbers.frame[:, :, 0, 0]
        return after._replace(
            waiting=waiting, numbers=numbers._replace(waiting_at=at).packed(), probe=probe,
            probe_at=after.probe_at + probed[:, None] * (stamp - after.probe_at),
        )  # fmt: skip

    def moving(self, age: Tensor, frames: Tensor, longest: Tensor) -> Tensor:
        """Share of pixels whose past was refused or not seen for half of what it might be."""
        most = torch.where(longest > 1.5, longest, torch.full_like(longest, float(LONGEST)))
        young = age < torch.minimum(frames, most) / 2
        return young.to(age.dtype).mean(dim=(-2, -1), keepdim=True)

    def facts(
        self, filled: Filled, seen: Seen, means: Means, numbers: Numbers, heard: Heard, law: Law,
        calibrated: Calibrated | None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Facts of this frame, each (B,1,1,1)."""
        mean = self.grid.mean
        source, gain = 2 * (numbers.differences > 0.5).to(seen.level.dtype), law.gain
        if calibrated is not None:
            told = (calibrated[1][5] > 0.5).to(seen.level.dtype)
            source = torch.maximum(source, told)
            gain = torch.where(gain > 0, gain, told * calibrated[1][0])
        return {
            "level": seen.level, "scale": seen.scale, "averaged": median(means.age),
            "drift_rows": numbers.velocity[:, :1], "drift_columns": numbers.velocity[:, 1:],
            "drift_error": numbers.vv.mean(dim=1, keepdim=True).clamp(min=0.0).sqrt(),
            "noise_from": source,
            "gain_adu_per_e": gain, "read_noise_adu": law.base.sqrt(),
            "line_rows": mean(heard.lines * self.grid.on_column).sqrt(),
            "line_columns": mean(heard.lines * self.grid.on_row).sqrt(),
            "correlation_px": self.noise.width_px(heard.point), "filled": filled.hits,
            "flagged": filled.flagged, "saturated": filled.saturated,
        }  # fmt: skip


def either(first: Tensor, one: Calibrated, other: Calibrated) -> Calibrated:
    """Each of the first pair where `first` holds, else of the second."""
    return torch.where(first, one[0], other[0]), torch.where(first, one[1], other[1])


def median(values: Tensor) -> Tensor:
    """Median over each frame of a regular sample of its pixels; (B,1,H,W) -> (B,1,1,1)."""
    rows, columns = (max(1, side // 16) for side in values.shape[-2:])
    sample = values[..., ::rows, ::columns].flatten(1)
    middle = (sample.shape[1] + 1) // 2
    least = sample.topk(middle, dim=1, largest=False, sorted=True).values
    return least[:, middle - 1 : middle, None, None]
