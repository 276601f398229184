"""What the methods on features share: the rows of two domains in one table, in an order that content alone decides."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from acclimate.errors import UserError

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

SOURCE, TARGET = 0, 1


class Pair(NamedTuple):
    """The rows of both domains, each in an order that depends on their content alone, and where they stood."""

    source: Floats  # (n, d)
    target: Floats  # (m, d)
    source_at: Ints  # (n,) positions in the table
    target_at: Ints  # (m,)


def matrix(X: ArrayLike, width: int | None = None) -> Floats:
    """X as a finite float64 table (n, d)."""
    try:
        table = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"features must be numbers: {error}") from error
    if table.ndim != 2 or table.shape[1] == 0:
        raise UserError(f"features must be a table of rows and columns, got the shape {table.shape}")
    if not np.isfinite(table).all():
        rows = np.flatnonzero(~np.isfinite(table).all(1))
        raise UserError(
            f"{len(rows)} rows hold NaN or infinity (the first is row {rows[0]}); fill or remove them first"
        )
    if width is not None and table.shape[1] != width:
        raise UserError(f"fitted on {width} columns, got {table.shape[1]}")
    return table


def domains(domain: ArrayLike | None, n: int) -> Ints:
    """0 (source) or 1 (target) for each of n rows; a single number speaks for all of them, None says target."""
    if domain is None:
        return np.full(n, TARGET, np.int64)
    given = np.asarray(domain)
    if given.ndim == 0:
        given = np.broadcast_to(given, (n,))
    if given.shape != (n,):
        raise UserError(f"domain must hold one number a row: {n} rows, got the shape {given.shape}")
    if given.dtype.kind not in "biuf" or not np.isin(given, (SOURCE, TARGET)).all():
        wrong = sorted({str(value) for value in given.tolist()} - {"0", "1", "0.0", "1.0", "False", "True"})
        raise UserError(f"domain must be 0 (source) or 1 (target) in every row, got {', '.join(wrong[:5])}")
    return given.astype(np.int64)


def pair(X: ArrayLike, domain: ArrayLike, *, fewest: int = 2) -> Pair:
    """Both domains of one table. Sums then run in the same order however the rows were shuffled."""
    table = matrix(X)
    sides = domains(domain, len(table))
    at = [np.flatnonzero(sides == side) for side in (SOURCE, TARGET)]
    for name, rows in zip(("source (0)", "target (1)"), at, strict=True):
        if len(rows) < fewest:
            raise UserError(f"domain marks {len(rows)} rows as {name}; at least {fewest} are needed")
    source_at, target_at = (rows[by_content(table[rows])] for rows in at)
    return Pair(table[source_at], table[target_at], source_at, target_at)


def by_content(table: Floats) -> Ints:
    """The order of the rows by their bytes: the same for every shuffle of them, ties being equal rows."""
    whole = np.ascontiguousarray(table + 0.0)  # -0.0 and 0.0 are one number
    return np.argsort(whole.view(np.dtype((np.void, whole.itemsize * whole.shape[1]))).ravel(), kind="stable")


def some(rows: Floats, most: int, seed: int) -> Floats:
    """At most `most` of rows that are in order of content, drawn by the seed."""
    if len(rows) <= most:
        return rows
    return rows[np.sort(np.random.default_rng(seed).choice(len(rows), most, replace=False))]


def squared_distances(a: Floats, b: Floats) -> Floats:
    """‖a_i - b_j‖², never below 0.  # (n, m)"""
    cross = a @ b.T
    cross *= -2.0
    cross += (a * a).sum(1)[:, None]
    cross += (b * b).sum(1)
    return np.maximum(cross, 0.0, out=cross)


def median_square(rows: Floats, *, most: int = 500, seed: int = 0) -> float:
    """The median of ‖x_i - x_j‖² over pairs of different rows (of at most `most`); 1 where most rows are the same."""
    few = some(rows, most, seed)
    i, j = np.triu_indices(len(few), 1)
    return float(np.median(squared_distances(few, few)[i, j])) or 1.0


