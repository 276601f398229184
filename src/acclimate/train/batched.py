"""Many penalised linear fits on the same rows at once: every penalty and every fold is a column of one matrix product.

A path of penalties by cross-validation then costs little more than one fit. Used by the heads whose loss is softmax,
sigmoid or squared error.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from acclimate.tasks.base import Floats
from acclimate.tasks.heads import Csr, LinearHead
from acclimate.train.solve import BIAS_PENALTY, Rows

KINDS = {"classify": "softmax", "multilabel": "sigmoid", "regress": "squared"}
_CURVATURE = {"softmax": 0.5, "sigmoid": 0.25, "squared": 2.0}  # above the second derivative (Böhning & Lindsay 1988)
_NUMBERS = 3e6  # of logits and of coefficients at a time
_MEMORY = 6  # pairs of steps that the curvature is learned from


class Basis:
    """Rows in the directions of their spread, where the curvature of the loss is almost diagonal.

    Q Λ Qᵀ = Xᵀ diag(w) X / n. One decomposition serves every penalty and fold.
    """

    def __init__(self, rows: Rows) -> None:
        features = rows.features.double()
        scatter = features.T @ (rows.weights[:, None] * features) / len(rows)
        spread, self.directions = torch.linalg.eigh(scatter)
        self.dense = features @ self.directions  # (n, d)
        self.words = rows.words
        self.targets = rows.targets
        self.weights = rows.weights
        parts = [spread.clamp_min(0.0)]
        if rows.words is not None:
            squares = rows.words.matrix.multiply(rows.words.matrix).T @ rows.weights.numpy()
            parts.append(torch.from_numpy(np.asarray(squares).ravel() / len(rows)))
        parts.append(rows.weights.mean().reshape(1))
        self.curvature = torch.cat(parts)  # (p,), the bias last
        self.width = len(spread)

    def single(self) -> Basis:
        """The same in single precision."""
        other = copy.copy(self)
        if self.words is not None:
            other.words = Csr(self.words.matrix.astype(np.float32))
        other.dense, other.weights, other.curvature = self.dense.float(), self.weights.float(), self.curvature.float()
        return other

    def logits(self, weights: Tensor) -> Tensor:
        """(m, p) -> (m, n)."""
        out: Tensor = weights[:, : self.width] @ self.dense.T + weights[:, -1:]
        if self.words is not None:
            inner = np.ascontiguousarray(weights[:, self.width : -1].numpy().T)
            out += torch.from_numpy((self.words.matrix @ inner).T)
        return out

    def pull_back(self, residual: Tensor) -> Tensor:
        """(m, n) -> (m, p): the gradient in the weights."""
        parts = [residual @ self.dense]
        if self.words is not None:
            parts.append(torch.from_numpy((self.words.transposed @ np.ascontiguousarray(residual.numpy().T)).T))
        return torch.cat([*parts, residual.sum(1, keepdim=True)], 1)


@dataclass
class Fits:
    """B separate problems of K outputs each. `shares` (B, n) says how much each row counts in each; `decay` (B,)."""

    basis: Basis
    kind: str
    outputs: int  # K; 1 where two classes share one column of weights
    shares: Tensor  # weights of the rows over the number of rows fitted; 0 for rows held out
    decay: Tensor  # λ in Σ_i share_i ℓ_i + λ‖W‖²/2

    def loss(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K, p) -> the objectives (B,) and their gradients (B, K, p)."""
        b, k, p = weights.shape
        z = self.basis.logits(weights.reshape(b * k, p)).view(b, k, -1)
        rows, slope = self.rows_loss(z)
        ridge = self._ridge(p)
        value = (rows * self.shares).sum(1) + 0.5 * (ridge * weights.square()).sum((1, 2))
        gradient = self.basis.pull_back((slope * self.shares[:, None]).view(b * k, -1)).view(b, k, p) + ridge * weights
        return value, gradient

    def rows_loss(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K, n) -> the loss of every row (B, n) and its slope in the logits (B, K, n)."""
        y = self.basis.targets
        if self.kind == "squared":
            gap = z - y.to(z.dtype)
            return gap.square().sum(1), 2 * gap
        if self.kind == "sigmoid" or self.outputs == 1:
            truth = (y.T if self.kind == "sigmoid" else y[None]).to(z.dtype)  # (K, n)
            return (F.softplus(z) - truth * z).sum(1), torch.sigmoid(z) - truth
        log_p = torch.log_softmax(z, 1)
        at = y[None, None].expand(len(z), 1, -1)
        slope = log_p.exp()
        slope.scatter_add_(1, at, torch.full_like(at, -1, dtype=z.dtype))
        return -log_p.gather(1, at)[:, 0], slope

    def _ridge(self, p: int) -> Tensor:
        """λ of every coefficient, (B, 1, p); that of the bias only keeps it finite."""
        ridge = self.decay[:, None, None].expand(-1, 1, p).clone()
        ridge[..., -1] *= BIAS_PENALTY
        return ridge

    def scale(self, p: int) -> Tensor:
        """The bound on the curvature, (B, 1, p)."""
        c = 0.25 if self.outputs == 1 and self.kind == "softmax" else _CURVATURE[self.kind]
        mass = self.shares.sum(1) / self.basis.weights.mean()
        return c * mass[:, None, None] * self.basis.curvature + self._ridge(p) + 1e-12

    def take(self, at: Tensor) -> Fits:
        """Some of the problems."""
        return Fits(self.basis, self.kind, self.outputs, self.shares[at], self.decay[at])


def solve(fits: Fits, start: Tensor, tolerance: float, iterations: int = 200) -> Tensor:
    """Minimise every problem from `start` (B, K, p): L-BFGS (Liu & Nocedal 1989), scaled by the bound on the curvature.

    A problem is done when no entry of its gradient exceeds `tolerance`; the others go on without it.
    """
    found, going = start.clone(), torch.arange(len(start))
    x, (value, gradient) = start.clone(), fits.loss(start)
    steps: list[tuple[Tensor, Tensor, Tensor]] = []
    scale = fits.scale(x.shape[2])
    slack = 20 * torch.finfo(x.dtype).eps
    for _ in range(iterations):
        open_ = gradient.abs().amax((1, 2)) > tolerance
        if not bool(open_.all()):
            found[going[~open_]] = x[~open_]
            at = torch.nonzero(open_)[:, 0]
            going, x, value, gradient, scale = going[at], x[at], value[at], gradient[at], scale[at]
            fits, steps = fits.take(at), [(s[at], y[at], r[at]) for s, y, r in steps]
            if not len(at):
                return found
        direction = -_scaled(gradient, steps, scale)
        slope = (direction * gradient).sum((1, 2))
        size = torch.ones(len(x), dtype=x.dtype)
        for _ in range(12):  # halve the step of those that did not go down
            new = x + size[:, None, None] * direction
            new_value, new_gradient = fits.loss(new)
            bad = new_value > value + 1e-4 * size * slope + slack * value.abs()
            if not bool(bad.any()):
                break
            size = torch.where(bad, 0.5 * size, size)
        else:  # nothing lower can be told at this precision
            new = torch.where(bad[:, None, None], x, new)
            found[going] = new
            if bool(bad.all()):
                return found
            new_value, new_gradient = fits.loss(new)
            new_gradient[bad] = 0.0
        step, change = new - x, new_gradient - gradient
        curve = (step * change).sum((1, 2))
        steps = [*steps[-(_MEMORY - 1) :], (step, change, torch.where(curve > 0, 1 / curve.clamp_min(1e-30), 0.0))]
        x, value, gradient = new, new_value, new_gradient
    found[going] = x
    return found


def _scaled(gradient: Tensor, steps: Sequence[tuple[Tensor, Tensor, Tensor]], scale: Tensor) -> Tensor:
    """The inverse of the learned curvature times the gradient: the two loops of L-BFGS, for all problems at once."""
    q = gradient.clone()
    kept = []
    for step, change, rho in reversed(steps):
        a = rho * (step * q).sum((1, 2))
        q -= a[:, None, None] * change
        kept.append(a)
    q /= scale
    if steps:
        step, change, rho = steps[-1]
        stretch = (step * change).sum((1, 2)) / (change.square() / scale).sum((1, 2)).clamp_min(1e-30)
        q *= torch.where(rho > 0, stretch, 1.0)[:, None, None]
    for (step, change, rho), a in zip(steps, reversed(kept), strict=True):
        b = rho * (change * q).sum((1, 2))
        q += (a - b)[:, None, None] * step
    return q


def losses_by_fold(
    basis: Basis, kind: str, outputs: int, strengths: Sequence[float], pairs: Sequence[tuple[Any, Any]]
) -> Floats:
    """The weighted mean loss on held-out rows, (folds, strengths), in single precision: to rank, not to keep."""
    basis = basis.single()
    n, k = len(basis.weights), _columns(kind, outputs)
    p = len(basis.curvature)
    fitted = torch.zeros(len(pairs), n)
    judged = torch.zeros(len(pairs), n)
    for f, (fit_at, judge_at) in enumerate(pairs):
        fitted[f, torch.as_tensor(np.asarray(fit_at))] = 1.0 / len(fit_at)
        judged[f, torch.as_tensor(np.asarray(judge_at))] = 1.0
    fitted, judged = fitted * basis.weights, judged * basis.weights
    counts = torch.tensor([len(fit_at) for fit_at, _ in pairs], dtype=torch.float32)
    out = np.empty((len(pairs), len(strengths)))
    at_once = max(1, int(_NUMBERS / (len(pairs) * k * (n + 2 * _MEMORY * p))))
    start = torch.zeros(len(pairs), k, p)
    for first in range(0, len(strengths), at_once):
        some = torch.tensor(strengths[first : first + at_once], dtype=torch.float32)
        s = len(some)
        decay = _decay(kind, outputs, some[:, None] * counts).reshape(-1)
        fits = Fits(basis, kind, k, fitted.repeat(s, 1), decay)
        found = solve(fits, start.repeat(s, 1, 1), 3e-5)
        start = found[-len(pairs) :]  # the next strengths begin where the strongest of these ended
        z = basis.logits(found.reshape(-1, p)).view(s * len(pairs), k, n)
        rows_loss = fits.rows_loss(z)[0].view(s, len(pairs), n)
        value = (rows_loss * judged).sum(2) / judged.sum(1).clamp_min(1e-30)
        out[:, first : first + s] = value.T.double().numpy()
    return out


def fit_head(head: LinearHead, basis: Basis, kind: str, strength: float, tolerance: float = 1e-7) -> None:
    """Set `head` to the minimiser of (1/n) Σ w_i ℓ_i(W) + ‖W‖²/(2Cn), biases not penalised, in double precision."""
    outputs = head.weight.shape[0]
    k = _columns(kind, outputs)
    found = torch.zeros(1, k, len(basis.curvature))
    n = len(basis.weights)
    for part, near in ((basis.single(), 3e-5), (basis, tolerance)):  # single precision leads the way
        dtype = part.dense.dtype
        decay = _decay(kind, outputs, torch.tensor([strength * n], dtype=dtype))
        found = solve(Fits(part, kind, k, (part.weights / n)[None], decay), found.to(dtype), near, iterations=500)
    weights = found[0]  # (k, p)
    if k < outputs:  # two classes: the difference of their weights, shared equally
        weights = torch.cat([-0.5 * weights, 0.5 * weights])
    with torch.no_grad():
        head.weight.copy_(weights[:, : basis.width] @ basis.directions.T)
        head.bias.copy_(weights[:, -1])
        if head.shape["words"]:
            head.word_weight.copy_(weights[:, basis.width : -1])


def _columns(kind: str, outputs: int) -> int:
    return 1 if kind == "softmax" and outputs == 2 else outputs


def _decay(kind: str, outputs: int, c_times_n: Tensor) -> Tensor:
    """λ. Two classes in one column w = w₁ − w₀: ‖w₁‖² + ‖w₀‖² = ‖w‖²/2."""
    return (0.5 if _columns(kind, outputs) < outputs else 1.0) / c_times_n
