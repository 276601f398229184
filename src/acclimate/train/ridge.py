"""Squared loss in closed form: one decomposition gives every penalty, and every row's error without that row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from acclimate.train.links import Floats

LARGEST_UNIT = 200  # rows tied together whose joint error is worth a system of equations of their size
_STACK = 1_000_000  # numbers in a stack of hat matrices, a tenth of those of fits


@dataclass(frozen=True)
class Ridge:
    """min Σ w_i ‖y_i − W f_i − b‖² + ‖W‖²/(2C) along the principal axes of the weighted rows, for any C."""

    mean: Floats  # (d,) of the features
    level: Floats  # (k,) of the targets
    turn: Floats  # (d, r); where there are fewer rows than features, (n, r), and the axes are rowsᵀ turn
    squares: Floats  # (r,) of the singular values
    turned: Floats  # (n, r)
    pull: Floats  # (r, k): Σ w_i x̃_i y_i
    targets: Floats  # (n, k)
    weights: Floats  # (n,)
    rows: Floats | None = None  # (n, d) times √w, where there are fewer of them than features

    @staticmethod
    def of(features: Floats, targets: Floats, weights: Floats) -> Ridge:
        """From standardised features (n, d), targets (n, k) and weights (n,)."""
        share = weights / weights.sum()
        mean, level = share @ features, share @ targets
        centred, root = features - mean, np.sqrt(weights)[:, None]
        scaled = centred * root
        if len(centred) < centred.shape[1]:
            return _dual(mean, level, centred, scaled, targets, weights)
        squares, turn = np.linalg.eigh(scaled.T @ scaled)
        turned = centred @ turn
        pull = turned.T @ (weights[:, None] * (targets - level))
        return Ridge(mean, level, turn, np.maximum(squares, 0), turned, pull, targets, weights)

    def head(self, strength: float) -> tuple[Floats, Floats]:
        """Weights (d, k) and biases (k,) at this C."""
        weight = self.turn @ self._along(strength)
        if self.rows is not None:
            weight = self.rows.T @ weight
        return weight, self.level - self.mean @ weight

    def _along(self, strength: float) -> Floats:
        return np.asarray(self.pull / (self.squares + 1 / (2 * strength))[:, None])

    def errors(self, strengths: Sequence[float], units: Floats) -> Iterator[Floats]:
        """For each C: y − ŷ of every row, (n, k), by the fit without the rows of its own unit. Nothing is fitted again.

        (I − H_gg)⁻¹ r_g, with H the hat matrix, r the residuals and g a unit; r_i/(1 − H_ii) for a row by itself (Allen
        1974).
        """
        total, together = self.weights.sum(), list(_together(units))
        shrunk = 1 / (self.squares[:, None] + 1 / (2 * np.asarray(strengths)))  # (r, C)
        own = self.weights[:, None] * (1 / total + np.square(self.turned) @ shrunk)  # (n, C)
        for c, fit in enumerate(self._fits(shrunk)):
            residual = self.targets - self.level - fit
            out = np.asarray(residual / np.maximum(1 - own[:, c : c + 1], 1e-12))
            for at in together:  # (u, m): u units of m rows each
                near = self.turned[at]
                hat = (1 / total + (near * shrunk[:, c]) @ near.transpose(0, 2, 1)) * self.weights[at][:, None]
                out[at] = np.linalg.solve(np.eye(at.shape[1]) - hat, residual[at])
            yield out

    def _fits(self, shrunk: Floats) -> Iterator[Floats]:
        """ŷ of every row less the level, (n, k), for each C: as many in one product as take a few million numbers."""
        many = max(1, _STACK * 10 // max(1, self.targets.size))
        for start in range(0, shrunk.shape[1], many):
            some = shrunk[:, start : start + many, None] * self.pull[:, None]  # (r, C, k)
            found = self.turned @ some.reshape(len(some), -1)
            yield from found.reshape(len(found), *some.shape[1:]).transpose(1, 0, 2)


def _dual(mean: Floats, level: Floats, centred: Floats, scaled: Floats, targets: Floats, weights: Floats) -> Ridge:
    """By the (n, n) products of the rows alone: the axes (d, r) are never written down.

    XXᵀ = U S Uᵀ, so that the rows along the axes Xᵀ U S^-½ are U S^½: two products of n²d less than with the axes.
    Small squares do no harm, since the two roots cancel in the head; only what is 0 or below is left out.
    """
    squares, left = np.linalg.eigh(scaled @ scaled.T)
    keep = squares > 1e-20 * max(squares[-1], 1e-280)
    squares, left = squares[keep], left[:, keep]
    turn, root = left / np.sqrt(squares), np.sqrt(weights)[:, None]
    turned = left * np.sqrt(squares) / np.where(root > 0, root, 1)
    if len(none := np.flatnonzero(weights == 0)):  # rows that do not count lie along the axes, too
        turned[none] = (centred[none] @ scaled.T) @ turn
    pull = turned.T @ (weights[:, None] * (targets - level))
    return Ridge(mean, level, turn, squares, turned, pull, targets, weights, scaled)


def _together(units: Floats) -> Iterator[Floats]:
    """Positions of the rows of every unit of two rows or more, those of one size at once."""
    _, number, counts = np.unique(units, return_inverse=True, return_counts=True)
    for size in np.unique(counts[counts > 1]):
        rows = np.flatnonzero(counts[number] == size)
        same = rows[np.argsort(number[rows], kind="stable")].reshape(-1, size)
        many = max(1, _STACK // int(size) ** 2)
        for start in range(0, len(same), many):
            yield same[start : start + many]


def leave_out(ridge: Ridge, strengths: Sequence[float], units: Floats) -> Floats:
    """The weighted mean squared error without a row's own unit, for each strength."""
    return np.array([_mean(errors, ridge.weights) for errors in ridge.errors(strengths, units)])


def judged(ridge: Ridge, strengths: Sequence[float], features: Floats, targets: Floats, weights: Floats) -> Floats:
    """The weighted mean squared error on other rows, for each strength."""
    found = []
    for c in strengths:
        weight, bias = ridge.head(c)
        found.append(_mean(targets - features @ weight - bias, weights))
    return np.array(found)


def _mean(errors: Floats, weights: Floats) -> float:
    return float(weights @ np.square(errors).sum(1) / weights.sum())