def gaussian(a: Floats, b: Floats, square: float) -> Floats:
    """exp(-‖a_i - b_j‖² / 2σ²), `square` being σ².  # (n, m)"""
    distances = squared_distances(a, b)
    distances /= -2 * square
    return np.asarray(np.exp(distances, out=distances))


class Scale(NamedTuple):
    """Columns moved to mean 0 and brought to deviation 1; a column that does not vary is only moved."""

    mean: Floats  # (d,)
    deviation: Floats  # (d,)

    @staticmethod
    def of(rows: Floats) -> Scale:
        """From these rows."""
        mean = rows.mean(0)
        deviation = np.sqrt(((rows - mean) ** 2).mean(0))
        varies = deviation > 1e-12 * np.maximum(np.abs(rows).max(0), 1e-300)
        return Scale(mean, np.where(varies, deviation, 1.0))

    def __call__(self, rows: Floats) -> Floats:
        """The rows, scaled."""
        return np.asarray((rows - self.mean) / self.deviation)


class Adapter(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A map of features that is fitted on rows of both domains and reads no label (`Jda` alone: those of the source).

    `fit(X, domain=d)` with d 0 (source) or 1 (target) in each row; `transform(X, domain=d)` gives the same rows in the
    same order. Without `domain`, transform takes its rows to be of the target: what a model is used on.
    """

    def fit(self, X: ArrayLike, y: object = None, *, domain: ArrayLike) -> Self:
        """Learn from all rows; `y` is there for scikit-learn's pipelines and is not read."""
        rows = pair(X, domain)
        self.n_features_in_ = rows.source.shape[1]
        self._learn(rows.source, rows.target)
        return self

    def transform(self, X: ArrayLike, *, domain: ArrayLike | None = None) -> Floats:
        """The mapped rows, in the order given."""
        if not hasattr(self, "n_features_in_"):
            raise UserError(f"{type(self).__name__} is not fitted yet; call fit(X, domain=...) first")
        table = matrix(X, self.n_features_in_)
        sides = domains(domain, len(table))
        source, target = sides == SOURCE, sides == TARGET
        parts = (self._move(table[source], SOURCE), self._move(table[target], TARGET))
        out = np.empty((len(table), parts[0].shape[1]))
        out[source], out[target] = parts
        return out

    def fit_transform(self, X: ArrayLike, y: object = None, *, domain: ArrayLike) -> Floats:
        """Fit, and give the mapped rows."""
        return self.fit(X, y, domain=domain).transform(X, domain=domain)

    @abstractmethod
    def _learn(self, source: Floats, target: Floats) -> None:
        """Set what is fitted, from source (n, d) and target (m, d)."""

    @abstractmethod
    def _move(self, rows: Floats, side: int) -> Floats:
        """Rows of one domain (n, d) -> (n, k)."""


class Reweighter(BaseEstimator):  # type: ignore[misc]
    """Weights for source rows that make them look like the target; no label is read.

    After `fit(X, domain=d)`: `weights_` (n,), 0 in target rows and with mean 1 over the source rows, in the order of X,
    to be given to any estimator as `sample_weight`; `effective_rows_` is Kish's (Σw)²/Σw², what the source rows are
    then worth.
    """

    def fit(self, X: ArrayLike, y: object = None, *, domain: ArrayLike) -> Self:
        """Learn the weights; `y` is not read."""
        rows = pair(X, domain)
        self.n_features_in_ = rows.source.shape[1]
        raw = self._weigh(rows.source, rows.target)
        weights = raw / raw.mean() if raw.sum() > 0 else np.ones(len(raw))
        self.weights_ = np.zeros(len(rows.source) + len(rows.target))
        self.weights_[rows.source_at] = weights
        self.effective_rows_ = float(weights.sum() ** 2 / (weights**2).sum())
        return self

    @abstractmethod
    def _weigh(self, source: Floats, target: Floats) -> Floats:
        """Weights (n,) of the source rows, on any scale."""


def fitted(estimator: Any, name: str) -> Any:
    """What a fit left behind, or the error that says it is missing."""
    if not hasattr(estimator, name):
        raise UserError(f"{type(estimator).__name__} is not fitted yet; call fit(X, y, domain=...) first")
    return getattr(estimator, name)
