"""From probabilities to decisions: thresholds, costs, predictive values, prediction sets. All chosen on rows that were
not fitted on.

A threshold t flags a row where p ≥ t. It is put half way between two neighbouring probabilities, so that neither lies
on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from acclimate.errors import UserError, unknown
from acclimate.metrics.conformal import aps_scores as aps_scores
from acclimate.metrics.conformal import aps_sets as aps_sets
from acclimate.metrics.conformal import conformal_quantile as conformal_quantile
from acclimate.metrics.conformal import lac_scores as lac_scores
from acclimate.metrics.conformal import lac_sets as lac_sets
from acclimate.metrics.conformal import sure_enough as sure_enough
from acclimate.metrics.estimate import Estimate, with_interval
from acclimate.metrics.intervals import FloatArray, IntArray, Interval, proportion

PRIOR_ROWS = 5  # a label's own threshold counts as many rows as it has, the common one as many as this
EDGE = 1e-6  # probabilities are kept this far from 0 and 1 where their logit is needed


class Cuts(NamedTuple):
    """What each possible threshold flags, from the highest (nothing is flagged) to the lowest (everything is)."""

    at: FloatArray  # (c,) thresholds
    hits: FloatArray  # (c,) weight of positives flagged
    false: FloatArray  # (c,) weight of negatives flagged


def cuts(positive: IntArray, p: FloatArray, weights: FloatArray | None = None) -> Cuts:
    """Every threshold that tells two rows apart, and the two ends.

    >>> cuts(np.array([1, 0]), np.array([0.75, 0.25])).at.tolist()
    [0.875, 0.5, 0.125]
    """
    p, is_positive = np.asarray(p, dtype=np.float64), np.asarray(positive, dtype=np.float64)
    w = np.ones(len(p)) if weights is None else np.asarray(weights, dtype=np.float64)
    values, place = np.unique(-p, return_inverse=True)
    edges = np.concatenate([[1.0], -values, [0.0]])
    at = (edges[:-1] + edges[1:]) / 2
    at[:-1] = np.where(at[:-1] > -values, at[:-1], np.nextafter(-values, 2.0))  # two neighbours too near for a middle
    at[-1] = min(at[-1], -values[-1]) if len(values) else 0.0
    hits = np.bincount(place, w * is_positive, minlength=len(values))
    false = np.bincount(place, w * (1 - is_positive), minlength=len(values))
    return Cuts(at, np.append(0.0, np.cumsum(hits)), np.append(0.0, np.cumsum(false)))


def best_threshold(positive: IntArray, p: FloatArray, metric: str = "f1", weights: FloatArray | None = None) -> float:
    """The threshold with the greatest F1 of the positive class, "accuracy", "balanced_accuracy" or "mcc".

    argmax_t metric([p ≥ t], y) over all thresholds; of equals, the nearest to 0.5. With calibrated probabilities the
    best F1 is at half its own value (Lipton, Elkan and Naryanaswamy 2014, ECML). Use when no cost is known; prefer
    `least_cost` if one is.

    >>> best_threshold(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.9]))
    0.25
    """
    found = cuts(positive, p, weights)
    positives, negatives = _sides(found, "threshold")
    called = found.hits + found.false
    if metric == "f1":
        value = 2 * found.hits / (positives + called)
    elif metric == "accuracy":
        value = found.hits - found.false
    elif metric == "balanced_accuracy":
        value = found.hits / positives - found.false / negatives
    elif metric == "mcc":
        spread = called * (positives + negatives - called)
        top = found.hits * negatives - found.false * positives
        value = np.divide(top, np.sqrt(spread), out=np.zeros(len(top)), where=spread > 0)
    else:
        raise unknown("metric to choose a threshold by", metric, ["f1", "accuracy", "balanced_accuracy", "mcc"])
    best = np.flatnonzero(value >= value.max() - 1e-12)
    return float(found.at[best[np.argmin(np.abs(found.at[best] - 0.5))]])


def threshold_at_specificity(
    positive: IntArray, p: FloatArray, specificity: float, weights: FloatArray | None = None
) -> float:
    """The lowest threshold at which at least this share of negatives is spared, and so the most positives are found.

    min t with Σ w[p < t, y = 0] / Σ w[y = 0] ≥ specificity. Use when false alarms have to be rare. On new rows the
    specificity scatters around the target: with n negatives by about √(s(1 - s)/n).

    >>> threshold_at_specificity(np.array([0, 0, 1, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4, 0.9]), 0.6).__round__(6)
    0.25
    """
    found = cuts(positive, p, weights)
    _, negatives = _sides(found, "specificity")
    _share("specificity", specificity)
    enough = found.false <= (1 - specificity) * negatives + 1e-9 * negatives
    return float(found.at[enough][-1])


def threshold_at_sensitivity(
    positive: IntArray, p: FloatArray, sensitivity: float, weights: FloatArray | None = None
) -> float:
    """The highest threshold at which at least this share of positives is found, and so the fewest negatives are
    flagged.

    max t with Σ w[p ≥ t, y = 1] / Σ w[y = 1] ≥ sensitivity. Use when a positive must not be missed.

    >>> threshold_at_sensitivity(np.array([0, 0, 1, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4, 0.9]), 0.5).__round__(6)
    0.65
    """
    found = cuts(positive, p, weights)
    positives, _ = _sides(found, "sensitivity")
    _share("sensitivity", sensitivity)
    return float(found.at[found.hits >= sensitivity * positives - 1e-9 * positives][0])


def threshold_for_budget(p: FloatArray, budget: float, weights: FloatArray | None = None) -> float:
    """The lowest threshold that flags no more than a share of the rows (budget ≤ 1) or so many of these rows (above 1).

    min t with Σ w[p ≥ t] ≤ budget. Needs no labels. Use when so many cases can be looked at and no more; rows whose
    probabilities are equal are flagged together or not at all.

    >>> threshold_for_budget(np.array([0.1, 0.2, 0.6, 0.9]), 0.5).__round__(6)
    0.4
    """
    found = cuts(np.ones(len(p), dtype=np.int64), p, weights)
    if not (len(p) and budget > 0 and math.isfinite(budget)):
        raise UserError(f"an alert budget must be above 0, and there must be rows to choose it on; got {budget}")
    total = float(found.hits[-1])
    most = budget * total if budget <= 1 else budget * total / len(p)
    return float(found.at[found.hits <= most + 1e-9 * total][-1])


def read_cost(cost: Mapping[Any, Mapping[Any, float]], classes: Sequence[object]) -> FloatArray:
    """The (K, K) array of {"truth": {"predicted": cost}}; pairs not named cost 0 where right and 1 where wrong.

    >>> read_cost({"ill": {"well": 10}}, ["ill", "well"]).tolist()
    [[0.0, 10.0], [1.0, 0.0]]
    """
    names = [str(c) for c in classes]
    table = 1.0 - np.eye(len(names))
    for truth, row in cost.items():
        if not isinstance(row, Mapping):
            raise UserError(f'a cost table is {{"truth": {{"predicted": cost}}}}, but {truth!r} holds {row!r}')
        for predicted, value in row.items():
            for name in (truth, predicted):
                if str(name) not in names:
                    raise unknown("class in the cost table", name, names)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise UserError(f"the cost of {predicted!r} for {truth!r} must be a number, got {value!r}")
            if value < 0:
                raise UserError(f"the cost of {predicted!r} for {truth!r} is {value:g}; a cost must not be negative")
            table[names.index(str(truth)), names.index(str(predicted))] = float(value)
    if not table.any():
        raise UserError(
            "every cost in the table is 0, so that no decision is better than another; give what errors cost"
        )
    return table


def least_cost(proba: FloatArray, cost: FloatArray) -> IntArray:
    """The class of least expected cost for each row: argmin_j Σ_k p_k · cost[k, j].

    Elkan (2001), IJCAI, section 1. Right only as far as the probabilities are: calibrate them first. For two classes it
    is the threshold (c₀₁ - c₀₀) / (c₀₁ - c₀₀ + c₁₀ - c₁₁) on p₁, see `threshold_for_cost`. Use whenever errors differ
    in price.

    >>> least_cost(np.array([[0.8, 0.2], [0.95, 0.05]]), np.array([[0.0, 1.0], [10.0, 0.0]])).tolist()
    [1, 0]
    """
    return np.asarray(np.argmin(np.asarray(proba, dtype=np.float64) @ np.asarray(cost, dtype=np.float64), axis=1))


def expected_cost(truth: IntArray, predicted: IntArray, cost: FloatArray, weights: FloatArray | None = None) -> float:
    """The mean cost a row that these decisions have caused; rows of unseen classes (-1) cost as much as the dearest
    error.

    >>> expected_cost(np.array([1, 0]), np.array([0, 0]), np.array([[0.0, 1.0], [10.0, 0.0]]))
    5.0
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    paid = np.where(truth >= 0, cost[np.maximum(truth, 0), predicted], cost.max())
    return float(np.average(paid, weights=weights))


