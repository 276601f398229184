"""Gradient boosting on plain features, such as a table's columns: what they give without transfer; and in front of it
what domain adaptation can do without a gradient."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from acclimate.data.kinds import kind_of
from acclimate.data.rows import Data
from acclimate.errors import UserError, unknown
from acclimate.model import Predictor
from acclimate.plain import Plain, fit_plain
from acclimate.run import Run
from acclimate.shallow.base import SOURCE, Adapter
from acclimate.strategies.base import Problem, Splits, unlabelled
from acclimate.strategies.mapped import WEIGHTS, linear_of, map_of, settings_of, weights_of
from acclimate.strategies.probe import inner
from acclimate.tasks.base import Floats
from acclimate.tasks.trees import TreesHead
from acclimate.train.boost import Growth, Rows, boosted

LEAVES = (3, 16)  # few rows want small trees, many rows with columns that act together larger ones
FRONT = ("standardise", "coral", "linear_ot")  # maps that leave the columns of the target what they are
_FEW = 50  # rounds where nothing can be held out to choose by


@dataclass(frozen=True)
class Boosting:
    """Gradient boosting: s ← s + η·tree, each tree fitted to the loss's slope and curvature; rounds chosen on folds.

    min_s Σ w_i ℓ(s(f_i), y_i), s = b + Σ_t η·tree_t(f). Friedman 2001 (Annals of Statistics 29), on histograms as in
    Ke et al. 2017 (LightGBM, NeurIPS), by scikit-learn; missing cells go to the side of a split that serves them best.
    The number of rounds, and of leaves where it is not given, has the least loss on inner folds or the rows to choose
    by. `by` adapts it to target rows without labels: weights of source rows (density_ratio, kmm, kliep,
    nearest_neighbour) or a map of the features (standardise, coral, linear_ot), `acclimate.shallow`.

    Use when: rows of a table, always: it is what a network has to beat there. Prefer `linear_probe` below about 100
    rows, and where the target lies outside of the source's range: trees stay flat there.
    """

    by: str = "none"  # none | standardise | coral | linear_ot | density_ratio | kmm | kliep | nearest_neighbour
    learning_rate: float = 0.1  # η
    rounds: int | None = None  # None: chosen
    most_rounds: int = 150  # to choose from
    leaves: int | None = None  # of a tree; None: chosen
    least: int | None = None  # rows in a leaf; None: a tenth of the rows, from 2 to 10
    penalty: float = 1.0  # on the squares of a leaf's value
    share: float = 0.3  # of the features that a split may choose from
    inner_folds: int = 4
    most_columns: int = 1000  # of features whose number depends on the rows
    needs_backbone: bool = field(default=False, init=False, repr=False)
    frozen: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.by not in ("none", *FRONT, *WEIGHTS):
            raise unknown("by", self.by, ("none", *FRONT, *WEIGHTS))
        for name in ("learning_rate", "rounds", "most_rounds", "leaves", "least", "share", "most_columns"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise UserError(f"{name}={getattr(self, name)!r} must be above 0")
        if self.share > 1:
            raise UserError(f"share={self.share!r} must be at most 1")
        for name, least in (("penalty", 0), ("inner_folds", 2)):
            if getattr(self, name) < least:
                raise UserError(f"{name}={getattr(self, name)!r} must be {least} or more")
        if self.leaves is not None and self.leaves < 2:
            raise UserError(f"leaves={self.leaves!r} must be 2 or more")

    @property
    def adapts(self) -> bool:
        """Whether target rows are read."""
        return self.by != "none"

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Choose rounds and leaves on rows left out, then boost on all training rows."""
        kind, notes = kind_of(splits.train), []
        plain = fit_plain(kind.name, splits.to_read, self.most_columns)
        if plain is None:
            raise UserError(f"no {kind.noun} holds anything that boosting could learn from")
        moves: _Moves | None = None
        if self.by in WEIGHTS:
            splits, note = self._weighted(splits, plain)
            notes.append(note)
        elif self.adapts:
            target = unlabelled(splits, f"boosting by {self.by}")
            moves = _Moves.of(self.by, _features(plain, splits.train), _features(plain, target))
        train = _rows(problem, splits.train, plain, moves)
        leaves, rounds = self._chosen(problem, splits, train, plain, moves, run)
        ensemble = boosted(train, problem.task, self._growth(leaves, rounds, len(splits.train), run.seed))
        head = ensemble.head(plain.width, problem.task.width(problem.decoder), train.features)
        if moves is not None:
            head = moves.before(head)
        settings = {**settings_of(self), "leaves": leaves, "rounds": rounds}
        notes.append(f"boosting: {rounds} rounds of trees with {leaves} leaves")
        name = "adapted_boosting" if self.adapts else "boosting"
        return Predictor(
            problem.task, problem.decoder, head, None, plain, name, settings, notes=tuple(notes),
        )  # fmt: skip

    def _weighted(self, splits: Splits, plain: Plain) -> tuple[Splits, str]:
        """Source rows that count by how much they look like the target; what is missing counts as a feature there."""
        target = unlabelled(splits, f"boosting by {self.by}")
        ours, theirs = _complete(_features(plain, splits.train), _features(plain, target))
        weights, note = weights_of(self.by, ours, theirs)
        given = splits.train.weights
        train = replace(splits.train, weights=weights if given is None else given * weights)
        return replace(splits, train=train), note

    def _chosen(
        self, problem: Problem, splits: Splits, train: Rows, plain: Plain, moves: _Moves | None, run: Run
    ) -> tuple[int, int]:
        """Leaves and rounds: those given, and of the others those with the least loss on rows left out."""
        if self.leaves is not None and self.rounds is not None:
            return self.leaves, self.rounds
        task, outputs, chosen_by = problem.task, problem.task.width(problem.decoder), problem.held_out(splits)
        if chosen_by is not None:
            parts = [(train, _rows(problem, chosen_by, plain, moves))]
        else:
            pairs = inner(splits.train, problem.task.name, self.inner_folds, run.seed)
            parts = [(train.take(a), train.take(b)) for a, b in pairs]
        best = (np.inf, self.leaves or LEAVES[0], self.rounds or _FEW)
        for leaves in LEAVES if self.leaves is None else (self.leaves,):
            growth = self._growth(leaves, self.rounds or self.most_rounds, len(splits.train), run.seed)
            losses = [boosted(a, task, growth).losses(b, task, outputs) for a, b in parts]
            if losses:
                total = np.sum(losses, axis=0)
                at = len(total) - 1 if self.rounds is not None else int(np.argmin(total))
                best = min(best, (float(total[at]), leaves, at + 1))
        return best[1], best[2]

    def _growth(self, leaves: int, rounds: int, rows: int, seed: int) -> Growth:
        least = max(2, min(10, rows // 10)) if self.least is None else self.least
        return Growth(rounds, leaves, self.learning_rate, least, self.penalty, self.share, seed)


def _features(plain: Plain, data: Data) -> Floats:
    """In the precision that a saved model reads them in."""
    return np.asarray(plain.transform(data.inputs).toarray(), np.float32).astype(np.float64)


def _rows(problem: Problem, data: Data, plain: Plain, moves: _Moves | None) -> Rows:
    features = _features(plain, data)
    targets = problem.targets(data)
    return Rows(features if moves is None else moves.source(features), targets, problem.weights(data, targets))


@dataclass(frozen=True)
class _Moves:
    """A map of the features of both domains, with what is missing filled; by `standardise` it stays missing."""

    by: str
    adapter: Adapter
    fill: Floats  # (d,)

    @staticmethod
    def of(by: str, source: Any, target: Any) -> _Moves:
        fill = _medians(np.concatenate([source, target]).astype(np.float64))
        adapter = map_of(by, _filled(source, fill), _filled(target, fill))
        assert adapter is not None
        return _Moves(by, adapter, fill)

    def source(self, features: Floats) -> Floats:
        """Source rows as trees are to learn them."""
        moved = self.adapter.transform(_filled(features, self.fill), domain=SOURCE)
        return np.where(np.isnan(features), np.nan, moved) if self.by == "standardise" else moved

    def before(self, head: TreesHead) -> TreesHead:
        """The head with the target's part of the map in front of it."""
        matrix, offset = linear_of(self.adapter, len(self.fill))
        return head.with_move(self.fill, matrix, offset, keeps_missing=self.by == "standardise")


def _complete(ours: Any, theirs: Any) -> tuple[Floats, Floats]:
    """Both domains with medians in the place of what is missing, and a column for each that misses something."""
    both = np.concatenate([ours, theirs]).astype(np.float64)
    missing = np.isnan(both)
    some = missing.any(0) & ~missing.all(0)
    wide = np.column_stack([_filled(both, _medians(both)), missing[:, some]])
    return wide[: len(ours)], wide[len(ours) :]


def _medians(rows: Floats) -> Floats:
    """Of each column, (d,); 0 where nothing is there."""
    empty = np.isnan(rows).all(0)
    return np.asarray(np.nanmedian(np.where(empty, 0.0, rows), axis=0))


def _filled(features: Any, fill: Floats) -> Floats:
    return np.where(np.isnan(features), fill, features.astype(np.float64))
