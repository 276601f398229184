"""What each source row counts where the target may hold only some of the source's classes.

Aligning whole domains then pulls target rows to classes that are not there. Both ways below let source rows of such
classes fade; no label of the target is read. Weights are 1 in the first epoch, renewed before every later one, and
constant in it; as a buffer they are part of every checkpoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from acclimate.align import View
from acclimate.align.adversarial import Dann, DomainAdversary
from acclimate.errors import UserError, unknown
from acclimate.strategies.base import Problem
from acclimate.strategies.domains import Domains
from acclimate.tasks.base import Floats
from acclimate.tasks.heads import BottleneckHead

_AT_ONCE = 8192  # rows of one forward pass when weights are renewed
_NEAR_0, _MEANS = 0.1, 5  # a predicted share below a tenth of the source's, where 5 rows or more were to be expected
_NAMED = 8  # classes that a sentence names


class SourceWeights(nn.Module, ABC):
    """The weights of the source rows, mean or largest weight one, by what the network now says of both domains."""

    in_source_loss: ClassVar[bool]  # or in the alignment alone
    rows: Tensor  # (n,)

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.ones(rows))

    @torch.no_grad()
    def renew(self, head: BottleneckHead, source: Tensor, target: Tensor) -> None:
        """Weights by the head as it is, without dropout."""
        training = head.training
        head.eval()
        self.rows.copy_(self.found(head, source, target))
        head.train(training)

    @abstractmethod
    def found(self, head: BottleneckHead, source: Tensor, target: Tensor) -> Tensor:
        """(n,)."""

    def loss(self, source: View, target: View, progress: float) -> Tensor | None:
        """What the weights themselves are learned by; no gradient of it reaches the features."""
        return None


class Pada(SourceWeights):
    """Classes that the model does not see in the target count less, in the loss on source rows and in the alignment.

    γ = E_t[p(x)] / max_k E_t[p_k(x)], p = softmax(logits); a source row of class y counts γ_y: L_source = E_s[γ_y·ℓ],
    and the alignment's mean over source rows has the shares γ_y / Σγ_y.
    Source: Cao, Ma, Long and Wang (2018), Partial Adversarial Domain Adaptation, arXiv:1808.04205, equations 3 and 4,
    where the second mean is not divided by Σγ_y.
    Use when: the target lacks classes of the source, and the source alone is right in about nine target rows of ten.
    Prefer `linear_probe` where it is not: a class that is missed early fades for good, and pada lost up to 29 points
    (docs/adaptation.md); prefer iwan for a task without classes; prefer plain dann where the classes are the same.
    """

    in_source_loss = True

    def __init__(self, labels: Tensor) -> None:
        super().__init__(len(labels))
        self.labels = labels

    def found(self, head: BottleneckHead, source: Tensor, target: Tensor) -> Tensor:
        """γ_y of every row."""
        return class_weights(over(head, target))[self.labels]


class Iwan(SourceWeights):
    """Source rows that a critic can tell from the target count less in the alignment.

    w(x) = (1 − σ(D(x))) / E_s[1 − σ(D)], D a critic of its own that minimises ½·E_s[−log σ(D)] + ½·E_t[−log(1 − σ(D))]
    step by step beside the rest; the features get no gradient from it.
    Source: Zhang, Ding, Li and Ogunbona (2018), Importance Weighted Adversarial Nets for Partial Domain Adaptation,
    CVPR, equations 4 to 7. There the source's features stay as they were first trained, and those of the target have
    small entropies as a second aim; here both domains have one network, and there is no second aim.
    Use when: the target may lack part of the source and the task has no classes, or dann is to do less harm there.
    Prefer pada where predictions on the target can be trusted: it also takes absent classes out of the source's loss;
    prefer `linear_probe` where they are poor: iwan lost there, too.
    """

    in_source_loss = False

    def __init__(self, rows: int, width: int) -> None:
        super().__init__(rows)
        loss = Dann().attach(width, 0)
        assert isinstance(loss, DomainAdversary)
        self.first = loss

    def found(self, head: BottleneckHead, source: Tensor, target: Tensor) -> Tensor:
        """w of every row."""
        return row_weights(over(lambda rows: self.first.critic(head.hidden(rows)), source)[:, 0])

    def loss(self, source: View, target: View, progress: float) -> Tensor:
        """That of the critic; source rows count as the user weighed them."""
        value: Tensor = self.first(*(replace(v, features=v.features.detach()) for v in (source, target)), progress)
        return value


KINDS: dict[str, type[SourceWeights]] = {"pada": Pada, "iwan": Iwan}
SOURCE_WEIGHTS = ("even", *KINDS)


def class_weights(logits: Tensor) -> Tensor:
    """γ, (K,): the mean of the probabilities over rows, divided by its largest entry.

    >>> class_weights(torch.tensor([[0.75, 0.25], [0.75, 0.25]]).log())
    tensor([1.0000, 0.3333])
    """
    mean = torch.softmax(logits.double(), 1).mean(0)
    return (mean / mean.max()).float()


def row_weights(says: Tensor) -> Tensor:
    """(1 − σ(D)) / mean of it, (n,); 1 where the critic is sure of every row.

    >>> row_weights(torch.tensor([0.0, 0.0, -100.0]))
    tensor([0.7500, 0.7500, 1.5000])
    """
    chance = torch.sigmoid(-says.double())
    mean = chance.mean()
    return (chance / mean).float() if mean > 0 else torch.ones_like(says)


def check_source_weights(value: str) -> None:
    """Refuse what is no way of weighing source rows."""
    if value not in SOURCE_WEIGHTS:
        raise unknown("source_weights", value, SOURCE_WEIGHTS)


def weighing(kind: str, problem: Problem, labels: Tensor, width: int) -> SourceWeights | None:
    """Even weights, (n,) labels as the task has them, features of this width; nothing where all rows count alike."""
    if kind == "even":
        return None
    if kind == "iwan":
        return Iwan(len(labels), width)
    if problem.task.name not in ("classify", "ordinal"):
        raise UserError(
            f"pada weighs classes of which a row has one, and the task is {problem.task.name}; use one that reads "
            "features alone: iwan"
        )
    return Pada(labels)


def said_of(weighs: SourceWeights, kind: str, known: Domains, problem: Problem) -> str:
    """A sentence on the weights of the last epoch."""
    rows = weighs.rows.double().cpu().numpy()
    worth = float(rows.sum() ** 2 / np.square(rows).sum())
    said = f"{kind}: the weighted source rows are worth {worth:.0f} of {len(rows):,} rows"
    if not problem.decoder.classes or known.targets.ndim > 1:
        return said
    count = np.bincount(known.targets, minlength=len(problem.decoder.classes))
    mean = np.bincount(known.targets, rows, len(count)) / np.maximum(count, 1)
    low = np.flatnonzero((mean < _NEAR_0) & (count > 0))
    return f"{said}; least by class: {_named(problem, low, mean)}" if len(low) else said


def missing(problem: Problem, known: Domains, logits: Tensor) -> list[str]:
    """A warning where the model, (m, K) its logits of the target, finds hardly a row of several source classes there.

    Near 0: a share below a tenth of the source's, where at its share in the source 5 rows or more were to be expected.
    """
    if problem.task.name not in ("classify", "ordinal"):
        return []
    classes = len(problem.decoder.classes)
    share = np.bincount(logits.argmax(1).cpu().numpy(), minlength=classes) / len(logits)
    before = known.class_shares("source", classes)
    low = np.flatnonzero((share < _NEAR_0 * before) & (before * len(logits) >= _MEANS))
    if len(low) < 2:
        return []
    return [
        f"the predicted shares of {len(low)} of {classes} classes are near 0 in the target "
        f"({_named(problem, low, share)}): it may hold only some of the source's classes, and aligning whole domains "
        "then pulls its rows to the others; if so, and the model is mostly right there, try the strategy pada (or iwan)"
    ]


def _named(problem: Problem, at: Any, values: Floats) -> str:
    shown = [f"{problem.decoder.classes[k]} {values[k]:.3f}" for k in at[:_NAMED]]
    return ", ".join(shown) + (f" and {len(at) - _NAMED} more" if len(at) > _NAMED else "")


@torch.no_grad()
def over(judge: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """What a network says of all rows, some at a time."""
    return torch.cat([judge(part) for part in torch.split(rows, _AT_ONCE)])
