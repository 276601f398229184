"""Metrics of several classes a row. Truth and predictions are (n, K) arrays of 0 and 1; a truth of -1 is not known, and
its cell counts nowhere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from acclimate.metrics.base import Metric, divide, mean_defined, mean_of
from acclimate.metrics.intervals import FloatArray, IntArray, Weighted
from acclimate.metrics.ranks import area, average_precision, class_mean


def micro_f1(truth: IntArray, predicted: IntArray) -> Weighted:
    """F1 of all cells together: 2·Σ hits / (Σ truth + Σ predicted); NaN where no cell is set. Frequent classes decide
    it.

    >>> METRICS["micro_f1"](np.array([[1, 0], [1, 1]]), np.array([[1, 0], [0, 1]]))
    0.8
    """
    t, p = _cells(truth, predicted)
    hits, size = (t * p).sum(axis=1), t.sum(axis=1) + p.sum(axis=1)  # both are 0 where the truth is not known
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
    """The share of rows whose classes are all right, none missing and none too many: the strictest of these metrics.

    Of a row that is not known in full, what is known must be right.
    """
    t, p = _cells(truth, predicted)
    return mean_of((t == p).all(axis=1))


def hamming(truth: IntArray, predicted: IntArray) -> Weighted:
    """Hamming loss: the share of (row, class) cells that are wrong. Low already when nothing is predicted and classes
    are rare.

    Schapire and Singer (1999), Machine Learning 37.
    """
    t, p = _cells(truth, predicted)
    known = np.asarray(truth) >= 0
    if known.all():
        return mean_of((t != p).mean(axis=1))
    wrong, cells = (t != p).sum(axis=1).astype(np.float64), known.sum(axis=1).astype(np.float64)
    return lambda w: divide(w @ wrong, w @ cells)


def empty_rate(truth: IntArray, predicted: IntArray) -> Weighted:
    """The share of rows for which no class is predicted; set beside the share that truly has none, it shows silence."""
    return mean_of(np.asarray(predicted, dtype=np.float64).sum(axis=1) == 0)


def mean_average_precision(truth: IntArray, proba: FloatArray) -> Weighted:
    """The plain mean of average precision over the classes in truth: how well each class's rows are ranked, at no
    threshold."""
    return _each(average_precision, truth, proba, np.flatnonzero((np.asarray(truth) == 1).any(axis=0)))


def roc_auc(truth: IntArray, proba: FloatArray) -> Weighted:
    """The plain mean of the area under the ROC curve over the classes that some rows have and others have not.

    Hanley and McNeil (1982), Radiology 143. Use to see how well each class's rows are ranked, whatever its threshold.

    >>> METRICS["roc_auc"](np.array([[1, 0], [0, -1], [0, 1]]), np.array([[0.9, 0.2], [0.1, 0.5], [0.95, 0.6]]))
    0.75
    """
    t = np.asarray(truth)
    return _each(area, truth, proba, np.flatnonzero((t == 1).any(axis=0) & (t == 0).any(axis=0)))


def _each(
    statistic: Callable[[FloatArray, FloatArray], Weighted], truth: IntArray, proba: FloatArray, classes: IntArray
) -> Weighted:
    """The mean of a ranking over some classes, each on the rows where it is known."""
    t, p = np.asarray(truth), np.asarray(proba, dtype=np.float64)

    def one(c: int) -> Weighted:
        known = np.flatnonzero(t[:, c] >= 0)
        found = statistic((t[known, c] == 1).astype(np.float64), p[known, c])
        return found if len(known) == len(t) else lambda w: found(w[:, known])

    return class_mean(one, classes)


def _cells(truth: IntArray, predicted: IntArray) -> tuple[FloatArray, FloatArray]:
    """Both as numbers, and both 0 where the truth is not known."""
    t = np.asarray(truth)
    known: NDArray[np.bool_] = t >= 0
    p = np.asarray(predicted, dtype=np.float64)
    return np.where(known, t, 0).astype(np.float64), np.where(known, p, 0.0)


METRICS: dict[str, Metric] = {
    "macro_f1": Metric(macro_f1, "labels", True, interval="score", per_class=True),
    "micro_f1": Metric(micro_f1, "labels", True, interval="score"),
    "subset_accuracy": Metric(subset_accuracy, "labels", True),
    "hamming": Metric(hamming, "labels", False),
    "empty_rate": Metric(empty_rate, "labels", False),
    "roc_auc": Metric(roc_auc, "proba", True, per_class=True),
    "mean_average_precision": Metric(mean_average_precision, "proba", True, per_class=True),
}
