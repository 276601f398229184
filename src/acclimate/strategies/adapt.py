"""Domain adaptation on frozen features: a small network is trained on the source and aligned with the target."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from acclimate.align import ALIGNMENTS, Alignment, Loss, View
from acclimate.align.base import reversal_strength
from acclimate.errors import UserError, unknown
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.settings import parse_settings
from acclimate.strategies.base import Problem, Splits
from acclimate.strategies.bottleneck import Bottleneck, forked
from acclimate.strategies.domains import Domains, Slots, as_device, check_alone
from acclimate.tasks.heads import BottleneckHead
from acclimate.threads import few
from acclimate.train.loop import History, train

WEIGHT_SCHEDULES = ("constant", "rise")


@dataclass(frozen=True)
class Adapt(Bottleneck):
    """Gradient descent on L(θ) = L_source(θ) + λ·L_target(θ) over a bottleneck on frozen features.

    L_source is the task's loss on the labelled source rows; L_target is the alignment `align` of source and target
    rows, whose formula and paper are in its own docstring (acclimate.align); λ is `weight`, times 2/(1 + e^(−10p)) − 1
    at progress p where `weight_schedule` is "rise" (Ganin et al. 2016, section 5.2.2). Every epoch reads each source
    row once; target rows are read round and round. Features are standardised by the "source"; with `standardise`
    "per_domain" each domain by its own mean and spread (Li et al. 2016, arXiv:1603.04779: AdaBN), which helps where
    class shares are alike and harms where they differ; with "joint" both by both. With λ = 0 the target is not read at
    all: that is training on the source alone, bit for bit. `splits.valid` is not read: the loss on source rows does not
    say when the target is served best.

    Use when: source and target ask the same question of rows that look different, and the target has no labels.
    Prefer `self_train` if there are few rows; prefer `linear_probe` if class shares differ between the domains, where
    every alignment can harm; prefer a few target labels to any of them.
    """

    align: str = "mcc"  # a name of ALIGNMENTS, with settings after a colon: "mcc:temperature=2,..."
    weight: float = 1.0  # λ
    weight_schedule: str = "constant"  # constant | rise

    def __post_init__(self) -> None:
        super().__post_init__()
        kind, settings = parsed(self.align)
        try:
            kind(**settings)
        except TypeError as error:
            raise UserError(f"align={self.align!r}: a setting is no number where one is needed ({error})") from error
        if self.weight_schedule not in WEIGHT_SCHEDULES:
            raise unknown("weight_schedule", self.weight_schedule, WEIGHT_SCHEDULES)
        if not (self.weight >= 0 and math.isfinite(self.weight)):
            raise UserError(f"weight={self.weight!r} must be 0 or more; it is λ in L_source + λ·L_target")

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Train the head; with λ above 0 on `splits.target` too."""
        name = self.align.partition(":")[0]
        target = splits.unlabelled(name) if self.weight else None
        if self.weight:
            check_alone(name)
        known = Domains.of(problem, splits, self.standardise, target)
        with forked(run):
            head, history = fit_head(self, problem, known, run)
        known.fold(head)
        return self.predictor(problem, head, name, history)


class Aligned(nn.Module):
    """The head and, where it has weights, the loss that aligns: what one optimiser moves."""

    def __init__(self, head: BottleneckHead, loss: Loss | None) -> None:
        super().__init__()
        self.head = head
        self.loss = loss if isinstance(loss, nn.Module) else None


def fit_head(adapt: Adapt, problem: Problem, known: Domains, run: Run) -> tuple[BottleneckHead, History]:
    """A head for standardised rows, trained; random numbers come from torch's current state."""
    head = adapt.new_head(problem, known)
    source, truth, weights = (as_device(v, run.device) for v in (known.source, known.targets, known.weights))
    target, target_weights = as_device(known.target, run.device), as_device(known.target_weights, run.device)
    loss = _attached(adapt, problem, head, known) if adapt.weight else None
    network = Aligned(head, loss).to(run.device)
    labels = truth if truth.dtype == torch.long else None
    slots = Slots(len(source), len(target), adapt.batch_size, adapt.epochs(len(source)), run.seed)

    def loss_of(at: list[int]) -> Tensor:
        progress, here = slots.progress(at[0]), slots.source(at)
        hidden = head.hidden(source[here])
        logits = head.last(hidden)
        mean_loss = (weights[here] * problem.task.losses(logits, truth[here])).mean()
        if loss is None:
            return mean_loss
        there = slots.target(at)
        other = head.hidden(target[there])
        views = (
            View(hidden, logits, None if labels is None else labels[here], weights[here]),
            View(other, head.last(other), weights=target_weights[there]),
        )
        rise = reversal_strength(progress) if adapt.weight_schedule == "rise" else 1.0
        return mean_loss + adapt.weight * rise * loss(*views, progress)

    with few(6.0 * adapt.batch_size * adapt.bottleneck * source.shape[1]):
        history = train(
            network, adapt.optimizer(network), adapt.schedule(len(source)), slots.epoch, loss_of, None, run,
            adapt.align, "" if run.state is None else f"{adapt} {problem.task.name} {known.rows}",
        )  # fmt: skip
    return head.cpu().eval(), history


def parsed(align: str) -> tuple[type[Alignment], dict[str, object]]:
    """The alignment and its settings.

    >>> parsed("mcc:temperature=2")[1]
    {'temperature': 2}
    """
    name, _, text = align.partition(":")
    if name not in ALIGNMENTS:
        raise unknown("alignment", name, ALIGNMENTS)
    settings = parse_settings(part for part in text.split(",") if part.strip())
    known = [f.name for f in dataclasses.fields(ALIGNMENTS[name])]
    for key in settings:
        if key not in known:
            raise unknown(f"setting of {name}", key, known)
    return ALIGNMENTS[name], settings


def _attached(adapt: Adapt, problem: Problem, head: BottleneckHead, known: Domains) -> Loss:
    kind, settings = parsed(adapt.align)
    if kind.needs_classes and problem.task.name == "multilabel":
        raise UserError(
            f"the alignment {adapt.align!r} reads the probabilities of classes of which a row has one, and here a row "
            "may have several; use one that reads features alone: coral, mmd, dann, afn, sliced_wasserstein"
        )
    if kind is ALIGNMENTS["deepjdot"] and "feature_weight" not in settings:
        settings["feature_weight"] = 1 / _usual_distance(head, known)
    return kind(**settings).attach(adapt.bottleneck, problem.task.width(problem.decoder))


@torch.no_grad()
def _usual_distance(head: BottleneckHead, known: Domains) -> float:
    """The mean squared distance of a source row from a target row in the untrained bottleneck."""
    head.eval()
    x, y = (head.hidden(as_device(side, "cpu")).double() for side in (known.source, known.target))
    own = sum(float((part - part.mean(0)).square().sum(1).mean()) for part in (x, y))
    return max(own + float((x.mean(0) - y.mean(0)).square().sum()), 1e-12)
