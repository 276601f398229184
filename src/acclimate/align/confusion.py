"""Alignments that read nothing but the target's class probabilities: p = softmax(logits) of its rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from acclimate.align.base import (
    LEAST_LOG,
    Alignment,
    Stateless,
    View,
    average,
    entropies,
    log_probabilities,
    scaled_rows,
    shares,
    singular_values,
)
from acclimate.errors import UserError


@dataclass(frozen=True)
class OfPredictions(Stateless):
    """Those that read class probabilities alone."""

    needs_classes: ClassVar[bool] = True


@dataclass(frozen=True)
class Mcc(OfPredictions):
    """How much of the mass that goes to one class goes to other classes in the same rows, on the target.

    Formula: P = softmax(logits/T), wᵢ = sg[w̃ᵢ·(1 + exp(−H(pᵢ)))], C = Pᵀ·diag(w)·P with each row divided by its sum;
    (1/K) Σ_{j≠k} C_jk = 1 − (1/K) Σⱼ Σᵢ aᵢⱼ·pᵢⱼ, where aᵢⱼ = wᵢpᵢⱼ / Σᵢ wᵢpᵢⱼ. It is computed from log p, so that
    it stays right for a class whose probabilities are too small to be written down.
    Source: Jin et al. (2020), Minimum Class Confusion for Versatile Domain Adaptation.
    Use when: the default. It needs no source rows and no adversary, works on cached features, and bears class
    shares that move a little.
    Prefer infomax if classes have about equal shares on the target; prefer coral or mmd if the first predictions
    are bad.

    >>> sure, torn = torch.tensor([[9.0, -9.0], [-9.0, 9.0]]), torch.zeros(2, 2)
    >>> [round(Mcc(temperature=1.0)(View(z, z), View(z, z), 0.5).item(), 4) for z in (sure, torn)]
    [0.0, 0.5]
    """

    temperature: float = 2.5

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise UserError(f"temperature is {self.temperature}; give a number above 0, such as 2.5")

    def __call__(self, source: View, target: View, progress: float) -> Tensor:
        """The loss."""
        log_p = log_probabilities(target.logits, self.temperature)
        share = shares(target)
        sure = share * (1 + torch.exp(-entropies(log_p.detach())))
        within = torch.softmax(log_p + sure.log().clamp(min=10 * LEAST_LOG).unsqueeze(1), dim=0)
        value = 1 - (within * log_p.exp()).sum() / log_p.shape[1]
        return torch.where(share.sum() > 0, value, 0)


@dataclass(frozen=True)
class Bnm(OfPredictions):
    """Less the nuclear norm of the target's probabilities: rows become sure, and all classes stay in use.

    Formula: −‖P‖_* / n, the sum of the singular values of the n x K matrix P; rows with weights are scaled by √(n·w̃ᵢ).
    Source: Cui et al. (2020), Towards Discriminability and Diversity: Batch Nuclear-norm Maximization.
    Use when: batches hold several rows of each class and rare classes must not vanish.
    Prefer mcc if batches are small beside the number of classes; its value depends on the batch size, that of mcc
    hardly.

    >>> sure = torch.tensor([[99.0, -99.0], [-99.0, 99.0]])
    >>> Bnm()(View(sure, sure), View(sure, sure), 0.5)  # the singular values of the unit matrix: 1 and 1
    tensor(-1.)
    """

    def __call__(self, source: View, target: View, progress: float) -> Tensor:
        """The loss."""
        rows, count = scaled_rows(log_probabilities(target.logits).exp(), shares(target))
        return -singular_values(rows).sum() / count.clamp(min=1)


@dataclass(frozen=True)
class Entropy(OfPredictions):
    """How unsure the predictions on the target are.

    Formula: E_t[H(p)], H(p) = −Σ p·log p.
    Source: Grandvalet and Bengio (2005), Semi-supervised Learning by Entropy Minimization.
    Use when: the first predictions on the target are mostly right and the classes lie apart.
    Prefer infomax nearly always: alone, this is least when every row is called the same.

    >>> z = torch.zeros(3, 2)
    >>> Entropy()(View(z, z), View(z, z), 0.5)  # log 2
    tensor(0.6931)
    """

    def __call__(self, source: View, target: View, progress: float) -> Tensor:
        """The loss."""
        return average(entropies(log_probabilities(target.logits)), shares(target))


@dataclass(frozen=True)
class InfoMax(OfPredictions):
    """How unsure single predictions are, less how evenly all of them fall on the classes.

    Formula: E_t[H(p)] − H(E_t[p]): less the mutual information of row and prediction; from −log K to 0.
    Source: Krause et al. (2010), Regularized Information Maximization; Liang et al. (2020), SHOT: the loss SHOT-IM.
    Use when: the classes have about equal shares on the target; it works on cached features, and without the source.
    Prefer mcc if the shares are skewed or unknown: this one pulls them towards equal.

    >>> sure = torch.tensor([[99.0, -99.0], [-99.0, 99.0]])
    >>> InfoMax()(View(sure, sure), View(sure, sure), 0.5)  # -log 2
    tensor(-0.6931)
    """

    def __call__(self, source: View, target: View, progress: float) -> Tensor:
        """The loss."""
        log_p, share = log_probabilities(target.logits), shares(target)
        mean = average(log_p.exp(), share)
        floor = torch.finfo(mean.dtype).tiny  # keeps the gradient of a class without mass finite; 0·log 0 = 0
        return average(entropies(log_p), share) + (mean * mean.clamp(min=floor).log()).sum()


CONFUSION: dict[str, type[Alignment]] = {"mcc": Mcc, "bnm": Bnm, "entropy": Entropy, "infomax": InfoMax}
