"""A classifier that tells source rows from target rows, judged on rows it has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from acclimate.errors import UserError
from acclimate.shallow.base import Floats, Ints, Scale, by_content, matrix

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C of the logistic model, from strongly to weakly held


@dataclass(frozen=True)
class Told:
    """Cross-fitted log-odds that a row is of the target, were both domains equally frequent: log p_t(x) / p_s(x)."""

    source: Floats  # (n,)
    target: Floats  # (m,)
    units: Ints  # (n + m,) rows with one number were held out together
    fold: Ints  # (n + m,) which model judged the row
    strength: float  # the C that was chosen


def tell_apart(
    source: ArrayLike, target: ArrayLike, *, groups: ArrayLike | None = None, folds: int = 5, seed: int = 0
) -> Told:
    """Log-odds of every row from a logistic model that never saw it, nor a copy of it, nor its group.

    Each side has half the weight whatever its number of rows. The ridge strength is the one of `STRENGTHS` whose
    held-out log loss is lowest. `groups` names the group of each source row, then of each target row. The result does
    not depend on the order of the rows.
    """
    a, b = matrix(source), matrix(target)
    if a.shape[1] != b.shape[1]:
        raise UserError(f"source has {a.shape[1]} columns and target {b.shape[1]}; both need the same ones")
    everything = np.concatenate([a, b])
    side = np.repeat([0, 1], [len(a), len(b)])
    at = np.concatenate([by_content(a), len(a) + by_content(b)])
    units = units_of(everything, groups)
    fold = deal(units[at], side[at], folds, seed)
    odds, strength = _best(everything[at], side[at], fold)
    out, folded = np.empty(len(at)), np.empty(len(at), np.int64)
    out[at], folded[at] = odds, fold
    return Told(out[: len(a)], out[len(a) :], units, folded, strength)


def units_of(rows: Floats, groups: ArrayLike | None = None) -> Ints:
    """Numbers of what must stay together: equal rows, rows of one group, and what these join.  # (n,)

    >>> units_of(np.array([[1.0], [2.0], [1.0], [3.0]]), ["a", "b", "c", "b"]).tolist()
    [0, 1, 0, 1]
    """
    n = len(rows)
    order = by_content(rows)
    new = np.append(True, (np.diff(rows[order], axis=0) != 0).any(1))
    same = np.empty(n, np.int64)
    same[order] = np.cumsum(new) - 1
    if groups is None:
        return _renumbered(same)
    given = np.asarray(groups)
    if given.shape != (n,):
        raise UserError(f"groups must hold one name a row: {n} rows (source, then target), got shape {given.shape}")
    group = np.unique(given, return_inverse=True)[1].reshape(-1)
    width = int(same.max()) + 1
    joins = coo_array((np.ones(n), (same, width + group)), shape=(width + int(group.max()) + 1,) * 2)
    return _renumbered(connected_components(joins, directed=False)[1][same])


def _renumbered(values: Ints) -> Ints:
    """By first appearance."""
    first, inverse = np.unique(values, return_index=True, return_inverse=True)[1:]
    return np.asarray(np.argsort(np.argsort(first))[inverse.reshape(-1)], dtype=np.int64)


def deal(units: Ints, side: Ints, folds: int, seed: int) -> Ints:
    """A fold for every row: units whole, both sides spread evenly.  # (n,)"""
    units = _renumbered(units)
    size = np.bincount(units)
    share = np.bincount(units, side) / size
    kind = np.where(share == 0, 0, np.where(share == 1, 2, 1))
    fewest = min(int((kind < 2).sum()), int((kind > 0).sum()))
    if fewest < 2:
        raise UserError("one domain holds fewer than 2 different rows or groups: nothing can be held out to judge on")
    order = np.lexsort((np.random.default_rng(seed).random(len(size)), -size, kind))
    fold = np.empty(len(size), np.int64)
    fold[order] = np.arange(len(size)) % min(folds, fewest)
    return np.asarray(fold[units])


def _best(rows: Floats, side: Ints, fold: Ints) -> tuple[Floats, float]:
    """Held-out log-odds at the strength with the lowest balanced log loss; the path ends once it rises."""
    half = 0.5 * len(side) / np.bincount(side)[side]
    sign = 2.0 * side - 1
    found: tuple[float, Floats, float] | None = None
    parts = []
    for k in range(int(fold.max()) + 1):
        scale = Scale.of(rows[fold != k])
        parts.append((fold != k, scale(rows[fold != k]), fold == k, scale(rows[fold == k])))
    for strength in STRENGTHS:
        odds = np.empty(len(side))
        for learn, known, judge, new in parts:
            model = LogisticRegression(C=strength, max_iter=2000)
            odds[judge] = model.fit(known, side[learn], sample_weight=half[learn]).decision_function(new)
        loss = float((half * np.logaddexp(0, -sign * odds)).mean())
        if found is not None and loss >= found[0]:
            break
        found = (loss, odds, strength)
    assert found is not None  # the first strength is always taken
    return found[1], found[2]


def probabilities(odds: Floats) -> Floats:
    """The probability of the target at equal numbers of rows."""
    return np.asarray(expit(odds))
