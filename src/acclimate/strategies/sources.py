"""Several labelled sources: no domain is given up for the others, or those count most that look like the target."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize

from acclimate.data import domains
from acclimate.data.rows import Data, IntArray
from acclimate.errors import UserError
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.shift.prior import em, held_out
from acclimate.strategies.base import Problem, Splits, unlabelled
from acclimate.strategies.probe import Probe
from acclimate.tasks.base import Floats, as_tensor
from acclimate.train.solve import Scaling

_ENOUGH = 1e-4  # of the gap, in the unit of the loss


@dataclass(frozen=True)
class GroupDro:
    """A probe that is as good as can be on the domain where it is worst: min_W max_d L_d(W) + ‖W‖²/(2Cn).

    L_d is the mean loss of domain d (Sagawa et al. 2020, arXiv:1911.08731, equation 3). The head is linear, so the
    problem is convex: its dual max_q min_W Σ_d q_d L_d(W) + ‖W‖²/(2Cn) over shares q is solved instead of the paper's
    online steps, and the gap max_d L_d − Σ_d q_d L_d says how far from the optimum it ended. C is that of the probe of
    all rows, chosen by leaving each domain out.

    Use when: rows come from several domains, the model will meet others, and the worst one matters. Prefer
    `linear_probe` where the mean matters, or where one domain's labels are noisy: it then gets all the weight.
    """

    strength: float | None = None  # C; None: chosen by leaving each domain out
    steps: int = 50  # at most so many fits
    needs_backbone: bool = field(default=True, init=False, repr=False)
    frozen: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        Probe(strength=self.strength)
        if self.steps < 1:
            raise UserError(f"steps={self.steps!r} must be 1 or more")

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Shares of the domains by SLSQP on the dual; every step is one exact fit of the probe."""
        names, codes = named_domains(splits.train, "group_dro")
        plain = Probe(strength=self.strength).fit(problem, splits, run)
        strength = float(plain.settings["strength"])
        targets = problem.targets(splits.train)
        weights = problem.weights(splits.train, targets)
        unweighted = replace(problem, class_weight=None)  # class weights are in the rows' own, once and for all
        features = torch.from_numpy(problem.network()[1].get(splits.train.inputs))

        spread = torch.from_numpy(Scaling.of(features).spread)
        pull = 1 / (2 * strength * len(codes))

        def fitted(q: Floats) -> Solved:
            rows = replace(splits.train, weights=_weighted(weights, codes, q))
            one = Probe(strength=strength).fit(unweighted, replace(splits, train=rows), run)
            weight = one.head.weight.detach().double()  # type: ignore[operator]
            size = float((weight * spread).square().sum())
            return Solved(one, _losses(problem, one, features, targets, weights, codes), pull * size)

        q, gap = _worst_case(fitted, len(names), self.steps)
        solved = fitted(q)
        found, losses = solved.predictor, solved.losses
        before = _losses(problem, plain, features, targets, weights, codes)
        worst, was = int(losses.argmax()), int(before.argmax())
        note = (
            f"group_dro: domains count {_listed(names, q)}; the worst training loss is {losses[worst]:.3f} "
            f"({names[worst]}), that of linear_probe {before[was]:.3f} ({names[was]}); within {max(gap, 0):.1g} of the "
            f"optimum; C = {strength:g}"
        )
        settings = {"strength": strength, "steps": self.steps}
        return replace(found, strategy="group_dro", settings=settings, notes=(note,))


