"""Alignments of moments: covariances, central moments, kernel means of features or of features and predictions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from acclimate.align.base import Alignment, Stateless, View, average, freedom, log_probabilities, shares, wide
from acclimate.align.kernels import Kernel, Pair, squared_mmd, squared_mmd_of_pairs
from acclimate.errors import UserError, unknown

ESTIMATORS = ("biased", "unbiased", "linear")


@dataclass(frozen=True)
class Coral(Stateless):
    """The distance between the covariances of source and target features.

    Formula: ‖C_s − C_t‖²_F / (4·d²), with C = Σ w̃ᵢ(xᵢ − x̄)(xᵢ − x̄)ᵀ / (1 − Σw̃²), which without weights divides by n
    − 1. It is 0 where a side has one row.
    Source: Sun and Saenko (2016), Deep CORAL, equations 1-3.
    Use when: the domains differ in style (spread and correlation of features), batches hold more than a few rows,
    and a loss without settings is wanted.
    Prefer mmd if the means differ or the shapes are not alike; prefer mcc if classes are well separated already.

    >>> x = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    >>> source, target = View(x, x), View(2 * x, x)
    >>> Coral()(source, target, 0.5)  # variances 2 and 8: 6² / (4·2²)
    tensor(2.2500)
    """

    def __call__(self, source: View, target: View, progress: float) -> Tensor:
        """The loss."""
        (c_s, free_s), (c_t, free_t) = _covariance(source), _covariance(target)
        value = (c_s - c_t).square().sum() / (4 * c_s.shape[0] ** 2)
        return torch.where((free_s > 0) & (free_t > 0), value, 0)


def _covariance(view: View) -> tuple[Tensor, Tensor]:
    """C, and its freedom: 0 where there is no covariance."""
    rows, share = wide(view.features), shares(view)
    rows = rows - rows[:1].detach()  # equal rows are then exactly 0
    rows = rows - average(rows, share)
    free = freedom(share)
    return (rows * share.unsqueeze(1)).T @ rows * torch.where(free > 0, 1 / free, 0), free


@dataclass(frozen=True)
class KernelMean(Stateless):
    """The settings that mmd and jan share."""

    estimator: str = "biased"  # all pairs; unbiased: of different rows, may be below 0; linear: neighbouring rows
    kernels: int = 5  # Gaussians, each twice as wide (in squared distance) as the one before
    bandwidth: str | float = "mean"  # b, the middle one: "mean" or "median" of the squared distances, or a number

    def __post_init__(self) -> None:
        if self.estimator not in ESTIMATORS:
            raise unknown("estimator", self.estimator, ESTIMATORS)
        if self.kernels < 1:
            raise UserError(f"kernels is {self.kernels}; give a number of Gaussians of 1 or more")
        b = self.bandwidth
        if isinstance(b, str) and b not in ("mean", "median"):
            raise unknown("bandwidth", b, ["mean", "median", "a number above 0"])
        if not isinstance(b, str) and not (b > 0 and math.isfinite(b)):
            raise UserError(f"bandwidth is {b}; give a squared distance above 0, or mean or median")

    @property
    def order_matters(self) -> bool:
        """The linear-time estimator compares neighbouring rows."""
        return self.estimator == "linear"

    def discrepancy(self, layers: list[Pair], share: Pair) -> Tensor:
        """MMD² over these layers."""
        kernel = Kernel(self.kernels, self.bandwidth)
        if self.estimator == "linear":
            return squared_mmd_of_pairs(layers, share, kernel)
        return squared_mmd(layers, share, kernel, self.estimator == "unbiased")


@dataclass(frozen=True)
class Mmd(KernelMean):
    """The squared maximum mean discrepancy of source and target features, over Gaussians of several widths.

    Formula: k(x, y) = (1/m) Σᵤ exp(−‖x − y‖²/(2ᵘ·b)) with u from −⌊m/2⌋ on, and b = sg[E‖z − z'‖²] over the source and
    the target in equal parts (or the median over pairs of different rows).
    biased: E k(s, s') + E k(t, t') − 2·E k(s, t) over all pairs, which is exactly 0 for equal batches.
    unbiased: without the pairs of a row with itself; 0 on average where the domains are equal, so also below 0; 0
    where a side has one row.
    linear: (2/n) Σᵢ k(s₂ᵢ, s₂ᵢ₊₁) + k(t₂ᵢ, t₂ᵢ₊₁) − k(s₂ᵢ, t₂ᵢ₊₁) − k(s₂ᵢ₊₁, t₂ᵢ) over the first 2·⌊n/2⌋ rows of
    each, n being the smaller batch; its median is over these pairs, and it depends on the order of the rows.
    Source: Gretton et al. (2012), A Kernel Two-Sample Test, equations 3, 5 and section 6; Long et al. (2015), DAN.
    Use when: features differ in more than their covariance and classes have about the same shares in both domains.
    Prefer coral if batches are small; prefer unbiased if batches differ in size; prefer cdan or mcc if class shares
    move.

    >>> x, y = torch.tensor([[0.0]]), torch.tensor([[1.0]])
    >>> Mmd(kernels=1, bandwidth=1.0)(View(x, x), View(y, y), 0.5)  # 2 - 2/e
    tensor(1.2642)
    """

    def __call__(self, source: View, target: View, progress: float) -> Tensor:
        """The loss."""
        return self.discrepancy([(wide(source.features), wide(target.features))], (shares(source), shares(target)))


@dataclass(frozen=True)
class Jan(KernelMean):
    """The squared maximum mean discrepancy of features and class probabilities taken together.

    Formula: as for mmd, with k((x, p), (y, q)) = k(x, y)·k(p, q), p and q being softmax(logits), and a b for each.
    Source: Long et al. (2017), Deep Transfer Learning with Joint Adaptation Networks: JMMD.
    Use when: the features of a class should meet those of the same class, not any of the other domain.
    Prefer mmd if predictions on the target are little better than chance; prefer cdan if there are many rows to
    learn from.

    >>> x, z = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    >>> source, target = View(x, z), View(x, z.flip(0))  # the same features, the predictions exchanged
    >>> Mmd()(source, target, 0.5), Jan()(source, target, 0.5) > 0.1
    (tensor(0.), tensor(True))
    """

    needs_classes: ClassVar[bool] = True

    def __call__(self, source: View, target: View, progress: float) -> Tensor:
        """The loss."""
        features = (wide(source.features), wide(target.features))
        predictions = (log_probabilities(source.logits).exp(), log_probabilities(target.logits).exp())
        return self.discrepancy([features, predictions], (shares(source), shares(target)))


@dataclass(frozen=True)
class Cmd(Stateless):
    """The distance of the means, and of the central moments up to an order, of every feature by itself.

    Formula: ‖x̄_s − x̄_t‖/r + Σ_{k=2..moments} ‖c_k(X_s) − c_k(X_t)‖/rᵏ, with c_k = Σ w̃ᵢ(xᵢ − x̄)ᵏ by feature and r the
    length of the interval that holds all features: `span`, or ("range") sg[largest − smallest number of the batch].
    Source: Zellinger et al. (2017), Central Moment Discrepancy (CMD) for Domain-Invariant Representation Learning,
    definition 2 and equation 9, where features are bounded by an activation and r is known.
    Use when: features differ in the shape of their single distributions, and no kernel width is to be chosen.
    Prefer coral if features differ in how they go together, which this does not see; prefer mcc if class shares move.

    >>> x = torch.tensor([[0.0], [2.0]])
    >>> Cmd(moments=2, span=1.0)(View(x, x), View(2 * x, x), 0.5)  # means 1 and 2, variances 1 and 4
    tensor(4.)
    """

    moments: int = 5
    span: str | float = "range"  # r: "range", or a number above 0

    def __post_init__(self) -> None:
        if self.moments < 1:
            raise UserError(f"moments is {self.moments}; give a number of moments of 1 or more")
        if isinstance(self.span, str) and self.span != "range":
            raise unknown("span", self.span, ["range", "a number above 0"])
        if not isinstance(self.span, str) and not (self.span > 0 and math.isfinite(self.span)):
            raise UserError(f"span is {self.span}; give the length of the interval that features lie in, or range")

    def __call__(self, source: View, target: View, progress: float) -> Tensor:
        """The loss."""
        part = (shares(source), shares(target))
        rows = [wide(v.features) for v in (source, target)]
        r = _range(rows, part) if isinstance(self.span, str) else rows[0].new_tensor(float(self.span))
        origin = rows[0][:1].detach()
        rows = [x - origin for x in rows]  # equal rows are then exactly 0
        means = [average(x, w) for x, w in zip(rows, part, strict=True)]
        centred = [(x - mean) / r for x, mean in zip(rows, means, strict=True)]
        found, powers = [torch.linalg.vector_norm((means[0] - means[1]) / r)], list(centred)
        for _ in range(2, self.moments + 1):
            powers = [power * x for power, x in zip(powers, centred, strict=True)]
            sides = [average(power, w) for power, w in zip(powers, part, strict=True)]
            found.append(torch.linalg.vector_norm(sides[0] - sides[1]))
        return torch.where((part[0].sum() > 0) & (part[1].sum() > 0), torch.stack(found).sum(), 0)


@torch.no_grad()
def _range(rows: list[Tensor], share: tuple[Tensor, Tensor]) -> Tensor:
    """The largest less the smallest number of the rows that have weight; 1 where they are all equal."""
    held = [w.unsqueeze(1) > 0 for w in share]
    most = torch.stack([torch.where(h, x, -torch.inf).max() for x, h in zip(rows, held, strict=True)]).max()
    least = torch.stack([torch.where(h, x, torch.inf).min() for x, h in zip(rows, held, strict=True)]).min()
    length = most - least
    return torch.where((length > 0) | length.isnan(), length, torch.ones_like(length))


MOMENTS: dict[str, type[Alignment]] = {"coral": Coral, "mmd": Mmd, "jan": Jan, "cmd": Cmd}