def threshold_for_cost(cost: FloatArray, positive: int = 1) -> float:
    """The threshold on calibrated p(positive) above which flagging costs less: Elkan (2001), equation 2.

    >>> threshold_for_cost(np.array([[0.0, 1.0], [10.0, 0.0]])).__round__(4)
    0.0909
    """
    a, b = 1 - positive, positive
    alarm, miss = float(cost[a, b] - cost[a, a]), float(cost[b, a] - cost[b, b])
    if not (alarm > 0 and miss > 0):
        raise UserError(f"each error must cost more than being right; the false alarm adds {alarm}, the miss {miss}")
    return alarm / (alarm + miss)


def ppv(sensitivity: float, specificity: float, prevalence: float) -> float:
    """The share of flagged rows that are positive where `prevalence` of all rows are: Bayes' rule.

    se·π / (se·π + (1 - sp)(1 - π)); NaN where nothing would be flagged. Use whenever the test rows were not drawn at
    the prevalence of the place of use, for precision on such rows says nothing about that place.

    >>> ppv(0.9, 0.9, 0.01).__round__(4)
    0.0833
    """
    _share("prevalence", prevalence)
    found, alarms = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    return found / (found + alarms) if found + alarms > 0 else float("nan")


def npv(sensitivity: float, specificity: float, prevalence: float) -> float:
    """The share of rows not flagged that are negative: sp(1 - π) / (sp(1 - π) + (1 - se)π).

    >>> npv(0.9, 0.9, 0.01).__round__(4)
    0.9989
    """
    return ppv(specificity, sensitivity, 1 - prevalence)


