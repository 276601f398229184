"""Several labelled sources: one bottleneck whose answers are as right, or whose features are as alike, in each."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from acclimate.align import View
from acclimate.align.moments import Coral
from acclimate.data.rows import IntArray
from acclimate.errors import UserError, unknown
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies.alignment import check_alone, check_weight, weight_at
from acclimate.strategies.base import Problem, Splits
from acclimate.strategies.bottleneck import Bottleneck, forked
from acclimate.strategies.domains import Domains, as_device
from acclimate.strategies.source_weights import over
from acclimate.strategies.sources import named_domains
from acclimate.tasks.base import Task
from acclimate.tasks.heads import BottleneckHead
from acclimate.threads import few
from acclimate.train.loop import History, train
from acclimate.train.pairs import Batches, Pairs


@dataclass(frozen=True)
class Invariant(Bottleneck):
    """L(θ) = L_source(θ) + λ·Ω(θ) over a bottleneck on frozen features, Ω what differs between labelled domains.

    L_source is the mean loss of all source rows; R_d that of domain d, over its rows in a batch. Ω by `penalty`:
    "irm": mean_d ‖∇_w R_d(w·z)‖² at w = 1, z the logits: the same last step should be the best in every domain
    (Arjovsky et al. 2019, arXiv:1907.02893: IRMv1). The square of a batch's slope is too large by its noise, more so
    in small domains; here it is the mean of gᵢ·gⱼ over pairs of different rows, which is right in the mean, and so may
    be below 0. "vrex": the variance of R_d over the domains, (1/D)·Σ(R_d − R̄)² (Krueger et al. 2021, arXiv:2003.00688:
    V-REx). "coral": the mean over pairs of domains of CORAL between their features (Sun and Saenko 2016).
    The papers sum over domains where L_source here is the mean over rows. λ is `weight`, times 2/(1 + e^(−10p)) − 1 at
    progress p where `weight_schedule` is "rise". Every batch holds rows of each domain by its share. A target is not
    read.

    Use when: rows come from three domains or more, the model will meet others, and what misleads differs between those
    at hand. Prefer `linear_probe` nearly always: on frozen features of texts none of these moved the accuracy on a
    domain left out by more than a point (docs/adaptation.md); prefer `group_dro` where the worst of the known domains
    matters.
    """

    penalty: str = "irm"  # irm | vrex | coral
    weight: float = 1.0  # λ
    weight_schedule: str = "constant"  # constant | rise

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.penalty not in PENALTIES:
            raise unknown("penalty", self.penalty, PENALTIES)
        check_weight(self.weight, self.weight_schedule)

    @property
    def called(self) -> str:
        """The strategy's name; `coral` alone is the map of features to a target."""
        return "source_coral" if self.penalty == "coral" else self.penalty

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Train the head on all domains together."""
        named_domains(splits.train, self.called)
        check_alone(self.called)
        if self.penalty == "irm" and problem.task.name == "ordinal":
            raise UserError(
                "irm scales logits, and those of ordered classes are log-probabilities already; use vrex or "
                "source_coral"
            )
        known = Domains.of(problem, splits, self.standardise, None)
        with forked(run):
            head, history, note = self.trained(problem, known, run)
        run.progress.say(note)
        known.fold(head)
        return replace(self.predictor(problem, head, self.called, history), notes=(note,))

    def trained(self, problem: Problem, known: Domains, run: Run) -> tuple[BottleneckHead, History, str]:
        """A head for standardised rows, and a sentence on the domains' losses."""
        names, codes = named_domains(known.train, self.called)
        head = self.new_head(problem, known).to(run.device)
        source, truth, weights = (as_device(v, run.device) for v in (known.source, known.targets, known.weights))
        domain, omega = as_device(codes, run.device), PENALTIES[self.penalty]
        each = math.ceil(len(codes) / len(names))  # rows of a domain, in the mean
        domains = hashlib.sha256(codes.tobytes()).hexdigest()
        drawn = by_domain(codes, self.batch_size * len(names), run.seed)
        pairs = Pairs(drawn, drawn, self.epochs(each))  # one side is read; it tells the progress of a slot

        def loss_of(at: list[int]) -> Tensor:
            here = pairs.source(at)
            hidden = head.hidden(source[here])
            batch = Batch(
                problem.task, hidden, head.last(hidden), truth[here], weights[here], domain[here], len(names)
            )  # fmt: skip
            mean_loss = (batch.weights * batch.losses()).mean()
            if not self.weight:
                return mean_loss
            return mean_loss + weight_at(self.weight, self.weight_schedule, pairs.progress(at[0])) * omega(batch)

        with few(6.0 * self.batch_size * len(names) * self.bottleneck * source.shape[1]):
            history = train(
                head, self.optimizer(head), self.schedule(each), pairs.epoch, loss_of, None, run, self.called,
                "" if run.state is None else f"{self} {problem.task.name} {known.rows} {domains}",
                compared=self.called if self.weight else "",
            )  # fmt: skip
        head.eval()
        with torch.no_grad():
            every = Batch(problem.task, source, over(head, source), truth, weights, domain, len(names))
            found = every.risks()[0].tolist()
        told = ", ".join(f"{name} {risk:.3f}" for name, risk in zip(names, found, strict=True))
        return head.cpu(), history, f"{self.called}: training loss by domain {told}"


