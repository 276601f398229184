"""A few labelled rows of the target beside the labelled source: L(θ) = L_source(θ) + λ·L_target(θ), a linear head's θ.

All of them give an ordinary linear head on the frozen features. Settings are chosen by folds of the target rows alone,
each row there being judged by a head that did not learn from it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from acclimate import threads
from acclimate.errors import UserError, unknown
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies.base import Problem, Splits, Strategy, labelled
from acclimate.strategies.mapped import SelfTrain
from acclimate.strategies.probe import STRENGTHS, Probe, groups_of, inner
from acclimate.tasks.base import Floats
from acclimate.tasks.heads import Head, LinearHead, OrdinalHead
from acclimate.train.links import Link, link_of
from acclimate.train.solve import Axes, Rows, Scaling, minimise, path

LAMBDAS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
COARSE = STRENGTHS[::3]  # values of C; a few target rows cannot tell nearer ones apart
FOLDS = 5  # of the target rows
_STARTS: dict[str, Strategy] = {"linear_probe": Probe(), "self_train": SelfTrain()}
_OWN_NAMES = {"linear_probe": "last_layer", "self_train": "adapted_last_layer"}
_FREE = 10.0  # the value of the column whose weight is the target's own bias: large, so that it is hardly penalised
# Of heads A in the source and B in the target, the three copies W + W_source = A, W + W_target = B cost least, for W =
# (A + B)/3, ⅔‖(A + B)/2‖² + ½‖B − A‖². So two copies do, of the mean and the difference, each with its scale:
_SHARED, _APART = np.sqrt(3 / 2), np.sqrt(2)


@dataclass(frozen=True)
class Domains:
    """Standardised source rows, and below them the labelled target rows."""

    features: Floats  # (n + m, d)
    targets: Floats
    weights: Floats  # (n + m,) of mean one in each domain
    source: int  # n
    scaling: Scaling
    folds: list[tuple[list[int], list[int]]]  # of the target rows; none where they are too few

    @staticmethod
    def of(problem: Problem, splits: Splits, seed: int) -> Domains:
        """Features once for all; the source's rows, which are many, give centre and spread."""
        few = labelled(splits, "this strategy")
        raw = problem.network()[1].get([*splits.train.inputs, *few.inputs])
        scaling = Scaling.of(raw[: len(splits.train)], groups=groups_of(problem, raw))
        targets = [problem.targets(part) for part in (splits.train, few)]
        if problem.task.name not in ("regress", "multilabel") and (targets[1] < 0).any():
            new = sorted({str(y) for y, code in zip(few.labels or (), targets[1], strict=True) if code < 0})
            raise UserError(
                f"the labelled target rows hold {', '.join(map(repr, new[:5]))}, which no source row is called; rename "
                "or remove them"
            )
        weights = [problem.weights(p, t) for p, t in zip((splits.train, few), targets, strict=True)]
        k = min(FOLDS, len(few))
        return Domains(
            scaling.apply(raw),
            np.concatenate(targets),
            np.concatenate(weights),
            len(splits.train),
            scaling,
            inner(few, problem.task.name, k, seed) if k > 1 else [],
        )

    def mixed(self, lam: float, learn: Floats) -> Floats:
        """Row weights of n·(L_source + λ·L_target)/(1 + λ), L_target over the target rows where `learn` (m,) is 1."""
        ours, theirs = self.weights[: self.source], self.weights[self.source :] * learn
        total = max(float(theirs.sum()), 1e-300)
        return np.concatenate([ours, theirs * (lam * self.source / total)]) / (1 + lam)

    def masks(self) -> tuple[Floats, Floats]:
        """Target rows (m, P) that each fit learns from and is judged on; the last one learns from all of them."""
        m = len(self.targets) - self.source
        learn, judge = np.zeros((2, m, len(self.folds) + 1))
        for p, (fit_at, judge_at) in enumerate(self.folds):
            learn[fit_at, p] = judge[judge_at, p] = 1
        learn[:, -1] = 1
        return learn, judge