def predictive_values(
    positive: IntArray,
    called: IntArray,
    prevalence: float,
    *,
    weights: FloatArray | None = None,
    clusters: IntArray | None = None,
) -> dict[str, Estimate]:
    """ "ppv" and "npv" at a stated prevalence, with intervals that take the prevalence as known.

    PPV = 1 / (1 + r(1 - π)/π) falls with r = (1 - sp)/se; the interval of r comes from Wilson's intervals of both
    shares by the ratio rule of Donner and Zou (2012), Statistical Methods in Medical Research 21. NPV alike with (1 -
    se)/sp.

    >>> str(predictive_values(np.array([1] * 50 + [0] * 50), np.array([1] * 45 + [0] * 50 + [1] * 5), 0.1)["ppv"])
    '0.500 [0.316, 0.697] (n = 100)'
    """
    truth, flagged = np.asarray(positive) == 1, np.asarray(called) == 1
    if not 0 < prevalence < 1:
        raise UserError(f"the prevalence must lie between 0 and 1, got {prevalence}")
    n, shares = len(truth), []
    for rows, hit in ((truth, flagged), (~truth, ~flagged)):
        w = None if weights is None else np.asarray(weights, dtype=np.float64)[rows]
        c = None if clusters is None else np.asarray(clusters)[rows]
        hits = hit[rows].astype(np.float64)
        interval = proportion(hits, weights=w, clusters=c) if len(hits) else None
        if interval is None:
            note = "needs positive and negative rows (with clusters: two of each)"
            return {name: Estimate(None, n=n, note=note) for name in ("ppv", "npv")}
        shares.append((float(np.average(hits, weights=w)), interval))
    se, sp = shares
    note = f"at a prevalence of {prevalence:g}, taken as known"
    found = {}
    for name, right, other, odds in (
        ("ppv", se, sp, (1 - prevalence) / prevalence),
        ("npv", sp, se, prevalence / (1 - prevalence)),
    ):
        wrong = (1 - other[0], Interval(1 - other[1].high, 1 - other[1].low, ""))
        low, high = _ratio_limits(wrong, right)
        value = right[0] / (right[0] + odds * wrong[0]) if right[0] + wrong[0] > 0 else float("nan")
        limits = Interval(1 / (1 + odds * high), 1 / (1 + odds * low), "ratio of Wilson intervals")
        found[name] = with_interval(value, limits, n, note=note, clustered=clusters is not None)
    return found