class Batch(NamedTuple):
    """Rows of several domains."""

    task: Task
    features: Tensor  # (n, h)
    logits: Tensor  # (n, K)
    truth: Tensor
    weights: Tensor  # (n,)
    domain: Tensor  # (n,) codes
    domains: int

    def losses(self) -> Tensor:
        """Of every row, (n,)."""
        return self.task.losses(self.logits, self.truth)

    def summed(self, values: Tensor) -> Tensor:
        """The sum of the values of each domain, (D,)."""
        return values.new_zeros(self.domains).index_add(0, self.domain, values)

    def risks(self) -> tuple[Tensor, Tensor]:
        """R_d and whether the domain has rows with weight here, (D,)."""
        mass = self.summed(self.weights)
        return self.summed(self.weights * self.losses()) / _above_0(mass), mass > 0


def _above_0(mass: Tensor) -> Tensor:
    return torch.where(mass > 0, mass, torch.ones_like(mass))


def irm(batch: Batch) -> Tensor:
    """Mean over domains of (E g)², g = ∂ℓ(w·z)/∂w at w = 1, without the pairs of a row with itself."""
    with torch.enable_grad():
        w = torch.ones_like(batch.weights).requires_grad_()
        total = batch.task.losses(w.unsqueeze(1) * batch.logits, batch.truth).sum()
        (slope,) = torch.autograd.grad(total, w, create_graph=True)  # (n,): each row has a w of its own
    mass = batch.summed(batch.weights)
    share = batch.weights / _above_0(mass)[batch.domain]
    own = batch.summed(share.square())  # Σ w̃²
    left = torch.where((mass > 0) & (1 - own > 1e-6), 1 - own, 0)
    squared = batch.summed(share * slope).square() - batch.summed((share * slope).square())
    found = torch.where(left > 0, squared / _above_0(left), 0)
    return found.sum() / (left > 0).sum().clamp(min=1)


def vrex(batch: Batch) -> Tensor:
    """(1/D)·Σ (R_d − R̄)² over the domains that the batch holds."""
    found, here = batch.risks()
    count = here.sum().clamp(min=1)
    middle = (found * here).sum() / count
    return ((found - middle).square() * here).sum() / count


def coral(batch: Batch) -> Tensor:
    """The mean of CORAL over pairs of the domains that the batch holds."""
    loss, views = Coral(), []
    for d in range(batch.domains):
        rows = batch.domain == d
        if not rows.any():
            continue
        views.append(View(batch.features[rows], batch.logits[rows], weights=batch.weights[rows]))
    found = [loss(a, b, 0.0) for a, b in itertools.combinations(views, 2)]
    return torch.stack([*found, batch.features.sum() * 0]).sum() / max(1, len(found))


PENALTIES: dict[str, Callable[[Batch], Tensor]] = {"irm": irm, "vrex": vrex, "coral": coral}


def by_domain(codes: IntArray, size: int, seed: int) -> Batches:
    """Every row once a turn, in a new order each time; each batch holds each domain by its share, to a row.

    >>> codes = np.array([0, 0, 0, 0, 1, 1])
    >>> [sorted(codes[batch].tolist()) for batch in by_domain(codes, 3, seed=0)(0)]
    [[0, 0, 1], [0, 0, 1]]
    """
    bounds = np.linspace(0, len(codes), math.ceil(len(codes) / size) + 1).round().astype(int)

    def drawn(turn: int) -> Any:
        rng, place = np.random.default_rng([seed, turn]), np.zeros(len(codes))
        for d in np.unique(codes):
            rows = rng.permutation(np.flatnonzero(codes == d))
            place[rows] = (np.arange(len(rows)) + rng.random()) / len(rows)
        order = np.argsort(place, kind="stable").tolist()
        return [order[a:b] for a, b in zip(bounds[:-1], bounds[1:], strict=True)]

    return drawn
