"""How well features suit a task, without training: scores to order pretrained models by. Curiosities beside a probe.

None of them beats the accuracy of nearest neighbours or of a linear probe on the same features by much, and small
changes of the set-up turn their order round (Agostinelli et al. 2022, arXiv:2204.01403). More is better in all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from acclimate.errors import UserError

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

_TINY = 1e-12
_WIDE = 30.0  # |log α|, |log β|: beyond this nothing more is gained


def logme(features: ArrayLike, labels: ArrayLike) -> float:
    """Log evidence of a linear model, mean over classes: max_{α,β} (1/n) log N(y; 0, β⁻¹I + α⁻¹FFᵀ), y 1 for the class.

    You, Liu, Wang and Long (2021), ICML, with the evidence's −½(d−r) log α, which keeps wide features from winning by
    their width. Numbers as labels (float) are regressed on, without an intercept: centre them. Use when models of one
    kind are ordered in a second. Prefer `knn_accuracy`: it says what it means.

    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=(60, 5)), np.arange(60) % 2
    >>> logme(x + 2 * y[:, None], y) > logme(x, y)
    True
    """
    f, y = _table(features), np.asarray(labels)
    _check(f, y)
    columns = [y.astype(np.float64)] if y.dtype.kind == "f" else list(_indicators(y).T)
    left, sigma, _ = np.linalg.svd(f, full_matrices=False)
    found = []
    for column in columns:
        found.append(_evidence(sigma**2, (left.T @ column) ** 2, float(column @ column), len(f)))
    return float(np.mean(found))


def _evidence(squares: Floats, told: Floats, total: float, n: int) -> float:
    """max over α and β of the log evidence a row: eigenvalues σ²/α + 1/β on the features' axes and 1/β off them."""
    if total <= _TINY:
        return 0.0  # a column of zeros: nothing is to be told
    rest, off = max(total - float(told.sum()), 0.0), n - len(squares)

    def negative(at: Floats) -> tuple[float, Floats]:
        a, noise = np.exp(-at[0]), np.exp(-at[1])
        value = squares * a + noise
        cost = np.log(value).sum() - off * at[1] + (told / value).sum() + rest / noise + n * np.log(2 * np.pi)
        slope = 1 / value - told / value**2
        by_a = -(slope * squares).sum() * a
        by_noise = -(slope.sum() + off / noise - rest / noise**2) * noise
        return 0.5 * float(cost) / n, 0.5 * np.array([by_a, by_noise]) / n

    level = np.log(n / total)
    starts = [np.array([np.log(squares.mean() + _TINY) + s, level + t]) for s in (0.0, 3.0) for t in (0.0, 2.0)]
    limits = [(-_WIDE, _WIDE)] * 2
    return -min(float(minimize(negative, np.clip(s, -_WIDE, _WIDE), jac=True, bounds=limits).fun) for s in starts)


def leep(source_probabilities: ArrayLike, labels: ArrayLike) -> float:
    """mean_i log Σ_z P̂(y_i|z) θ_z(x_i), P̂(y,z) = (1/n) Σ_{i: y_i=y} θ_z(x_i), θ the source model's class probabilities.

    Nguyen, Hassner, Seeger and Archambeau (2020), ICML, equation 2; a source class that is never predicted adds
    nothing. At most 0. Use when the model has a classifier of its own, on other classes. Prefer `logme` on features.

    >>> round(leep([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], [0, 1, 0]), 6)
    0.0
    """
    theta, y = _probabilities(source_probabilities), np.asarray(labels)
    _check(theta, y)
    joint = _indicators(y).T @ theta / len(y)  # (K, Z)
    given = joint / np.maximum(joint.sum(0), _TINY)
    codes = np.unique(y, return_inverse=True)[1].reshape(-1)
    return float(np.log(np.maximum((given[codes] * theta).sum(1), _TINY)).mean())


def nce(source_labels: ArrayLike, labels: ArrayLike) -> float:
    """−H(Y|Z) = Σ_{y,z} p(y,z) log p(y,z)/p(z), Z the classes that the source model predicts, in nats.

    Tran, Nguyen and Hassner (2019), ICCV. At most 0. Use when only the source model's answers are there. Prefer `leep`
    where its probabilities are.

    >>> round(nce(["a", "a", "b", "b"], [0, 1, 1, 1]), 4)
    -0.3466
    """
    z, y = np.asarray(source_labels), np.asarray(labels)
    _check(z, y)
    joint = _indicators(y).T @ _indicators(z) / len(y)
    known = np.broadcast_to(joint.sum(0), joint.shape)[joint > 0]
    return float((joint[joint > 0] * np.log(joint[joint > 0] / known)).sum()) + 0.0


def h_score(features: ArrayLike, labels: ArrayLike) -> float:
    """(1−γ) tr(C_γ⁻¹ cov(E[f|y])), C_γ = (1−γ) cov(f) + γ tr(cov(f))/d I with Ledoit and Wolf's γ.

    Bao et al. (2019), ICIP, shrunk as in Ibrahim, Ponomareva and Mazumder (2022), ECML: without it labels at random get
    the maximum where there are more columns than rows. At least 0. Use when classes are many and rows too. Prefer
    `knn_accuracy` otherwise.
    """
    from sklearn.covariance import ledoit_wolf

    f, y = _table(features), np.asarray(labels)
    _check(f, y)
    f = f - f.mean(0)
    if not np.abs(f).max() > _TINY:
        return 0.0
    covariance, gamma = ledoit_wolf(f, assume_centered=True)
    hot = _indicators(y)
    means = (hot.T @ f) / hot.sum(0)[:, None]
    between = (means * hot.sum(0)[:, None]).T @ means / len(f)
    return float((1 - gamma) * np.trace(np.linalg.pinv(covariance, hermitian=True) @ between))


