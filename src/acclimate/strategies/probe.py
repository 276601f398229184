"""Feature extraction: the backbone is frozen and a linear head is fitted on its cached features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from acclimate.data.domains import leave_one_out
from acclimate.data.kinds import kind_of
from acclimate.data.kinds.table import holds_text
from acclimate.data.rows import Data, IntArray
from acclimate.data.split import folds, units
from acclimate.errors import UserError
from acclimate.model import Predictor
from acclimate.plain import Plain, fit_plain
from acclimate.run import Run
from acclimate.strategies.base import Problem, Splits
from acclimate.strategies.multitask import side_by_side
from acclimate.tasks.base import Floats
from acclimate.tasks.heads import Head
from acclimate.threads import few
from acclimate.train.links import link_of
from acclimate.train.ridge import LARGEST_UNIT, Ridge, judged, leave_out
from acclimate.train.solve import Axes, Rows, Scaling, minimise, path, without_unseen

STRENGTHS = tuple(float(f"{10 ** (i / 5 - 2):.3g}") for i in range(25))  # 0.01 to 631, five to a factor of ten
Change = Callable[[Any], Any]  # features (n, d) of the training rows, then of those to choose by -> (n, k)
FEWEST = 8  # rows below which nothing is chosen, and C is 1


@dataclass(frozen=True)
class Probe:
    """A penalised linear head on frozen features: min_W Σ w_i ℓ(W f_i, y_i) + ‖W‖²/(2C); C from one path over folds.

    Alain & Bengio 2016 (arXiv:1610.01644). L(θ) = L_source(θ) with only the head's θ moving. For regression on features
    alone the fit has a closed form, and C comes from leaving every row out (with its duplicates and its group).

    Use when: always, first: it takes seconds, resists shift better, and with some 8 rows a class is level with tuning
    (of short texts from 16 a class on `contrastive` and `full` led).
    Prefer `lp_ft` if there are hundreds of rows a class and new rows look like the training ones. With `plain` the
    head reads TF-IDF words beside the features (`hybrid`); with `features=False` those alone (`tfidf`, no transfer). Of
    pictures the plain features are pixels (`pixels`), of sounds spectra (`spectra`).
    """

    features: bool = True
    plain: bool = False  # features that need no pretrained network: words of texts, pixels of pictures ...
    strength: float | None = None  # C; None: chosen from a path by folds
    inner_folds: int = 4
    max_words: int = 50_000
    needs_backbone: bool = field(default=True, init=False, repr=False)
    frozen: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs_backbone", self.features)
        if not (self.features or self.plain):
            raise UserError("a probe reads features, plain ones or both; at least one must be on")
        if self.strength is not None and not self.strength > 0:
            raise UserError(f"strength {self.strength!r} must be above 0; it is C in Σ loss + ‖W‖²/(2C)")
        for name, least in (("inner_folds", 2), ("max_words", 1)):
            if getattr(self, name) < least:
                raise UserError(f"{name}={getattr(self, name)!r} must be {least} or more")

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Choose C on rows left out of the training rows (or on `splits.valid`), then fit on all of them."""
        if problem.task.name == "multitask":
            return side_by_side(self, problem, splits, run)
        return self.fitted(problem, splits, run)

    def fitted(
        self, problem: Problem, splits: Splits, run: Run, change: Change | None = None, used_on: Floats | None = None
    ) -> Predictor:
        """The same on features that `change` has moved; the head then takes features as moved. `used_on` are such
        features of rows that it is made for: their spread counts as much as that of the training rows."""
        kind, words_of = kind_of(splits.train), kind_of(splits.train).name
        if self.plain and kind.name == "table":
            if not holds_text(splits.train):
                raise UserError(
                    f"a linear model cannot read {kind.plural} as they are, with cells that may be missing; use "
                    "linear_probe on --model columns, or boosting"
                )
            words_of = "text"  # of a row the words of its free text, whose other cells are features or left out
        plain = fit_plain(words_of, splits.to_read, self.max_words) if self.plain else None
        if plain is None and not self.features:
            raise UserError("no text holds a single word, so there is nothing for tfidf to learn from")
        alone = plain is not None and plain.dense and not self.features  # they then stand where features do
        known = Known.of(problem, splits, self.features, plain, change, used_on, alone=alone)
        words = plain.width if plain is not None and not alone else 0
        head = problem.task.head(known.rows.features.shape[1], problem.decoder, words).double()
        with few(4.0 * len(known.rows) * sum(p.numel() for p in head.parameters()) + 1.0):
            fit = self._closed if not words and problem.task.name == "regress" else self._iterated
            strength = fit(head, problem, splits, known, run)
        known.scaling.fold_into(head)
        head = _moved_over(head, problem) if alone else head
        name = {
            (True, False): "linear_probe",
            (True, True): "hybrid",
            (False, True): "tfidf" if words_of == "text" else kind.baseline,
        }[(self.features, self.plain)]
        settings = {
            "features": self.features,
            "plain": self.plain,
            "strength": strength,
            "inner_folds": self.inner_folds,
            "max_words": self.max_words,
        }
        return Predictor(
            problem.task,
            problem.decoder,
            head.float(),
            problem.backbone if self.features else None,
            plain,
            name,
            settings,
            tuple(f"head.{n}" for n, _ in head.named_parameters()),
            notes=(f"{name}: C = {strength:g}",),
        )

    def _iterated(self, head: Head, problem: Problem, splits: Splits, known: Known, run: Run) -> float:
        """Choose C along a path of penalties, all folds at once; fit from where the path was at that C."""
        link = link_of(problem.task, known.targets, problem.task.width(problem.decoder))
        axes = Axes.of(known.rows)
        strength = self.strength
        if strength is None:
            strength, masks = 1.0, self._masks(problem, splits, known, run)
            if masks is not None:
                weights = known.rows.weights + known.judging
                fit_on, judge_on = (mask * weights[:, None] for mask in masks)
                if problem.task.name in ("classify", "ordinal"):
                    judge_on = without_unseen(known.targets, fit_on, judge_on)
                if judge_on.any():
                    scores = path(head, known.rows, link, STRENGTHS, fit_on, judge_on, axes)
                    strength = STRENGTHS[int(np.argmin(scores))]
        minimise(head, known.rows, link, strength, axes)
        return strength

    def _masks(self, problem: Problem, splits: Splits, known: Known, run: Run) -> tuple[Floats, Floats] | None:
        """Which rows (n, P) each fit of the path learns from and is judged on; the last one learns from all of them."""
        n = len(splits.train)
        learn = np.arange(len(known.rows)) < n
        if not learn.all():
            return learn[:, None], ~learn[:, None]
        pairs = inner(splits.train, problem.task.name, self.inner_folds, run.seed)
        if not pairs:
            return None
        fit_on, judge_on = np.zeros((2, n, len(pairs) + 1))
        for p, (fit_at, judge_at) in enumerate(pairs):
            fit_on[fit_at, p] = judge_on[judge_at, p] = 1
        fit_on[:, -1] = 1
        return fit_on, judge_on

    def _closed(self, head: Head, problem: Problem, splits: Splits, known: Known, run: Run) -> float:
        """Squared error of features alone is ridge regression, and every row left out costs nothing."""
        learn, features, targets = len(splits.train), known.rows.features, known.targets[:, None]
        fitted = Ridge.of(features[:learn], targets[:learn], known.rows.weights[:learn])
        strength = self.strength or ridge_strength(
            fitted, features, targets, known.judging, splits.train, problem.task.name, self.inner_folds, run.seed
        )
        weight, bias = fitted.head(strength)
        link_of(problem.task, known.targets, 1).write(head, weight, np.zeros((0, 1)), bias)
        return strength


