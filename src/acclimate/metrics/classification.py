"""Metrics of one class a row. Truth holds codes 0 ... K-1, and -1 for a class that was never seen in training.

A row of an unseen class is wrong whatever was predicted. Averages over classes count the unseen ones as one class with
score 0; log loss alone leaves such rows out, for the probability of the truth is 0 there and the loss infinite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from acclimate.metrics.base import Metric, divide, mean_defined, mean_of
from acclimate.metrics.calibration import calibration_error
from acclimate.metrics.digest import Digest, own_of
from acclimate.metrics.intervals import FloatArray, IntArray, Weighted
from acclimate.metrics.ranks import area, average_precision, class_mean


class Tallies(NamedTuple):
    """Weights by class; the last column is the unseen class where there is one."""

    truth: FloatArray  # (r, K)
    predicted: FloatArray  # (r, K)
    hits: FloatArray  # (r, K)


def tallies(truth: IntArray, predicted: IntArray) -> Callable[[FloatArray], Tallies]:
    """How much weight each class has in truth, in the predictions, and in both at once."""
    truth, predicted = np.asarray(truth, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    n = len(truth)
    k = int(max(truth.max(initial=0), predicted.max(initial=0))) + 1 + int((truth < 0).any())
    codes = np.where(truth < 0, k - 1, truth)

    def counter(classes: IntArray, marks: FloatArray) -> csr_array:
        return csr_array((marks, (classes, np.arange(n))), shape=(k, n))  # sparse, so that 1,000 classes cost no more

    parts = [counter(codes, np.ones(n)), counter(predicted, np.ones(n)), counter(codes, (codes == predicted) * 1.0)]
    return lambda w: Tallies(*((part @ np.ascontiguousarray(w.T)).T for part in parts))


def accuracy(truth: IntArray, predicted: IntArray) -> Weighted:
    """The share of rows that are right: Σ w·[y = ŷ] / Σ w. Use when classes are balanced and errors cost the same.

    >>> METRICS["accuracy"](np.array([0, 1, 1]), np.array([0, 1, 0]))
    0.6666666666666666
    """
    return mean_of(np.asarray(truth) == np.asarray(predicted))


def balanced_accuracy(truth: IntArray, predicted: IntArray) -> Weighted:
    """The mean over the classes in truth of their recall; 1/K for a constant guess. Use when one class dominates.

    >>> METRICS["balanced_accuracy"](np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0]))
    0.5
    """
    count = tallies(truth, predicted)

    def at(w: FloatArray) -> FloatArray:
        t = count(w)
        return mean_defined(divide(t.hits, t.truth))

    return at


def f1_by_class(truth: IntArray, predicted: IntArray) -> Weighted:
    """F1 of each class, (r, K): 2·hits / (rows of the class + rows called so), NaN where both are 0.

    Van Rijsbergen (1979), Information Retrieval, chapter 7. The harmonic mean of precision and recall.
    """
    count = tallies(truth, predicted)

    def at(w: FloatArray) -> FloatArray:
        t = count(w)
        return divide(2 * t.hits, t.truth + t.predicted)

    return at


def macro_f1(truth: IntArray, predicted: IntArray) -> Weighted:
    """The plain mean of F1 over the classes that occur in truth or in the predictions, as scikit-learn averages it.

    Use when every class matters as much as every other. It depends on the class shares through precision.

    >>> METRICS["macro_f1"](np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]))
    0.7333333333333334
    """
    by_class = f1_by_class(truth, predicted)
    return lambda w: mean_defined(by_class(w))


def weighted_f1(truth: IntArray, predicted: IntArray) -> Weighted:
    """The mean of F1 over classes, weighted by their rows in truth. Use when classes matter as often as they occur."""
    count = tallies(truth, predicted)

    def at(w: FloatArray) -> FloatArray:
        t = count(w)
        f1 = divide(2 * t.hits, t.truth + t.predicted, empty=0.0)
        return divide((t.truth * f1).sum(axis=1), t.truth.sum(axis=1))

    return at


def matthews(truth: IntArray, predicted: IntArray) -> Weighted:
    """Matthews' correlation: (c·s - Σ t_k p_k) / √((s² - Σ p_k²)(s² - Σ t_k²)), c rows right of s; 0 for a constant
    answer.

    Gorodkin (2004), Computational Biology and Chemistry 28. Use for one number that is fair to imbalance and both
    kinds of error; prefer balanced accuracy if it has to be explained.

    >>> METRICS["mcc"](np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]))
    1.0
    """
    count = tallies(truth, predicted)

    def at(w: FloatArray) -> FloatArray:
        t = count(w)
        s = t.truth.sum(axis=1)
        top = t.hits.sum(axis=1) * s - (t.truth * t.predicted).sum(axis=1)
        spread = (s**2 - (t.predicted**2).sum(axis=1)) * (s**2 - (t.truth**2).sum(axis=1))
        spread[spread <= 1e-14 * s**4] = 0.0
        return divide(top, np.sqrt(spread), empty=0.0)

    return at


def quadratic_kappa(truth: IntArray, predicted: IntArray) -> Weighted:
    """Cohen's kappa with quadratic weights: 1 - Σ w(y-ŷ)² / Σ_ij t_i p_j (i-j)²; NaN where both sides are one same
    class.

    Cohen (1968), Psychological Bulletin 70. Codes must follow the order of the classes. Use for ordered classes, where
    two steps off is worse than one; 0 is what chance reaches. Its 95 % interval holds 92 % of the time at n = 30
    (`benchmarks/coverage.py`), and its level from n = 100 on.

    >>> METRICS["quadratic_kappa"](np.array([0, 1, 2]), np.array([0, 1, 1])).__round__(6)
    0.666667
    """
    y, p = np.asarray(truth, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    sums = np.stack([(y - p) ** 2, y * y + p * p, y, p], axis=1)  # (n, 4)

    def at(w: FloatArray) -> FloatArray:
        total = w.sum(axis=1)
        apart, squares, mean_y, mean_p = divide(w @ sums, total[:, None]).T
        chance = squares - 2 * mean_y * mean_p
        return 1 - divide(apart, np.where(chance > 1e-14, chance, 0.0))

    return at


def log_losses(truth: IntArray, proba: FloatArray | Digest) -> FloatArray:
    """-log p(true class) of each row, in nats, p kept above 1e-15; NaN for rows of unseen classes."""
    truth = np.asarray(truth)
    return np.where(truth >= 0, -np.log(np.clip(own_of(truth, proba), 1e-15, 1.0)), np.nan)


def log_loss(truth: IntArray, proba: FloatArray | Digest) -> Weighted:
    """Mean of -log p(true class), in nats; p is kept above 1e-15. Rows of unseen classes are left out.

    Good (1952), Journal of the Royal Statistical Society B 14. Use to judge the probabilities themselves.

    >>> METRICS["log_loss"](np.array([0, 1]), np.array([[0.5, 0.5], [0.5, 0.5]]))
    0.6931471805599453
    """
    return mean_of(log_losses(truth, proba))


def squared_distances(truth: IntArray, proba: FloatArray | Digest) -> FloatArray:
    """Σ_k (p_k - [y = k])² of each row, halved for two classes; an unseen class is far from all."""
    truth = np.asarray(truth)
    own = np.where(truth >= 0, own_of(truth, proba), 0.0)
    if isinstance(proba, Digest):
        total, classes = proba.squares, proba.classes
    else:
        total, classes = (np.asarray(proba, dtype=np.float64) ** 2).sum(axis=1), proba.shape[1]
    return np.asarray(np.maximum(total - 2 * own + 1, 0.0) / (2 if classes == 2 else 1))


def brier(truth: IntArray, proba: FloatArray | Digest) -> Weighted:
    """Mean squared distance of the probabilities from the truth: (p₁ - y)² for two classes, Σ_k (p_k - [y = k])² for
    more.

    Brier (1950), Monthly Weather Review 78; for two classes half of his sum, as is usual. In [0, 1], for more classes
    [0, 2]. Use like log loss where a single very wrong probability should not decide.

    >>> METRICS["brier"](np.array([1, 0]), np.array([[0.2, 0.8], [1.0, 0.0]])).__round__(6)
    0.02
    """
    return mean_of(squared_distances(truth, proba))


def roc_auc(truth: IntArray, proba: FloatArray) -> Weighted:
    """Area under the ROC curve of class 1 of two; for more classes the plain mean over the classes in truth, each
    against the rest.

    Hanley and McNeil (1982), Radiology 143. NaN where truth has one class. See `acclimate.metrics.ranks.area`.

    >>> METRICS["roc_auc"](np.array([0, 1]), np.array([[0.6, 0.4], [0.3, 0.7]]))
    1.0
    """
    return _one_against_rest(area, truth, proba)


def average_precision_score(truth: IntArray, proba: FloatArray) -> Weighted:
    """Average precision of class 1 of two; for more classes the plain mean over the classes in truth, each against the
    rest."""
    return _one_against_rest(average_precision, truth, proba)


def _one_against_rest(
    statistic: Callable[[FloatArray, FloatArray], Weighted], truth: IntArray, proba: FloatArray
) -> Weighted:
    truth, proba = np.asarray(truth), np.asarray(proba, dtype=np.float64)
    k = proba.shape[1]
    if k == 2:
        return statistic(truth == 1, proba[:, 1])
    return class_mean(lambda c: statistic(truth == c, proba[:, c]), np.unique(truth[truth >= 0]))


METRICS: dict[str, Metric] = {
    "accuracy": Metric(accuracy, "labels", True),
    "balanced_accuracy": Metric(balanced_accuracy, "labels", True, interval="score", per_class=True),
    "macro_f1": Metric(macro_f1, "labels", True, interval="score", per_class=True),
    "weighted_f1": Metric(weighted_f1, "labels", True, interval="score"),
    "mcc": Metric(matthews, "labels", True, "signed", interval="score", per_class=True),
    "quadratic_kappa": Metric(quadratic_kappa, "labels", True, "signed"),
    "roc_auc": Metric(roc_auc, "proba", True, per_class=True),
    "average_precision": Metric(average_precision_score, "proba", True, per_class=True),
    "log_loss": Metric(log_loss, "proba", False, "positive", log_losses),
    "brier": Metric(brier, "proba", False, "positive", squared_distances),
    "calibration_error": Metric(calibration_error, "proba", False),
}