@dataclass(frozen=True)
class Pooled:
    """One head on source and target rows together: min n·[L_source(W) + λ·L_target(W)]/(1 + λ) + ‖W‖²/(2C).

    L is the mean loss over the n rows of the source, and over those of the target, which have a bias of their own
    beside the weights that both share: class shares and offsets differ first. λ and C have the least held-out loss
    over folds of the target rows; below 8 of them λ is 1 and C that of the source.
    Source: the α-weighted error of Ben-David et al. (2010), A Theory of Learning from Different Domains, Machine
    Learning 79, section 5, with α = λ/(1 + λ).
    Use when: there are some hundred labels of the target, or the source alone is not to be trusted.
    Prefer `last_layer` with fewer than about 50, and where time counts: it is many times quicker.
    """

    lam: float | None = None  # λ; None: chosen
    strength: float | None = None  # C; None: chosen
    needs_backbone: bool = field(default=True, init=False, repr=False)
    frozen: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        _positive(self)

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Choose λ and C on target rows left out, then fit on all."""
        domains = Domains.of(problem, splits, run.seed)
        d = domains.features.shape[1]
        own = np.where(np.arange(len(domains.features)) < domains.source, 0.0, _FREE)
        rows = Rows(np.column_stack([domains.features, own]), None, domains.weights)
        wide, lam, strength = _pooled(self, problem, splits, run, domains, rows)
        assert isinstance(wide, (LinearHead, OrdinalHead))
        head = _with_bias(problem, wide, wide.weight[:, :d], _FREE * wide.weight[:, d])
        domains.scaling.fold_into(head)
        return _predictor("pooled", self, problem, head, lam, strength)


@dataclass(frozen=True)
class Augmented:
    """A shared head plus one for each domain: φ(f) = (f, f·[source], f·[target]), and the target's is W + W_target.

    min n·[L_source + λ·L_target]/(1 + λ) + (‖W‖² + ‖W_source‖² + ‖W_target‖²)/(2C), where f has a 1 appended, so that
    the domains may have biases of their own. λ and C as in `pooled`.
    Source: Daumé III (2007), Frustratingly Easy Domain Adaptation, ACL, equation 1.
    Use when: there are enough target labels to tell where it differs from the source, about 50 or more.
    Prefer `pooled` with fewer.
    """

    lam: float | None = None
    strength: float | None = None
    needs_backbone: bool = field(default=True, init=False, repr=False)
    frozen: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        _positive(self)

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Fit the copies, and fold them into the target's head."""
        domains = Domains.of(problem, splits, run.seed)
        d = domains.features.shape[1]
        with_one = np.column_stack([domains.features, np.ones(len(domains.features))])
        side = np.where(np.arange(len(with_one)) < domains.source, -0.5, 0.5)[:, None]
        rows = Rows(np.column_stack([_SHARED * with_one, _APART * side * with_one]), None, domains.weights)
        wide, lam, strength = _pooled(self, problem, splits, run, domains, rows)
        assert isinstance(wide, (LinearHead, OrdinalHead))
        theirs = _SHARED * wide.weight[:, : d + 1] + 0.5 * _APART * wide.weight[:, d + 1 :]
        head = _with_bias(problem, wide, theirs[:, :d], theirs[:, d])
        domains.scaling.fold_into(head)
        return _predictor("augmented", self, problem, head, lam, strength)


