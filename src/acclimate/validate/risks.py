"""Risks from labelled source rows: as they are, or weighted so that they stand for the target. Less is better."""

from __future__ import annotations

import numpy as np

from acclimate.errors import UserError
from acclimate.validate.base import LEAST, Floats, Ints

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C of the domain classifier, from strongly to weakly held
_EDGE = 1e-6  # the domain classifier's probabilities stay this far from 0 and 1


def source_risk(losses: Floats) -> float:
    """The mean loss on held-out source rows: R = (1/n) Σ_i ℓ_i.

    Source: the plain hold-out estimate (Stone 1974, Journal of the Royal Statistical Society B 36).
    Use when: never alone; it says that a candidate has not broken what it knew. It is blind to the target.

    >>> source_risk(np.array([0.0, 1.0, 0.0, 0.0]))
    0.25
    """
    return float(np.mean(_checked(losses, np.ones(len(losses)))[0]))


def importance_weighted(losses: Floats, weights: Floats) -> float:
    """The target's risk from source rows that count by the density ratio: R = (1/n) Σ_i w_i ℓ_i, w = p_t(x)/p_s(x).

    Source: Sugiyama, Krauledat and Müller (2007), Covariate Shift Adaptation by Importance Weighted Cross Validation,
    Journal of Machine Learning Research 8, equation 9.
    Use when: the domains overlap and p(y | x) is the same; few dimensions.
    Prefer `deep_embedded` nearly always: the same expectation, a smaller variance.

    >>> importance_weighted(np.array([0.0, 1.0, 0.0, 1.0]), np.array([2.0, 0.5, 1.0, 0.5]))
    0.25
    """
    losses, weights = _checked(losses, weights)
    return float(np.mean(weights * losses))


def deep_embedded(losses: Floats, weights: Floats) -> float:
    """The importance-weighted risk with a control variate, since the mean of the weights is known to be 1.

    Formula: R = mean(wℓ) + η·mean(w) − η, η = −Cov(wℓ, w)/Var(w); η = 0 where the weights do not vary. NaN, which
    means "no answer", where every weight is 0: no source row looks like the target.
    Source: You, Wang, Long and Jordan (2019), Towards Accurate Model Selection in Deep Unsupervised Domain Adaptation
    (DEV), ICML, equations 7-8.
    Use when: the domains overlap in the features of the candidate and p(y | x) is the same.
    Prefer `infomax` where they do not overlap: a few rows then hold all the weight.

    >>> round(deep_embedded(np.array([0.0, 1.0, 0.0, 1.0]), np.array([2.0, 0.5, 1.0, 0.5])), 9)  # mean(w) is 1 already
    0.25
    >>> round(deep_embedded(np.ones(4), np.array([3.0, 1.0, 1.0, 1.0])), 9)  # every loss is 1, and so is the risk
    1.0
    """
    losses, weights = _checked(losses, weights)
    if not weights.any():
        return float("nan")
    weighted = weights * losses
    apart = weights - weights.mean()
    variance = float(np.mean(apart**2))
    eta = 0.0
    if variance > 1e-12 * float(weights.max()) ** 2:  # else they differ by rounding alone
        eta = -float(np.mean((weighted - weighted.mean()) * apart)) / variance
    return float(weighted.mean() + eta * weights.mean() - eta)


def zero_one(probabilities: Floats, labels: Ints) -> Floats:
    """1 where the likeliest class is not the label, else 0.  # (n,)"""
    return np.asarray(probabilities.argmax(1) != labels, np.float64)


def log_loss(probabilities: Floats, labels: Ints) -> Floats:
    """−log p(label).  # (n,)"""
    return np.asarray(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], LEAST)))


def ratio_of(target_probability: Floats, n: int, m: int) -> Floats:
    """w = (n/m)·p(t|x)/p(s|x) from a classifier of n source and m target rows; finite also where p(s|x) = 0.  # (n,)

    Source: Bickel, Brückner and Scheffer (2007), Discriminative Learning for Differing Training and Test Distributions.

    >>> ratio_of(np.array([0.5, 0.8]), 100, 50).round(6).tolist()
    [2.0, 8.0]
    """
    p = np.clip(target_probability, _EDGE, 1 - _EDGE)
    return np.asarray(n / m * p / (1 - p))


def density_ratio(source: Floats, target: Floats, *, folds: int = 5, seed: int = 0) -> Floats:
    """w(x) = p_t(x)/p_s(x) of every source row, by a logistic domain classifier that never saw the row.  # (n,)

    Columns are standardised over both domains; each side counts half; C is the one of `STRENGTHS` with the lowest
    held-out log loss, and the search ends once the loss rises. Weights are cut at √n times their mean (Ionides 2008),
    which keeps their variance finite. The same rows in another order give other folds, and so slightly other weights.
    """
    from sklearn.linear_model import LogisticRegression

    n, m = len(source), len(target)
    if min(n, m) < 2:
        raise UserError(f"a density ratio needs 2 rows a domain, got {n} of the source and {m} of the target")
    rows = np.concatenate([source, target])
    spread = rows.std(0)
    rows = (rows - rows.mean(0)) / np.where(spread > 1e-9 * max(1.0, float(np.abs(rows).max())), spread, 1.0)
    side = np.repeat([0, 1], [n, m])
    rng, parts = np.random.default_rng(seed), min(folds, n, m)
    fold = np.concatenate([rng.permutation(np.arange(size) % parts) for size in (n, m)])
    half = 0.5 * (n + m) / np.bincount(side)[side]
    best = (np.inf, np.zeros(n + m))
    for strength in STRENGTHS:
        odds = np.empty(n + m)
        for k in range(parts):
            model = LogisticRegression(C=strength, max_iter=2000)
            model.fit(rows[fold != k], side[fold != k], sample_weight=half[fold != k])
            odds[fold == k] = model.decision_function(rows[fold == k])
        loss = float((half * np.logaddexp(0, (1 - 2 * side) * odds)).mean())
        if loss >= best[0]:
            break
        best = (loss, odds)
    # Each side counted half, so that the odds need no factor n/m any more.
    weights = ratio_of(1 / (1 + np.exp(-np.clip(best[1][:n], -30, 30))), 1, 1)
    return np.asarray(np.minimum(weights, np.sqrt(n) * weights.mean()))


def _checked(losses: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """One loss and one weight a row: shapes (n,) and (n, 1) would silently give an n x n product."""
    losses, weights = np.asarray(losses, np.float64), np.asarray(weights, np.float64)
    if losses.ndim != 1 or losses.shape != weights.shape or not len(losses):
        raise UserError(f"one loss and one weight a row are needed, got the shapes {losses.shape} and {weights.shape}")
    if not np.isfinite(weights).all() or weights.min() < 0:
        raise UserError("weights must be finite and not negative")
    return losses, weights
