"""Domain adaptation on frozen features: a small network is trained on the source and aligned with the target."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from acclimate.align import ALIGNMENTS, Loss, View
from acclimate.align.adversarial import DomainAdversary
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies.alignment import (
    Aligned,
    Sum,
    attached,
    check_align,
    check_alone,
    check_weight,
    terms,
    usual_distance,
    weight_at,
)
from acclimate.strategies.base import Problem, Splits, unlabelled
from acclimate.strategies.bottleneck import Bottleneck, forked
from acclimate.strategies.domains import Domains, as_device
from acclimate.strategies.source_weights import (
    SourceWeights,
    check_source_weights,
    missing,
    over,
    said_of,
    weighing,
)
from acclimate.tasks.heads import BottleneckHead
from acclimate.threads import few
from acclimate.train.loop import History, train
from acclimate.train.pairs import Pairs, even

_TOLD = 0.8  # a critic that tells the domain of more rows than this has not been misled
_BY_HEART = (
    ", so the domains are not aligned; with few rows a large critic learns them by heart: a small one may align better "
    "(align=dann:hidden=16)"
)


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
    say when the target is served best. With `source_weights` "pada" or "iwan" source rows that look like none of the
    target's count less (acclimate.strategies.source_weights): for a target that holds only some of the classes.

    Use when: source and target ask the same question of rows that look different, and the target has no labels.
    Prefer `self_train` if there are few rows; prefer `linear_probe` if class shares differ between the domains, where
    every alignment can harm; prefer a few target labels to any of them.
    """

    align: str = "mcc"  # of ALIGNMENTS, with settings after a colon: "mcc:temperature=2,..."; sums: "mcc+0.5*mmd"
    weight: float = 1.0  # λ
    weight_schedule: str = "constant"  # constant | rise
    source_weights: str = "even"  # even | pada | iwan: where the target may lack some of the source's classes

    def __post_init__(self) -> None:
        super().__post_init__()
        check_align(self.align)
        check_weight(self.weight, self.weight_schedule)
        check_source_weights(self.source_weights)

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Train the head; with λ above 0 on `splits.target` too."""
        name, run = own_name(self.align, self.source_weights), self.begun(run)
        target = unlabelled(splits, name) if self.weight else None
        if self.weight:
            check_alone(name)
        known = Domains.of(problem, splits, self.standardise, target)
        with forked(run):
            head, history, notes = fit_head(self, problem, known, run)
        for sentence in notes:
            run.progress.say(sentence)
        known.fold(head)
        return replace(self.predictor(problem, head, name, history), notes=tuple(notes))


def own_name(align: str, source_weights: str = "even") -> str:
    """What the strategy is called; `coral` is the map without gradients. A sum is called as its parts: mcc+coral."""
    if source_weights != "even":
        return source_weights
    names = [next(name for name, known in ALIGNMENTS.items() if known is kind) for _, kind, _ in terms(align)]
    return "deep_coral" if names == ["coral"] else "+".join(names)


def fit_head(adapt: Adapt, problem: Problem, known: Domains, run: Run) -> tuple[BottleneckHead, History, list[str]]:
    """A head for standardised rows, trained, and sentences on it; random numbers come from torch's current state."""
    head, name = adapt.new_head(problem, known), own_name(adapt.align, adapt.source_weights)
    source, truth, weights = (as_device(v, run.device) for v in (known.source, known.targets, known.weights))
    target = as_device(known.target, run.device)
    loss, weighs = None, None
    if adapt.weight:
        loss = attached(adapt.align, adapt.bottleneck, problem, lambda: _distance(head, known))
        weighs = weighing(adapt.source_weights, problem, truth, adapt.bottleneck)
    network = Aligned(head, loss, weighs).to(run.device)
    labels = truth if truth.dtype == torch.long else None
    ours, theirs = (even(len(rows), adapt.batch_size, run.seed, side) for side, rows in enumerate((source, target)))
    pairs = Pairs(ours, theirs, adapt.epochs(len(source)))

    def loss_of(at: list[int]) -> Tensor:
        progress, here = pairs.progress(at[0]), pairs.source(at)
        if weighs is not None and pairs.renews(at[0]):
            weighs.renew(head, source, target)
        counts = weights[here] if weighs is None else weights[here] * weighs.rows[here]
        hidden = head.hidden(source[here])
        logits = head.last(hidden)
        judged = weights[here] if weighs is None or not weighs.in_source_loss else counts
        mean_loss = (judged * problem.task.losses(logits, truth[here])).mean()
        if loss is None:
            return mean_loss
        other = head.hidden(target[pairs.target(at)])
        views = (
            View(hidden, logits, None if labels is None else labels[here], counts),
            View(other, head.last(other)),
        )
        total = mean_loss + weight_at(adapt.weight, adapt.weight_schedule, progress) * loss(*views, progress)
        extra = None if weighs is None else weighs.loss(replace(views[0], weights=weights[here]), views[1], progress)
        return total if extra is None else total + extra

    with few(6.0 * adapt.batch_size * adapt.bottleneck * source.shape[1]):
        history = train(
            network, adapt.optimizer(network), adapt.schedule(len(source)), pairs.epoch, loss_of, None, run,
            name, "" if run.state is None else f"{adapt} {problem.task.name} {known.rows}",
            compared=name if adapt.weight else "",
        )  # fmt: skip
    head.eval()
    notes = [] if loss is None else _notes(adapt, problem, known, head, source, target, loss, weighs)
    return head.cpu(), history, notes


@torch.no_grad()
def _notes(
    adapt: Adapt,
    problem: Problem,
    known: Domains,
    head: BottleneckHead,
    source: Tensor,
    target: Tensor,
    loss: Loss,
    weighs: SourceWeights | None,
) -> list[str]:
    """What training ended with: an adversary's accuracy, the weights of source rows, classes that the target lacks."""
    found = []
    parts = [part for _, part in loss.losses] if isinstance(loss, Sum) else [loss]
    for critic in (part for part in parts if isinstance(part, DomainAdversary)):
        views = (View(h, head.last(h)) for h in (over(head.hidden, rows) for rows in (source, target)))
        told = critic.accuracy(*views)
        found.append(
            f"{adapt.align}: its critic tells the domain of {100 * told:.0f} % of the rows, each domain counting half; "
            "50 % is chance" + (_BY_HEART if told > _TOLD else "")
        )
    if weighs is not None:
        return [*found, said_of(weighs, adapt.source_weights, known, problem)]
    return [*found, *missing(problem, known, over(head, target))]


@torch.no_grad()
def _distance(head: BottleneckHead, known: Domains) -> float:
    """A usual squared distance of a source row from a target row in the untrained bottleneck."""
    head.eval()
    x, y = (head.hidden(as_device(side, "cpu")).double().numpy() for side in (known.source, known.target))
    return usual_distance(x, y)