@dataclass(frozen=True)
class LastLayer:
    """The source's head, moved as little as the target rows ask for: min m·L_target(W⁰ + V) + ‖V‖²/(2C).

    W⁰ is the `linear_probe` of the source, or with `start` "self_train" (called `adapted_last_layer`) the head that
    self-training made of it and of target rows without labels; biases are fitted to the labels and not held. As C falls
    to 0 the weights W⁰ stay, with new biases. C by folds of the target rows; below 8 of them it is the smallest.
    Source: Li, Grandvalet and Davoine (2018), Explicit Inductive Bias for Transfer Learning (L2-SP), ICML, equation 2,
    on the last layer; Kirichenko et al. (2023), Last Layer Re-Training is Sufficient, ICLR.
    Use when: there are some labels of the target, from 20 on: the default; the source's rows may be gone by then.
    Prefer `pooled` if the features themselves mean other things, and there are hundreds of labels; prefer
    `adapted_last_layer` if there are target rows without labels, too, and class shares are about alike.
    """

    start: str = "linear_probe"  # linear_probe | self_train: where W⁰ comes from
    strength: float | None = None
    needs_backbone: bool = field(default=True, init=False, repr=False)
    frozen: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        _positive(self)
        if self.start not in _STARTS:
            raise unknown("start", self.start, _STARTS)

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Fit what is to be added to the source's head."""
        domains = Domains.of(problem, splits, run.seed)
        start = _STARTS[self.start].fit(problem, replace(splits, target_labelled=None), run).head.double()
        assert isinstance(start, (LinearHead, OrdinalHead))
        from_source = start.weight.detach().numpy() * domains.scaling.spread  # for standardised features
        features = domains.features[domains.source :]
        rows = Rows(features, None, domains.weights[domains.source :])
        targets = domains.targets[domains.source :]
        outputs = problem.task.width(problem.decoder)
        link = Shifted.of(link_of(problem.task, targets, outputs), features @ from_source.T)
        head = problem.task.head(features.shape[1], problem.decoder, 0).double()
        assert isinstance(head, (LinearHead, OrdinalHead))
        strength, axes = self.strength or COARSE[0], Axes.of(rows)
        if self.strength is None and domains.folds:
            learn, judge = (mask * rows.weights[:, None] for mask in domains.masks())
            strength = COARSE[int(np.argmin(path(head, rows, link, COARSE, learn, judge, axes)))]
        minimise(head, rows, link, strength, axes)
        with torch.no_grad():
            head.weight.add_(torch.from_numpy(from_source))
        domains.scaling.fold_into(head)
        return _predictor(_OWN_NAMES[self.start], self, problem, head, None, strength)


@dataclass(frozen=True)
class TargetOnly:
    """A probe of the labelled target rows alone: min m·L_target(W) + ‖W‖²/(2C); the source is not read.

    Source: Alain and Bengio (2016), arXiv:1610.01644; C as in `linear_probe`.
    Use when: to see what the source brings, or with hundreds of target labels.
    Prefer `pooled` with fewer.
    """

    strength: float | None = None
    needs_backbone: bool = field(default=True, init=False, repr=False)
    frozen: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        _positive(self)

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """As `linear_probe`, on the target rows."""
        found = Probe(strength=self.strength).fit(problem, Splits(labelled(splits, "target_only")), run)
        return _predictor("target_only", self, problem, found.head, None, found.settings["strength"])