def multilabel_thresholds(truth: IntArray, proba: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    """A threshold for each label that favours its F1, drawn towards a common one where the label has few rows.

    With t* the label's own best threshold (`best_threshold`), t₀ the one that is best for all cells together, n its
    positive rows: logit t = (n·logit t* + m·logit t₀)/(n + m), m = 5; then moved back towards t* as far as is needed to
    keep F1 on these rows within a factor 1 - ½/(n + 1) of its best, so that no label with a positive row is silenced.
    Labels without one get t₀. Single thresholds of rare labels overfit: Fan and Lin (2007), A study on threshold
    selection for multi-label classification. Use in place of 0.5, which leaves rare labels empty. A truth that is below
    0 or NaN is not known, and its cell takes no part.

    >>> multilabel_thresholds(np.array([[1], [0], [0]]), np.array([[0.2], [0.1], [0.05]])).round(2)
    array([0.14])
    """
    t, p = (np.asarray(truth) == 1).astype(np.int64), np.asarray(proba, dtype=np.float64)
    known = np.asarray(truth) >= 0
    k = p.shape[1]
    counted = t if weights is None else t * (np.asarray(weights) > 0)[:, None]
    if not counted.any():
        return np.full(k, 0.5)
    each_cell = None if weights is None else np.repeat(np.asarray(weights, dtype=np.float64)[:, None], k, axis=1)
    common = _logit(best_f1(t[known], p[known], None if each_cell is None else each_cell[known])[0])
    found = np.empty(k)
    for c in range(k):
        rows = int(counted[:, c].sum())
        if not rows:
            found[c] = _expit(common)
            continue
        here = known[:, c]
        own, best, each = best_f1(t[here, c], p[here, c], None if each_cell is None else each_cell[here, c])
        start = _logit(own)
        goal = (rows * start + PRIOR_ROWS * common) / (rows + PRIOR_ROWS)
        tried = [_expit(start + share * (goal - start)) for share in np.linspace(1.0, 0.05, 20)]
        enough = best * (1 - 0.5 / (rows + 1)) - 1e-12
        found[c] = next((at for at in tried if each(at) >= enough), own)
    return found


def best_f1(
    positive: IntArray, p: FloatArray, weights: FloatArray | None = None
) -> tuple[float, float, Callable[[float], float]]:
    """The F1-best threshold in the middle (on the logit scale) of its gap, its F1, and F1 as a function of the
    threshold."""
    found = cuts(positive, p, weights)
    total = float(found.hits[-1])
    f1 = 2 * found.hits / (total + found.hits + found.false)
    values = np.unique(np.asarray(p, dtype=np.float64))[::-1]
    best = int(np.argmax(f1))  # never 0, at which nothing is flagged

    def each(at: float) -> float:
        return float(f1[int(np.searchsorted(-values, -at, side="right"))])

    below = float(values[best]) if best < len(values) else EDGE
    middle = _expit((_logit(float(values[best - 1])) + _logit(below)) / 2)
    if each(middle) < f1[best]:  # the gap is too narrow, or too near to 0 or 1, for a logit
        middle = float(found.at[best])
    return middle, float(f1[best]), each


def _ratio_limits(top: tuple[float, Interval], bottom: tuple[float, Interval]) -> tuple[float, float]:
    """Limits of top/bottom from the limits of each; ∞ where the bottom may be 0."""
    (a, i), (b, j) = top, bottom

    def end(x: float, y: float, sign: float) -> float:
        inner = max(0.0, (a * b) ** 2 - x * y * (2 * a - x) * (2 * b - y))
        below = y * (2 * b - y)
        if y <= 0:
            return math.inf
        return max(0.0, (a * b + sign * math.sqrt(inner)) / below) if below != 0 else math.inf

    return end(i.low, j.high, -1.0), end(i.high, j.low, 1.0)


def _sides(found: Cuts, what: str) -> tuple[float, float]:
    positives, negatives = float(found.hits[-1]), float(found.false[-1])
    if not (positives > 0 and negatives > 0):
        raise UserError(f"a {what} can only be chosen on rows of both classes; one of them has none here")
    return positives, negatives


def _share(what: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UserError(f"the {what} must lie between 0 and 1, got {value}")


def _logit(p: float) -> float:
    p = min(max(p, EDGE), 1 - EDGE)
    return math.log(p / (1 - p))


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x))
