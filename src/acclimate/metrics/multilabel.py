"""Metrics of several classes a row. Truth and predictions are (n, K) arrays of 0 and 1."""

from __future__ import annotations

import numpy as np

from acclimate.metrics.base import Metric, divide, mean_defined, mean_of
from acclimate.metrics.intervals import FloatArray, IntArray, Weighted
from acclimate.metrics.ranks import average_precision, class_mean


def micro_f1(truth: IntArray, predicted: IntArray) -> Weighted:
    """F1 of all cells together: 2·Σ hits / (Σ truth + Σ predicted); NaN where no cell is set. Frequent classes decide
    it.

    >>> METRICS["micro_f1"](np.array([[1, 0], [1, 1]]), np.array([[1, 0], [0, 1]]))
    0.8
    """
    t, p = _cells(truth, predicted)
    hits, size = (t * p).sum(axis=1), t.sum(axis=1) + p.sum(axis=1)
    return lambda w: divide(2 * (w @ hits), w @ size)


def f1_by_class(truth: IntArray, predicted: IntArray) -> Weighted:
    """F1 of each class, (r, K): 2·hits / (rows with the class + rows called so), NaN where both are 0."""
    t, p = _cells(truth, predicted)
    hits, size = t * p, t + p
    return lambda w: divide(2 * (w @ hits), w @ size)


def macro_f1(truth: IntArray, predicted: IntArray) -> Weighted:
    """The plain mean of F1 over the classes that occur in truth or in the predictions. Rare classes count like frequent
    ones.

    >>> METRICS["macro_f1"](np.array([[1, 0], [1, 1]]), np.array([[1, 0], [0, 1]])).__round__(6)
    0.833333
    """
    by_class = f1_by_class(truth, predicted)
    return lambda w: mean_defined(by_class(w))


def subset_accuracy(truth: IntArray, predicted: IntArray) -> Weighted:
    """The share of rows whose classes are all right, none missing and none too many: the strictest of these metrics."""
    t, p = _cells(truth, predicted)
    return mean_of((t == p).all(axis=1))


def hamming(truth: IntArray, predicted: IntArray) -> Weighted:
    """Hamming loss: the share of (row, class) cells that are wrong. Low already when nothing is predicted and classes
    are rare.

    Schapire and Singer (1999), Machine Learning 37.
    """
    t, p = _cells(truth, predicted)
    return mean_of((t != p).mean(axis=1))


def empty_rate(truth: IntArray, predicted: IntArray) -> Weighted:
    """The share of rows for which no class is predicted; set beside the share that truly has none, it shows silence."""
    _, p = _cells(truth, predicted)
    return mean_of(p.sum(axis=1) == 0)


def mean_average_precision(truth: IntArray, proba: FloatArray) -> Weighted:
    """The plain mean of average precision over the classes in truth: how well each class's rows are ranked, at no
    threshold."""
    t, p = _cells(truth, proba)
    return class_mean(lambda c: average_precision(t[:, c], p[:, c]), np.flatnonzero(t.any(axis=0)))


def _cells(truth: IntArray, given: IntArray | FloatArray) -> tuple[FloatArray, FloatArray]:
    return np.asarray(truth, dtype=np.float64), np.asarray(given, dtype=np.float64)


METRICS: dict[str, Metric] = {
    "macro_f1": Metric(macro_f1, "labels", True, interval="score", per_class=True),
    "micro_f1": Metric(micro_f1, "labels", True, interval="score"),
    "subset_accuracy": Metric(subset_accuracy, "labels", True),
    "hamming": Metric(hamming, "labels", False),
    "empty_rate": Metric(empty_rate, "labels", False),
    "mean_average_precision": Metric(mean_average_precision, "proba", True, per_class=True),
}