def _moved_over(head: Head, problem: Problem) -> Head:
    """The same head with the weights of its features where those of plain features belong."""
    state = head.state_dict()
    weight = state.pop("weight")
    moved = problem.task.head(0, problem.decoder, weight.shape[1]).double()
    moved.load_state_dict({**state, "weight": weight[:, :0], "word_weight": weight})
    return moved


@dataclass(frozen=True)
class Known:
    """The training rows, and below them those to choose by where there are some; each has weight zero for the other."""

    rows: Rows
    targets: Floats
    judging: Floats  # (n,) weights of the rows to choose by
    scaling: Scaling

    @staticmethod
    def of(
        problem: Problem,
        splits: Splits,
        features: bool,
        plain: Plain | None,
        change: Change | None = None,
        used_on: Floats | None = None,
        *,
        alone: bool = False,
    ) -> Known:
        """Features once for all, standardised by the training rows; plain ones in their place where `alone`."""
        parts = [splits.train] + ([] if (valid := problem.held_out(splits)) is None else [valid])
        inputs = [x for part in parts for x in part.inputs]
        raw = problem.network()[1].get(inputs) if features else np.zeros((len(inputs), 0), np.float32)
        raw = raw if change is None else change(raw)
        if alone and plain is not None:
            raw, plain = np.asarray(plain.transform(inputs).toarray(), np.float32), None
        learn = len(splits.train)
        scaling = Scaling.of(raw[:learn], used_on, groups_of(problem, raw) if features else ())
        targets = [problem.targets(part) for part in parts]
        weights = [problem.weights(part, target) for part, target in zip(parts, targets, strict=True)]
        rest = np.zeros(len(inputs) - learn)
        return Known(
            Rows(
                scaling.apply(raw),
                None if plain is None else plain.transform(inputs),
                np.concatenate([weights[0], rest]),
            ),
            np.concatenate(targets),
            np.concatenate([np.zeros(learn), *weights[1:]]),
            scaling,
        )


