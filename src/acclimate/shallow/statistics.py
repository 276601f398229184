"""Maps from means and covariances alone: cheap, closed form, nothing to tune but a shrinkage."""

from __future__ import annotations

import numpy as np
from sklearn.covariance import ledoit_wolf

from acclimate.errors import UserError
from acclimate.shallow.base import SOURCE, Adapter, Floats, Scale

_FLOOR = 1e-10  # eigenvalues below this share of the largest one count as it


class Standardise(Adapter):
    """Every column brought to mean 0 and deviation 1 within its own domain.

    x ↦ (x - μ_k) / σ_k, k the row's domain; where σ_k = 0 only the mean is taken off. Two-moment matching of each
    column; Li et al. (2018), Pattern Recognition 80, do the same to hidden units (AdaBN). Use when the domains differ
    by offset and scale (another microphone, another laboratory) and hold about the same share of each class. Prefer
    nothing at all where the shares differ: the mean of a domain then holds its classes, and taking it off moves them.

    >>> Standardise().fit_transform([[0.0], [2.0], [10.0], [30.0]], domain=[0, 0, 1, 1]).ravel().tolist()
    [-1.0, 1.0, -1.0, 1.0]
    """

    def _learn(self, source: Floats, target: Floats) -> None:
        self.scales_ = (Scale.of(source), Scale.of(target))

    def _move(self, rows: Floats, side: int) -> Floats:
        return self.scales_[side](rows)


class Coral(Adapter):
    """Source rows whitened and given the colours (covariance) and the mean of the target; target rows stay.

    x ↦ μ_t + (x - μ_s) C_s^{-1/2} C_t^{1/2}, C = (1-γ) S + γ tr(S)/d I, in columns divided by their deviation over both
    domains, so that units do not matter. Sun, Feng and Saenko (2016), AAAI, Algorithm 1, who add I instead and take no
    mean; γ "auto" is Ledoit and Wolf's (2004). Use when a linear model is to be trained on source features and used on
    the target as it is. Prefer `linear_ot` for the map that changes the rows least; prefer nothing where class shares
    differ.

    >>> X = [[0.0, 1.0], [2.0, 0.0], [1.0, 2.0], [3.0, 3.0], [5.0, 9.0], [7.0, 3.0], [6.0, 6.0]]
    >>> moved = Coral(shrinkage=0.0).fit_transform(X, domain=[0, 0, 0, 0, 1, 1, 1])[:4]
    >>> moved.mean(0).round(6).tolist()
    [6.0, 6.0]
    """

    def __init__(self, shrinkage: float | str = "auto") -> None:
        self.shrinkage = shrinkage

    def _learn(self, source: Floats, target: Floats) -> None:
        unit = Scale.of(np.concatenate([source, target])).deviation
        self.means_ = (source.mean(0), target.mean(0))
        covariances = (covariance(rows / unit, self.shrinkage) for rows in (source, target))
        self.matrix_ = self._matrix(*covariances) * unit / unit[:, None]

    def _matrix(self, source: Floats, target: Floats) -> Floats:
        return np.asarray(power(source, -0.5) @ power(target, 0.5))

    def _move(self, rows: Floats, side: int) -> Floats:
        return (rows - self.means_[0]) @ self.matrix_ + self.means_[1] if side == SOURCE else rows


class LinearTransport(Coral):
    """Source rows moved onto the target by the optimal transport map between two Gaussians; target rows stay.

    x ↦ μ_t + (x - μ_s) A, A = C_s^{-1/2} (C_s^{1/2} C_t C_s^{1/2})^{1/2} C_s^{-1/2}, the only symmetric positive A with
    A C_s A = C_t. Flamary, Lounici and Ferrari (2019), arXiv:1905.10155, equation 3. `shrinkage` as in `coral`. Use
    when the domains differ by a linear change of the features: of all maps with the right mean and covariance this one
    moves the rows least. Prefer nothing where class shares differ.

    >>> X = [[0.0], [2.0], [10.0], [30.0]]
    >>> LinearTransport(shrinkage=0.0).fit_transform(X, domain=[0, 0, 1, 1]).ravel().tolist()
    [10.0, 30.0, 10.0, 30.0]
    """

    def _matrix(self, source: Floats, target: Floats) -> Floats:
        root, inverse = power(source, 0.5), power(source, -0.5)
        return np.asarray(inverse @ power(root @ target @ root, 0.5) @ inverse)


def covariance(rows: Floats, shrinkage: float | str) -> Floats:
    """(1-γ) S + γ tr(S)/d I with S over n - 1.  # (d, d)"""
    n, d = rows.shape
    centred = rows - rows.mean(0)
    raw = centred.T @ centred / (n - 1)
    if shrinkage == "auto":
        found = float(ledoit_wolf(centred, assume_centered=True)[1]) if np.any(centred) else 0.0
        shrinkage = min(1.0, max(0.0, found))  # rounding can leave the interval
    if isinstance(shrinkage, str) or not 0 <= shrinkage <= 1:
        raise UserError(f"shrinkage must be 'auto' or a number from 0 to 1, got {shrinkage!r}")
    return np.asarray((1 - shrinkage) * raw + shrinkage * np.trace(raw) / d * np.eye(d))


def power(symmetric: Floats, exponent: float) -> Floats:
    """A real power of a positive semi-definite matrix; eigenvalues that are 0 but for rounding get a floor."""
    values, vectors = np.linalg.eigh((symmetric + symmetric.T) / 2)
    values = np.maximum(values, _FLOOR * max(float(values[-1]), 1e-300))
    return np.asarray((vectors * values**exponent) @ vectors.T)
