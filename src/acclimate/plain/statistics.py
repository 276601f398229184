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
    found = np.concatenate([_moments(filled), np.isnan(values).mean(1, keepdims=True), _pieces(filled)], 1)
    out: list[float] = found.ravel().tolist()
    some = filled[:_PAIRS]
    if len(some) > 1:
        centred = (some - some.mean(1, keepdims=True)) / np.maximum(some.std(1, keepdims=True), _FLOOR)
        out += (centred @ centred.T / some.shape[1])[np.triu_indices(len(some), 1)].tolist()
    return [*out, float(np.log(values.shape[1]))]


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


def _moments(rows: Values) -> Values:
    """Level, spread, extremes, quartiles, slope, roughness, memory and spectrum of each channel, (c, 21)."""
    count = rows.shape[1]
    steps = np.diff(rows, axis=1) if count > 1 else np.zeros((len(rows), 1))
    mean, spread = rows.mean(1), rows.std(1)
    centred = (rows - mean[:, None]) / np.maximum(spread, _FLOOR)[:, None]
    place = np.linspace(-0.5, 0.5, count)
    slope = centred @ place / max(float(place @ place), _FLOOR)
    none = np.zeros(len(rows))
    crossings = (centred[:, 1:] * centred[:, :-1] < 0).mean(1) if count > 1 else none
    memory = [(centred[:, lag:] * centred[:, :-lag]).mean(1) if count > lag else none for lag in (1, 2)]
    quantiles = np.quantile(rows, [0, 0.25, 0.5, 0.75, 1], axis=1)
    roughness = np.abs(steps).mean(1), steps.std(1)
    return np.stack([mean, spread, *quantiles, slope, *roughness, crossings, *memory, *_octaves(centred)], 1)


def _pieces(rows: Values) -> Values:
    """The means of 16 consecutive parts, (c, 16); of fewer steps than parts the last one again."""
    means = [part.mean(1) for part in np.array_split(rows, _PIECES, axis=1) if part.shape[1]]
    return np.stack(means + [means[-1]] * (_PIECES - len(means)), 1)


def _octaves(centred: Values) -> list[NDArray[np.float64]]:
    """The share of power in each octave, (c,) each, the highest last."""
    count = centred.shape[1]
    power = np.abs(np.fft.rfft(centred * np.hanning(count + 2)[1:-1], axis=1)[:, 1:]) ** 2
    if not power.shape[1]:
        return [np.zeros(len(centred))] * _BANDS
    frequency = np.arange(1, power.shape[1] + 1) / power.shape[1]
    band = np.clip(_BANDS + np.ceil(np.log2(frequency) - 1e-9) - 1, 0, _BANDS - 1)
    total = np.maximum(power.sum(1), _FLOOR)
    return [power[:, band == at].sum(1) / total for at in range(_BANDS)]
