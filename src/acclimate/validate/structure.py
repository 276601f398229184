"""Scores of what a candidate made of the target's rows: mixed rows as probes, spread of features, clusters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata

from acclimate.errors import UserError
from acclimate.shallow.base import by_content
from acclimate.validate.base import Floats, Ints
from acclimate.validate.neighbours import some

MIX = 0.55  # λ of mixed rows
PARTNERS = 5  # rows that each row is mixed with


def mixval(
    target: Floats, predict: Callable[[Floats], Floats], *, mix: float = MIX, seed: int = 0
) -> tuple[float, float]:
    """How often a row keeps its answer when another row is mixed into it: one with the same answer, one with another.

    Formula: with z = λ x_i + (1 − λ) x_j, λ > ½: the share of [ŷ(z) = ŷ(x_i)] over pairs with ŷ(x_i) = ŷ(x_j)
    (within: rows that share an answer lie in one region), and over pairs with ŷ(x_i) ≠ ŷ(x_j) (between: the border is
    halfway and not through the rows). 0 where there is no such pair, so that a model that says one thing has 0 between.
    Each row is mixed with 5 others, drawn by the seed; never with itself, which would always agree.
    Source: Hu, Liang, Liew, Xue, Bai and Wang (2023), Mixed Samples as Probes for Unsupervised Model Selection in
    Domain Adaptation, NeurIPS, Algorithm 1: λ = 0.55; candidates are then ordered by the mean of both ranks.
    Use when: the rows that go into a candidate can be mixed (columns, pictures, features of a frozen network), and it
    is not linear in them: a linear candidate keeps every answer within.
    Prefer `infomax` for linear heads on the same features: between is then how even its margins are, and no more.

    >>> x = np.array([[0.0], [1.0], [20.0], [21.0]])
    >>> mixval(x, lambda z: np.eye(2)[(z[:, 0] > 10.5).astype(int)])
    (1.0, 1.0)
    >>> mixval(x, lambda z: np.eye(2)[(z[:, 0] > 20.5).astype(int)])  # 21 is alone on its side, and few mixes are there
    (1.0, 0.6666666666666666)
    >>> mixval(x, lambda z: np.eye(2)[np.zeros(len(z), int)])
    (1.0, 0.0)
    """
    if not 0.5 < mix < 1:
        raise UserError(f"mix must be above 0.5 and below 1, got {mix}")
    rows = np.asarray(target, np.float64)
    m = len(rows)
    order = by_content(rows)[np.random.default_rng(seed).permutation(m)]
    ring = rows[order]
    own = np.asarray(predict(ring)).argmax(1)
    kept: dict[bool, list[Floats]] = {True: [], False: []}
    for step in range(1, min(PARTNERS, m - 1) + 1):
        other = np.roll(np.arange(m), -step)
        stays = np.asarray(predict(mix * ring + (1 - mix) * ring[other])).argmax(1) == own
        for same in (True, False):
            kept[same].append(stays[(own == own[other]) == same].astype(np.float64))
    within, between = (np.concatenate(kept[same]) if kept[same] else np.zeros(0) for same in (True, False))
    return float(within.mean()) if len(within) else 0.0, float(between.mean()) if len(between) else 0.0


def mean_ranks(parts: list[tuple[float, float]]) -> Floats:
    """The mean of the ranks in both numbers, 0 (worst) to 1 (best); ½ for one candidate alone.  # (c,)

    >>> mean_ranks([(0.9, 0.5), (1.0, 0.6), (0.8, 0.7)]).tolist()
    [0.25, 0.75, 0.5]
    """
    if len(parts) < 2:
        return np.full(len(parts), 0.5)
    ranks = [rankdata(np.round(values, 9)) for values in zip(*parts, strict=True)]
    return np.asarray((np.mean(ranks, axis=0) - 1) / (len(parts) - 1))


def rankme(features: Floats) -> float:
    """The effective rank of features: exp(−Σ_k p_k log p_k), p_k = σ_k/Σσ + 10⁻⁷, σ the singular values of Z (m, d).

    1 where all rows lie on one line through 0, min(m, d) where they spread evenly; 0 where all are 0. Columns are taken
    as they are, not centred, as in the paper.
    Source: Garrido, Balestriero, Najman and LeCun (2023), RankMe: Assessing the Downstream Performance of Pretrained
    Self-Supervised Representations by Their Rank, ICML, equation 1; the effective rank is that of Roy and Vetterli
    (2007), EUSIPCO.
    Use when: encoders or bottlenecks of one width are compared and one may have collapsed.
    Prefer `class_ami` or `agreement` to order heads: on the same features all have one rank, and answers are not read.

    >>> round(rankme(np.eye(4)), 3), round(rankme(np.ones((4, 3))), 3), rankme(np.zeros((4, 3)))
    (4.0, 1.0, 0.0)
    """
    values = np.linalg.svd(np.asarray(features, np.float64), compute_uv=False)
    if not values.any():
        return 0.0
    shares = values / values.sum() + 1e-7
    return float(np.exp(-(shares * np.log(shares)).sum()))


def class_ami(answers: Ints, clusters: Ints) -> float:
    """Adjusted mutual information of answers and clusters: (I − E I)/(mean of both entropies − E I), 0 by chance.

    E I is that of random answers with the same counts. 0 where all answers, or all clusters, are one: by the formula
    that is 0/0, which scikit-learn takes for 1 where both are.
    Source: Vinh, Epps and Bailey (2010), Journal of Machine Learning Research 11, the adjustment; Musgrave, Belongie
    and Lim (2022), Three New Validators and a Large-Scale Benchmark Ranking for Unsupervised Domain Adaptation
    (ClassAMI): as many k-means clusters of the target's features as there are classes.
    Use when: classes form round clusters of about the same size in what the last layer reads.
    Prefer `neighbour_agreement` where they do not: it asks for neighbours alone, and for no number of clusters.

    >>> class_ami(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0])), class_ami(np.zeros(4, int), np.zeros(4, int))
    (1.0, 0.0)
    """
    from sklearn.metrics import adjusted_mutual_info_score

    if min(len(np.unique(answers)), len(np.unique(clusters))) < 2:
        return 0.0
    return float(adjusted_mutual_info_score(answers, clusters))


def clusters(features: Floats, count: int, seed: int = 0) -> tuple[Ints, Ints]:
    """At most 2,000 rows, and which of `count` k-means clusters each is in; the same for any order of the rows.

    Ten starts by k-means++, columns as they are. Fewer clusters where there are not so many different rows.
    """
    from sklearn.cluster import KMeans

    rows = np.asarray(features, np.float64)
    at = some(rows, seed)
    at = at[by_content(rows[at])]
    count = min(count, len(np.unique(rows[at], axis=0)))
    return at, np.asarray(KMeans(count, n_init=10, random_state=seed).fit_predict(rows[at]), np.int64)
