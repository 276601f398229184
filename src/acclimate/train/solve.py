"""Heads on cached features by a second-order solver: exact, and a path of penalties costs about as much as one fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from acclimate.tasks.heads import Head, LinearHead, OrdinalHead
from acclimate.train import lbfgs
from acclimate.train.links import Floats, Link

_FREE_PENALTY = 1e-7  # keeps the bias of a class without rows finite
_PAST = 4  # strengths in a row that are worse than the best one, after which a path ends
_WIDEST = 800  # columns beyond which their decomposition costs more than the steps that it saves
_MOST_TURNED, _CROWD = 2000, 80  # rows whose words are turned: at most so many, and n² at most so many times the words
_NUMBERS = 30_000_000  # scores that are held at a time
_RANK, _EXACT = 3e-6, 1e-13  # how far the mean loss may still fall: to rank strengths; in the head that is kept


@dataclass(frozen=True)
class Rows:
    """What a head is fitted on."""

    features: Floats  # (n, d) float64, standardised
    words: Any  # scipy CSR (n, v), or None
    weights: Floats  # (n,)

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class Axes:
    """The rows along their principal axes, where the Hessian is nearly diagonal: that makes the solver quick.

    Few rows of many words have no more axes than rows; features and words are then turned together, and no words stay.
    """

    spectrum: Floats  # (r + v,) sum of squares of every column
    dense: Floats  # (n, r) float32; float64 where it is exact
    turn: Floats | None = None  # (d, r) orthonormal; None: the columns as they are
    words: Any = None  # CSR (n, v): the words that stay beside; None: there are none
    spanned: tuple[Floats, Rows] | None = None  # (n, r) B with XᵀB orthonormal, X the features and words of the rows

    @staticmethod
    def of(rows: Rows) -> Axes:
        """From the smaller of FᵀF (d, d) and FFᵀ (n, n), F the features."""
        features = rows.features
        n, d = features.shape
        if rows.words is not None and n <= _MOST_TURNED and n * n <= _CROWD * rows.words.shape[1]:
            return Axes._spanned(rows)
        turn: Floats | None = None
        if min(n, d) > _WIDEST or d == 0:
            squares = np.einsum("nd,nd->d", features, features)
        elif n < d:
            squares, over = _inverted(features @ features.T)
            turn = features.T @ over
        else:
            narrow = features.astype(np.float32)  # a direction that is off by rounding is a preconditioner all the same
            squares, turn = np.linalg.eigh((narrow.T @ narrow).astype(np.float64))
        words = np.zeros(0) if rows.words is None else np.asarray(rows.words.multiply(rows.words).sum(0)).reshape(-1)
        narrow = features.astype(np.float32)
        dense = narrow if turn is None else narrow @ turn.astype(np.float32)
        return Axes(np.concatenate([np.maximum(squares, 0), words]), dense, turn, rows.words)

    @staticmethod
    def _spanned(rows: Rows) -> Axes:
        """All columns at once: the minimiser is a sum of rows, W = XᵀA, as the penalty falls on nothing else."""
        product = rows.features @ rows.features.T + (rows.words @ rows.words.T).toarray()
        squares, over = _inverted(product)
        return Axes(squares, product @ over, spanned=(over, rows))

    def back(self, weight: Floats) -> tuple[Floats, Floats]:
        """Weights along the axes (r + v, k) as weights of the columns, (d, k) and (v, k)."""
        if self.spanned is not None:
            over, rows = self.spanned
            summed = over @ weight
            return np.asarray(rows.features.T @ summed), np.asarray(rows.words.T @ summed)
        r = self.dense.shape[1]
        return self.features_back(weight[:r]), weight[r:]

    def features_back(self, weight: Floats) -> Floats:
        """Weights along the axes of features alone (r, k) as weights of these (d, k)."""
        return weight if self.turn is None else np.asarray(self.turn @ weight)

    def along(self, weight: Floats, words: Floats) -> Floats:
        """The inverse of `back`, of weights, or a slope in them."""
        if self.spanned is not None:
            over, rows = self.spanned
            return np.asarray(over.T @ (rows.features @ weight + rows.words @ words))
        return np.concatenate([self.features_along(weight), words])

    def features_along(self, weight: Floats) -> Floats:
        """The inverse of `features_back`."""
        return weight if self.turn is None else np.asarray(self.turn.T @ weight)


def _inverted(product: Floats) -> tuple[Floats, Floats]:
    """Of XXᵀ (n, n): squares (r,) of X's singular values that are not nought, and B (n, r) with XᵀB orthonormal."""
    squares, left = np.linalg.eigh(product)
    keep = squares > 1e-12 * max(squares[-1], 1e-300)
    return squares[keep], left[:, keep] / np.sqrt(squares[keep])