def transrate(features: ArrayLike, labels: ArrayLike, epsilon: float = 1e-4) -> float:
    """R(Z) − Σ_c (n_c/n) R(Z_c), R(Z) = ½ log det(I + ZᵀZ/(nε)), Z centred as a whole.

    Huang, Zhang, Hu, Lu, Wu and Yang (2022), ICML, equation 5, with the classes' shares that its listing leaves out.
    Use when layers of one network are compared: the scale of the features counts. Prefer `logme` between networks, and
    with two classes: means that lie opposite each other add nothing here.
    """
    f, y = _table(features), np.asarray(labels)
    _check(f, y)
    if not epsilon > 0:
        raise UserError(f"epsilon={epsilon!r} must be above 0")
    f = f - f.mean(0)

    def rate(z: Floats) -> float:
        small = z @ z.T if len(z) < z.shape[1] else z.T @ z
        return 0.5 * float(np.linalg.slogdet(np.eye(len(small)) + small / (len(z) * epsilon))[1])

    parts = [(np.mean(y == c), rate(f[y == c])) for c in np.unique(y)]
    return rate(f) - float(sum(share * r for share, r in parts))


def gbc(features: ArrayLike, labels: ArrayLike) -> float:
    """−Σ_{i≠j} exp(−D_ij), D_ij = ⅛ ΔᵀΣ̄⁻¹Δ + ½ log(|Σ̄|/√(|Σ_i||Σ_j|)): the overlap of Gaussians of the classes.

    Pándy, Agostinelli, Uijlings, Ferrari and Mensink (2022), CVPR, equations 3 and 4, spherical Gaussians. At most 0.
    Use when classes are few and compact. Prefer `knn_accuracy` where they have several clusters.
    """
    f, y = _table(features), np.asarray(labels)
    _check(f, y)
    d, total = f.shape[1], 0.0
    groups = [f[y == c] for c in np.unique(y)]
    means = [g.mean(0) for g in groups]
    floor = max(_TINY, 1e-6 * float(f.var(0).mean()))
    variances = [max(float(g.var(0).mean()), floor) for g in groups]
    for i in range(len(groups)):
        for j in range(len(groups)):
            if i != j:
                middle = (variances[i] + variances[j]) / 2
                apart = float(((means[i] - means[j]) ** 2).sum()) / (8 * middle)
                spread = 0.5 * d * np.log(middle / np.sqrt(variances[i] * variances[j]))
                total += float(np.exp(-(apart + spread)))
    return -total + 0.0


def knn_accuracy(features: ArrayLike, labels: ArrayLike, k: int = 5) -> float:
    """The share of rows whose k nearest others, by cosine, agree on their class; each neighbour votes with its cosine.

    Beats most scores made for the purpose on 16 data sets (Sorkhei et al. 2025, arXiv:2503.18528). Use when models are
    to be ordered and nothing may be trained. Prefer a linear probe: it costs little more.
    """
    f, y = _table(features), np.asarray(labels)
    _check(f, y)
    k = min(k, len(f) - 1)
    if k < 1:
        raise UserError("nearest neighbours need two rows or more")
    f = f / np.maximum(np.linalg.norm(f, axis=1, keepdims=True), _TINY)
    hot, right = _indicators(y), 0
    codes = np.unique(y, return_inverse=True)[1].reshape(-1)
    for start in range(0, len(f), 1024):  # never n × n in memory
        block = f[start : start + 1024] @ f.T
        own = np.arange(len(block))
        block[own, start + own] = -np.inf
        near = np.argpartition(-block, k - 1, axis=1)[:, :k]
        votes = np.einsum("nk,nkc->nc", np.take_along_axis(block, near, 1) + 1.0, hot[near])
        right += int((votes.argmax(1) == codes[start : start + 1024]).sum())
    return right / len(f)


SCORES: dict[str, Callable[[Any, Any], float]] = {  # of features and labels, the most trusted first
    "knn_accuracy": knn_accuracy, "logme": logme, "h_score": h_score, "transrate": transrate, "gbc": gbc,
}  # fmt: skip


def _indicators(y: Any) -> Floats:
    """One column a class that occurs, (n, K): gaps among codes do not matter."""
    names, codes = np.unique(y, return_inverse=True)
    return np.eye(len(names))[codes.reshape(-1)]


def _table(values: ArrayLike) -> Floats:
    table = np.asarray(values, np.float64)
    if table.ndim != 2 or not table.size:
        raise UserError(f"features must be a table of rows and columns, got the shape {table.shape}")
    if not np.isfinite(table).all():
        raise UserError("features hold NaN or infinity; fill or remove those rows first")
    return table


def _probabilities(values: ArrayLike) -> Floats:
    table = _table(values)
    if table.min() < 0 or np.abs(logsumexp(np.log(np.maximum(table, 1e-300)), axis=1)).max() > 1e-3:
        raise UserError("the source model's probabilities must be 0 or more and add up to 1 in every row")
    return table


def _check(rows: Any, labels: Any) -> None:
    if labels.ndim != 1 or len(labels) != len(rows):
        raise UserError(f"one label a row is needed: {len(rows)} rows and labels of the shape {labels.shape}")
