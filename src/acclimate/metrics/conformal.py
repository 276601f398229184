"""Answers that own up to doubt: sets of classes and ranges of numbers with a stated coverage, and abstaining."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from acclimate.errors import UserError, plural
from acclimate.metrics.intervals import FloatArray, IntArray


def conformal_quantile(scores: FloatArray, level: float = 0.9) -> float:
    """The bound that a new row's score stays below with probability `level`: the ⌈(n+1)·level⌉-th smallest of n scores.

    Vovk, Gammerman and Shafer (2005), Algorithmic Learning in a Random World; Lei and others (2018), Journal of the
    American Statistical Association 113, for |y - ŷ|. Exact for rows exchangeable with those scored and not fitted on;
    averaged over all rows, not for each class or subgroup, and not after a shift. With out-of-fold scores (Vovk 2015,
    cross-conformal) the guarantee weakens to 2·level - 1 in the worst case and is seen to hold at about `level`.
    Regression: ŷ ± bound on scores |y - ŷ|. Classes: `lac_scores` with `lac_sets`, or `aps_scores` with `aps_sets`.

    >>> conformal_quantile(np.arange(1.0, 20.0), 0.9)
    18.0
    """
    if not 0 < level < 1:
        raise UserError(f"the conformal level must lie between 0 and 1, got {level:g}")
    ranked = np.sort(np.asarray(scores, dtype=np.float64))
    n = len(ranked)
    rank = math.ceil((n + 1) * level - 1e-9)
    if rank > n:
        fewest = math.ceil(level / (1 - level) - 1e-9)
        raise UserError(
            f"n too small: sets at {level:g} need at least {plural(fewest, 'row')} that were not fitted on, got {n}"
        )
    return float(ranked[rank - 1])


def lac_scores(truth: IntArray, proba: FloatArray) -> FloatArray:
    """1 - p(true class); 1 for unseen classes, which only the set of all classes could hold.

    The smallest sets on average: Sadinle, Lei and Wasserman (2019), Journal of the American Statistical Association
    114. Prefer `aps_scores` where hard rows must be covered about as often as easy ones.

    >>> lac_scores(np.array([0, -1]), np.array([[0.75, 0.25], [0.5, 0.5]])).tolist()
    [0.25, 1.0]
    """
    own = proba[np.arange(len(truth)), np.maximum(truth, 0)]
    return np.asarray(np.where(np.asarray(truth) >= 0, 1 - own, 1.0))


def lac_sets(proba: FloatArray, bound: float) -> NDArray[np.bool_]:
    """(n, K): the classes with 1 - p ≤ bound. A set may be empty, which says that the row is unlike those learned from.

    >>> lac_sets(np.array([[0.6, 0.3, 0.1]]), 0.75).tolist()
    [[True, True, False]]
    """
    return np.asarray(1 - np.asarray(proba) <= bound)


def aps_scores(truth: IntArray, proba: FloatArray) -> FloatArray:
    """The summed probability of the true class and all likelier ones; 1 for unseen classes.

    Romano, Sesia and Candès (2020), NeurIPS, without their randomisation, hence a little too wide. Sets adapt to the
    row: prefer over LAC where hard rows must be covered about as often as easy ones.

    >>> aps_scores(np.array([1]), np.array([[0.5, 0.25, 0.25]])).tolist()
    [0.75]
    """
    order = np.argsort(-proba, axis=1, kind="stable")
    summed = np.cumsum(np.take_along_axis(proba, order, axis=1), axis=1)
    place = np.argsort(order, axis=1)[np.arange(len(truth)), np.maximum(truth, 0)]
    return np.asarray(np.where(np.asarray(truth) >= 0, summed[np.arange(len(truth)), place], 1.0))


def aps_sets(proba: FloatArray, bound: float) -> NDArray[np.bool_]:
    """(n, K): the likeliest classes whose summed probability stays within the bound, the likeliest always.

    >>> aps_sets(np.array([[0.6, 0.3, 0.1]]), 0.9).tolist()
    [[True, True, False]]
    """
    order = np.argsort(-proba, axis=1, kind="stable")
    inside = np.cumsum(np.take_along_axis(proba, order, axis=1), axis=1) <= bound + 1e-12
    inside[:, :1] = True
    sets = np.zeros(proba.shape, dtype=bool)
    np.put_along_axis(sets, order, inside, axis=1)
    return sets


def sure_enough(proba: FloatArray, least: float) -> NDArray[np.bool_]:
    """(n,): whether the likeliest class has at least this probability; abstain on the others.

    Chow (1970), IEEE Transactions on Information Theory 16: optimal where abstaining costs 1 - `least` of an error, if
    the probabilities are calibrated. Use where a person can take the rest.

    >>> sure_enough(np.array([[0.9, 0.1], [0.6, 0.4]]), 0.8).tolist()
    [True, False]
    """
    if not 0 <= least <= 1:
        raise UserError(f"the least confidence must lie between 0 and 1, got {least}")
    return np.asarray(np.asarray(proba).max(axis=1) >= least)
