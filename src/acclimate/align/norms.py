"""Alignments of the size of features."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from acclimate.align.base import Alignment, Stateless, View, average, scaled_rows, shares, singular_values, wide
from acclimate.errors import UserError


@dataclass(frozen=True)
class Afn(Stateless):
    """Every step asks for feature norms a little larger than they are, in both domains.

    Formula: E_s[(‖x‖ − sg[‖x‖] − step)²] + E_t[the same]. Its value is always 2·step²; its gradient moves the norms.
    Source: Xu et al. (2019), Larger Norm More Transferable (stepwise AFN).
    Use when: target features are shorter than source features, as they are for rows that the encoder hardly knows.
    Prefer hafn if the norm that features should have is known; prefer any other if the head divides by the norm.

    >>> x = torch.tensor([[3.0, 4.0]])
    >>> Afn()(View(x, x), View(x, x), 0.5)
    tensor(2.)
    """

    step: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.step):
            raise UserError(f"step is {self.step}; give a finite number, such as 1")

    def __call__(self, source: View, target: View, progress: float) -> Tensor:
        """The loss."""
        norms = [torch.linalg.vector_norm(wide(v.features), dim=1) for v in (source, target)]
        grown = [(n - n.detach() - self.step).square() for n in norms]
        return average(grown[0], shares(source)) + average(grown[1], shares(target))


@dataclass(frozen=True)
class Hafn(Stateless):
    """The mean norm of features is drawn to one radius in both domains.

    Formula: (E_s‖x‖ − radius)² + (E_t‖x‖ − radius)².
    Source: Xu et al. (2019), Larger Norm More Transferable (hard AFN).
    Use when: domains differ in the scale of features and the encoder moves.
    Prefer afn if no radius is known to be good; prefer coral if single directions differ, not the overall size.

    >>> x = torch.tensor([[3.0, 4.0]])
    >>> Hafn(radius=7.0)(View(x, x), View(x, x), 0.5)
    tensor(8.)
    """

    radius: float = 25.0

    def __post_init__(self) -> None:
        if not (self.radius > 0 and math.isfinite(self.radius)):
            raise UserError(f"radius is {self.radius}; give a number above 0, such as 25")

    def __call__(self, source: View, target: View, progress: float) -> Tensor:
        """The loss."""
        means = [average(torch.linalg.vector_norm(wide(v.features), dim=1), shares(v)) for v in (source, target)]
        return (means[0] - self.radius).square() + (means[1] - self.radius).square()


@dataclass(frozen=True)
class Bsp(Stateless):
    """The largest singular values of the features, which an adversary would let grow at the cost of the others.

    Formula: Σ_{i≤largest} σᵢ(X_s)² + σᵢ(X_t)², σ₁ ≥ σ₂ ≥ ... of the n x d features; rows with weights are scaled by
    √(n·w̃ᵢ).
    Source: Chen et al. (2019), Transferability vs. Discriminability: Batch Spectral Penalization: the penalty on
    the k largest.
    Use when: added to dann or cdan with a small weight (1e-4): it is a penalty, not an alignment by itself.
    Prefer dann or cdan alone if classes stay apart on the target.

    >>> x = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    >>> Bsp()(View(x, x), View(2 * x, x), 0.5)  # 4² + 8²
    tensor(80.)
    """

    largest: int = 1

    def __post_init__(self) -> None:
        if self.largest < 1:
            raise UserError(f"largest is {self.largest}; give a number of singular values of 1 or more")

    def __call__(self, source: View, target: View, progress: float) -> Tensor:
        """The loss."""
        found = [singular_values(scaled_rows(wide(v.features), shares(v))[0]) for v in (source, target)]
        return sum((values[: self.largest].square().sum() for values in found), torch.zeros_like(found[0][0]))


NORMS: dict[str, type[Alignment]] = {"afn": Afn, "hafn": Hafn, "bsp": Bsp}