class Problems:
    """Several fits on the same rows, one for each column of `weights`: value, gradient and curvature of them all.

    A point is (q, P): p weights of k scores, then what is free. F(W) = Σ w_i ℓ_i / m + s ‖W‖²/(2Cm), m rows of weight.
    """

    def __init__(self, rows: Rows, axes: Axes, link: Link, weights: Floats, dtype: Any) -> None:
        self.link, self.axes, self.dtype = link, axes, dtype
        self.counts = np.maximum(1, np.count_nonzero(weights, axis=0))
        self.weights = (weights / self.counts).astype(dtype)
        # Along axes that are off by rounding the kept head would be, too: it is fitted on the features themselves.
        self.exact = None if dtype == np.float32 or axes.spanned is not None else rows.features
        self.dense = axes.dense.astype(dtype, copy=False) if self.exact is None else axes.dense
        self.words = None if axes.words is None else axes.words.astype(dtype)
        self.words_turned = None if self.words is None else self.words.T.tocsr()
        self.columns = len(axes.spectrum)
        self.size = self.columns * link.scores + link.free
        self.last: tuple[Floats, Floats] | None = None  # a point and its scores: where one step ends the next begins

    def scores(self, point: Floats) -> Floats:
        """z without what is free, (n, k, P)."""
        if self.last is None or self.last[0] is not point:
            self.last = point, self._scores(point)
        return self.last[1]

    def _scores(self, point: Floats) -> Floats:
        weight = point[: -self.link.free].reshape(self.columns, self.link.scores * point.shape[1])
        r = self.dense.shape[1]
        z = self.dense @ weight[:r] if self.exact is None else self.exact @ self.axes.features_back(weight[:r])
        if self.words is not None:
            z = z + self.words @ weight[r:]
        return np.asarray(z).reshape(len(z), self.link.scores, -1)

    def objective(self, strength: float) -> lbfgs.Evaluate:
        """Value (P,) and gradient (q, P) at C = `strength`."""
        pull = self.pull(strength)

        def evaluate(point: Floats) -> tuple[Floats, Floats]:
            value, slope, free = self.link.slopes(self.scores(point), point[-self.link.free :], self.weights)
            flat = slope.reshape(len(slope), -1)
            dense = self.dense.T @ flat if self.exact is None else self.axes.features_along(self.exact.T @ flat)
            parts = [dense] if self.words_turned is None else [dense, self.words_turned @ flat]
            weight = np.concatenate(parts).reshape(-1, point.shape[1])
            held = pull * point
            return value + 0.5 * np.einsum("qp,qp->p", held, point), np.concatenate([weight, free]) + held

        return evaluate

    def pull(self, strength: float) -> Floats:
        """What the penalty adds to the Hessian's diagonal, (q, P)."""
        each = np.ones(self.size)
        each[-self.link.free :] = _FREE_PENALTY
        return np.asarray(np.outer(each, self.link.share / (strength * self.counts)), self.dtype)

    def inverse(self, point: Floats, strength: float) -> Floats:
        """About the inverse of the Hessian's diagonal, (q, P)."""
        bend = self.link.curvature(self.scores(point), point[-self.link.free :], self.weights)  # (k, P)
        squares = self.axes.spectrum[:, None, None] / len(self.weights)
        weight = (squares * bend).reshape(-1, point.shape[1])
        if self.link.free == self.link.scores:
            free = bend
        else:  # thresholds, each of which only some of the rows touch
            free = np.broadcast_to(bend.mean(0) / self.link.free, (self.link.free, point.shape[1]))
        return np.asarray(1 / (np.concatenate([weight, free + 1e-6]) + self.pull(strength)), self.dtype)

    def losses(self, point: Floats, weights: Floats) -> float:
        """The weighted sum of the losses of rows, (n, P) of weights."""
        return float((self.link.losses(self.scores(point), point[-self.link.free :]) * weights).sum())

    def fit(self, start: Floats, strength: float, tolerance: float, iterations: int) -> Floats:
        """The minimiser of every problem, (q, P)."""
        start = start.astype(self.dtype)
        return lbfgs.minimise(self.objective(strength), start, self.inverse(start, strength), tolerance, iterations)

    def write(self, head: Head, point: Floats) -> None:
        """Put the one problem's point (q,) into a head on the features as they were before they were turned."""
        weight = point[: -self.link.free].reshape(self.columns, self.link.scores)
        self.link.write(head, *self.axes.back(weight), point[-self.link.free :])


def minimise(head: Head, rows: Rows, link: Link, strength: float, axes: Axes | None = None) -> None:
    """Fit `head` in place, starting from where it is: min_W (1/n) Σ w_i ℓ_i(W) + ‖W‖²/(2Cn), biases not penalised.

    `strength` is C, as in scikit-learn's LogisticRegression, for features whose mean squared length is one. (Two
    classes have two rows of W here and one there, so that C here is 2C there; for squared error alpha is 1/(2C).)
    """
    axes = axes or Axes.of(rows)
    problem = Problems(rows, axes, link, rows.weights[:, None], np.float64)
    weight, words, free = link.read(head)
    start = np.concatenate([axes.along(weight, words).reshape(-1), free])[:, None]
    problem.write(head, problem.fit(start, strength, _EXACT, 500)[:, 0])