@dataclass(frozen=True)
class SourceMixture:
    """A probe on sources weighted to the mixture that looks most like the target: min_W Σ_d π_d L_d(W) + ‖W‖²/(2Cn).

    π is the share of target rows that come from a source like d, at the highest likelihood of a calibrated classifier
    of domains on frozen features, by expectation maximisation (Saerens et al. 2002, with domains in place of classes;
    the mixture of Mansour et al. 2009). Each π_d is reported with its 95 % bootstrap interval.

    Use when: there are several labelled sources and unlabelled rows of a target that resembles some of them more.
    Prefer `density_ratio` for a single source; prefer `linear_probe` if no source resembles the target.
    """

    strength: float | None = None  # C; None: chosen by leaving each domain out
    needs_backbone: bool = field(default=True, init=False, repr=False)
    frozen: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        Probe(strength=self.strength)

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Estimate the shares, then fit."""
        target = unlabelled(splits, "source_mixture")
        names, codes = named_domains(splits.train, "source_mixture")
        store = problem.network()[1]
        ours, theirs = store.get(splits.train.inputs), store.get(target.inputs)
        proba, other = held_out(ours, codes, theirs, groups=splits.train.groups, seed=run.seed)
        prior = em(proba, codes, other, seed=run.seed)
        q = np.array(prior.target)
        given = np.ones(len(codes)) if splits.train.weights is None else splits.train.weights
        rows = replace(splits.train, weights=_weighted(given, codes, q))
        fitted = Probe(strength=self.strength).fit(problem, replace(splits, train=rows), run)
        shares = ", ".join(
            f"{name} {at:.2f} [{low:.2f}, {high:.2f}]"
            for name, at, low, high in zip(names, q, prior.low, prior.high, strict=True)
        )
        note = f"source_mixture: the target looks like {shares} (95 % intervals), and the sources count so"
        settings = {"strength": fitted.settings["strength"]}
        return replace(fitted, strategy="source_mixture", settings=settings, notes=(note, *fitted.notes))


class Solved(NamedTuple):
    """The probe at some shares of the domains."""

    predictor: Predictor
    losses: Floats  # (D,)
    penalty: float


def named_domains(data: Data, strategy: str) -> tuple[tuple[str, ...], IntArray]:
    """The names of the domains and the place of each row's among them; refused where there are not two."""
    if data.domains is None:
        raise UserError(f"{strategy} reads which domain each row is from; name its column with --domain-column")
    names, codes = domains.of(data)
    if len(names) < 2:
        raise UserError(
            f"every row to learn from is of the domain {names[0]!r}, and {strategy} needs two or more: with one left "
            "out to judge by, three in all; give test data, or rows of another domain"
        )
    return names, codes


def _weighted(weights: Floats, codes: IntArray, q: Floats) -> Floats:
    """Row weights with which domain d has the share q_d, each row within it as before.  # (n,)"""
    mass = np.bincount(codes, weights, len(q))
    return np.asarray(weights * np.maximum(q, 1e-9)[codes] * (weights.sum() / mass[codes]))


def _losses(
    problem: Problem, fitted: Predictor, features: Any, targets: Floats, weights: Floats, codes: IntArray
) -> Floats:
    """The weighted mean loss of each domain.  # (D,)"""
    with torch.inference_mode():
        logits = fitted.head.double()(features.double())
        each = problem.task.losses(logits, as_tensor(targets, torch.float64)).numpy()
    fitted.head.float()
    return np.asarray(np.bincount(codes, weights * each) / np.bincount(codes, weights))


class _Enough(Exception):
    """The gap is small, or the steps are used up."""


def _worst_case(fitted: Callable[[Floats], Solved], count: int, steps: int) -> tuple[Floats, float]:
    """The shares q at the highest min_W Σ q_d L_d + penalty, and what the worst domain's loss is above it."""
    best: tuple[float, Floats] = (np.inf, np.full(count, 1 / count))
    left = steps

    def dual(q: Floats) -> tuple[float, Floats]:
        nonlocal best, left
        q = np.maximum(q, 0) / np.maximum(q, 0).sum()
        now = fitted(q)
        gap = float(now.losses.max() - q @ now.losses)
        best, left = min(best, (gap, q), key=lambda b: b[0]), left - 1
        if gap < _ENOUGH or left < 1:
            raise _Enough
        return -float(q @ now.losses) - now.penalty, -now.losses

    with suppress(_Enough):
        minimize(
            dual, best[1], jac=True, method="SLSQP", bounds=[(0, 1)] * count,
            constraints={"type": "eq", "fun": lambda q: q.sum() - 1, "jac": lambda q: np.ones(count)},
            options={"maxiter": steps, "ftol": 1e-12},
        )  # fmt: skip
    return best[1], best[0]


def _listed(names: tuple[str, ...], q: Floats) -> str:
    return ", ".join(f"{name} {share:.2f}" for name, share in zip(names, q, strict=True))
