"""Statistics of series: what a linear model can tell of channels over time without transfer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from acclimate.data.series import Values
from acclimate.plain.base import Standardised

_BANDS = 8  # of the spectrum, each an octave up to half the rate
_PIECES = 16  # means of consecutive parts: the shape
_PAIRS = 8  # channels up to which each pair's correlation is a value
_FLOOR = 1e-12


@dataclass(frozen=True)
class StatisticsFeatures(Standardised):
    """For each channel 38 values: level, spread, extremes, quartiles, slope, roughness, memory, spectrum and shape.

    Mean, standard deviation, least, largest, quartiles; slope of the least-squares line over the whole length; mean
    and spread of steps; share of crossings of the mean; autocorrelation at lags 1 and 2; share missing; the share of
    power in 8 octaves, of which the lowest takes all below; the means of 16 consecutive parts. Then the correlations of
    all pairs of up to 8 channels, and the log of the length. Missing values are interpolated in straight lines.

    Source: simple statistics of the kind of catch22 (Lubba et al. 2019, arXiv:1901.10200), none of them copied.
    """

    kind: ClassVar[str] = "statistics"

    @staticmethod
    def raw(inputs: Sequence[Any]) -> NDArray[np.float64]:
        """The values before they are standardised (n, v)."""
        return np.array([_of_one(one.values) for one in inputs], np.float64).reshape(len(inputs), -1)


def _of_one(values: Values) -> list[float]:
    filled = np.array([interpolated(row) for row in values])
    found = [v for row, own in zip(filled, values, strict=True) for v in _channel(row, float(np.isnan(own).mean()))]
    some = filled[:_PAIRS]
    if len(some) > 1:
        spread = some.std(1)
        centred = (some - some.mean(1, keepdims=True)) / np.maximum(spread, _FLOOR)[:, None]
        found += (centred @ centred.T / some.shape[1])[np.triu_indices(len(some), 1)].tolist()
    return [*found, float(np.log(values.shape[1]))]


def interpolated(row: NDArray[np.float64]) -> NDArray[np.float64]:
    """The row with straight lines over its gaps; 0 where nothing is known.

    >>> interpolated(np.array([np.nan, 1.0, np.nan, 3.0]))
    array([1., 1., 2., 3.])
    """
    known = np.isfinite(row)
    if known.all():
        return row
    at = np.arange(len(row))
    return np.interp(at, at[known], row[known]) if known.any() else np.zeros(len(row))


def _channel(row: NDArray[np.float64], missing: float) -> list[float]:
    steps = np.diff(row) if len(row) > 1 else np.zeros(1)
    mean, spread = float(row.mean()), float(row.std())
    centred = (row - mean) / max(spread, _FLOOR)
    place = np.linspace(-0.5, 0.5, len(row))
    slope = float(centred @ place / max(float(place @ place), _FLOOR))
    crossings = float(np.mean(centred[1:] * centred[:-1] < 0)) if len(row) > 1 else 0.0
    memory = [float(np.mean(centred[lag:] * centred[:-lag])) if len(row) > lag else 0.0 for lag in (1, 2)]
    pieces = [float(part.mean()) for part in np.array_split(row, _PIECES) if len(part)]
    pieces += [pieces[-1]] * (_PIECES - len(pieces))  # of fewer steps than parts: the last one again
    low, first, middle, third, high = np.quantile(row, [0, 0.25, 0.5, 0.75, 1]).tolist()
    return [
        mean, spread, low, high, first, middle, third, slope, float(np.abs(steps).mean()), float(steps.std()),
        crossings, *memory, missing, *_octaves(centred), *pieces,
    ]  # fmt: skip


def _octaves(centred: NDArray[np.float64]) -> list[float]:
    """The share of power in octaves, the highest last."""
    power = np.abs(np.fft.rfft(centred * np.hanning(len(centred) + 2)[1:-1])[1:]) ** 2
    if not len(power):
        return [0.0] * _BANDS
    frequency = np.arange(1, len(power) + 1) / len(power)
    band = np.clip(_BANDS + np.ceil(np.log2(frequency) - 1e-9) - 1, 0, _BANDS - 1).astype(int)
    shares: list[float] = (np.bincount(band, power, _BANDS) / max(float(power.sum()), _FLOOR)).tolist()
    return shares
