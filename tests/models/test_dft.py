"""Spectra as real products: what `torch.fft` gives, of any side, in one product or in two."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scgn.dft import DENSE, Frames, Spectrum, split_of

SIDES = [(4, 4), (32, 32), (31, 37), (16, 27), (27, 16), (7, 48), (33, 36), (25, 30), (4, 45)]
DENSES = [DENSE, 8]  # 8 splits whatever can be split; 512 none of these sides
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}


def drawn(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def pairs_of(frames: Tensor) -> Tensor:
    spectrum = torch.fft.rfft2(frames, norm="ortho")
    return torch.stack((spectrum.real, spectrum.imag), dim=2)


def frames_of(pairs: Tensor, sides: tuple[int, int]) -> Tensor:
    spectrum = torch.complex(pairs[:, :, 0], pairs[:, :, 1])
    return torch.fft.irfft2(spectrum, s=sides, norm="ortho")


def agree(result: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(result, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("dense", DENSES)
@pytest.mark.parametrize("sides", SIDES)
def test_spectra_are_the_fast_transforms(sides, dense, dtype) -> None:
    frames = drawn(2, 3, *sides, dtype=dtype)
    result = Spectrum(*sides, dense).to(dtype)(frames)
    assert result.shape == (2, 3, 2, sides[0], sides[1] // 2 + 1)
    agree(result, pairs_of(frames), TOLERANCES[dtype])


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("dense", DENSES)
@pytest.mark.parametrize("sides", SIDES)
def test_frames_are_the_fast_transforms(sides, dense, dtype) -> None:
    """Of any pairs, also those that no real frame has: as `irfft2` reads them."""
    pairs = drawn(2, 3, 2, sides[0], sides[1] // 2 + 1, dtype=dtype)
    result = Frames(*sides, dense).to(dtype)(pairs)
    assert result.shape == (2, 3, *sides)
    agree(result, frames_of(pairs, sides), TOLERANCES[dtype])


@pytest.mark.parametrize("dense", DENSES)
@pytest.mark.parametrize("columns", [36, 35])
def test_imaginary_parts_that_a_real_row_cannot_have_go_nowhere(columns, dense) -> None:
    """Behind the transform along rows: those of the first bin and of an even length's last."""
    back = Frames(6, columns, dense).columns
    pairs = drawn(1, 1, 2, 6, columns // 2 + 1)
    changed = pairs.clone()
    changed[:, :, 1, :, 0] += 5
    if columns % 2 == 0:
        changed[:, :, 1, :, -1] -= 3
    agree(back(changed), back(pairs), 1e-12)
    changed[:, :, 1, :, 1] += 5
    assert (back(changed) - back(pairs)).abs().max() > 0.1


@pytest.mark.parametrize("dense", DENSES)
@pytest.mark.parametrize("sides", SIDES)
def test_there_and_back_is_nothing(sides, dense) -> None:
    frames = drawn(1, 2, *sides, seed=1)
    there, back = Spectrum(*sides, dense), Frames(*sides, dense)
    agree(back(there(frames)), frames, 1e-10)


def test_a_long_side_is_split_as_shipped() -> None:
    """1024 columns take the two products without being told to."""
    frames = drawn(1, 1, 6, 1024, dtype=torch.float32)
    there, back = Spectrum(6, 1024), Frames(6, 1024)
    assert (there.columns.n1, there.columns.n2) == (32, 32)
    assert (back.columns.n1, back.columns.n2) == (32, 32)
    pairs = there.float()(frames)
    agree(pairs, pairs_of(frames), 1e-5)
    agree(back.float()(pairs), frames, 1e-5)


@pytest.mark.parametrize(
    ("n", "dense", "expected"),
    [
        (512, 512, (1, 512)),  # short enough for one product
        (513, 512, (19, 27)),
        (1024, 512, (32, 32)),
        (2048, 512, (32, 64)),
        (1000, 512, (25, 40)),
        (1021, 512, (1, 1021)),  # a prime cannot be split
        (1042, 512, (1, 1042)),  # 2 x 521 would cost more than one product
        (9, 8, (1, 9)),  # 3 x 3 neither
        (12, 8, (1, 12)),
        (16, 8, (1, 16)),
        (18, 8, (1, 18)),
        (20, 8, (4, 5)),
        (36, 8, (6, 6)),
    ],
)
def test_splits_are_the_cheapest(n, dense, expected) -> None:
    assert split_of(n, dense) == expected


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(4, 40),
    columns=st.integers(4, 40),
    dense=st.sampled_from([4, 8, 512]),
    seed=st.integers(0, 1000),
)
def test_any_side_agrees_both_ways(rows, columns, dense, seed) -> None:
    frames = drawn(1, 1, rows, columns, seed=seed)
    pairs = drawn(1, 1, 2, rows, columns // 2 + 1, seed=seed)
    agree(Spectrum(rows, columns, dense)(frames), pairs_of(frames), 1e-10)
    agree(Frames(rows, columns, dense)(pairs), frames_of(pairs, (rows, columns)), 1e-10)