def path(
    head: Head, rows: Rows, link: Link, strengths: Sequence[float], fit_on: Floats, judge_on: Floats, axes: Axes
) -> Floats:
    """The mean loss on rows held out for each strength, weak fits first; `head` gets the best of the last problem.

    `fit_on` (n, P) holds each fit's weights on the rows that it learns from, `judge_on` on those that judge it. All of
    them move together, each strength starts from where the two before it point, and the path ends once it has been
    worse than its best for a while: what is not tried is infinite.
    """
    parts = math.ceil(fit_on.size * link.scores / _NUMBERS)
    groups = np.array_split(np.arange(fit_on.shape[1]), min(parts, fit_on.shape[1]))
    problems = [Problems(rows, axes, link, fit_on[:, at], np.float32) for at in groups]
    points = [np.zeros((p.size, len(at)), np.float32) for p, at in zip(problems, groups, strict=True)]
    before, best, scores = points, points[-1], np.full(len(strengths), np.inf)
    for i, strength in enumerate(strengths):
        starts = [2 * now - then for now, then in zip(points, before, strict=True)]
        points, before = [p.fit(x, strength, _RANK, 100) for p, x in zip(problems, starts, strict=True)], points
        losses = [p.losses(x, judge_on[:, at]) for p, x, at in zip(problems, points, groups, strict=True)]
        scores[i] = sum(losses) / max(judge_on.sum(), 1e-300)
        if scores[i] <= scores.min():
            best = points[-1]
        elif i - int(np.argmin(scores)) >= _PAST:
            break
    problems[-1].write(head, best[:, -1])
    return scores


def without_unseen(codes: Floats, fit_on: Floats, judge_on: Floats) -> Floats:
    """`judge_on` (n, P) without the rows whose class (n,) no row has that the fit learns from.

    The bias of such a class has no minimum, and drifts on from strength to strength: its loss tells of the solver's
    steps, and would drown all others.

    >>> fit = np.array([[1.0, 1.0], [0, 0], [0, 1.0]])
    >>> without_unseen(np.array([0, 0, 1]), fit, 1.0 - np.array([[1, 1], [0, 0], [0, 1]]))
    array([[0., 0.],
           [1., 1.],
           [0., 0.]])
    """
    seen = np.stack([np.isin(codes, codes[fit > 0]) for fit in fit_on.T], 1)
    return np.asarray(judge_on * seen)


@dataclass(frozen=True)
class Scaling:
    """Centre and spread of features: (f − μ)/(σ √d), so that a standardised row has mean squared length one.

    With G groups of features d is G times the size of its group, so that each has mean squared length 1/G, few features
    or many.
    """

    mean: Floats
    spread: Floats

    @staticmethod
    def of(features: Any, used_on: Any = None, groups: Sequence[int] = ()) -> Scaling:
        """From training features (n, d); a constant feature keeps spread one. `groups`: sizes that add up to d.

        With `used_on` (m, d), features that the head will judge, σ² is the mean of both variances, each about its own
        mean: a feature that hardly varies in training alone would else be blown up where it does vary.
        """
        wide = np.asarray(features, np.float64)
        spread = wide.std(0)
        most = float(np.abs(wide).max(initial=0.0))
        if used_on is not None:
            other = np.asarray(used_on, np.float64)
            spread, most = np.sqrt((spread**2 + other.var(0)) / 2), max(most, float(np.abs(other).max(initial=0.0)))
        spread = np.where(spread > 1e-6 * max(1.0, most), spread, 1.0)
        sizes = groups or (max(1, wide.shape[1]),)
        counts = np.repeat(np.array(sizes) * len(sizes), sizes)[: wide.shape[1]]
        return Scaling(wide.mean(0) if len(wide) else np.zeros(wide.shape[1]), spread * np.sqrt(counts))

    def apply(self, features: Any) -> Floats:
        """Standardised float64 features."""
        return np.asarray((np.asarray(features, np.float64) - self.mean) / self.spread)

    def fold_into(self, head: Head) -> None:
        """Rewrite a head fitted on standardised features so that it takes raw ones: W ← W/(σ√d), b ← b − W μ."""
        assert isinstance(head, (LinearHead, OrdinalHead))
        with torch.no_grad():
            weight = head.weight / torch.from_numpy(self.spread)
            shift = weight @ torch.from_numpy(self.mean)
            head.weight.copy_(weight)
            if isinstance(head, OrdinalHead):
                head.first.add_(shift)  # P(y ≤ k) = σ(θ_k − s): moving s by −shift moves θ by +shift
            else:
                head.bias.sub_(shift)
