"""Class shares of the target under label shift: p(x | y) is the same in both domains and only p(y) has moved."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize, nnls
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from acclimate.errors import UserError
from acclimate.shallow.base import Floats, Ints, Scale, matrix
from acclimate.shallow.domains import STRENGTHS, units_of

RESAMPLES = 200
_TINY = 1e-12


@dataclass(frozen=True)
class Prior:
    """Class shares in the target, believed only where label shift is all that happened (see `explained`)."""

    method: str
    source: tuple[float, ...]  # shares in the source
    target: tuple[float, ...]
    low: tuple[float, ...]  # 95 % bootstrap over the rows of both domains
    high: tuple[float, ...]
    condition: float  # of the confusion matrix; how much noise is blown up

    @property
    def weights(self) -> Floats:
        """What a row of each class is to count, target share / source share.  # (K,)"""
        return np.asarray(np.array(self.target) / np.array(self.source))

    @property
    def moved(self) -> bool:
        """Whether some class's interval leaves out its share in the source."""
        return any(not lo <= s <= hi for s, lo, hi in zip(self.source, self.low, self.high, strict=True))

    def to_json(self) -> dict[str, Any]:
        """Plain values, named."""
        return asdict(self)


def bbse(proba: ArrayLike, labels: ArrayLike, target: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Prior:
    """Black-box shift estimation: the mixture of the source's predictions by class that gives the target's.

    Solve C w = q with C_{ij} = p_s(ŷ=i, y=j), q_i = p_t(ŷ=i), w ≥ 0; the share of class j is w_j p_s(y=j), brought to
    sum 1. Lipton, Wang and Smola (2018), ICML, equation 3. `proba` (n, K) must be predicted out of fold; `target` is
    (m, K), or (folds, m, K) from each fold's model, so that C and q speak of the same models. Use when the classifier
    is poorly calibrated. Prefer `em` where it can be calibrated: less noise.
    """
    p, y, t = _checked(proba, labels, target)
    said = np.eye(p.shape[1])[p.argmax(1)]
    told = np.eye(p.shape[1])[t.argmax(-1)].mean(0)

    def estimate(w: Floats, v: Floats) -> Floats:
        joint, shares = _joint(said, y, w)
        return _solved(joint, v @ told / v.sum(), shares)

    joint, _ = _joint(said, y, np.ones(len(y)))
    return _with_interval("BBSE", estimate, y, len(told), p.shape[1], float(np.linalg.cond(joint)), resamples, seed)


def em(proba: ArrayLike, labels: ArrayLike, target: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Prior:
    """Maximum likelihood of the target's class shares, by expectation maximisation on calibrated probabilities.

    π_j ← mean_i  r_j p_ij / Σ_k r_k p_ik,  r = π / π_s. Saerens, Latinne and Decaestecker (2002), Neural Computation
    14; p is first calibrated on the source (one temperature and a shift for each class: Alexandari, Kundaje and
    Shrikumar 2020, ICML), anew in every resample. Arguments as in `bbse`. Use when label shift is all that happened.
    Where it is not, a confident wrong answer follows: ask `explained` first.
    """
    p, y, t = _checked(proba, labels, target)
    known, new = np.log(np.maximum(p, _TINY)), np.log(np.maximum(t, _TINY)).mean(0)
    joint, _ = _joint(np.eye(p.shape[1])[p.argmax(1)], y, np.ones(len(y)))
    start = fit_calibration(known, y, np.ones(len(y)), None)

    def estimate(w: Floats, v: Floats) -> Floats:
        settings = fit_calibration(known, y, w, start)
        shares = np.bincount(y, w, p.shape[1]) / w.sum()
        return maximised(calibrated(new, settings), shares, v)

    return _with_interval("EM", estimate, y, len(new), p.shape[1], float(np.linalg.cond(joint)), resamples, seed)


def held_out(
    source: ArrayLike, labels: ArrayLike, target: ArrayLike, *, groups: ArrayLike | None = None, seed: int = 0
) -> tuple[Floats, Floats]:
    """Class probabilities of source rows from models that never saw them (n, K), and every model's of the target rows
    (5, m, K): what `bbse` and `em` need. Ridge logistic models on scaled features, the strength with the lowest
    held-out
    log loss; equal rows and groups are held out together."""
    a, b, y = matrix(source), matrix(target), np.asarray(labels)
    units = units_of(a, groups)
    folds = list(StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(a, y, units))
    classes = np.unique(y)
    if any(len(np.unique(y[learn])) < len(classes) for learn, _ in folds):
        raise UserError(
            "a class has too few different source rows or groups to be in every fold; class shares need 2 or more"
        )
    best: tuple[float, Floats, Floats] | None = None
    for strength in STRENGTHS:
        p, t = np.empty((len(a), len(classes))), []
        for learn, judge in folds:
            scale = Scale.of(a[learn])
            model = LogisticRegression(C=strength, max_iter=2000).fit(scale(a[learn]), y[learn])
            p[judge] = model.predict_proba(scale(a[judge]))
            t.append(model.predict_proba(scale(b)))
        loss = -float(np.log(np.maximum(p[np.arange(len(y)), np.searchsorted(classes, y)], _TINY)).mean())
        if best is not None and loss >= best[0]:
            break
        best = (loss, p, np.array(t))
    assert best is not None
    return best[1], best[2]


def maximised(proba: Floats, source: Floats, weights: Floats, *, steps: int = 2000) -> Floats:
    """The class shares at which the likelihood of the rows is highest, from p(y|x) under the source's shares.  # (K,)

    >>> maximised(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), np.array([0.5, 0.5]), np.ones(3)).round(3).tolist()
    [0.667, 0.333]
    """
    likelihood = proba / np.maximum(source, _TINY)
    mass = weights / weights.sum()
    shares = source.copy()
    for _ in range(steps):
        joint = likelihood * shares
        new = mass @ (joint / joint.sum(1, keepdims=True))
        gap, shares = float(np.abs(new - shares).max()), new
        if gap < 1e-7:
            break
    return shares


def fit_calibration(log_proba: Floats, labels: Ints, weights: Floats, start: Floats | None) -> Floats:
    """Temperature and shifts (1/T, b_1 ... b_K) at the lowest log loss of softmax(log p / T + b); b is held weakly."""
    k = log_proba.shape[1]
    mass = weights / weights.sum()
    truth = np.eye(k)[labels]

    def loss(settings: Floats) -> tuple[float, Floats]:
        scores = log_softmax(log_proba * settings[0] + settings[1:], axis=1)
        error = mass[:, None] * (np.exp(scores) - truth)
        value = -float(mass @ scores[np.arange(len(labels)), labels]) + 0.5e-6 * float(settings[1:] @ settings[1:])
        slope = np.concatenate([[(error * log_proba).sum()], error.sum(0) + 1e-6 * settings[1:]])
        return value, slope

    first = np.concatenate([[1.0], np.zeros(k)]) if start is None else start
    bounds = [(1e-3, 1e3), *[(None, None)] * k]
    return np.asarray(minimize(loss, first, jac=True, method="L-BFGS-B", bounds=bounds).x)


def calibrated(log_proba: Floats, settings: Floats) -> Floats:
    """softmax(log p / T + b).  # (n, K)"""
    return np.asarray(np.exp(log_softmax(log_proba * settings[0] + settings[1:], axis=1)))


def _checked(proba: ArrayLike, labels: ArrayLike, target: ArrayLike) -> tuple[Floats, Ints, Floats]:
    p, t = np.asarray(proba, np.float64), np.asarray(target, np.float64)
    t = t[None] if t.ndim == 2 else t
    y = np.asarray(labels)
    if p.ndim != 2 or t.ndim != 3 or p.shape[1] != t.shape[2] or y.shape != (len(p),) or not t.shape[1]:
        raise UserError(
            f"needed: probabilities (n, K), labels (n,) and the target's probabilities (m, K); got the shapes "
            f"{p.shape}, {y.shape} and {np.shape(target)}"
        )
    k = p.shape[1]
    if y.dtype.kind not in "iu" or len(y) == 0 or y.min() < 0 or y.max() >= k:
        raise UserError(f"labels must be whole numbers from 0 to {k - 1}, the columns of the probabilities")
    absent = sorted(set(range(k)) - set(y.tolist()))
    if absent:
        raise UserError(f"no source row has class {absent[0]}: its share in the target cannot be estimated")
    return p, y.astype(np.int64), t


def _joint(said: Floats, labels: Ints, weights: Floats) -> tuple[Floats, Floats]:
    """p(ŷ=i, y=j) and p(y=j)."""
    truth = np.eye(said.shape[1])[labels] * (weights / weights.sum())[:, None]
    return said.T @ truth, truth.sum(0)


def _solved(joint: Floats, told: Floats, shares: Floats) -> Floats:
    """Class shares w·p_s(y) with C w = q, w ≥ 0 and Σ w·p_s(y) = 1 (by its weight in the least squares)."""
    k = len(told)
    held = 1e3 * np.append(shares, 1.0)
    w = nnls(np.vstack([joint, held[:k]]), np.append(told, held[k]))[0]
    found = w * shares
    return np.asarray(found / found.sum())


def _with_interval(
    method: str, estimate: Any, labels: Ints, m: int, k: int, condition: float, resamples: int, seed: int
) -> Prior:
    n = len(labels)
    value = estimate(np.ones(n), np.ones(m))
    rng = np.random.default_rng(seed)
    draws: list[Floats] = []
    while len(draws) < resamples:
        w = rng.multinomial(n, np.full(n, 1 / n)).astype(np.float64)
        if (np.bincount(labels, w, k) > 0).all():
            draws.append(estimate(w, rng.multinomial(m, np.full(m, 1 / m)).astype(np.float64)))
    low, high = np.quantile(np.array(draws), (0.025, 0.975), axis=0) if draws else (value, value)
    shares = np.bincount(labels, minlength=k) / n
    return Prior(
        method,
        tuple(shares.tolist()),
        tuple(value.tolist()),
        tuple(np.minimum(low, value).tolist()),
        tuple(np.maximum(high, value).tolist()),
        condition,
    )
