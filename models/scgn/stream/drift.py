"""Where the specimen is: a frame against the longest mean, by weighted phase correlation.

The log likelihood of a shift s, for a mean whose noise is known, is
sum over k of Re[Y conj(M) exp(2 pi i k.s)] gain / N (`scgn.stream.estimate`'s gain): on a grid of
whole pixels first, then by Newton's steps. A Kalman filter of position and velocity predicts it and
damps it: a single faint frame moves nothing, many do. A prior with a heavy tail lets a jump win.
Positive: the specimen moves towards higher indices.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from scgn.stream.grid import TINY, Grid, phase

REACH = 8  # px, of the grid of shifts
NEWTON = 3  # steps, of half a pixel at most
SURE_PX2 = 0.5  # variance of the grid's answer below which the steps are taken
TAIL = 12.0  # nats that a jump costs: chance finds about 6 among the grid's places
CHANCE = 3.0  # standard errors of a match
TRUST_MIN = 0.02  # of what a mean of noise alone promises
MODEL = 0.1  # of the signal's power is not what the mean says: atoms jiggle
LOWEST_BINS = 2.5  # nearer to zero frequency lies the illumination
PLACED_PX = 0.01  # of the first frame: it is where the means are
START_PX = 1.0  # deviation of the velocity before anything is known, px a frame
JITTER_PX, STEER_PX = 0.04, 0.015  # a frame: of the position, of the velocity


class Track(NamedTuple):
    """Position and velocity (B,2,1,1) px, rows and columns, and their covariance's three parts."""

    position: Tensor
    velocity: Tensor
    pp: Tensor
    pv: Tensor
    vv: Tensor

    def predicted(self, steps: Tensor) -> Track:
        """After `steps` frames (B,1,1,1)."""
        return Track(
            self.position + steps * self.velocity, self.velocity,
            self.pp + 2 * steps * self.pv + steps * steps * self.vv + steps * JITTER_PX**2,
            self.pv + steps * self.vv, self.vv + steps * STEER_PX**2,
        )  # fmt: skip

    def corrected(self, found: Tensor, variance: Tensor) -> Track:
        """After a posterior of the position: its mean and variance, both (B,2,1,1)."""
        gain = self.pv / self.pp
        return Track(
            found, self.velocity + gain * (found - self.position), variance,
            self.pv * variance / self.pp, self.vv - gain * gain * (self.pp - variance),
        )  # fmt: skip

    def begun(self, fresh: Tensor) -> Track:
        """At its start where `fresh` is 1: the means' coordinates are the frame's own."""
        left = 1 - fresh
        return Track(
            left * self.position, left * self.velocity, left * self.pp + fresh * PLACED_PX**2,
            left * self.pv, left * self.vv + fresh * START_PX**2,
        )  # fmt: skip


class Match(NamedTuple):
    """Of a frame against the mean, (B,1,1,1): value, the log likelihood gained by saying that the
    frame shows what the mean shows, nats; expected: the same for a frame like the mean.
    """

    value: Tensor
    expected: Tensor


