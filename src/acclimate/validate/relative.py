"""Scores by another model: one that learns from a candidate's answers, or all other candidates together."""

from __future__ import annotations

import numpy as np

from acclimate.validate.base import Candidate, Floats, Ints

STRENGTH = 1.0  # C of the probe of `circular`, for features whose mean squared length is one


def circular(source: Floats, target: Floats, answers: Ints, labels: Ints, classes: int) -> float:
    """There and back: a probe learns the target's answers, and is judged by the source's labels.

    Formula: W = argmin Σ_j ‖W f_j + b − y_j‖² + ‖W‖²/(2C) over target rows f with y the one-hot answers, C = 1; the
    value is the mean over classes of the share of source rows that W gives their label, which is 1/K for a probe that
    learned one class. Columns are standardised by the target's rows, for both.
    Source: Zhong, Fan, Yang, Verscheure and Ren (2010), Cross Validation Framework to Choose amongst Models and
    Datasets for Transfer Learning (reverse validation), ECML PKDD; Ganin et al. (2016), section 5.1.4.
    Use when: both domains can be told apart by one linear head on the same features.
    Prefer `infomax` for self-training on unchanged features: its answers are a linear rule, which always comes back.

    >>> x = np.array([[0.0], [1.0], [10.0], [11.0]])
    >>> circular(x, x, np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]), 2)
    1.0
    >>> circular(x, x, np.array([0, 0, 0, 0]), np.array([0, 0, 1, 1]), 2)
    0.5
    """
    mean, spread = target.mean(0), target.std(0)
    spread = np.where(spread > 1e-9 * max(1.0, float(np.abs(target).max())), spread, 1.0) * np.sqrt(target.shape[1])
    f, g = (target - mean) / spread, (source - mean) / spread
    y = np.eye(classes)[answers]
    weight = np.linalg.solve(f.T @ f + np.eye(f.shape[1]) / (2 * STRENGTH), f.T @ (y - y.mean(0)))
    back = (g @ weight + y.mean(0)).argmax(1)
    there = [k for k in range(classes) if (labels == k).any()]
    return float(np.mean([(back[labels == k] == k).mean() for k in there]))


def agreement(candidates: list[Candidate]) -> Floats:
    """The share of target rows where a candidate answers as all others do together; a candidate alone has 1.  # (c,)

    Formula: a_c = (1/m) Σ_j [argmax_k p^c_jk = argmax_k Σ_{o≠c} p^o_jk].
    Source: the vote of an ensemble as a reference (Platanios, Blum and Mitchell 2014, Estimating Accuracy from
    Unlabeled Data, UAI, use agreement rates so).
    Use when: candidates are of several kinds. What most of them get wrong is right by this score.
    Prefer `infomax` where nearly all candidates are settings of one method: they agree with each other.

    >>> sure = np.eye(2)[[0, 1]]
    >>> said = (("a", sure), ("b", sure), ("c", sure), ("d", sure[::-1]))
    >>> agreement([Candidate(name, sure, p) for name, p in said]).tolist()
    [1.0, 1.0, 1.0, 0.0]
    """
    if len(candidates) == 1:
        return np.ones(1)
    total = np.sum([c.target for c in candidates], axis=0)
    return np.array([float((c.target.argmax(1) == (total - c.target).argmax(1)).mean()) for c in candidates])
