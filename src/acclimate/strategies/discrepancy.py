"""Adaptation by two last layers on one bottleneck: they learn where they may differ, the features that they cannot."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import functional_call

from acclimate.align.base import log_probabilities
from acclimate.errors import UserError
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies.adapt import Adapt, fit_head
from acclimate.strategies.alignment import check_alone, check_one_class, check_weight, weight_at
from acclimate.strategies.base import Problem, Splits, unlabelled
from acclimate.strategies.bottleneck import Bottleneck, forked
from acclimate.strategies.domains import Domains, as_device
from acclimate.strategies.source_weights import missing, over
from acclimate.tasks.heads import BottleneckHead
from acclimate.threads import few
from acclimate.train.loop import History, train
from acclimate.train.pairs import Pairs, even


@dataclass(frozen=True)
class Mcd(Bottleneck):
    """L_source + λ·L_target in turns: two last layers differ on the target as far as they can, then features undo it.

    d = E_t[Σ_k |p_k − p'_k|]/K, with p and p' of the last layers F and F' on one bottleneck G, which begin at random;
    b = −Σ_k (log E_t[p_k] + log E_t[p'_k])/K keeps all classes in use. Every batch is gone through in turns, each one
    step of the optimiser: (A) least over G, F, F' of CE + CE' + λ·β·b; (B) least over F, F' of CE + CE' + λ·(β·b − d),
    G held; (C) `feature_steps` times least over G of λ·d, F and F' held. CE is that of source rows.
    Saito et al. 2018 (arXiv:1712.02560), section 3.3, where λ = 1; b is of the authors' code for VisDA, β = 0.01. The
    turns are the paper's own, not one pass with a reversed gradient. The model's last layer is the mean of F and F',
    so that its logits are the mean of theirs (for ordinal classes: the mean of score and thresholds' parameters). With
    λ = 0 it is training on the source alone, bit for bit.

    Use when: there are several classes, in about even shares on the target; on spoken digits it gained more than
    `mcc` and `dann`, though less than `shot`.
    Prefer `shot` there; prefer `mcc` for two classes; prefer `linear_probe` if class shares differ between the domains.
    """

    # `balance`, λ and the one turn C of the strategy "mcd" were chosen on movie → tweets, yelp → imdb, digits → MNIST.
    weight: float = 1.0  # λ
    weight_schedule: str = "constant"  # constant | rise
    feature_steps: int = 4  # n: turns C of a batch; 4 in the paper
    balance: float = 0.1  # β; without it the features make the last layers agree by calling all rows one class

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weight(self.weight, self.weight_schedule)
        if self.feature_steps < 1:
            raise UserError(f"feature_steps={self.feature_steps!r} must be 1 or more")
        if not (self.balance >= 0 and math.isfinite(self.balance)):
            raise UserError(f"balance={self.balance!r} must be 0 or more")

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Train the head; with λ above 0 on `splits.target` too."""
        target, run = unlabelled(splits, "mcd") if self.weight else None, self.begun(run)
        if self.weight:
            check_alone("mcd")
            check_one_class("mcd", problem)
        known = Domains.of(problem, splits, self.standardise, target)
        notes: list[str] = []
        with forked(run):
            if self.weight:
                head, history = self.adapted(problem, known, run)
                notes = missing(problem, known, over(head, as_device(known.target, "cpu")))
            else:
                shared = {f.name: getattr(self, f.name) for f in dataclasses.fields(Bottleneck) if f.init}
                head, history, _ = fit_head(Adapt(weight=0.0, **shared), problem, known, run)
        for sentence in notes:
            run.progress.say(sentence)
        known.fold(head)
        return replace(self.predictor(problem, head, "mcd", history), notes=tuple(notes))

    def adapted(self, problem: Problem, known: Domains, run: Run) -> tuple[BottleneckHead, History]:
        """A head for standardised rows, trained; random numbers come from torch's current state."""
        source, truth, weights, target = (
            as_device(v, run.device) for v in (known.source, known.targets, known.weights, known.target)
        )
        network = Rivals(self.new_head(problem, known), self.balance).to(run.device)
        ours, theirs = (even(len(v), self.batch_size, run.seed, side) for side, v in enumerate((source, target)))
        pairs, turns = Pairs(ours, theirs, self.epochs(len(source))), 2 + self.feature_steps

        def batches(epoch: int) -> list[list[int]]:
            return in_turns(pairs.epoch(epoch), turns)

        def loss_of(at: list[int]) -> Tensor:
            turn, slots = at[0] % turns, [place // turns for place in at]
            here, there = pairs.source(slots), pairs.target(slots)
            scale = weight_at(self.weight, self.weight_schedule, pairs.progress(slots[0]))
            return network.loss(
                turn, source[here], lambda z: (weights[here] * problem.task.losses(z, truth[here])).mean(),
                target[there], scale,
            )  # fmt: skip

        with few(6.0 * self.batch_size * self.bottleneck * source.shape[1]):
            history = train(
                network, self.optimizer(network), self.schedule(len(source)), batches, loss_of, None, run,
                "mcd", "" if run.state is None else f"{self} {problem.task.name} {known.rows}",
                compared="mcd",
            )  # fmt: skip
        return network.mean(), history


def in_turns(batches: list[list[int]], turns: int) -> list[list[int]]:
    """Each batch `turns` times; a number holds the slot and the turn, so that a step needs no memory of the last one.

    >>> in_turns([[0, 1], [2]], turns=3)
    [[0, 3], [1, 4], [2, 5], [6], [7], [8]]
    """
    return [[turns * slot + turn for slot in batch] for batch in batches for turn in range(turns)]


class Rivals(nn.Module):
    """A head and a second last layer: what one optimiser moves and a checkpoint keeps.

    What a turn holds gets no gradient at all, and the optimiser then passes it over, with its moments and its decay:
    one optimiser does what the paper does with one for the features and one for the last layers.
    """

    def __init__(self, head: BottleneckHead, balance: float) -> None:
        super().__init__()
        self.head, self.rival, self.balance = head, copy.deepcopy(head.last), balance
        for weight in (head.last.weight, self.rival.weight):  # from zeros the two would stay the same for good
            nn.init.kaiming_uniform_(weight, math.sqrt(5))  # as torch does for linear layers

    def loss(
        self, turn: int, source: Tensor, wrong: Callable[[Tensor], Tensor], target: Tensor, weight: float
    ) -> Tensor:
        """What the given turn makes least: A is 0, B is 1, C all others. `wrong` is the source's loss of logits."""
        if turn > 1:
            return weight * apart(*self.answers(self.head.hidden(target), held=True))
        with torch.set_grad_enabled(turn == 0):
            here, there = self.head.hidden(source), self.head.hidden(target)
        answers = self.answers(there, held=False)
        known = wrong(self.head.last(here)) + wrong(self.rival(here))
        even = self.balance * (unbalanced(answers[0]) + unbalanced(answers[1]))
        return known + weight * (even if turn == 0 else even - apart(*answers))

    def answers(self, hidden: Tensor, held: bool) -> tuple[Tensor, Tensor]:
        """log p and log p'; `held`: of last layers that are constants."""
        says = []
        for layer in (self.head.last, self.rival):
            weights = {name: p.detach() if held else p for name, p in layer.named_parameters()}
            says.append(log_probabilities(functional_call(layer, weights, (hidden,))))
        return says[0], says[1]

    @torch.no_grad()
    def mean(self) -> BottleneckHead:
        """The head, its last layer in the middle of the two."""
        for ours, theirs in zip(self.head.last.parameters(), self.rival.parameters(), strict=True):
            ours.lerp_(theirs, 0.5)
        return self.head.cpu().eval()


def apart(log_p: Tensor, log_q: Tensor) -> Tensor:
    """d: how far two answers differ, the mean over rows and classes.

    >>> round(apart(torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.6, 0.4]]).log()).item(), 4)
    0.3
    """
    return (log_p.exp() - log_q.exp()).abs().mean()


def unbalanced(log_p: Tensor) -> Tensor:
    """b = −(1/K)·Σ_k log E[p_k], least (log K) where all classes have the same share; finite for one that has none.

    >>> round(unbalanced(torch.tensor([[0.9, 0.1], [0.1, 0.9]]).log()).item(), 4)
    0.6931
    """
    return math.log(len(log_p)) - log_p.logsumexp(0).mean()
