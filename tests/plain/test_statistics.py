"""Statistics of series: the numbers of the docstring."""

from __future__ import annotations

import numpy as np
import pytest

import tiny_series as ts
from acclimate.data.series import Series
from acclimate.plain import fit_plain
from acclimate.plain.statistics import StatisticsFeatures


def test_the_values_are_those_of_the_docstring() -> None:
    x = ts.series(1, channels=2, steps=64)[0][0]
    found = StatisticsFeatures.raw([Series(x)])[0]
    assert len(found) == 2 * 38 + 1 + 1
    for row, mine in zip(x, found[:76].reshape(2, 38), strict=True):
        mean, spread = row.mean(), row.std()
        steps = [row[t + 1] - row[t] for t in range(63)]
        z = (row - mean) / spread
        slope = np.polyfit(np.linspace(-0.5, 0.5, 64), z, 1)[0]
        crossings = sum(z[t] * z[t + 1] < 0 for t in range(63)) / 63
        memory = [sum(z[t] * z[t + lag] for t in range(64 - lag)) / (64 - lag) for lag in (1, 2)]
        quartiles = [np.quantile(row, q) for q in (0.25, 0.5, 0.75)]
        wanted = [
            mean,
            spread,
            row.min(),
            *quartiles,
            row.max(),
            slope,
            np.mean(np.abs(steps)),
            np.std(steps),
            crossings,
        ]
        np.testing.assert_allclose(mine[:13], [*wanted, *memory])
        power = np.abs(np.fft.rfft(z * np.hanning(66)[1:-1])[1:]) ** 2
        frequency = np.arange(1, 33) / 32
        bands = [power[(frequency > 0.5 ** (8 - b)) & (frequency <= 0.5 ** (7 - b))].sum() for b in range(1, 8)]
        np.testing.assert_allclose(mine[14:21], np.array(bands) / power.sum(), atol=1e-9)
        assert mine[13:21].sum() == pytest.approx(1.0) and mine[21] == 0
        np.testing.assert_allclose(mine[22:], row.reshape(16, 4).mean(1))
    np.testing.assert_allclose(found[76:], [np.corrcoef(x)[0, 1], np.log(64)])


def test_gaps_short_and_flat_series_have_finite_values() -> None:
    odd = [np.ones((2, 1)), np.full((2, 9), 3.0), np.array([[1.0, np.nan, 3.0], [np.nan] * 3])]
    assert all(np.isfinite(StatisticsFeatures.raw([Series(one)])).all() for one in odd)


def test_they_are_what_baselines_of_series_read() -> None:
    rows = [Series(one) for one in ts.series(10)[0]]
    plain = fit_plain("series", rows, 100)
    assert plain is not None and plain.kind == "statistics"
    assert abs(plain.transform(rows).toarray().mean()) < 1e-9
