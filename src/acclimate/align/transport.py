"""Alignments by optimal transport: how far the source's mass must be moved to become the target's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from acclimate.align.base import Alignment, Loss, Stateless, View, log_probabilities, shares, wide
from acclimate.errors import UserError


@dataclass(frozen=True)
class DeepJdot(Stateless):
    """The cost of moving source rows with their labels to target rows with their predictions.

    Formula: Σᵢⱼ sg[γᵢⱼ]·cᵢⱼ, cᵢⱼ = feature_weight·‖xᵢ − xⱼ‖² − label_weight·log pⱼ(yᵢ), γ the plan of least cost
    that takes w̃ of the source to w̃ of the target, found exactly (POT).
    Source: Damodaran et al. (2018), DeepJDOT.
    Use when: class shares are alike, batches hold several rows of each class, and features and labels must meet
    together.
    Prefer sliced_wasserstein if batches are large: the plan takes about n³ time, on one processor; prefer mcc if class
    shares move, since every row of a batch must be moved somewhere.

    >>> x, z = torch.tensor([[0.0], [1.0]]), torch.zeros(2, 2)
    >>> source = View(x, z, labels=torch.tensor([0, 1]))
    >>> DeepJdot(label_weight=0.0)(source, View(x.flip(0) + 2, z), 0.5)  # both move by 2
    tensor(4.)
    """

    needs_classes: ClassVar[bool] = True

    feature_weight: float = 1.0  # one over a usual squared distance makes both parts alike
    label_weight: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("feature_weight", self.feature_weight), ("label_weight", self.label_weight)):
            if not 0 <= value < float("inf"):
                raise UserError(f"{name} is {value}; give a number of 0 or more")

    def attach(self, features: int, classes: int) -> Loss:
        """The alignment itself, once POT is seen to be there."""
        self.check(classes)
        _pot()
        return self

    def __call__(self, source: View, target: View, progress: float) -> Tensor:
        """The loss."""
        if source.labels is None:
            raise UserError("the alignment deepjdot needs the labels of the source rows, and this source has none")
        x, y = wide(source.features), wide(target.features)
        surprise = -log_probabilities(target.logits)  # (m, K)
        with torch.no_grad():
            apart = torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
            cost = self.feature_weight * apart + self.label_weight * surprise.T[source.labels].double()
            plan = _plan(shares(source), shares(target), cost)
        i, j = plan.nonzero(as_tuple=True)
        moved = self.feature_weight * (x[i] - y[j]).square().sum(1) + self.label_weight * surprise[j, source.labels[i]]
        return (plan[i, j].to(moved) * moved).sum()


def _plan(source: Tensor, target: Tensor, cost: Tensor) -> Tensor:
    """The (n, m) plan of least cost, of n + m − 1 entries at most that are not 0; all 0 where a side has no weight."""
    if not torch.isfinite(cost).all():
        return torch.full_like(cost, float("nan"))  # for the training loop to see; the solver would not end
    a, b = source.double().cpu(), target.double().cpu()
    if a.sum() == 0 or b.sum() == 0:
        return torch.zeros_like(cost)
    plan = _pot().emd((a / a.sum()).numpy(), (b / b.sum()).numpy(), cost.cpu().numpy(), numItermax=1_000_000)
    return torch.from_numpy(plan).to(cost)


def _pot() -> Any:
    try:
        import ot
    except ImportError as error:
        raise UserError("the alignment deepjdot needs POT: pip install 'acclimate[transport]'") from error
    return ot


class Slices(nn.Module):
    """The loss of sliced_wasserstein: fixed random directions."""

    directions: Tensor  # (d, number), of length 1

    def __init__(self, features: int, number: int) -> None:
        super().__init__()
        self.register_buffer("directions", nn.functional.normalize(torch.randn(features, number), dim=0))

    def forward(self, source: View, target: View, progress: float) -> Tensor:
        """The mean over the directions of the squared distance between quantile functions."""
        sides = [_quantiles(wide(v.features) @ self.directions, shares(v)) for v in (source, target)]
        steps = torch.cat([reached for _, reached in sides], 1).sort(1).values
        length = steps.diff(dim=1, prepend=steps.new_zeros(len(steps), 1))
        middle = steps - length / 2  # between two steps neither function changes
        values = [rows.gather(1, _at(reached, middle)) for rows, reached in sides]
        apart = (length.to(values[0]) * (values[0] - values[1]).square()).sum(1).mean()
        return torch.where(steps[0, 0] > 0, apart, 0)  # 0 where a side has no weight


def _quantiles(projected: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """By direction, the values in order, and the shares of the rows up to each, in 64 bits."""
    rows, order = projected.T.sort(1)
    reached = share.double()[order].cumsum(1)
    return rows, reached / reached[:, -1:].clamp(min=torch.finfo(reached.dtype).tiny)  # the last is exactly 1


def _at(reached: Tensor, level: Tensor) -> Tensor:
    """The places of the values at which these levels are reached."""
    return torch.searchsorted(reached.contiguous(), level.contiguous()).clamp(max=reached.shape[1] - 1)


@dataclass(frozen=True)
class SlicedWasserstein(Alignment):
    """The squared Wasserstein distance of source and target along fixed random directions.

    Formula: (1/L) Σ_θ ∫₀¹ (F_s⁻¹(q) − F_t⁻¹(q))² dq, F⁻¹ the quantile function of the features along θ, a step
    function that is integrated exactly, whatever the two numbers of rows; L directions, drawn once and saved with
    the weights.
    Source: Rabin et al. (2011), Wasserstein Barycenter and its Application to Texture Mixing; Bonneel et al. (2015).
    Use when: batches are large (its time is n·log n) and whole distributions should meet, not moments alone.
    Prefer coral if only the spread differs; prefer mcc or cdan if class shares move: equal marginals are then wrong.

    >>> loss = SlicedWasserstein(projections=3).attach(features=1, classes=2)
    >>> x, z = torch.tensor([[0.0], [1.0]]), torch.zeros(2, 2)
    >>> loss(View(x, z), View(x + 2, z), 0.5)  # along every direction both rows move by 2
    tensor(4.)
    """

    projections: int = 128

    def __post_init__(self) -> None:
        if self.projections < 1:
            raise UserError(f"projections is {self.projections}; give a number of directions of 1 or more")

    def attach(self, features: int, classes: int) -> Loss:
        """New directions."""
        return Slices(features, self.projections)


TRANSPORT: dict[str, type[Alignment]] = {"deepjdot": DeepJdot, "sliced_wasserstein": SlicedWasserstein}
