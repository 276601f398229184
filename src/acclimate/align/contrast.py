"""Alignments class by class: rows of one class meet across the domains, rows of different classes are kept apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from acclimate.align.base import Alignment, Stateless, View, shares, wide
from acclimate.align.kernels import Kernel
from acclimate.align.moments import Mmd
from acclimate.errors import UserError

_MOST_ROUNDS = 20  # of the clustering; a batch has settled long before


@dataclass(frozen=True)
class Cdd(Stateless):
    """How far each class is from itself in the other domain, less how far different classes are from each other.

    Formula: mean_c D(c, c) − mean_{c ≠ c'} D(c, c'), D(c, c') = E k(s, s') + E k(t, t') − 2·E k(s, t) over source rows
    of class c and target rows of class c', all pairs; means over the classes that the batch holds on both sides; k as
    for mmd. A target row's class is found in the batch: spherical k-means of its features, begun at the mean directions
    of the source's classes; no label and no prediction of the target is read, no gradient flows through the classes.
    Source: Kang et al. (2019), Contrastive Adaptation Network for Unsupervised Domain Adaptation, equations 3 to 5.
    There k-means runs over the whole target once an epoch, rows far from their centre and rare classes are left out,
    and batches are drawn class by class; here a class that a batch lacks is left out of it.
    Use when: classes form clusters on the target, are few beside the rows of a batch, and the first clusters are right.
    Prefer mcc nearly always: in one trial of twelve this one exchanged two classes; prefer mmd if clusters are not
    classes.

    >>> x, z = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.zeros(2, 2)
    >>> source = View(x, z, labels=torch.tensor([0, 1]))
    >>> Cdd(kernels=1, bandwidth=1.0)(source, View(x, z), 0.5)  # 0 - (2 - 2·exp(-2))
    tensor(-1.7293)
    """

    needs_classes: ClassVar[bool] = True

    kernels: int = 5  # as for mmd
    bandwidth: str | float = "mean"

    def __post_init__(self) -> None:
        Mmd(kernels=self.kernels, bandwidth=self.bandwidth)

    def __call__(self, source: View, target: View, progress: float) -> Tensor:
        """The loss."""
        if source.labels is None:
            raise UserError("the alignment cdd needs the labels of the source rows, and this source has none")
        pair, part = (wide(source.features), wide(target.features)), (shares(source), shares(target))
        classes = source.logits.shape[1]
        ours = F.one_hot(source.labels, classes).to(part[0]) * part[0].unsqueeze(1)  # (n, K), w̃ in the row's class
        found = clusters(pair[0].detach(), ours, pair[1].detach(), part[1])
        theirs = F.one_hot(found, classes).to(part[1]) * part[1].unsqueeze(1)  # (m, K)
        here, there = (side.sum(0) > 0 for side in (ours, theirs))
        apart = _between_classes(pair, part, _within(ours), _within(theirs), Kernel(self.kernels, self.bandwidth))
        held = (here.unsqueeze(1) & there).to(apart)  # (K, K)
        same = held.diagonal()
        other = held - torch.diag(same)
        near = (apart.diagonal() * same).sum() / same.sum().clamp(min=1)
        far = (apart * other).sum() / other.sum().clamp(min=1)
        return near - far


def _within(mass: Tensor) -> Tensor:
    """(n, K): the share of each row in its class."""
    return mass / mass.sum(0).clamp(min=torch.finfo(mass.dtype).tiny)


def _between_classes(
    pair: tuple[Tensor, Tensor], part: tuple[Tensor, Tensor], ours: Tensor, theirs: Tensor, kernel: Kernel
) -> Tensor:
    """D, (K, K): source class by row, target class by column. n x m numbers are held, never n x m x d."""
    scale = kernel.scale(pair, part)
    middle = sum(w @ rows.detach() for rows, w in zip(pair, part, strict=True)) / 2  # near 0 few digits are lost
    x, y = ((rows - middle) * scale for rows in pair)
    within = [(w * (_kernel(rows, rows, kernel) @ w)).sum(0) for rows, w in ((x, ours), (y, theirs))]
    return within[0].unsqueeze(1) + within[1] - 2 * ours.T @ _kernel(x, y, kernel) @ theirs


def _kernel(x: Tensor, y: Tensor, kernel: Kernel) -> Tensor:
    """k of all pairs of rows."""
    squared = x.square().sum(1, keepdim=True) + y.square().sum(1) - 2 * x @ y.T
    return kernel.of(squared.clamp(min=0))


@torch.no_grad()
def clusters(source: Tensor, ours: Tensor, target: Tensor, share: Tensor) -> Tensor:
    """The class of every target row, (m,): k-means by cosine, begun at the source's classes, (n, K) `ours` its mass.

    A class without source rows gets no target row; a class that loses its rows keeps its centre.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> y = torch.tensor([[0.9, 0.5], [0.9, 0.7], [0.8, 1.0]])
    >>> clusters(x, torch.eye(2), y, torch.ones(3))
    tensor([0, 0, 1])
    """
    centres = F.normalize(ours.T @ F.normalize(source, dim=1), dim=1)  # (K, d)
    absent, rows = ours.sum(0) <= 0, F.normalize(target, dim=1)
    labels = torch.full((len(target),), -1, device=target.device)
    for _ in range(_MOST_ROUNDS):
        before, labels = labels, (rows @ centres.T).masked_fill(absent, -torch.inf).argmax(1)
        if torch.equal(before, labels):
            break
        mass = F.one_hot(labels, ours.shape[1]).to(share) * share.unsqueeze(1)
        kept = (mass.sum(0) > 0).unsqueeze(1)
        centres = torch.where(kept, F.normalize(mass.T @ rows, dim=1), centres)
    return labels


CONTRASTS: dict[str, type[Alignment]] = {"cdd": Cdd}
