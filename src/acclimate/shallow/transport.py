"""Optimal transport between the rows themselves; the solvers are those of POT."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import softmax
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.kernel_ridge import KernelRidge

from acclimate.errors import UserError
from acclimate.shallow.base import (
    SOURCE,
    Adapter,
    Floats,
    Scale,
    fitted,
    matrix,
    median_square,
    pair,
    some,
    squared_distances,
)

_CLOSE = 1e-4  # how far the plan's margins may be off
_FAR = 1e-2  # beyond this it is said


class EntropicTransport(Adapter):
    """Source rows moved to the mean of the target rows that a regularised transport plan sends them to.

    x ↦ Σ_j p_j(x) x_j,  p_j(x) ∝ exp(g_j - ‖x - x_j‖² / ε),  g the dual potential of min_γ ⟨γ, C⟩ + ε Σ γ log γ between
    the domains with equal mass in every row; ε = `regularisation` times the median of ‖x_i - x_j‖² over both domains,
    columns scaled. Cuturi (2013), NeurIPS 26; Courty et al. (2017), IEEE PAMI 39 for the barycentric map; Pooladian and
    Niles-Weed (2021), arXiv:2109.12004, for rows that were not fitted, on which it agrees with the plan. At most `most`
    rows a domain enter the plan. Target rows stay. Use when the domains differ by more than a linear map and hold about
    the same share of each class. Prefer `linear_ot` with few rows: the barycentric mean shrinks the classes together.
    """

    def __init__(self, regularisation: float = 0.02, most: int = 3000, seed: int = 0) -> None:
        self.regularisation = regularisation
        self.most = most
        self.seed = seed

    def _learn(self, source: Floats, target: Floats) -> None:
        if not self.regularisation > 0 or self.most < 2:
            raise UserError(
                f"regularisation must be above 0 and most at least 2, got {self.regularisation} and {self.most}"
            )
        a, self.rows_ = some(source, self.most, self.seed), some(target, self.most, self.seed)
        both = np.concatenate([a, self.rows_])
        self.scale_ = Scale.of(both)
        self.scaled_ = self.scale_(self.rows_)
        self.epsilon_ = self.regularisation * median_square(self.scale_(both), seed=self.seed)
        costs = squared_distances(self.scale_(a), self.scaled_) / self.epsilon_
        even = (np.full(len(a), 1 / len(a)), np.full(len(self.rows_), 1 / len(self.rows_)))
        ot = _pot()
        with np.errstate(over="ignore"):  # of exp(potential), which is not used
            plan, log = ot.sinkhorn(
                *even, costs, 1.0, method="sinkhorn_log", numItermax=5000, stopThr=_CLOSE, log=True, warn=False
            )
        self.error_ = float(np.abs(plan.sum(1) - even[0]).sum() + np.abs(plan.sum(0) - even[1]).sum())
        if self.error_ > _FAR:
            warnings.warn(
                f"the transport plan's margins are still off by {self.error_:.2g}; raise regularisation "
                f"({self.regularisation})",
                stacklevel=3,
            )
        self.potential_ = np.asarray(log["log_v"])

    def _move(self, rows: Floats, side: int) -> Floats:
        if side != SOURCE:
            return rows
        out = np.empty_like(rows)
        for start in range(0, len(rows), 1024):
            block = slice(start, start + 1024)
            costs = squared_distances(self.scale_(rows[block]), self.scaled_) / self.epsilon_
            out[block] = softmax(self.potential_ - costs, axis=1) @ self.rows_
        return out


class JdotRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A regression for the target: its values are transported from the source together with the features.

    min_{γ,f} Σ_ij γ_ij (α ‖x_i - x_j‖² + (y_i - f(x_j))² / var y) + ridge on f, γ a transport plan with equal mass in
    every row, by turns: γ by an exact solver, then f, a kernel ridge on the target rows, on the values ŷ_j = m Σ_i γ_ij
    y_i. Courty, Flamary, Habrard and Rakotomamonjy (2017), NeurIPS 30, Algorithm 1. `fit` reads no y of a target row;
    `alpha` None is the paper's 1 / max ‖x_i - x_j‖². Use when p(x, y) moved as a whole and values are spread alike in
    both domains. Prefer a regression on `coral` or `linear_ot` features with more than some thousand rows.
    """

    def __init__(
        self,
        alpha: float | None = None,
        ridge: float = 1.0,
        kernel: str = "rbf",
        rounds: int = 10,
        most: int = 2000,
        seed: int = 0,
    ) -> None:
        self.alpha = alpha
        self.ridge = ridge
        self.kernel = kernel
        self.rounds = rounds
        self.most = most
        self.seed = seed

    def fit(self, X: ArrayLike, y: ArrayLike, *, domain: ArrayLike) -> Self:
        """Learn from source rows with their values and from target rows without; y holds anything for the latter."""
        if not (self.ridge > 0 and self.rounds >= 1 and self.most >= 2 and (self.alpha is None or self.alpha >= 0)):
            raise UserError("ridge and alpha must not be negative, ridge not 0, rounds at least 1 and most at least 2")
        rows = pair(X, domain)
        self.n_features_in_ = rows.source.shape[1]
        values = _values(y, len(rows.source) + len(rows.target), rows.source_at)
        self.scale_ = Scale.of(np.concatenate([rows.source, rows.target]))
        keep = some(np.arange(len(rows.source), dtype=np.float64)[:, None], self.most, self.seed)[:, 0].astype(int)
        a, b = self.scale_(rows.source[keep]), some(self.scale_(rows.target), self.most, self.seed)
        self.offset_, spread = float(values[keep].mean()), float(values[keep].std()) or 1.0
        known = (values[keep] - self.offset_) / spread
        self.spread_ = spread
        gamma = 0.5 / median_square(np.concatenate([a, b]), seed=self.seed)
        self.model_ = KernelRidge(alpha=self.ridge, kernel=self.kernel, gamma=gamma if self.kernel == "rbf" else None)
        self.objective_ = self._alternate(a, known, b)
        return self

    def _alternate(self, a: Floats, known: Floats, b: Floats) -> tuple[float, ...]:
        """Plan and regression by turns, from f fitted on the source; the objective of every round."""
        ot = _pot()
        distances = squared_distances(a, b)
        distances *= 1 / max(float(distances.max()), 1e-300) if self.alpha is None else self.alpha
        even = (np.full(len(a), 1 / len(a)), np.full(len(b), 1 / len(b)))
        said = self.model_.fit(a, known).predict(b)
        found: list[float] = []
        for _ in range(self.rounds):
            costs = distances + (known[:, None] - said) ** 2
            plan = ot.emd(*even, costs, numItermax=1_000_000)
            carried = len(b) * (plan.T @ known)
            said = self.model_.fit(b, carried).predict(b)
            found.append(self._objective(plan, distances, known, said, b))
            if len(found) > 1 and found[-2] - found[-1] < 1e-7 * abs(found[-2]):
                break
        return tuple(found)

    def _objective(self, plan: Floats, distances: Floats, known: Floats, said: Floats, b: Floats) -> float:
        """What both steps lower: the transport's cost and the ridge term, per target row."""
        held = self.ridge / len(b) * float(self.model_.dual_coef_ @ said)
        return float((plan * (distances + (known[:, None] - said) ** 2)).sum()) + held

    def predict(self, X: ArrayLike) -> Floats:
        """Values of target rows.  # (n,)"""
        model: Any = fitted(self, "model_")
        return np.asarray(self.offset_ + self.spread_ * model.predict(self.scale_(matrix(X, self.n_features_in_))))


def _values(y: ArrayLike, n: int, source_at: Any) -> Floats:
    given = np.asarray(y)
    if given.shape != (n,):
        raise UserError(f"y must hold one value a row: {n} rows, got the shape {given.shape}")
    try:
        values: Floats = given[source_at].astype(np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"the source's values must be numbers: {error}") from error
    if not np.isfinite(values).all():
        raise UserError(f"{int((~np.isfinite(values)).sum())} source rows have no finite value; leave them out")
    return values


def _pot() -> Any:
    try:
        import ot
    except ImportError as error:
        raise UserError("optimal transport needs POT; install it with: pip install 'acclimate[transport]'") from error
    module: Any = ot
    return module