class Shifted:
    """A loss whose scores have a known part: ℓ(z + z⁰). All else is as in the loss that it wraps."""

    def __init__(self, link: Link, known: Floats) -> None:
        self.link, self.known = link, known[:, :, None]  # (n, k, 1)
        self.scores, self.free, self.share = link.scores, link.free, link.share

    @staticmethod
    def of(link: Link, scores: Floats) -> Shifted:
        """From a head's scores (n, outputs); a loss of two classes counts in their difference."""
        return Shifted(link, scores if link.scores == scores.shape[1] else scores[:, 1:] - scores[:, :1])

    def losses(self, z: Floats, free: Floats) -> Floats:
        """The loss of every row in every problem, (n, P)."""
        return self.link.losses(z + self.known.astype(z.dtype), free)

    def slopes(self, z: Floats, free: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """Of the weighted sum: its value (P,), its slope in the scores (n, k, P) and in `free` (e, P)."""
        return self.link.slopes(z + self.known.astype(z.dtype), free, weights)

    def curvature(self, z: Floats, free: Floats, weights: Floats) -> Floats:
        """About how much the sum bends along each score, (k, P)."""
        return self.link.curvature(z + self.known.astype(z.dtype), free, weights)

    def read(self, head: Head) -> tuple[Floats, Floats, Floats]:
        """Weights, word weights and free parameters of a head."""
        return self.link.read(head)

    def write(self, head: Head, weight: Floats, words: Floats, free: Floats) -> None:
        """The inverse of `read`, in place."""
        self.link.write(head, weight, words, free)


def _pooled(
    settings: Pooled | Augmented, problem: Problem, splits: Splits, run: Run, domains: Domains, rows: Rows
) -> tuple[Head, float, float]:
    """A head on these rows, λ and C: each λ has a path of C, and the pair with the least held-out loss is taken."""
    outputs = problem.task.width(problem.decoder)
    link = link_of(problem.task, domains.targets, outputs)
    lams = LAMBDAS if settings.lam is None else (settings.lam,)
    strengths = COARSE if settings.strength is None else (settings.strength,)
    learn, judge = domains.masks()
    judge_on = np.concatenate([np.zeros((domains.source, judge.shape[1])), judge]) * domains.weights[:, None]
    best = (np.inf, 1.0 if settings.lam is None else settings.lam, settings.strength)
    with threads.few(4.0 * rows.features.size * outputs):
        axes = Axes.of(rows)
        if domains.folds and len(lams) * len(strengths) > 1:
            for lam in lams:
                head = problem.task.head(rows.features.shape[1], problem.decoder, 0).double()
                fit_on = np.column_stack([domains.mixed(lam, mask) for mask in learn.T])
                scores = path(head, rows, link, strengths, fit_on, judge_on, axes)
                if scores.min() < best[0]:
                    best = (float(scores.min()), lam, strengths[int(np.argmin(scores))])
        _, lam, chosen = best
        strength = chosen or float(Probe().fit(problem, Splits(splits.train), run).settings["strength"])
        head = problem.task.head(rows.features.shape[1], problem.decoder, 0).double()
        minimise(head, replace(rows, weights=domains.mixed(lam, learn[:, -1])), link, strength, axes)
    return head, lam, strength


def _with_bias(problem: Problem, wide: Head, weight: torch.Tensor, bias: torch.Tensor) -> Head:
    """A head of these weights (k, d), and the biases of `wide` plus `bias` (k,)."""
    head = problem.task.head(weight.shape[1], problem.decoder, 0).double()
    with torch.no_grad():
        head.load_state_dict({**wide.state_dict(), "weight": weight})
        if isinstance(head, OrdinalHead):
            head.first.sub_(bias[0])  # P(y ≤ k) = σ(θ_k − s): a constant in s lowers every θ
        else:
            assert isinstance(head, LinearHead)
            head.bias.add_(bias)
    return head


def _positive(settings: Pooled | Augmented | LastLayer | TargetOnly) -> None:
    for name in ("lam", "strength"):
        value = getattr(settings, name, None)
        if value is not None and not value > 0:
            raise UserError(f"{name} {value!r} must be above 0, or left out to be chosen on target rows")


def _predictor(name: str, settings: Any, problem: Problem, head: Head, lam: float | None, strength: float) -> Predictor:
    used = {k: v for k, v in asdict(settings).items() if k not in ("needs_backbone", "frozen")}
    used |= {"strength": strength} | ({} if lam is None else {"lam": lam})
    notes = f"{name}: C = {strength:g}" + ("" if lam is None else f", λ = {lam:g}")
    return Predictor(
        problem.task,
        problem.decoder,
        head.float(),
        problem.backbone,
        None,
        name,
        used,
        tuple(f"head.{n}" for n, _ in head.named_parameters()),
        notes=(notes,),
    )


FEW_LABELS: dict[str, Strategy] = {
    "pooled": Pooled(),
    "augmented": Augmented(),
    "last_layer": LastLayer(),
    "adapted_last_layer": LastLayer(start="self_train"),
    "target_only": TargetOnly(),
}
