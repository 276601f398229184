"""Self-training on frozen features: the target's surest rows become labelled rows, a few more in every round."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

import numpy as np
import torch

from acclimate.data.rows import IntArray
from acclimate.errors import UserError
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies.base import Problem, Splits
from acclimate.strategies.domains import Domains, check_classes, check_shares, check_standardise
from acclimate.strategies.probe import Probe
from acclimate.tasks.base import Floats
from acclimate.tasks.heads import Head
from acclimate.threads import few
from acclimate.train.links import link_of
from acclimate.train.solve import Axes, Rows, Scaling, minimise


@dataclass(frozen=True)
class SelfTrain:
    """A linear probe fitted again and again on L(θ) = L_source(θ) + λ·L_target(θ) + ‖W‖²/(2C), by the exact solver.

    L_target is the loss on the target rows of which the last fit is surest, with the class that it gave them. In round
    r of R class k takes the surest of the rows given to it, up to r/R · `share` · m · q_k of all m target rows: a class
    that the last fit favours cannot crowd out the others. q are the `class_shares` that the target is thought to have,
    "even" (1/K) or those of the "source". Both losses are sums over rows, and λ = `weight` is what a target row counts
    beside a source row. Zou et al. 2018 (arXiv:1810.07911), class-balanced self-training; Lee 2013 for the
    pseudo-labels. C is chosen on the source, by folds. With no round it is the probe under `standardise`.

    Use when: features are frozen; it is exact, has no learning rate, and its result hardly depends on the seed.
    Prefer `mcc` or `shot` if there are thousands of target rows and the source-only model is right on most; prefer
    `linear_probe` if class shares differ between the domains.
    """

    weight: float = 1.0  # λ
    rounds: int = 10  # R
    share: float = 1.0  # of the target rows, in the last round
    class_shares: str = "even"  # even | source
    standardise: str = "source"  # source | joint | per_domain
    strength: float | None = None  # C; None: chosen by folds of the source
    inner_folds: int = 4
    needs_backbone: bool = field(default=True, init=False, repr=False)
    frozen: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        check_standardise(self.standardise)
        check_shares(self.class_shares)
        if not (self.weight >= 0 and math.isfinite(self.weight)):
            raise UserError(f"weight={self.weight!r} must be 0 or more; it is λ in L_source + λ·L_target")
        if self.rounds < 0:
            raise UserError(f"rounds={self.rounds!r} must be 0 or more")
        if not 0 < self.share <= 1:
            raise UserError(f"share={self.share!r} must be above 0 and at most 1")
        if self.strength is not None and not self.strength > 0:
            raise UserError(f"strength {self.strength!r} must be above 0; it is C in Σ loss + ‖W‖²/(2C)")
        if self.inner_folds < 2:
            raise UserError(f"inner_folds={self.inner_folds!r} must be 2 or more")

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Choose C on the source; then fit, take the surest target rows in, and fit again."""
        target = splits.unlabelled("self_train") if self.weight else None
        check_classes("self_train", problem)
        known = Domains.of(problem, splits, self.standardise, target)
        root = math.sqrt(known.source.shape[1])
        head = problem.task.head(known.source.shape[1], problem.decoder).double()
        with few(4.0 * (len(known.source) + len(known.target)) * sum(p.numel() for p in head.parameters()) + 1.0):
            strength = self.strength or self._strength(problem, Splits(known.train, splits.valid), run)
            history = self._rounds(problem, head, known, strength, root)
        Scaling(known.mean, known.spread * root).fold_into(head)
        settings = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}
        names = tuple(f"head.{n}" for n, _ in head.named_parameters())
        return Predictor(
            problem.task, problem.decoder, head.float(), problem.backbone, None, "self_train",
            {**settings, "strength": strength}, names, notes=(f"self_train: C = {strength:g}", *history),
        )  # fmt: skip

    def _strength(self, problem: Problem, source: Splits, run: Run) -> float:
        """The C that a probe of the source chooses."""
        return float(Probe(inner_folds=self.inner_folds).fit(problem, source, run).settings["strength"])

    def _rounds(self, problem: Problem, head: Head, known: Domains, strength: float, root: float) -> list[str]:
        """Fit in place; a sentence on each round."""
        features = np.concatenate([known.source, known.target]) / root
        codes = np.concatenate([known.targets, np.zeros(len(known.target), known.targets.dtype)])
        weights = np.concatenate([known.weights, np.zeros(len(known.target))])
        n, width = len(known.source), problem.task.width(problem.decoder)
        shares = known.class_shares(self.class_shares, width)
        axes, said = Axes.of(Rows(features, None, weights)), []
        for step in range(self.rounds + 1 if len(known.target) else 1):
            if step:
                p = _probabilities(head, features[n:])
                chosen = surest(p, self.share * step / self.rounds * len(p) * shares)
                codes[n:] = p.argmax(1)
                weights[n:] = 0.0
                weights[n:][chosen] = self.weight * known.target_weights[chosen]
                said.append(f"round {step}: {len(chosen)} target rows")
            minimise(head, Rows(features, None, weights), link_of(problem.task, codes, width), strength, axes)
        return said


def surest(p: Floats, most: Floats) -> IntArray:
    """Positions of the surest rows of each class, at most `most` (K,), in rising order; p is (n, K).

    >>> surest(np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.45, 0.55]]), np.array([2.0, 2.0]))
    array([0, 1, 3])
    """
    labels, sure = p.argmax(1), p.max(1)
    found = [np.zeros(0, np.int64)]
    for k, limit in enumerate(most):
        rows = np.flatnonzero(labels == k)
        found.append(rows[np.argsort(-sure[rows], kind="stable")[: math.ceil(limit - 1e-9)]])
    return np.sort(np.concatenate(found))


def _probabilities(head: Head, features: Floats) -> Floats:
    with torch.inference_mode():
        return np.asarray(torch.softmax(head(torch.from_numpy(features)), 1).numpy())
