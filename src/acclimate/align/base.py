"""What an alignment is: a loss of two views, one of the source and one of the target; and what several of them share.

Throughout, w̃ᵢ is the share of row i: its weight over the sum of the view's weights, 1/n where there are none. A row of
weight 0 is as good as absent. Where a formula counts rows, it counts n = 1/Σw̃², the number of equally weighted rows
that estimate a mean as well; that is the number of rows where there are no weights. sg[·] means: no gradient flows
through it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from acclimate.errors import UserError

LEAST_LOG = -1e4  # exp of it is 0 in every floating-point type; stands for log 0 where a class is masked with -inf


@dataclass(frozen=True)
class View:
    """What a network says about the rows of one domain in one batch."""

    features: Tensor  # (n, d)
    logits: Tensor  # (n, K)
    labels: Tensor | None = None  # (n,) class numbers: of the source, or pseudo-labels that the strategy gives
    weights: Tensor | None = None  # (n,), not negative; only their ratios count, and no gradient flows into them
    domains: Tensor | None = None  # (n,) domain numbers, where there are several sources


Loss = Callable[[View, View, float], Tensor]  # source, target, progress from 0 to 1 -> a scalar


@dataclass(frozen=True)
class Alignment(ABC):
    """The settings of one alignment. `attach` makes the loss for features and classes of a given number.

    A loss that holds weights or random numbers is an `nn.Module`: it draws them from torch's current generator when
    it is attached and keeps them in its `state_dict`. A loss computes in at least 32-bit floats; call it outside
    autocast.
    """

    needs_classes: ClassVar[bool] = False  # whether it reads class probabilities

    @property
    def order_matters(self) -> bool:
        """Whether the value depends on the order of the rows."""
        return False

    @abstractmethod
    def attach(self, features: int, classes: int) -> Loss:
        """The loss for `features` columns of features and `classes` columns of logits."""

    def check(self, classes: int) -> None:
        """Refuse a task without classes where class probabilities are compared."""
        if self.needs_classes and classes < 2:
            name = type(self).__name__.lower()
            raise UserError(
                f"the alignment {name} compares class probabilities and needs 2 or more, but the task has {classes} "
                "output; use one that reads features alone: coral, mmd, dann, afn, sliced_wasserstein"
            )


@dataclass(frozen=True)
class Stateless(Alignment):
    """An alignment without weights or random numbers: it is its own loss."""

    def attach(self, features: int, classes: int) -> Loss:
        """The alignment itself."""
        self.check(classes)
        return self

    @abstractmethod
    def __call__(self, source: View, target: View, progress: float) -> Tensor:
        """The loss."""


def wide(values: Tensor) -> Tensor:
    """The values in 32-bit floats, or in 64-bit where they are so."""
    return values if values.dtype == torch.float64 else values.float()


def shares(view: View) -> Tensor:
    """w̃, (n,): each row's share of the view's weight, constant; all 0 where the view has no weight at all.

    >>> shares(View(torch.zeros(4, 2), torch.zeros(4, 2), weights=torch.tensor([1.0, 0.0, 2.0, 1.0])))
    tensor([0.2500, 0.0000, 0.5000, 0.2500])
    """
    features = wide(view.features.detach())
    if view.weights is None:
        return features.new_full((len(features),), 1.0 / max(len(features), 1))
    weights = view.weights.detach().to(features)
    return weights / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)


def freedom(share: Tensor) -> Tensor:
    """1 − Σw̃² = (n − 1)/n, what averages over pairs of different rows are divided by; 0 if there is no pair."""
    left = 1 - share.square().sum()
    return torch.where((left > 1e-6) & (share.sum() > 0), left, torch.zeros_like(left))


def average(values: Tensor, share: Tensor) -> Tensor:
    """Σᵢ w̃ᵢ·valuesᵢ over the first dimension."""
    found: Tensor = torch.tensordot(share.to(values.dtype), values, dims=1)
    return found


def scaled_rows(rows: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """(rows scaled so that their outer products sum to n·Σ w̃ᵢ·xᵢxᵢᵀ, n). Without weights: the rows, their number."""
    count = 1 / share.square().sum().clamp(min=torch.finfo(share.dtype).tiny) * (share.sum() > 0)
    return rows * (share * count).sqrt().unsqueeze(1), count


def singular_values(rows: Tensor) -> Tensor:
    """The singular values, largest first; NaN where an entry is not finite, so that the training loop sees it."""
    if not torch.isfinite(rows).all():
        return rows.sum().mul(float("nan")).reshape(1)
    values: Tensor = torch.linalg.svdvals(rows)
    return values


def log_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """log softmax(z/T), finite also where a class is masked with -inf."""
    return torch.log_softmax(wide(logits) / temperature, dim=1).clamp(min=LEAST_LOG)


def entropies(log_p: Tensor) -> Tensor:
    """H(p) = −Σ p·log p of each row, in nats, with 0·log 0 = 0."""
    return -(log_p.exp() * log_p).sum(1)


def reverse_gradient(values: Tensor, strength: float) -> Tensor:
    """The values, bit for bit; backwards the gradient times −strength. Ganin and Lempitsky (2015), equations 10-11.

    >>> x = torch.tensor([3.0], requires_grad=True)
    >>> reverse_gradient(x, 0.5).backward()
    >>> x.grad
    tensor([-0.5000])
    """
    constant = values.detach()
    return constant + strength * (constant - values)


def reversal_strength(progress: float, steepness: float = 10.0) -> float:
    """2/(1 + exp(−steepness·p)) − 1: from 0 at the start to nearly 1 at the end. Ganin et al. (2016), section 5.2.2.

    >>> [round(reversal_strength(p), 4) for p in (0.0, 0.1, 0.5, 1.0)]
    [0.0, 0.4621, 0.9866, 0.9999]
    """
    return 2 / (1 + math.exp(-steepness * progress)) - 1


def perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two hidden layers of rectified units, no batch statistics, no dropout: a batch of one row is as good as any."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )
