"""Adaptation by an opponent in loops of their own: ADDA, whose source features stay, and OSBP, which knows unknowns."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from acclimate.align import View
from acclimate.align.adversarial import Dann, DomainAdversary
from acclimate.align.base import reverse_gradient
from acclimate.backbones.base import in_eval
from acclimate.errors import UserError
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies.adapt import Adapt, fit_head
from acclimate.strategies.alignment import check_alone, check_weight, weight_at
from acclimate.strategies.base import Problem, Splits, unlabelled
from acclimate.strategies.bottleneck import Bottleneck, forked
from acclimate.strategies.domains import Domains, as_device
from acclimate.strategies.source_weights import over
from acclimate.tasks.heads import BottleneckHead
from acclimate.threads import few
from acclimate.train.loop import History, train
from acclimate.train.pairs import Pairs, even


@dataclass(frozen=True)
class Adda(Bottleneck):
    """First L_source alone; then the target gets a bottleneck of its own, begun there, that misleads a critic.

    The critic D minimises ½·E_s[−log σ(D(h))] + ½·E_t[−log(1 − σ(D(h')))], h of the source's bottleneck, which stays,
    h' of the target's; that one minimises E_t[−log σ(D(h'))]: the labels turned round, not the gradient. The last layer
    stays, too. Both take a step at a time, by one optimiser: no weight is moved by the other's loss. In L = L_source +
    λ·L_target, λ is 0 and then infinite, so nothing keeps a target row with its class.
    Tzeng et al. 2017 (arXiv:1702.05464), equations 7 and 9.

    Use when: the source's features must stay as they are, and the domains differ by little. Prefer `dann`, which sees
    labelled rows all along, nearly always; prefer `shot` if the source's last layer must stay.
    """

    hidden: int = 256  # units of each of the critic's two hidden layers
    target_epochs: int | None = None  # passes over the source beside the target; None: 200 steps or more
    target_rate: float = 3e-4  # chosen on movie → tweets, yelp → imdb, digits → MNIST

    def __post_init__(self) -> None:
        super().__post_init__()
        Dann(hidden=self.hidden)
        if not self.target_rate > 0:
            raise UserError(f"target_rate={self.target_rate!r} must be above 0")
        if self.target_epochs is not None and self.target_epochs < 1:
            raise UserError(f"target_epochs={self.target_epochs!r} must be 1 or more")

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Train on the source, then mislead the critic on the target."""
        target, run = unlabelled(splits, "adda"), self.begun(run)
        check_alone("adda")
        known = Domains.of(problem, splits, self.standardise, target)
        shared = {f.name: getattr(self, f.name) for f in dataclasses.fields(Bottleneck) if f.init}
        with forked(run):
            head, before, _ = fit_head(Adapt(weight=0.0, **shared), problem, known, run.at("source"))
            after, note = self.adapt(head, known, run.at("target"))
        run.progress.say(note)
        known.fold(head)
        return replace(self.predictor(problem, head, "adda", [*before, *after]), notes=(note,))

    def adapt(self, head: BottleneckHead, known: Domains, run: Run) -> tuple[History, str]:
        """Move the head's first layer, in place; and a sentence on what the critic can still tell."""
        loss = Dann(hidden=self.hidden).attach(self.bottleneck, 0)
        assert isinstance(loss, DomainAdversary)
        head.last.requires_grad_(False)
        network = Opposed(head, loss).to(run.device)
        source, weights, target = (as_device(v, run.device) for v in (known.source, known.weights, known.target))
        with torch.no_grad(), in_eval(head):
            fixed = over(head.hidden, source)
        going = replace(self, num_train_epochs=self.target_epochs, learning_rate=self.target_rate)
        ours, theirs = (even(len(rows), self.batch_size, run.seed, i) for i, rows in enumerate((source, target)))
        pairs = Pairs(ours, theirs, going.epochs(len(source)))

        def loss_of(at: list[int]) -> Tensor:
            here = pairs.source(at)
            return network.both(fixed[here], weights[here], target[pairs.target(at)])

        with few(6.0 * self.batch_size * self.bottleneck * target.shape[1]):
            history = train(
                network, going.optimizer(network), going.schedule(len(source)), pairs.epoch, loss_of, None, run,
                "adda", "" if run.state is None else f"{self} {known.rows}",
            )  # fmt: skip
        head.eval()
        with torch.no_grad():
            told = loss.accuracy(view(fixed, weights), view(over(head.hidden, target)))
        head.last.requires_grad_(True)
        head.cpu()
        return history, f"adda: its critic tells the domain of {100 * told:.0f} % of the rows; 50 % is chance"


def view(features: Tensor, weights: Tensor | None = None) -> View:
    """Of features alone."""
    return View(features, features.new_zeros(len(features), 1), weights=weights)


class Opposed(nn.Module):
    """The target's head and the critic: what one optimiser moves and a checkpoint keeps."""

    def __init__(self, head: BottleneckHead, critic: DomainAdversary) -> None:
        super().__init__()
        self.head, self.critic = head, critic

    def both(self, fixed: Tensor, weights: Tensor, target: Tensor) -> Tensor:
        """The critic's loss, which reaches it alone, and the target's, which reaches the bottleneck alone."""
        hidden = self.head.hidden(target)
        tells: Tensor = self.critic(view(fixed, weights), view(hidden.detach()), 0.0)
        held = {name: p.detach() for name, p in self.critic.critic.named_parameters()}
        says: Tensor = functional_call(self.critic.critic, held, (hidden,))[:, 0]
        return tells + F.softplus(-says).mean()


@dataclass(frozen=True)
class Osbp(Bottleneck):
    """L_source(θ) + λ·L_target(θ) with one class more, `unknown`, for target rows that are of none of the source's.

    L_source is the cross-entropy over all K + 1 classes; L_target = E_t[−t·log p_u − (1 − t)·log(1 − p_u)], p_u the
    probability of `unknown` and t the `threshold`. The last layer minimises it: it would give every target row p_u = t;
    the features get its gradient turned round, and leave t for one side. λ is `weight`, times 2/(1 + e^(−10p)) − 1 at
    progress p where `weight_schedule` is "rise". Saito et al. 2018 (arXiv:1804.10427), equations 1 to 5.
    `unknown` is a class like any other in what comes out: the last column of `predict_proba`, the answer where its
    probability is the largest (not where it is above t), and what labelled test rows may be called. No training row may
    be called so.

    Use when: the target is known to hold rows of classes that the source has not, and knows those that it has. Prefer
    any other where it may not: some rows are called unknown whether or not there are such rows, and nothing without
    labels tells; prefer `predict --abstain-below` to leave unsure rows to a person.
    """

    weight: float = 1.0  # λ
    weight_schedule: str = "constant"  # constant | rise
    threshold: float = 0.5  # t
    unknown: str | int = "unknown"  # what the class is called: a whole number where labels are such

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weight(self.weight, self.weight_schedule)
        if not 0 < self.threshold < 1:
            raise UserError(f"threshold={self.threshold!r} must be above 0 and below 1")

    def opened(self, problem: Problem) -> Problem:
        """The problem with the class of unknown rows, which comes last; refused where it makes no sense."""
        if problem.task.name != "classify":
            raise UserError(
                f"osbp adds a class to classes without an order, of which a row has one, and the task is "
                f"{problem.task.name}; use predict --abstain-below to leave rows out"
            )
        classes = problem.decoder.classes
        if any(type(c) is not type(self.unknown) for c in classes):
            raise UserError(
                f"the labels are of the type {type(classes[0]).__name__}, and osbp would call unknown rows "
                f"{self.unknown!r}; give a name of the same type with --set unknown=... (text or whole numbers)"
            )
        if self.unknown in classes[:-1]:
            raise UserError(
                f"training rows are labelled {self.unknown!r}, so it is a class that is known; call what is not "
                "otherwise with --set unknown=..., or use a strategy that learns from these rows"
            )
        if self.unknown in classes:
            return problem
        decoder = replace(problem.decoder, classes=(*classes, self.unknown), positive=None)
        return replace(problem, decoder=decoder)

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Train the head; with λ above 0 on `splits.target` too."""
        target, run = unlabelled(splits, "osbp") if self.weight else None, self.begun(run)
        check_alone("osbp")
        problem = self.opened(problem)
        known = Domains.of(problem, splits, self.standardise, target)
        if (known.targets == len(problem.decoder.classes) - 1).any():
            raise UserError(
                f"training rows are labelled {self.unknown!r}; call unknown rows otherwise, --set unknown=..."
            )
        with forked(run):
            head, history = self.trained(problem, known, run)
        notes = [] if target is None else [self.said(head, known)]
        for sentence in notes:
            run.progress.say(sentence)
        known.fold(head)
        return replace(self.predictor(problem, head, "osbp", history), notes=tuple(notes))

    def trained(self, problem: Problem, known: Domains, run: Run) -> tuple[BottleneckHead, History]:
        """A head for standardised rows; random numbers come from torch's current state."""
        head = self.new_head(problem, known).to(run.device)
        source, truth, weights, target = (
            as_device(v, run.device) for v in (known.source, known.targets, known.weights, known.target)
        )
        ours, theirs = (even(len(rows), self.batch_size, run.seed, i) for i, rows in enumerate((source, target)))
        pairs = Pairs(ours, theirs, self.epochs(len(source)))

        def loss_of(at: list[int]) -> Tensor:
            here = pairs.source(at)
            mean_loss = (weights[here] * problem.task.losses(head(source[here]), truth[here])).mean()
            if not self.weight:
                return mean_loss
            hidden = reverse_gradient(head.hidden(target[pairs.target(at)]), 1.0)
            scale = weight_at(self.weight, self.weight_schedule, pairs.progress(at[0]))
            return mean_loss + scale * halfway(head.last(hidden), self.threshold)

        with few(6.0 * self.batch_size * self.bottleneck * source.shape[1]):
            history = train(
                head, self.optimizer(head), self.schedule(len(source)), pairs.epoch, loss_of, None, run,
                "osbp", "" if run.state is None else f"{self} {problem.task.name} {known.rows}",
            )  # fmt: skip
        return head.cpu().eval(), history

    @torch.no_grad()
    def said(self, head: BottleneckHead, known: Domains) -> str:
        """How many target rows have no class of the source, as the model has it."""
        guesses = over(head, as_device(known.target, "cpu")).argmax(1)
        count = int((guesses == head.last.shape["outputs"] - 1).sum())
        return (
            f"osbp: {count:,} of {len(guesses):,} target rows ({100 * count / len(guesses):.0f} %) are called "
            f"{self.unknown!r}; no label has shown that there are such rows"
        )


def halfway(logits: Tensor, threshold: float) -> Tensor:
    """Mean of −t·log p_u − (1 − t)·log(1 − p_u), p_u of the last column; finite however sure the last layer is.

    >>> round(halfway(torch.tensor([[0.0, 0.0]]), 0.5).item(), 4)  # p_u = 1/2: log 2
    0.6931
    """
    whole = logits.logsumexp(1)
    surprise = threshold * (whole - logits[:, -1]) + (1 - threshold) * (whole - logits[:, :-1].logsumexp(1))
    return surprise.mean()
