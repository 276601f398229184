"""One number for several label columns: how much of the way from a constant answer to a perfect one was gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acclimate.errors import plural
from acclimate.metrics.base import divide, mean_defined
from acclimate.metrics.differences import paired
from acclimate.metrics.estimate import COVERS, FEWEST, Estimate, too_few, with_interval
from acclimate.metrics.intervals import FloatArray, IntArray, Weighted, resample
from acclimate.metrics.results import Difference
from acclimate.metrics.tables import METRICS, Answers

NAME = "skill"


@dataclass(frozen=True)
class Column:
    """The answers to one label column; `rows` are the places of these rows among all that were judged."""

    metric: str
    rows: IntArray
    answers: Answers


def skill_of(columns: Sequence[Column]) -> Weighted:
    """The mean over columns of (m − m₀)/(m₁ − m₀), as a function of row weights (w, n).

    m is the column's own metric, m₁ its best value (1, or an error of 0) and m₀ that of the best constant answer on the
    same rows: the commonest class, or the mean. 0: no better than that; 1: without error. Columns where a constant
    answer is perfect, or on which no row says anything, are left out.

    >>> truth, said = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    >>> column = Column("accuracy", np.arange(4), Answers("classify", truth, np.eye(2)[said], said))
    >>> float(skill_of([column])(np.ones((1, 4)))[0])  # 3 of 4 right, as many as the commonest class gives
    0.0
    """
    parts = []
    for column in columns:
        metric = METRICS[column.answers.task][column.metric]
        flat = replace(column.answers, predicted=_constant(column.answers))
        at, base = (metric.at(*one.given(column.metric)) for one in (column.answers, flat))
        parts.append((column.rows, at, base, 1.0 if metric.greater_is_better else 0.0))

    def skill(w: FloatArray) -> FloatArray:
        found = []
        for rows, at, base, best in parts:
            mine = w[:, rows]
            least = base(mine).reshape(len(w))
            found.append(_share(at(mine).reshape(len(w)) - least, best - least))
        return mean_defined(np.stack(found, 1))

    return skill


def _share(top: FloatArray, whole: FloatArray) -> FloatArray:
    """top / whole, whatever the sign of both; NaN where there is no way to go."""
    return divide(top * np.sign(whole), np.abs(whole))


def _constant(answers: Answers) -> NDArray[Any]:
    """The commonest class of these rows for all of them, or their mean."""
    if answers.task == "regress":
        return np.full(len(answers), answers.truth.mean() if len(answers) else 0.0)
    return np.full(len(answers), int(np.argmax(np.bincount(np.maximum(answers.truth, 0), minlength=1))))


def skill(
    columns: Sequence[Column], n: int, weights: FloatArray | None, clusters: IntArray | None, seed: int
) -> Estimate:
    """The skill on n rows with its interval (jackknife of rows, or of clusters)."""
    if not n or not columns:
        return Estimate(None, n=n, note="no rows")
    value, interval = paired(skill_of(columns), _nothing, n, weights=weights, clusters=clusters, seed=seed)
    note = _too_few(columns, clusters)
    return with_interval(value, None if note else interval, n, note=note, clustered=clusters is not None)


def skill_difference(
    a: Sequence[Column],
    b: Sequence[Column],
    n: int,
    weights: FloatArray | None,
    clusters: IntArray | None,
    seed: int,
) -> Difference:
    """a less b on the same rows: the paired jackknife, so that what is hard for both cancels."""
    if not n or not a:
        return Difference(NAME, None, None, None, n, "not decidable", note="no rows")
    gap, interval = paired(skill_of(a), skill_of(b), n, weights=weights, clusters=clusters, seed=seed)
    note = _too_few(a, clusters)
    found = with_interval(gap, None if note else interval, n, note=note, clustered=clusters is not None)
    verdict = "not decidable"
    if found.low is not None and found.high is not None and (found.low > 0 or found.high < 0):
        verdict = "better" if found.low > 0 else "worse"
    return Difference(
        NAME, found.value, found.low, found.high, n, verdict, found.method, found.note, found.covers or COVERS
    )


def skill_value(columns: Sequence[Column], n: int, weights: FloatArray | None) -> float:
    """The skill alone, to choose by."""
    draws = resample([skill_of(columns)], n, weights=weights, resamples=0, blocks=0)[0]
    return float(draws.value[0])


def _nothing(w: FloatArray) -> FloatArray:
    return np.zeros(len(w))


def _too_few(columns: Sequence[Column], clusters: IntArray | None) -> str:
    """Why there is no interval, or "" where every column has enough rows."""
    least = min(len(column.rows) for column in columns)
    if least < FEWEST:
        return f"n too small for an interval (a label column is known to {plural(least, 'row')}; {FEWEST} are needed)"
    return too_few(FEWEST, None if clusters is None else len(np.unique(clusters)))
