"""Heads on cached features by a second-order solver: exact, and cheap enough to try a whole path of penalties."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from acclimate.tasks.base import Floats
from acclimate.tasks.heads import Csr, Head, LinearHead, OrdinalHead

Losses = Callable[[Tensor, Tensor], Tensor]  # (logits, targets) -> (n,)
BIAS_PENALTY = 1e-7  # keeps the bias of a class without rows finite


@dataclass(frozen=True)
class Rows:
    """What a head is fitted on."""

    features: Tensor  # (n, d) float64, standardised
    words: Csr | None  # (n, v) float64
    targets: Tensor  # (n,) or (n, k)
    weights: Tensor  # (n,) of mean one

    def take(self, at: Any) -> Rows:
        """The rows at these positions."""
        index = torch.as_tensor(np.asarray(at), dtype=torch.long)
        words = None if self.words is None else self.words.take(index.numpy())
        return Rows(self.features[index], words, self.targets[index], self.weights[index])

    def joined(self, other: Rows) -> Rows:
        """These rows, then the others."""
        words = None
        if self.words is not None and other.words is not None:
            words = self.words.joined(other.words)
        return Rows(
            torch.cat([self.features, other.features]),
            words,
            torch.cat([self.targets, other.targets]),
            torch.cat([self.weights, other.weights]),
        )

    def __len__(self) -> int:
        return len(self.features)


def minimise(
    head: Head, rows: Rows, losses: Losses, strength: float, iterations: int = 300, tolerance: float = 1e-6
) -> None:
    """Fit `head` in place, starting from where it is: min_W (1/n) Σ w_i ℓ_i(W) + ‖W‖²/(2Cn), biases not penalised.

    `strength` is C, as in scikit-learn's LogisticRegression, for features whose mean squared length is one. (Two
    classes have two rows of W here and one there, so that C here is 2C there; for squared error alpha is 1/(2C).)
    L-BFGS (Liu & Nocedal 1989), stopped at a gradient of `tolerance` or after `iterations`.
    """
    from scipy.optimize import minimize

    parameters = list(head.parameters())
    penalties = [1.0 if name.endswith("weight") else BIAS_PENALTY for name, _ in head.named_parameters()]
    sizes = [p.numel() for p in parameters]
    scale = 1.0 / (strength * len(rows))

    def put(flat: Floats) -> None:
        at = 0
        for parameter, size in zip(parameters, sizes, strict=True):
            parameter.data.copy_(torch.from_numpy(flat[at : at + size].reshape(parameter.shape)))
            at += size

    def objective(flat: Floats) -> tuple[float, Floats]:
        put(flat)
        loss = (rows.weights * losses(head(rows.features, rows.words), rows.targets)).mean()
        penalty = sum(0.5 * c * p.square().sum() for c, p in zip(penalties, parameters, strict=True))
        total = loss + scale * penalty
        gradients = torch.autograd.grad(total, parameters)
        return float(total.detach()), torch.cat([g.reshape(-1) for g in gradients]).numpy().copy()

    start = torch.cat([p.detach().reshape(-1) for p in parameters]).numpy().copy()
    options = {"maxiter": iterations, "gtol": tolerance, "ftol": 1e-4 * tolerance}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    put(found.x)


def path(head: Head, rows: Rows, losses: Losses, strengths: Sequence[float], held_out: Rows) -> Floats:
    """The mean loss on `held_out` for each strength from weak to strong fit, each started from the one before."""
    scores = []
    for strength in strengths:
        minimise(head, rows, losses, strength, tolerance=1e-5)  # to rank strengths, not to be kept
        with torch.no_grad():
            value = held_out.weights * losses(head(held_out.features, held_out.words), held_out.targets)
        scores.append(float(value.sum() / held_out.weights.sum()))
    return np.array(scores)


@dataclass(frozen=True)
class Scaling:
    """Centre and spread of features: (f − μ)/(σ √d), so that a standardised row has mean squared length one."""

    mean: Floats
    spread: Floats

    @staticmethod
    def of(features: Any) -> Scaling:
        """From training features (n, d); a constant feature keeps spread one."""
        wide = np.asarray(features, np.float64)
        spread = wide.std(0)
        spread = np.where(spread > 1e-6 * max(1.0, float(np.abs(wide).max(initial=0.0))), spread, 1.0)
        return Scaling(wide.mean(0) if len(wide) else np.zeros(wide.shape[1]), spread * np.sqrt(max(1, wide.shape[1])))

    def apply(self, features: Any) -> Tensor:
        """Standardised float64 features."""
        return torch.from_numpy((np.asarray(features, np.float64) - self.mean) / self.spread)

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
