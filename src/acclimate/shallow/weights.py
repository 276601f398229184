"""Weights for source rows that make them stand for the target: for covariate shift, where p(y | x) is the same."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq, minimize
from sklearn.neighbors import NearestNeighbors

from acclimate.errors import UserError
from acclimate.shallow.base import Floats, Ints, Reweighter, Scale, gaussian, median_square, squared_distances
from acclimate.shallow.domains import tell_apart, units_of

_RIDGE = 1e-3  # added to the diagonal of KMM's kernel: many weightings fit equally well, this takes the evenest
WIDTHS = (4.0, 2.0, 1.0, 0.5, 0.25, 0.125, 0.0625)  # σ over the median distance; of equal ones the widest
_NONE = 1e-100  # a mixture of kernels below this counts as this, where its logarithm is taken


class DensityRatio(Reweighter):
    """Each source row counts as often as it would in the target, by a classifier that tells the domains apart.

    w(x) = p(target | x) / p(source | x) at equal numbers, p from a ridge logistic model that never saw the row, w cut
    at `limit`·√n times its mean (Ionides 2008: √n keeps the variance finite at little bias). Bickel, Brückner and
    Scheffer (2009), Journal of Machine Learning Research 10. Use when the domains overlap: `effective_rows_` says how
    much of the source is left. Prefer a map (`coral`) where they hardly do.
    """

    def __init__(self, limit: float = 1.0, folds: int = 5, seed: int = 0) -> None:
        self.limit = limit
        self.folds = folds
        self.seed = seed

    def _weigh(self, source: Floats, target: Floats) -> Floats:
        if not self.limit > 0:
            raise UserError(f"limit must be above 0, got {self.limit}")
        odds = tell_apart(source, target, folds=self.folds, seed=self.seed).source
        return truncated(np.exp(odds - odds.max()), self.limit)


def truncated(weights: Floats, limit: float = 1.0) -> Floats:
    """Weights cut at limit·√n times their mean.

    >>> truncated(np.array([1.0, 1.0, 1.0, 97.0]), 0.5).tolist()
    [1.0, 1.0, 1.0, 25.0]
    """
    return np.asarray(np.minimum(weights, limit * np.sqrt(len(weights)) * weights.mean()))


class NearestNeighbour(Reweighter):
    """Each source row counts as many times as it is the nearest one to a target row, plus `add`.

    w_i = add + #{j : i = argmin_i ‖x_i - x_j‖}, columns scaled by their deviation over both domains. Loog (2012), IEEE
    MLSP: the density ratio over Voronoi cells, smoothed by Laplace's rule. Use when `density_ratio` is to be
    checked by what makes no model, in few dimensions. Prefer `density_ratio` in many, where a few rows are nearest to
    everything.

    >>> NearestNeighbour().fit([[0.0], [1.0], [0.9], [1.1], [1.2]], domain=[0, 0, 1, 1, 1]).weights_.round(2).tolist()
    [0.4, 1.6, 0.0, 0.0, 0.0]
    """

    def __init__(self, add: float = 1.0) -> None:
        self.add = add

    def _weigh(self, source: Floats, target: Floats) -> Floats:
        if self.add < 0:
            raise UserError(f"add must be 0 or more, got {self.add}")
        scale = Scale.of(np.concatenate([source, target]))
        nearest = NearestNeighbors(n_neighbors=1).fit(scale(source)).kneighbors(scale(target), return_distance=False)
        return self.add + np.bincount(nearest[:, 0], minlength=len(source)).astype(np.float64)


class Kliep(Reweighter):
    """Weights from a mixture of kernels that makes the weighted source as near to the target as KL can tell.

    max_{α≥0} (1/m) Σ_j log w(x_j) over target rows, subject to (1/n) Σ_i w(x_i) = 1 over source rows, w(x) = Σ_l α_l
    exp(-‖x - c_l‖²/2σ²), c_l up to `centres` target rows drawn by the seed, columns scaled by their deviation over both
    domains. Sugiyama, Suzuki, Nakajima, Kashima, von Bünau and Kawanabe (2008), Annals of the Institute of Statistical
    Mathematics 60, equation 8. σ is `width` times the median of ‖x-x'‖; None: that of `WIDTHS` with the largest mean of
    log w on target rows held out in `folds` parts (section 3), whose copies and centres are held out with them. The
    problem is concave and has one value: with γ_l = α_l (1/n) Σ_i k(x_i, c_l) it is that of a mixture's shares, and is
    solved by L-BFGS-B. Nothing of size n x n or m x m is built. Where target rows have no source row near, w there has
    no bound, the narrowest width wins and few source rows keep all the weight: read `effective_rows_`. Use when there
    are few columns and the domains overlap. Prefer a map (`standardise`) in many columns, where they hardly do.
    """

    def __init__(self, width: float | None = None, centres: int = 100, folds: int = 5, seed: int = 0) -> None:
        self.width = width
        self.centres = centres
        self.folds = folds
        self.seed = seed

    def _weigh(self, source: Floats, target: Floats) -> Floats:
        if (self.width is not None and not self.width > 0) or self.centres < 2 or self.folds < 2:
            raise UserError(
                "width must be above 0, centres at least 2 and folds at least 2, got "
                f"{self.width}, {self.centres} and {self.folds}"
            )
        rng, scale = np.random.default_rng(self.seed), Scale.of(np.concatenate([source, target]))
        a, b = scale(source), scale(target)
        at = np.sort(rng.choice(len(b), min(self.centres, len(b)), replace=False))
        units = units_of(b)
        fold = (rng.permutation(int(units.max()) + 1) % self.folds)[units]
        square = median_square(np.concatenate([a, b]), seed=self.seed)
        ours, theirs = (squared_distances(rows, b[at]) / (2 * square) for rows in (a, b))
        self.width_ = _likeliest_width(ours, theirs, fold, at) if self.width is None else self.width
        ours, theirs = ours / self.width_**2, theirs / self.width_**2
        level = _log_mean(-ours)
        return np.asarray(np.exp(-ours - level) @ mixture_shares(-theirs - level))


def _likeliest_width(ours: Floats, theirs: Floats, fold: Ints, at: Ints) -> float:
    """The width with the highest held-out likelihood; 1 where no two target rows differ."""
    if fold.max() == fold.min():
        return 1.0
    found = [(held_out(ours / width**2, theirs / width**2, fold, at), width) for width in WIDTHS]
    return max(found, key=lambda pair: round(pair[0], 9))[1]


def held_out(ours: Floats, theirs: Floats, fold: Ints, at: Ints) -> float:
    """The mean over folds of the mean log w of target rows, w learned without them and without centres among them.

    `ours` (n, c) and `theirs` (m, c) are ‖x - c_l‖²/2σ²; `at` are the centres' places among the target's rows.
    """
    found = []
    for k in range(int(fold.max()) + 1):
        new, own = fold == k, fold[at] != k
        if new.any() and own.any():
            logs = -theirs[:, own] - _log_mean(-ours[:, own])
            shares = mixture_shares(logs[~new])
            top = logs[new].max(1)
            found.append(float((np.log(np.maximum(np.exp(logs[new] - top[:, None]) @ shares, _NONE)) + top).mean()))
    return float(np.mean(found))


def mixture_shares(logs: Floats) -> Floats:
    """γ ≥ 0 with Σγ = 1 that maximises (1/m) Σ_j log Σ_l γ_l exp(logs_jl).  # (c,)

    Of -(1/m) Σ_j log Σ_l γ_l exp(logs_jl) + Σγ the minimum over γ ≥ 0 has Σγ = 1, so that no constraint is left.
    """
    parts = np.exp(logs - logs.max(1, keepdims=True))  # a factor for a row changes no share

    def value(shares: Floats) -> tuple[float, Floats]:
        mixed = np.maximum(parts @ shares, _NONE)
        return float(shares.sum() - np.log(mixed).mean()), 1 - (1 / mixed) @ parts / len(parts)

    count = parts.shape[1]
    found = minimize(
        value,
        np.full(count, 1 / count),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, None)] * count,
        options={"maxiter": 2000, "maxfun": 5000, "ftol": 1e-12, "gtol": 1e-6},
    )
    return np.asarray(found.x / found.x.sum())


def _log_mean(logs: Floats) -> Floats:
    """log of the mean of exp(logs) over rows, one for each column."""
    top = logs.max(0)
    return np.asarray(top + np.log(np.exp(logs - top).mean(0)))


class Kmm(Reweighter):
    """Weights whose weighted source mean is nearest to the target mean in the space of a Gaussian kernel.

    min_w ½ wᵀK w - κᵀw, κ_i = (n/m) Σ_j k(x_i, x_j), subject to 0 ≤ w ≤ `most` and |Σw - n| ≤ ε n, k = exp(-‖x-x'‖² /
    2σ²), σ² the median of ‖x-x'‖² over both domains, columns scaled; ε = (√n-1)/√n unless given. Huang et al. (2007),
    NeurIPS 19, equation 12. Solved by L-BFGS-B inside a search for the multiplier of Σw. Use when some thousand
    rows or fewer overlap with the target. Prefer `density_ratio` with more rows or many columns.
    """

    def __init__(self, most: float = 1000.0, epsilon: float | None = None) -> None:
        self.most = most
        self.epsilon = epsilon

    def _weigh(self, source: Floats, target: Floats) -> Floats:
        n = len(source)
        epsilon = (np.sqrt(n) - 1) / np.sqrt(n) if self.epsilon is None else self.epsilon
        if not self.most >= 1 or not epsilon >= 0:
            raise UserError(f"most must be at least 1 and epsilon at least 0, got {self.most} and {self.epsilon}")
        both = Scale.of(np.concatenate([source, target]))
        a, b = both(source), both(target)
        width = median_square(np.concatenate([a, b]))
        kernel = gaussian(a, a, width)
        kappa = gaussian(a, b, width).mean(1) * n
        kernel[np.diag_indices(n)] += _RIDGE
        return box_program(kernel, kappa, self.most, (n * (1 - epsilon), n * (1 + epsilon)))


def box_program(kernel: Floats, kappa: Floats, most: float, total: tuple[float, float]) -> Floats:
    """min ½ wᵀK w - κᵀw over 0 ≤ w ≤ most with total[0] ≤ Σw ≤ total[1]; K positive definite.  # (n,)"""
    n = len(kappa)
    start = np.ones(n)

    def solved(price: float) -> Floats:
        def value(w: Floats) -> tuple[float, Floats]:
            product = kernel @ w
            return float(w @ (0.5 * product - kappa + price)), product - kappa + price

        found = minimize(
            value,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=[(0.0, most)] * n,
            options={"maxiter": 5000, "maxfun": 20000, "ftol": 1e-13, "gtol": 1e-7 * max(1.0, float(kappa.max()))},
        )
        return np.asarray(found.x)

    free = solved(0.0)
    if total[0] <= free.sum() <= total[1]:
        return free
    goal = total[0] if free.sum() < total[0] else total[1]
    # A higher price lowers the sum: at these two prices every weight is at the top or at 0.
    low, high = float((kappa - kernel.sum(1) * most).min()), float(kappa.max())
    price = brentq(lambda p: float(solved(p).sum()) - goal, low, high, xtol=1e-9 * max(1.0, abs(low)), rtol=1e-10)
    return solved(price)
