"""Which target rows to label next: where the candidates differ, and all over the features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from acclimate.errors import UserError
from acclimate.validate.base import Floats, Ints, entropy

_ROUNDS = 50
# Of the rows to label, those where two models differ; None: all are drawn at random. Half of them (0.5) was no better
# in benchmarks/twenty.py as it was at commit 225e074, so that the simpler one is taken.
APART: float | None = None


def disagreement(predictions: Sequence[Floats]) -> Floats:
    """How far candidates are apart in each row: H(p̄) − mean H(p_c), the Jensen-Shannon divergence; 0 where all agree.

    Source: Houlsby et al. (2011), Bayesian Active Learning for Classification and Preference Learning, equation 2.

    >>> a, b = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> disagreement([a, b]).round(4).tolist()
    [0.0, 0.6931]
    """
    stacked = np.asarray(predictions)
    return np.asarray(np.maximum(0.0, entropy(stacked.mean(0)) - entropy(stacked).mean(0)))


def label_apart(
    features: Floats, first: Floats, second: Floats, count: int = 20, *, seed: int = 0, apart: float | None = APART
) -> tuple[Ints, Floats]:
    """Positions of `count` target rows to label, drawn so that two models can be told apart, and the rows' weights.

    Formula: without `apart` a random sample, all weights 1. Else a stratified sample: of the N_1 rows where the answers
    differ n_1 = ⌈apart · count⌋ at random, of the N_2 others n_2 = count − n_1; either takes over what the other lacks.
    With weights (N_s/m)/(n_s/count) every weighted mean over the sample is that over all m rows in expectation; a gain
    is (N_1/m)(wins − losses)/n_1. In random order, so that any first part is a sample.
    Source: Neyman (1934), Journal of the Royal Statistical Society 97, stratified sampling; Horvitz and Thompson
    (1952), JASA 47, the weights.
    Use when: one of two models is to be taken, and some rows can be labelled. The result depends on the seed and on
    what is in the rows, not on their order.
    Prefer `label_next` if there are more than two models, and nothing is to be estimated from the rows.

    >>> a, b = np.eye(2)[[0] * 10], np.eye(2)[[1, 1] + [0] * 8]
    >>> at, weight = label_apart(np.arange(10.0)[:, None], a, b, 4, apart=0.5)
    >>> sorted(zip(at.tolist(), weight.tolist()))[:2]
    [(0, 0.4), (1, 0.4)]
    >>> float(weight.mean())
    1.0
    """
    rows = np.asarray(features, np.float64)
    m = len(rows)
    if not 1 <= count <= m:
        raise UserError(f"{count} rows to label were asked for, and there are {m}; ask for 1 to {m}")
    if not len(first) == len(second) == m:
        raise UserError(f"answers are of {len(first)} and {len(second)} rows and features of {m}; give all of one file")
    differ = first.argmax(1) != second.argmax(1)
    order = np.lexsort(np.round(np.column_stack([first, second, rows]), 6).T[::-1])
    if apart is None:
        return np.random.default_rng(seed).permutation(order)[:count], np.ones(count)
    strata = [order[differ[order]], order[~differ[order]]]
    some = min(len(strata[0]), max(round(apart * count), count - len(strata[1])))
    rng, chosen, weights = np.random.default_rng(seed), [], []
    for stratum, n in zip(strata, (some, count - some), strict=True):
        chosen.append(rng.choice(stratum, n, replace=False))
        weights.append(np.full(n, len(stratum) / m * count / max(1, n)))
    mixed = rng.permutation(count)
    return np.concatenate(chosen)[mixed], np.concatenate(weights)[mixed]


def label_next(features: Floats, predictions: Sequence[Floats], count: int = 20, *, seed: int = 0) -> Ints:
    """Positions of `count` different target rows to label, the most telling first.

    Formula: weighted k-means with `count` centres, min Σ_j u_j ‖f_j − c(j)‖², columns standardised, u the
    `disagreement` of the candidates over its mean plus ½, so that agreed rows count too; of each cluster the row with
    the largest u_j/(1 + ‖f_j − c‖²/s), s the mean squared distance to the centres.
    Source: after Prabhu, Chandrasekaran, Saenko and Hoffman (2021), Active Domain Adaptation via Clustering
    Uncertainty-weighted Embeddings (CLUE), ICCV, with disagreement in place of entropy.
    Use when: the verdict is "not decidable". The result depends on the seed and on what is in the rows, not on their
    order.

    >>> x = np.array([[0.0], [0.1], [10.0], [10.1], [10.2]])
    >>> a, b = np.eye(2)[[0, 0, 1, 1, 1]], np.eye(2)[[0, 1, 1, 0, 1]]
    >>> label_next(x, [a, b], 2).tolist()
    [3, 1]
    """
    rows = np.asarray(features, np.float64)
    if not 1 <= count <= len(rows):
        raise UserError(f"{count} rows to label were asked for, and there are {len(rows)}; ask for 1 to {len(rows)}")
    u = disagreement(predictions)
    if u.shape != (len(rows),):
        raise UserError(f"predictions are of {len(u)} rows and features of {len(rows)}; give both of the target rows")
    u = u / u.mean() + 0.5 if u.mean() > 1e-12 else np.ones(len(rows))
    spread = rows.std(0)
    rows = (rows - rows.mean(0)) / np.where(spread > 1e-9 * max(1.0, float(np.abs(rows).max())), spread, 1.0)
    order = np.lexsort(np.round(np.column_stack([u, rows]), 6).T[::-1])
    rows, weights = rows[order], u[order]
    centres = _spread_out(rows, weights, count, np.random.default_rng(seed))
    for _ in range(_ROUNDS):
        own = _distances(rows, centres).argmin(1)
        total = np.bincount(own, weights, minlength=count)
        sums = np.zeros_like(centres)
        np.add.at(sums, own, weights[:, None] * rows)
        moved = np.where(total[:, None] > 0, sums / np.maximum(total, 1e-300)[:, None], centres)
        if np.allclose(moved, centres, rtol=0, atol=1e-9):
            break
        centres = moved
    return np.asarray(order[_one_each(_distances(rows, centres), weights)])


def _spread_out(rows: Floats, weights: Floats, count: int, rng: np.random.Generator) -> Floats:
    """k-means++: each centre drawn by weight times squared distance to those before (Arthur and Vassilvitskii 2007)."""
    chosen = [int(rng.choice(len(rows), p=weights / weights.sum()))]
    nearest = _distances(rows, rows[chosen])[:, 0]
    while len(chosen) < count:
        mass = weights * nearest
        mass[chosen] = 0.0
        if not mass.sum() > 1e-12:  # all others are copies of rows that are there
            mass = weights.copy()
            mass[chosen] = 0.0
        chosen.append(int(rng.choice(len(rows), p=mass / mass.sum())))
        nearest = np.minimum(nearest, _distances(rows, rows[chosen[-1:]])[:, 0])
    return rows[chosen]


def _one_each(distances: Floats, weights: Floats) -> Ints:
    """A row of each cluster, and others where a cluster is empty; by falling value."""
    near, own = distances.min(1), distances.argmin(1)
    value = weights / (1 + near / max(float(near.mean()), 1e-12))
    order = np.argsort(-value, kind="stable")
    first = np.sort(np.unique(own[order], return_index=True)[1])
    rest = np.setdiff1d(np.arange(len(order)), first)
    taken = np.concatenate([first, rest[: distances.shape[1] - len(first)]])
    return np.asarray(order[np.sort(taken)])


def _distances(rows: Floats, centres: Floats) -> Floats:
    """‖f_j − c_k‖².  # (m, k)"""
    cross = (rows**2).sum(1)[:, None] - 2 * rows @ centres.T + (centres**2).sum(1)
    return np.asarray(np.maximum(cross, 0.0))
