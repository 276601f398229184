"""Weights in the middle: of the pretrained model and the tuned one, or of several tuned ones that share a start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from acclimate.errors import UserError
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies.base import Problem, Splits
from acclimate.strategies.inputs import Inputs
from acclimate.strategies.moving import Moving, alone
from acclimate.strategies.probe import Probe
from acclimate.strategies.tune import Tune
from acclimate.tasks.base import Network
from acclimate.train.memory import Fitting

ALPHAS = tuple(i / 10 for i in range(11))
State = dict[str, Tensor]


@dataclass(frozen=True)
class WiseFt(Moving):
    """Between the pretrained weights with a probe as their head, θ₀, and the same tuned, θ₁: θ = (1 − α)·θ₀ + α·θ₁.

    Backbone and head are both interpolated, so that one ordinary model comes out. α has the least loss on the rows to
    choose by among 0, 0.1 ... 1; where there are none it is ½, which the paper recommends then. θ₁ is the last epoch of
    `lp_ft` with these settings: α holds back what an early stop would.
    Wortsman et al. 2022 (arXiv:2109.01903), equation 1; there θ₀ is a model that needs no labels, here the probe.

    Use when: new rows will look unlike the training ones; tuning gains at home and loses there, and the middle often
    has most of both. Prefer `linear_probe` with few rows; prefer `soup` where there is time for several tunings.
    """

    alpha: float | None = None  # α; None: chosen
    num_train_epochs: int | None = None  # None: about 300 steps, 3 to 20 epochs
    start: str = field(default="probe", init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tune("probe", self.num_train_epochs)
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            raise UserError(f"alpha={self.alpha!r} must be from 0 (pretrained) to 1 (tuned)")

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Probe, tune from there, and stop between the two. The rows to choose by choose α alone."""
        problem, learn = problem.to_tune(), replace(splits, valid=None)
        probe = Probe().fit(problem, learn, run)
        tuned = self.tune("probe", self.num_train_epochs).fit(problem, learn, run)
        with alone(run):
            network = Network(problem.network()[0].clone().cpu(), probe.head)
            ends = copied(network), copied(_network(tuned))
            alpha, note = (self.alpha, f"α = {self.alpha:g}, as asked for") if self.alpha is not None else (None, "")
            if alpha is None:
                judge = Judge.of(problem, splits, network, run)
                alpha, note = (0.5, "α = 0.5: no rows to choose it by") if judge is None else _least(judge, ends)
            network.load_state_dict(between(*ends, alpha))
        run.progress.say(f"wise_ft: {note}")
        return _model(tuned, network, "wise_ft", self, (*tuned.notes, note))


