"""Metrics of one number a row."""

from __future__ import annotations

import numpy as np

from acclimate.metrics.base import Metric, divide, mean_of
from acclimate.metrics.intervals import FloatArray, Weighted
from acclimate.metrics.ranks import rank_correlation


def absolute_errors(truth: FloatArray, predicted: FloatArray) -> FloatArray:
    """|y - ŷ| of each row."""
    return np.abs(np.asarray(truth, dtype=np.float64) - np.asarray(predicted, dtype=np.float64))


def squared_errors(truth: FloatArray, predicted: FloatArray) -> FloatArray:
    """(y - ŷ)² of each row."""
    return absolute_errors(truth, predicted) ** 2


def mae(truth: FloatArray, predicted: FloatArray) -> Weighted:
    """Mean absolute error, in the units of the target: Σ w|y - ŷ| / Σ w. Use when an error costs in proportion to its
    size.

    >>> METRICS["mae"](np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    1.0
    """
    return mean_of(absolute_errors(truth, predicted))


def rmse(truth: FloatArray, predicted: FloatArray) -> Weighted:
    """Root mean squared error, in the units of the target: √(Σ w(y - ŷ)² / Σ w). Use when large errors cost more.

    Its 95 % interval holds 92 % of the time where errors have heavy tails (Student's t at 5 degrees, n from 30 to 300,
    `benchmarks/coverage.py`), most often lying too low: a few rows decide it. Prefer MAE there.

    >>> METRICS["rmse"](np.array([1.0, 2.0]), np.array([1.0, 4.0])).__round__(6)
    1.414214
    """
    mean = mean_of(squared_errors(truth, predicted))
    return lambda w: np.sqrt(mean(w))


def r2(truth: FloatArray, predicted: FloatArray) -> Weighted:
    """Share of variance explained: 1 - Σ w(y - ŷ)² / Σ w(y - ȳ)², ȳ the mean of these rows; NaN for a constant truth.

    0 is what the mean of the test rows itself would reach; below 0 is worse. Use to compare targets of different units.

    >>> METRICS["r2"](np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.0]))
    0.5
    """
    y = np.asarray(truth, dtype=np.float64)
    y = y - y.mean()  # near 0, so that the sum of squares less the square of the sum keeps its digits
    sums = np.stack([squared_errors(truth, predicted), y**2, y], axis=1)
    least = 1e-12 * float((y**2).mean()) if len(y) else 0.0

    def at(w: FloatArray) -> FloatArray:
        missed, square, mean = divide(w @ sums, w.sum(axis=1)[:, None]).T
        spread = square - mean**2
        return 1 - divide(missed, np.where(spread > least, spread, 0.0))

    return at


def spearman(truth: FloatArray, predicted: FloatArray) -> Weighted:
    """Spearman's rank correlation (1904, American Journal of Psychology 15). See
    `acclimate.metrics.ranks.rank_correlation`.

    >>> METRICS["spearman"](np.array([1.0, 2.0, 3.0]), np.array([5.0, 4.0, 3.0])).__round__(6)
    -1.0
    """
    return rank_correlation(np.asarray(truth, dtype=np.float64), np.asarray(predicted, dtype=np.float64))


METRICS: dict[str, Metric] = {
    "rmse": Metric(rmse, "values", False, "positive", squared_errors),
    "mae": Metric(mae, "values", False, "positive", absolute_errors),
    "r2": Metric(r2, "values", True, "below one", interval="jackknife"),
    "spearman": Metric(spearman, "values", True, "signed"),
}
