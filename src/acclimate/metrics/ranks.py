"""Statistics of order, as functions of row weights: area under the ROC curve, average precision, rank correlation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from acclimate.metrics.base import divide, mean_defined
from acclimate.metrics.digest import MANY_CLASSES
from acclimate.metrics.intervals import FloatArray, IntArray, Weighted


def area(positive: FloatArray, scores: FloatArray) -> Weighted:
    """Area under the ROC curve: the share of (positive, negative) pairs that the score puts in order, ties counted
    half.

    Σ_i Σ_j w_i w_j ([s_i > s_j] + ½[s_i = s_j]) / (Σ w_i Σ w_j), i positive, j negative. NaN where one side has no
    weight. Hanley and McNeil (1982), Radiology 143. Use to see how well a score ranks, whatever the threshold and the
    class shares.

    >>> area(np.array([0.0, 1.0, 1.0]), np.array([0.2, 0.1, 0.9]))(np.ones((1, 3)))
    array([0.5])
    """
    order, first = _ties(scores)
    is_positive = np.asarray(positive, dtype=np.float64)[order]

    def at(w: FloatArray) -> FloatArray:
        w = w[:, order]
        p = np.add.reduceat(w * is_positive, first, axis=1)  # (r, distinct scores)
        q = np.add.reduceat(w * (1 - is_positive), first, axis=1)
        below = np.cumsum(q, axis=1) - 0.5 * q
        pairs = p.sum(axis=1) * q.sum(axis=1)
        return divide((p * below).sum(axis=1), pairs)

    return at


def average_precision(positive: FloatArray, scores: FloatArray) -> Weighted:
    """Average precision: Σ_t (recall_t - recall_{t-1}) · precision_t, over the distinct scores from high to low.

    The step sum of scikit-learn's `average_precision_score`, without interpolation. NaN where no row is positive.
    Use where positives are rare and the top of the list matters; a score without skill gives the share of positives.

    >>> float(average_precision(np.array([0.0, 1.0, 1.0]), np.array([0.2, 0.1, 0.9]))(np.ones((1, 3)))[0])
    0.8333333333333333
    """
    order, first = _ties(-np.asarray(scores, dtype=np.float64))
    is_positive = np.asarray(positive, dtype=np.float64)[order]

    def at(w: FloatArray) -> FloatArray:
        w = w[:, order]
        found = np.add.reduceat(w * is_positive, first, axis=1)
        flagged = np.cumsum(np.add.reduceat(w, first, axis=1), axis=1)
        precision = divide(np.cumsum(found, axis=1), flagged, empty=0.0)
        return divide((found * precision).sum(axis=1), found.sum(axis=1))

    return at


def rank_correlation(truth: FloatArray, predicted: FloatArray) -> Weighted:
    """Spearman's correlation: Pearson's correlation of mid-ranks. NaN where either side is constant.

    The mid-rank of a row is the weight below it plus half the weight that ties with it, so that a resample is ranked
    anew. Use where the order of the predictions matters more than their size.

    >>> rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 25.0]))(np.ones((1, 3))).round(6)
    array([1.])
    """
    sides = [_ties_of_rows(values) for values in (truth, predicted)]

    def at(w: FloatArray) -> FloatArray:
        total = w.sum(axis=1, keepdims=True)
        centred = []
        for order, first, place in sides:
            tied = np.add.reduceat(w[:, order], first, axis=1)
            rank = (np.cumsum(tied, axis=1) - 0.5 * tied)[:, place]
            centred.append(rank - (w * rank).sum(axis=1, keepdims=True) / total)
        x, y = centred
        spread = (w * x * x).sum(axis=1) * (w * y * y).sum(axis=1)
        spread[spread <= 1e-20 * total[:, 0] ** 6] = 0.0  # what rounding leaves of a constant
        return divide((w * x * y).sum(axis=1), np.sqrt(spread))

    return at


def class_mean(statistic: Callable[[int], Weighted], classes: IntArray) -> Weighted:
    """The plain mean of a statistic over some classes. Many classes are taken one after the other, to keep memory
    small."""
    if not len(classes):
        return lambda w: np.full(len(w), np.nan)
    if len(classes) > MANY_CLASSES:
        return lambda w: mean_defined(np.stack([statistic(int(c))(w) for c in classes], axis=1))
    parts = [statistic(int(c)) for c in classes]
    return lambda w: mean_defined(np.stack([part(w) for part in parts], axis=1))


def area_influence(positive: FloatArray, scores: FloatArray, weights: FloatArray) -> tuple[float, FloatArray]:
    """The area and each row's pull on it; the pulls sum to 0 and the sum of their squares estimates the variance.

    A positive pulls w(V₁₀ - A)/Σw, V₁₀ the share of negatives below it; a negative pulls w(V₀₁ - A)/Σw, V₀₁ the share
    of positives above it. DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44. Pulls of one cluster are added
    first.
    """
    order, first = _ties(scores)
    is_positive = np.asarray(positive, dtype=np.float64)[order]
    w = np.asarray(weights, dtype=np.float64)[order]
    p = np.add.reduceat(w * is_positive, first)
    q = np.add.reduceat(w * (1 - is_positive), first)
    positives, negatives = float(p.sum()), float(q.sum())
    if not (positives > 0 and negatives > 0):
        return float("nan"), np.zeros(len(scores))
    below = (np.cumsum(q) - 0.5 * q) / negatives
    above = 1 - (np.cumsum(p) - 0.5 * p) / positives
    value = float((p * below).sum() / positives)
    place = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(order))))
    pull = np.empty(len(order))
    pull[order] = w * np.where(is_positive > 0, (below[place] - value) / positives, (above[place] - value) / negatives)
    return value, pull


def _ties(values: FloatArray) -> tuple[IntArray, IntArray]:
    """The order of the values, and where in that order each distinct value starts."""
    order = np.argsort(values, kind="stable")
    ranked = np.asarray(values)[order]
    first = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
    return order, first


def _ties_of_rows(values: FloatArray) -> tuple[IntArray, IntArray, IntArray]:
    """As `_ties`, and for each row which of the distinct values it holds."""
    order, first = _ties(values)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(order))))
    return order, first, place
