"""Scores from the target's predictions and features alone. More is better."""

from __future__ import annotations

import numpy as np

from acclimate.validate.base import Floats, entropy, shares

SHARP = 0.05  # the temperature of SND
LEAST_SHARE = 0.5  # rows added to the count of every class, so that none has share 0


def confidence(target: Floats) -> float:
    """How sure single predictions are: −(1/m) Σ_i H(p_i), H(p) = −Σ_k p_k log p_k.

    Source: Morerio, Cavazza and Murino (2018), Minimal-Entropy Correlation Alignment, ICLR, section 4.
    Use when: never alone; a model that gives one class to every row reaches the best value.
    Prefer `infomax`, which sees that.

    >>> round(confidence(np.array([[0.5, 0.5], [1.0, 0.0]])), 4)
    -0.3466
    """
    return -float(entropy(target).mean())


def infomax(target: Floats) -> float:
    """The mutual information of row and answer: I = H(p̄) − (1/m) Σ_i H(p_i), p̄ the mean prediction; 0 to log K.

    Source: Krause, Perona and Gomes (2010), Discriminative Clustering by Regularized Information Maximization, NIPS,
    equation 1; as a validator: Musgrave et al. (2022), Three New Validators and a Large-Scale Benchmark.
    Use when: classes have about the same shares in both domains.
    Prefer `plausible_shares` beside it where they may not: this one rewards equal shares.

    >>> sure, constant = np.eye(2)[[0, 1, 0, 1]], np.eye(2)[[0, 0, 0, 0]]
    >>> round(infomax(sure), 4), infomax(constant), infomax(np.full((4, 2), 0.5))
    (0.6931, 0.0, 0.0)
    """
    return max(0.0, float(entropy(target.mean(0)) - entropy(target).mean()))


def neighbourhood_density(target: Floats, labels_shares: Floats, temperature: float = SHARP) -> float:
    """How many alike predictions every row has around it, times how much the predictions tell apart (the guard).

    Formula: q_ij = softmax_{j≠i}(cos(p_i, p_j)/T), SND = (1/m) Σ_i −Σ_{j≠i} q_ij log q_ij; the diagonal is left out,
    not set to a small number. Guard: SND · min(1, I/H(π)), I the `infomax` of the predictions, H(π) the entropy of the
    source's class shares. Without it a model that gives all rows the same answer has the highest value there is,
    log(m − 1); with it, 0.
    Source: Saito et al. (2021), Tune it the Right Way: Unsupervised Validation of Domain Adaptation via Soft
    Neighborhood Density, ICCV, equations 2-4; the guard is ours.
    Use when: candidates differ in how they cluster the target.
    Prefer `infomax` with fewer than some hundred target rows.

    >>> sure, constant = np.eye(2)[[0, 1] * 4], np.eye(2)[[0] * 8]
    >>> round(neighbourhood_density(sure, np.array([0.5, 0.5])), 4)  # log 3: three others say the same
    1.0986
    >>> neighbourhood_density(constant, np.array([0.5, 0.5]))
    0.0
    """
    full = float(entropy(labels_shares))
    guard = min(1.0, infomax(target) / full) if full > 0 else 1.0
    return guard * soft_density(target, temperature)


def soft_density(target: Floats, temperature: float = SHARP) -> float:
    """SND without the guard, in blocks of rows."""
    m = len(target)
    if m < 2:
        return 0.0
    unit = target / np.sqrt((target**2).sum(1, keepdims=True))
    total = 0.0
    for start in range(0, m, 512):
        logits = unit[start : start + 512] @ unit.T / temperature
        at = np.arange(len(logits))
        logits[at, at + start] = -np.inf
        logits -= logits.max(1, keepdims=True)
        mass = np.exp(logits)
        whole = mass.sum(1)
        logits[at, at + start] = 0.0  # 0·log 0 = 0: the mass there is 0
        total += float((np.log(whole) - (mass * logits).sum(1) / whole).sum())
    return total / m


def nuclear_norm(target: Floats) -> float:
    """Sure and diverse predictions have large singular values: ‖P‖_*/√(m·min(m, K)), P (m, K); 0 to 1.

    Source: Cui et al. (2020), Towards Discriminability and Diversity: Batch Nuclear-norm Maximization, CVPR, eq. 7.
    Use when: rare classes must not vanish. The norm is that of all rows, so that it does not depend on a batch size.
    Prefer `infomax` with two classes, where both say the same.

    >>> round(nuclear_norm(np.eye(2)[[0, 1, 0, 1]]), 4), round(nuclear_norm(np.eye(2)[[0, 0, 0, 0]]), 4)
    (1.0, 0.7071)
    """
    m, k = target.shape
    return float(np.linalg.svd(target, compute_uv=False).sum() / np.sqrt(m * min(m, k)))


def plausible_shares(target: Floats, labels_shares: Floats, factor: float = 1.5) -> float:
    """0 where every class has about its source share among the answers, below 0 by how far the worst is beyond that.

    Formula: −max_k max(0, |log(q_k/π_k)| − log `factor`), q the shares of the answers on the target with half a row
    added to each class, π those of the source, which are never below 1/(2m).
    Source: ours; the constraint is that of class-balanced self-training (Zou et al. 2018, ECCV).
    Use when: class shares are believed to be alike; as a guard beside a score that can collapse.
    Prefer to leave it out where the target is known to have other shares.

    >>> plausible_shares(np.eye(2)[[0, 1, 0, 1]], np.array([0.5, 0.5]))
    0.0
    >>> round(plausible_shares(np.eye(2)[[0, 0, 0, 0]], np.array([0.5, 0.5]), factor=2.0), 4)  # log(0.5/0.1) − log 2
    -0.9163
    """
    m, k = target.shape
    found = (shares(target) * m + LEAST_SHARE) / (m + LEAST_SHARE * k)
    ratio = np.abs(np.log(found / np.maximum(labels_shares, LEAST_SHARE / m)))
    return min(0.0, float(np.log(factor) - ratio.max()))