@dataclass(frozen=True)
class Soup(Moving):
    """The mean of the weights of several tunings that share the pretrained start and the probe as their head.

    Each is `lp_ft` with a seed of its own, its rate times 1, `spread`, 1/`spread` in turn. Greedy: from the one with
    the least loss on the rows to choose by, the others in the order of theirs; one is put into the mean where that does
    not raise the loss of the mean. Without rows to choose by all of them are (the uniform soup). One ordinary model
    comes out, no slower than any of them, and on those rows never worse than the best.
    Wortsman et al. 2022 (arXiv:2203.05482), recipe 1; by loss, where the paper counts right answers.

    Use when: `lp_ft` or `full` is what serves best, and there is time for several of them. Prefer `wise_ft` if new rows
    will look unlike the training ones.
    """

    members: int = 3
    spread: float = 2.0
    num_train_epochs: int | None = None  # None: about 300 steps, 3 to 20 epochs
    start: str = field(default="probe", init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tune("probe", self.num_train_epochs)
        if self.members < 1:
            raise UserError(f"members={self.members!r} must be 1 or more")
        if not self.spread >= 1:
            raise UserError(f"spread={self.spread!r} must be 1 or more: rates are this much larger and smaller")

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Tune them one after the other, as long as there is time, and average."""
        problem, tuned = problem.to_tune(), list[Predictor]()
        for number in range(self.members):
            if tuned and run.left() <= 0:
                break
            tuned.append(self.member(number, problem).fit(problem, splits, _seeded(run, number)))
        with alone(run):
            network = Network(problem.network()[0].clone().cpu(), _network(tuned[0]).head)
            states = [copied(_network(one)) for one in tuned]
            judge = Judge.of(problem, splits, network, run)
            if judge is None:
                chosen, note = list(range(len(states))), f"all {len(states)} tunings averaged: no rows to choose by"
            else:
                chosen, note = greedy(judge, states)
            network.load_state_dict(mean([states[i] for i in chosen]))
        run.progress.say(f"soup: {note}")
        return _model(tuned[chosen[0]], network, "soup", self, (*tuned[chosen[0]].notes, note))

    def member(self, number: int, problem: Problem) -> Tune:
        """The tuning of this number."""
        factor = (1.0, self.spread, 1 / self.spread)[number % 3]
        tune = self.tune("probe", self.num_train_epochs).known(problem.network()[0])
        assert tune.learning_rate is not None
        return replace(tune, learning_rate=tune.learning_rate * factor)


@dataclass(frozen=True)
class Judge:
    """The loss of any weights on the rows to choose by."""

    rows: Inputs
    network: Network
    fitting: Fitting

    @staticmethod
    def of(problem: Problem, splits: Splits, network: Network, run: Run) -> Judge | None:
        """Nothing where there are no such rows."""
        chosen_by = problem.held_out(splits)
        if chosen_by is None:
            return None
        network.to(run.device)
        return Judge(Inputs(problem, chosen_by, network.backbone, run), network, Fitting(network, run.progress))

    def loss(self, state: State) -> float:
        """The weighted mean loss."""
        self.network.load_state_dict(state)
        return self.rows.mean_loss(self.network, self.fitting)


def _least(judge: Judge, ends: tuple[State, State]) -> tuple[float, str]:
    """The α of the least loss, the smallest of several; and a sentence."""
    losses = [judge.loss(between(*ends, alpha)) for alpha in ALPHAS]
    at = int(np.argmin(losses))
    told = f"loss on rows to choose by: probe {losses[0]:.4f}, tuned {losses[-1]:.4f}, here {losses[at]:.4f}"
    return ALPHAS[at], f"α = {ALPHAS[at]:g} ({told})"


def greedy(judge: Judge, states: Sequence[State]) -> tuple[list[int], str]:
    """Which of them make the mean of least loss, one added at a time, the best first; and a sentence."""
    each = [judge.loss(state) for state in states]
    order = sorted(range(len(states)), key=lambda i: (each[i], i))
    chosen, least = order[:1], each[order[0]]
    for i in order[1:]:
        loss = judge.loss(mean([states[j] for j in [*chosen, i]]))
        if loss <= least:
            chosen, least = [*chosen, i], loss
    told = f"loss on rows to choose by {least:.4f}, of the best alone {each[order[0]]:.4f}"
    return chosen, f"{len(chosen)} of {len(states)} tunings averaged ({told})"


def between(start: State, end: State, alpha: float) -> State:
    """(1 − α)·start + α·end, the ends themselves at 0 and 1; counters, which are no weights, as at the end.

    >>> between({"w": torch.tensor([1.0])}, {"w": torch.tensor([3.0])}, 0.25)
    {'w': tensor([1.5000])}
    """
    if alpha in (0.0, 1.0):
        return dict(end if alpha else start)
    return {n: torch.lerp(v, end[n], alpha) if v.is_floating_point() else end[n] for n, v in start.items()}


def mean(states: Sequence[State]) -> State:
    """The mean of each weight, summed in float64; counters as in the first.

    >>> mean([{"w": torch.tensor([1.0])}, {"w": torch.tensor([3.0])}])
    {'w': tensor([2.])}
    """
    first = states[0]
    found = {}
    for name, value in first.items():
        total = value.double() if value.is_floating_point() else value
        for state in states[1:] if value.is_floating_point() else []:
            total = total + state[name]
        found[name] = (total / len(states)).to(value.dtype) if value.is_floating_point() else value
    return found


def copied(network: Network) -> State:
    """Its weights and buffers as they are now."""
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


def _network(tuned: Predictor) -> Network:
    assert tuned.backbone is not None
    return Network(tuned.backbone, tuned.head)


def _seeded(run: Run, number: int) -> Run:
    """The first has the run's own seed, so that a soup of one is the tuning itself."""
    seed = run.seed if number == 0 else int(np.random.SeedSequence([run.seed, number]).generate_state(1)[0])
    return replace(run.at(f"member-{number}"), seed=seed)


def _model(tuned: Predictor, network: Network, name: str, strategy: Moving, notes: tuple[str, ...]) -> Predictor:
    """One ordinary model: the adapters of low-rank tuning are merged, and are no longer those of these weights."""
    network.requires_grad_(False).cpu().eval()
    trained = tuned.trained if tuned.adapter is None else tuple(name for name, _ in network.named_parameters())
    return replace(
        tuned, trained=trained, head=network.head, backbone=network.backbone, strategy=name,
        settings=strategy.settings(), notes=notes, adapter=None, adapter_config=None,
    )  # fmt: skip
