"""How well answers hang together: whether rows that lie close have the same one, beyond what chance would give."""

from __future__ import annotations

from typing import Any

import numpy as np

from acclimate.shallow.base import by_content
from acclimate.validate.base import Floats, Ints

NEAREST = 10  # k
MOST = 2000  # rows that are compared with each other; more are sampled


def neighbour_agreement(answers: Ints, features: Floats, k: int = NEAREST) -> float:
    """κ = (a − e)/(1 − e): 1 where all neighbours share their answer, 0 where they share it as often as by chance.

    Formula: a = (1/mk) Σ_i Σ_{j ∈ N_k(i)} [ŷ_i = ŷ_j], N_k(i) the k rows nearest to row i after columns are
    standardised; e = Σ_c q_c², q the shares of the answers. Where all rows have one answer the value is 0.
    Source: ours; the correction for chance is that of Scott (1955), Public Opinion Quarterly 19. Saito et al. (2021,
    Tune it the Right Way) ask the same of a model's own predictions, which a model that says one thing satisfies best.
    Use when: a few models answer the same unlabelled rows, and there are clusters: those that follow them are more
    often right. The features should be of a network that no candidate has moved.
    Prefer `pick` to order many candidates: alone this does so no better than chance (benchmarks/validators.py).

    >>> x = np.array([[-2.0], [-1.9], [-2.1], [2.0], [1.9], [2.1]])
    >>> neighbour_agreement(np.array([0, 0, 0, 1, 1, 1]), x, 2)
    1.0
    >>> neighbour_agreement(np.array([0, 0, 0, 0, 0, 0]), x, 2)
    0.0
    """
    return from_neighbours(answers, nearest(features, k))


def nearest(features: Floats, k: int = NEAREST) -> Ints:
    """Numbers of the k rows nearest to each row, itself left out; fewer where there are not so many.  # (m, k)"""
    rows = np.asarray(features, np.float64)
    m = len(rows)
    k = min(k, m - 1)
    spread = rows.std(0)
    rows = (rows - rows.mean(0)) / np.where(spread > 1e-9 * max(1.0, float(np.abs(rows).max())), spread, 1.0)
    squares = (rows**2).sum(1)
    found = np.empty((m, k), np.int64)
    for start in range(0, m, 512):
        apart = squares - 2 * rows[start : start + 512] @ rows.T  # less ‖f_i‖², which is one number for a row
        at = np.arange(len(apart))
        apart[at, at + start] = np.inf
        # Rounded, and of equals the first: the same rows are the same neighbours on another machine.
        found[start : start + 512] = np.argsort(np.round(apart, 9), axis=1, kind="stable")[:, :k]
    return found


def from_neighbours(answers: Any, neighbours: Ints) -> float:
    """`neighbour_agreement`, where the neighbours are known."""
    codes = np.unique(np.asarray(answers), return_inverse=True)[1]
    if not neighbours.size:
        return 0.0
    chance = float(((np.bincount(codes) / len(codes)) ** 2).sum())
    if chance > 1 - 1e-12:
        return 0.0
    return (float((codes[neighbours] == codes[:, None]).mean()) - chance) / (1 - chance)


def error_of_lead(first: Any, second: Any, neighbours: Ints) -> float:
    """The standard error of κ(second) − κ(first), over which target rows there are; infinite where rows are too few.

    Formula: the jackknife, √((m − 1)/m Σ_i (d_i − d̄)²), d_i the difference of both κ without row i: where row i was
    among the k nearest of another row, the one after them takes its place. `neighbours` (m, k + 1) holds that one last.
    Source: Quenouille and Tukey; in the mean it is no smaller than the truth (Efron and Stein 1981, Annals of
    Statistics 9). It holds the models as they are: what fitting them anew would change is not in it.
    Use when: a lead in neighbour agreement rests on few rows. That rows share neighbours is in it.

    >>> x = np.array([[-2.0], [-1.9], [-2.1], [2.0], [1.9], [2.1]])
    >>> one, other = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 1, 0, 1, 1, 0])
    >>> near = nearest(x, 3)
    >>> error_of_lead(one, one, near), round(error_of_lead(other, one, near), 3)
    (0.0, 0.515)
    """
    if neighbours.shape[1] < 2 or len(neighbours) <= neighbours.shape[1] + 1:  # every other row is a neighbour
        return float("inf")
    apart = _without_each(second, neighbours) - _without_each(first, neighbours)
    m = len(apart)
    return float(np.sqrt((m - 1) / m * ((apart - apart.mean()) ** 2).sum()))


def _without_each(answers: Any, neighbours: Ints) -> Floats:
    """`from_neighbours` of all rows but one, for each of them; the last column are those that take an empty place."""
    codes = np.unique(np.asarray(answers), return_inverse=True)[1]
    near, after = neighbours[:, :-1], neighbours[:, -1]
    m, k = near.shape
    same = (codes[near] == codes[:, None]).astype(np.float64)
    filled = (codes[after] == codes).astype(np.float64)
    change = np.bincount(near.ravel(), np.repeat(filled, k) - same.ravel(), minlength=m)
    share = (same.sum() - same.sum(1) + change) / ((m - 1) * k)
    counts = np.bincount(codes).astype(np.float64)
    chance = ((counts**2).sum() - 2 * counts[codes] + 1) / (m - 1) ** 2
    known = chance < 1 - 1e-12
    return np.where(known, (share - chance) / np.where(known, 1 - chance, 1.0), 0.0)


def alike(first: Ints, second: Ints) -> float:
    """Cohen's κ of two models' answers to the same rows: (a − e)/(1 − e), a the share alike, e = Σ_c q_c r_c.

    Source: Cohen (1960), Educational and Psychological Measurement 20.

    >>> alike(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1])), alike(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    (1.0, 0.0)
    """
    classes = int(max(first.max(), second.max())) + 1
    q, r = (np.bincount(answers, minlength=classes) / len(answers) for answers in (first, second))
    chance = float(q @ r)
    return 0.0 if chance > 1 - 1e-12 else (float((first == second).mean()) - chance) / (1 - chance)


def some(features: Floats, seed: int, most: int = MOST) -> Ints:
    """At most `most` of the rows, at random; the same ones in whatever order they come."""
    if len(features) <= most:
        return np.arange(len(features))
    return by_content(np.asarray(features, np.float64))[np.random.default_rng(seed).permutation(len(features))[:most]]
