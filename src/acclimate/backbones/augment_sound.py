"""Random changes of sounds that leave their class as it is; the same for the same generator state."""

from __future__ import annotations

import torch
from torch import Tensor

# At strength 1, evenly drawn: decibels either way; a share of the sound either way; decibels that the loudest noise
# lies below the sound; shares of all bands and of the sound, up to which a mask hides.
GAIN = 12.0
DELAY = 0.1
NOISE = 10.0
BANDS = 1 / 3
TIME = 0.2


def waves(values: Tensor, sizes: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """Samples (w, t), of which `sizes` (w,) count, each moved in time, with noise, a gap and another loudness.

    Silence comes into view. Numbers are drawn on the CPU, one row after another, so that a device does not change them.
    """
    out = values.clone()
    for row, size in zip(out, sizes.tolist(), strict=True):
        draws = torch.rand(7, generator=generator)
        noise = torch.randn(size, generator=generator)
        line = moved(row[:size], _delay(draws, size, strength), 0.0)
        loud = line.square().mean().sqrt() * _ratio(draws, strength)
        line = line + loud * noise.to(line)
        at, wide = gap(draws[3], draws[4], TIME * strength, size)
        line[at : at + wide] = 0.0
        row[:size] = line * 10 ** (_decibels(draws, strength) / 20)
    return out


def spectra(values: Tensor, sizes: Tensor, generator: torch.Generator, strength: float, bel: float | None) -> Tensor:
    """Logarithmic spectra (w, t, bands), of which `sizes` columns count, changed like `waves`, and a band hidden, too.

    `bel` is how much ten times the power adds to a value; without it (values of each band were standardised) loudness
    stays and no noise is added. The power of noise is added to that of the sound, as if phases were unrelated. What is
    hidden gets the mean of its sound, what comes into view its least value.

    Source: masks, Park et al. 2019 (SpecAugment), arXiv:1904.08779, section 2: one of each, of at most a third of the
    bands (27 of 80 there) and a fifth of the time. Warping is left out, which they found to help least.
    """
    out = values.clone()
    for row, size in zip(out, sizes.tolist(), strict=True):
        draws = torch.rand(7, generator=generator)
        line = row[:size]
        line = moved(line, _delay(draws, size, strength), float(line.min()))
        if bel is not None:
            noise = -torch.rand(line.shape, generator=generator).clamp(min=1e-9).log().to(line)  # a power: exponential
            power = 10 ** (line / bel)
            line = bel * (power + power.mean() * _ratio(draws, strength) ** 2 * noise).log10()
            line = line + bel * _decibels(draws, strength) / 10
        mean = line.mean()
        at, wide = gap(draws[3], draws[4], TIME * strength, size)
        line[at : at + wide] = mean
        at, wide = gap(draws[5], draws[6], BANDS * strength, line.shape[1])
        line[:, at : at + wide] = mean
        row[:size] = line
    return out


def moved(line: Tensor, by: int, fill: float) -> Tensor:
    """A sound that begins `by` places later (earlier where negative) and is as long as before.

    >>> moved(torch.tensor([1.0, 2.0, 3.0]), 1, 0.0), moved(torch.tensor([1.0, 2.0, 3.0]), -2, 0.0)
    (tensor([0., 1., 2.]), tensor([3., 0., 0.]))
    """
    out = torch.full_like(line, fill)
    if by >= 0:
        out[by:] = line[: len(line) - by]
    else:
        out[:by] = line[-by:]
    return out


def gap(place: Tensor, width: Tensor, most: float, size: int) -> tuple[int, int]:
    """Where a mask begins and how wide it is, up to the share `most` of `size`, from two numbers below 1.

    >>> gap(torch.tensor(0.5), torch.tensor(0.99), 0.25, 8)
    (3, 2)
    """
    wide = int(float(width) * (most * size + 1))
    return int(float(place) * (size - wide + 1)), wide


def _decibels(draws: Tensor, strength: float) -> float:
    return GAIN * strength * (2 * float(draws[0]) - 1)


def _delay(draws: Tensor, size: int, strength: float) -> int:
    return round(DELAY * strength * size * (2 * float(draws[1]) - 1))


def _ratio(draws: Tensor, strength: float) -> float:
    """The size of noise beside that of the sound."""
    return strength * float(10 ** (-NOISE / 20) * draws[2])