class Drift(nn.Module):
    """Registration of frames of one shape."""

    down: Tensor
    along: Tensor
    shifts: Tensor
    counted: Tensor

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        shifts = torch.arange(-REACH, REACH + 1).double()
        down = 2 * torch.pi * shifts[:, None] * grid.vertical[:, 0]
        along = 2 * torch.pi * grid.horizontal[0][:, None] * shifts
        self.register_buffer("down", torch.stack((down.cos(), down.sin())))
        self.register_buffer("along", torch.stack((along.cos(), along.sin())))
        self.register_buffer("shifts", shifts)
        rows, columns = grid.shape
        bins2 = (grid.vertical * rows).square() + (grid.horizontal * columns).square()
        far = (bins2 > LOWEST_BINS**2).double()
        self.register_buffer("counted", far * grid.share * rows * columns)

    def match(
        self, frame: Tensor, mean: Tensor, gain: Tensor, noise: Tensor, prior: Track, known: Tensor,
        agreement: Tensor,
    ) -> tuple[Track, Match]:  # fmt: skip
        """The track after this frame, and how like the mean it is.

        frame, mean: spectra (B,1,2,H,K); gain: of the mean's estimate; noise: of one frame, lines
        included; known: 1 where there is a mean, (B,1,1,1); agreement: what frames before this one
        matched with, nats. A mean of noise alone looks as if it could be matched: then frames do
        not, and their word counts less.
        """
        signal = gain * gain * (mean * mean).sum(dim=2)
        weight = gain * self.counted / (noise + MODEL * signal).clamp(min=TINY)
        re = (frame * mean).sum(dim=2) * weight
        im = (frame[:, :, 1] * mean[:, :, 0] - frame[:, :, 0] * mean[:, :, 1]) * weight
        expected = (signal * self.counted / (noise + MODEL * signal).clamp(min=TINY)).sum(
            dim=(-2, -1), keepdim=True
        )
        trust = (agreement / expected.clamp(min=TINY)).clamp(min=TRUST_MIN, max=1.0)
        trust = torch.where(agreement > 0, trust, torch.ones_like(trust))
        re, im = re * trust, im * trust
        place, variance = self.on_grid(re, im, prior)
        sure = (variance.amax(dim=1, keepdim=True) < SURE_PX2).to(place.dtype)
        for _ in range(NEWTON):
            slope, bend, cross, _ = self.derivatives(re, im, place)
            pull = slope - self.tailed(place - prior.position, prior.pp)
            step, _ = solved(bend + 1 / prior.pp, cross, pull)
            place = place + sure * step.clamp(min=-0.5, max=0.5)
        slope, bend, cross, value = self.derivatives(re, im, place)
        _, exact = solved(bend + 1 / prior.pp, cross, slope)
        variance = torch.minimum(sure * exact + (1 - sure) * variance, prior.pp)
        # Chance alone finds two; what nothing says anything of stays where it was expected.
        value = value / trust
        said = torch.where(agreement > 0, agreement, value)
        heard = known * (said > CHANCE * expected.sqrt()).to(place.dtype)
        place = heard * place + (1 - heard) * prior.position
        variance = heard * variance + (1 - heard) * prior.pp
        return prior.corrected(place, variance), Match(known * value, known * expected)

    def tailed(self, away: Tensor, variance: Tensor) -> Tensor:
        """Slope of the prior, none beyond its tail."""
        inside = (away * away / (2 * variance) < TAIL).to(away.dtype)
        return inside * away / variance

    def on_grid(self, re: Tensor, im: Tensor, prior: Track) -> tuple[Tensor, Tensor]:
        """Posterior mean and variance of the shift over the grid, (B,2,1,1)."""
        c, s = self.down[0], self.down[1]
        x, y = c @ re - s @ im, s @ re + c @ im
        value = x @ self.along[0] - y @ self.along[1]  # (B,1,17,17)
        rows, columns = self.shifts[:, None], self.shifts[None]
        down, right = rows - prior.position[:, :1], columns - prior.position[:, 1:]
        away = down * down / prior.pp[:, :1] + right * right / prior.pp[:, 1:]
        score = value - (away / 2).clamp(max=TAIL)
        odds = (score - score.amax(dim=(-2, -1), keepdim=True)).exp()
        odds = odds / odds.sum(dim=(-2, -1), keepdim=True)
        means, variances = [], []
        for axis in (rows, columns):
            mean = (odds * axis).sum(dim=(-2, -1), keepdim=True)
            means.append(mean)
            variances.append((odds * (axis - mean) * (axis - mean)).sum(dim=(-2, -1), keepdim=True))
        return torch.cat(means, 1), torch.cat(variances, 1)

    def derivatives(
        self, re: Tensor, im: Tensor, place: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Slope and (negative) curvature of the log likelihood at a shift, the curvature's cross
        term (B,1,1,1), and the value.
        """
        c, s = phase(self.grid, place[:, :1], place[:, 1:])
        even, odd = re * c - im * s, re * s + im * c
        slopes, bends = [], []
        for axis in (self.grid.vertical, self.grid.horizontal):
            turn = 2 * torch.pi * axis
            slopes.append(-(odd * turn).sum(dim=(-2, -1), keepdim=True))
            bends.append((even * turn * turn).sum(dim=(-2, -1), keepdim=True).clamp(min=0.0))
        turns = 4 * torch.pi**2 * self.grid.vertical * self.grid.horizontal
        cross = (even * turns).sum(dim=(-2, -1), keepdim=True)
        value = even.sum(dim=(-2, -1), keepdim=True)
        return torch.cat(slopes, 1), torch.cat(bends, 1), cross, value


def solved(diagonal: Tensor, cross: Tensor, pull: Tensor) -> tuple[Tensor, Tensor]:
    """A 2x2 matrix's inverse times `pull`, and its diagonal: along a single set of fringes nothing
    can be known, and the cross term says so. (B,2,1,1), (B,1,1,1), (B,2,1,1).
    """
    first, second = diagonal[:, :1], diagonal[:, 1:]
    most = 0.999 * (first * second).sqrt()
    cross = torch.maximum(torch.minimum(cross, most), -most)
    size = first * second - cross * cross
    a, b = pull[:, :1], pull[:, 1:]
    step = torch.cat((second * a - cross * b, first * b - cross * a), dim=1) / size
    return step, torch.cat((second, first), dim=1) / size
