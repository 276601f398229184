"""Losses of linear heads with their slopes written out, for several problems on the same rows at once.

A problem (a fold, or all rows) has weights of its own on the rows; scores are (n, k, P), k a row in each of P
problems; `free` holds the e parameters that are not penalised (biases, thresholds), (e, P).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from acclimate.tasks.base import Task
from acclimate.tasks.heads import Head, LinearHead, OrdinalHead

Floats: TypeAlias = NDArray[Any]


class Link(Protocol):
    """What the solver asks of a loss."""

    scores: int  # k
    free: int  # e
    share: float  # of the penalty ‖W‖²/(2C): ½ where one score stands for two rows of W

    def losses(self, z: Floats, free: Floats) -> Floats:
        """The loss of every row in every problem, (n, P)."""

    def slopes(self, z: Floats, free: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """Of the weighted sum: its value (P,), its slope in the scores (n, k, P) and in `free` (e, P)."""

    def curvature(self, z: Floats, free: Floats, weights: Floats) -> Floats:
        """About how much the sum bends along each score, (k, P)."""

    def read(self, head: Head) -> tuple[Floats, Floats, Floats]:
        """Weights (d, k), word weights (v, k) and free parameters (e,) of a head."""

    def write(self, head: Head, weight: Floats, words: Floats, free: Floats) -> None:
        """The inverse of `read`, in place."""


def link_of(task: Task, targets: Floats, outputs: int) -> Link:
    """The loss of a task on these targets, with `outputs` classes."""
    if task.name == "ordinal":
        return Odds(targets.astype(np.int64), outputs)
    if task.name == "regress":
        return Squares(targets)
    if task.name == "multilabel":
        return Logistic(targets)
    codes = targets.astype(np.int64)
    return Pair((codes == 1).astype(np.float64)) if outputs == 2 else Softmax(codes, outputs)


def sigmoid(z: Floats) -> Floats:
    """1/(1 + e^−z), which no z can overflow."""
    small = np.exp(-np.abs(z))
    return np.asarray(np.where(z >= 0, 1, small) / (1 + small))


def softplus(z: Floats) -> Floats:
    """log(1 + e^z)."""
    return np.asarray(np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))))


class _Linear:
    """A `LinearHead` with one score and one bias for each of its outputs."""

    share = 1.0

    def read(self, head: Head) -> tuple[Floats, Floats, Floats]:
        assert isinstance(head, LinearHead)
        return _array(head.weight).T, _words(head).T, _array(head.bias)

    def write(self, head: Head, weight: Floats, words: Floats, free: Floats) -> None:
        assert isinstance(head, LinearHead)
        _put(head.weight, weight.T)
        _put(head.bias, free)
        if head.shape["words"]:
            _put(head.word_weight, words.T)


class Logistic(_Linear):
    """Σ_k log(1 + e^{z_k}) − y_k z_k, every score by itself; y (n, k) of zeros and ones.

    A score whose y is NaN, since it is not known, adds nothing.
    """

    def __init__(self, targets: Floats) -> None:
        y = targets.reshape(len(targets), -1, 1)
        gaps = np.isnan(y)
        self.known = (~gaps).astype(np.float64) if gaps.any() else None
        self.y = y if self.known is None else np.where(gaps, 0.0, y)
        self.scores = self.free = self.y.shape[1]

    def _of_known(self, values: Floats) -> Floats:
        """Zero where the truth is not known, (n, k, P)."""
        return values if self.known is None else values * self.known.astype(values.dtype, copy=False)

    def losses(self, z: Floats, free: Floats) -> Floats:
        """Summed over the scores."""
        z = z + free
        return np.asarray(self._of_known(softplus(z) - self.y * z).sum(1))

    def slopes(self, z: Floats, free: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """σ(z) − y."""
        z = z + free
        y = self.y.astype(z.dtype, copy=False)
        small = np.exp(-np.abs(z))
        value = self._of_known(np.maximum(z, 0) + np.log1p(small) - y * z).sum(1)
        slope = self._of_known(np.where(z >= 0, 1, small) / (1 + small) - y) * weights[:, None]
        return _total(value, weights), slope, slope.sum(0)

    def curvature(self, z: Floats, free: Floats, weights: Floats) -> Floats:
        """Mean of σ(z)(1 − σ(z))."""
        p = sigmoid(z + free)
        return np.asarray((self._of_known(p * (1 - p)) * weights[:, None]).sum(0))


class Pair(Logistic):
    """Two classes: softmax of (−u/2, u/2) is σ(u), and its penalty ‖u‖²/2 is half that of one score."""

    share = 0.5

    def read(self, head: Head) -> tuple[Floats, Floats, Floats]:
        """Row 1 minus row 0."""
        weight, words, free = super().read(head)
        return weight[:, 1:] - weight[:, :1], words[:, 1:] - words[:, :1], free[1:] - free[:1]

    def write(self, head: Head, weight: Floats, words: Floats, free: Floats) -> None:
        """Half to each row."""
        halves = np.array([[-0.5, 0.5]])
        super().write(head, weight * halves, words * halves, free * halves[0])


class Softmax(_Linear):
    """log Σ_k e^{z_k} − z_y."""

    def __init__(self, codes: Floats, outputs: int) -> None:
        self.rows, self.codes = np.arange(len(codes)), codes
        self.scores = self.free = outputs

    def _probabilities(self, z: Floats, free: Floats) -> tuple[Floats, Floats]:
        """The loss (n, P) and the probabilities (n, k, P)."""
        z = z + free
        scores = range(self.scores)  # numpy is slow to reduce a middle axis
        z -= functools.reduce(np.maximum, (z[:, k] for k in scores))[:, None]
        own = z[self.rows, self.codes]
        np.exp(z, out=z)
        total = functools.reduce(np.add, (z[:, k] for k in scores))
        z /= total[:, None]
        return np.log(total) - own, z

    def losses(self, z: Floats, free: Floats) -> Floats:
        """Cross-entropy."""
        return self._probabilities(z, free)[0]

    def slopes(self, z: Floats, free: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """p − y."""
        value, slope = self._probabilities(z, free)
        slope[self.rows, self.codes] -= 1
        slope *= weights[:, None]
        return _total(value, weights), slope, slope.sum(0)

    def curvature(self, z: Floats, free: Floats, weights: Floats) -> Floats:
        """Mean of p(1 − p), of the class where it is largest: with one number for all, steps keep Σ_k z_k at rest."""
        p = self._probabilities(z, free)[1]
        bend = (p * (1 - p) * weights[:, None]).sum(0)
        return np.broadcast_to(bend.max(0), bend.shape)


class Squares(_Linear):
    """(z − y)²."""

    scores = free = 1

    def __init__(self, targets: Floats) -> None:
        self.y = targets.reshape(-1, 1, 1)

    def losses(self, z: Floats, free: Floats) -> Floats:
        """Squared error."""
        return np.asarray(np.square(z + free - self.y)[:, 0])

    def slopes(self, z: Floats, free: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """2(z − y)."""
        gap = z + free - self.y.astype(z.dtype, copy=False)
        slope = 2 * gap * weights[:, None]
        return _total(np.square(gap[:, 0]), weights), slope, slope.sum(0)

    def curvature(self, z: Floats, free: Floats, weights: Floats) -> Floats:
        """2 everywhere."""
        return np.asarray(2 * weights.sum(0)[None])


@dataclass
class _Steps:
    """Where a row lies between its two thresholds: a = θ_y − s, b = θ_{y−1} − s, and e^{b−a}."""

    a: Floats  # (n, P), infinite for the last class
    b: Floats  # (n, P), minus infinite for the first one
    ratio: Floats


class Odds:
    """Proportional odds, −log(σ(θ_y − s) − σ(θ_{y−1} − s)); θ_1 and the gaps between thresholds are free."""

    scores, share = 1, 1.0

    def __init__(self, codes: Floats, outputs: int) -> None:
        self.codes, self.free = codes, outputs - 1
        self.below = np.equal.outer(np.arange(outputs - 1), codes).astype(np.float64)  # θ_j is the upper one of row i
        self.above = np.equal.outer(np.arange(1, outputs), codes).astype(np.float64)  # ... the lower one

    def _steps(self, z: Floats, free: Floats) -> _Steps:
        rise = np.concatenate([free[:1], softplus(free[1:]) + 1e-3]).cumsum(0, dtype=free.dtype)
        edge = np.full((1, free.shape[1]), np.inf, free.dtype)
        theta = np.concatenate([-edge, rise, edge])
        a, b = theta[self.codes + 1] - z[:, 0], theta[self.codes] - z[:, 0]
        return _Steps(a, b, np.exp(b - a))

    def losses(self, z: Floats, free: Floats) -> Floats:
        """−log σ(a) − log σ(−b) − log(1 − e^{b−a})."""
        at = self._steps(z, free)
        return np.asarray(softplus(-at.a) + softplus(at.b) - np.log1p(-at.ratio))

    def slopes(self, z: Floats, free: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """Through a and b to the score and the thresholds."""
        at = self._steps(z, free)
        between = at.ratio / (1 - at.ratio)
        up = -(sigmoid(-at.a) + between) * weights
        down = (sigmoid(at.b) + between) * weights
        theta = self.below.astype(z.dtype) @ up + self.above.astype(z.dtype) @ down  # (K−1, P)
        later = theta[::-1].cumsum(0)[::-1]  # a gap moves every threshold after it
        slope = np.concatenate([later[:1], later[1:] * sigmoid(free[1:])])
        value = softplus(-at.a) + softplus(at.b) - np.log1p(-at.ratio)
        return _total(value, weights), -(up + down)[:, None], slope

    def curvature(self, z: Floats, free: Floats, weights: Floats) -> Floats:
        """Mean of σ(a)σ(−a) + σ(b)σ(−b)."""
        at = self._steps(z, free)
        a, b = sigmoid(at.a), sigmoid(at.b)
        return np.asarray(((a * (1 - a) + b * (1 - b)) * weights).sum(0)[None])

    def read(self, head: Head) -> tuple[Floats, Floats, Floats]:
        """First threshold, then the gaps."""
        assert isinstance(head, OrdinalHead)
        return _array(head.weight).T, _words(head).T, np.concatenate([_array(head.first), _array(head.gaps)])

    def write(self, head: Head, weight: Floats, words: Floats, free: Floats) -> None:
        """The inverse."""
        assert isinstance(head, OrdinalHead)
        _put(head.weight, weight.T)
        _put(head.first, free[:1])
        _put(head.gaps, free[1:])
        if head.shape["words"]:
            _put(head.word_weight, words.T)


def _total(value: Floats, weights: Floats) -> Floats:
    """Σ_i w_i value_i, (P,), summed in float64: the line search compares differences of it."""
    return np.asarray(np.einsum("np,np->p", value, weights, dtype=np.float64))


def _array(parameter: torch.Tensor) -> Floats:
    return parameter.detach().double().numpy()


def _words(head: LinearHead | OrdinalHead) -> Floats:
    return _array(head.word_weight) if head.shape["words"] else np.zeros((len(head.weight), 0))


def _put(parameter: torch.Tensor, values: Floats) -> None:
    parameter.data.copy_(torch.from_numpy(np.ascontiguousarray(values)))