def groups_of(problem: Problem, features: Any) -> tuple[int, ...]:
    """Sizes of groups of features that count alike; none where a map has put others in their place."""
    groups = () if problem.backbone is None else problem.backbone.groups
    return groups if sum(groups) == features.shape[1] else ()


def inner(data: Data, task: str, k: int, seed: int) -> list[tuple[list[int], list[int]]]:
    """Folds for choosing a setting; none where the rows are too few or too tied together to be folded.

    With domains every fold is one of them: what is chosen should serve a domain that is not there.
    """
    if len(data) < FEWEST:
        return []
    try:
        pairs = folds(data, task, k=k, seed=seed) if data.domains is None else leave_one_out(data, task)
    except UserError:
        return []
    return [(list(map(int, a)), list(map(int, b))) for a, b in pairs]


def tied(data: Data) -> IntArray | None:
    """What must be left out together, (n,), where leave-one-out is honest and cheap; else None, and folds are used.

    With times a row left out would be judged by its own future, with domains by its own domain; large groups cost a
    large system of equations each.
    """
    if data.times is not None or data.domains is not None or len(data) < FEWEST:
        return None
    unit = units(data)
    counts = np.bincount(unit)
    return unit if len(counts) > 2 and counts.max() <= LARGEST_UNIT else None


def ridge_strength(
    fitted: Ridge, features: Floats, targets: Floats, judging: Floats, train: Data, task: str, k: int, seed: int
) -> float:
    """The C with the least squared error on the rows to choose by, where there are some below the training rows.

    Else on training rows left out together with their duplicates and their group, else on folds.
    """
    rest = slice(len(train), None)
    if len(train) < len(features):
        return STRENGTHS[int(np.argmin(judged(fitted, STRENGTHS, features[rest], targets[rest], judging[rest])))]
    unit = tied(train)
    if unit is not None:
        return STRENGTHS[int(np.argmin(leave_out(fitted, STRENGTHS, unit)))]
    pairs = inner(train, task, k, seed)
    total = np.zeros(len(STRENGTHS))
    for a, b in pairs:
        part = Ridge.of(features[a], targets[a], fitted.weights[a])
        total += judged(part, STRENGTHS, features[b], targets[b], fitted.weights[b]) * fitted.weights[b].sum()
    return STRENGTHS[int(np.argmin(total))] if pairs else 1.0


def first_head(start: str, problem: Problem, splits: Splits, run: Run) -> Head:
    """The head that a training begins with: that of a probe ("probe"), or of zeros ("zero")."""
    if start == "probe":
        return Probe().fit(problem, splits, run).head
    return problem.task.attach(problem.network()[0], problem.decoder).head
