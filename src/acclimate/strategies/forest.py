"""A random forest on plain features: what the fingerprints of molecules give without transfer."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from acclimate.data.kinds import kind_of
from acclimate.errors import UserError, plural
from acclimate.model import Predictor
from acclimate.plain import fit_plain
from acclimate.run import Run
from acclimate.strategies.base import Problem, Splits
from acclimate.strategies.mapped import settings_of
from acclimate.train.boost import Rows
from acclimate.train.forest import Growth, forest

_MOST = 2048  # words of texts at most
_ROWS_A_LEAF = 2000  # a leaf has a row more for every so many rows, so that a saved forest stays small


@dataclass(frozen=True)
class Forest:
    """A mean over trees, each grown on rows drawn with replacement, a split chosen from some of the features.

    p(y | f) = (1/T) Σ_t share of y among the training rows in tree t's leaf of f, or the mean of their values. Breiman
    2001 (Machine Learning 45), by scikit-learn. Nothing is chosen on inner folds. f (n, d) are Morgan fingerprints
    (of other texts their words, there or not).

    Use when: molecules, always: it is what a network has to beat there. Prefer `fingerprints` where the bundle must be
    small, `hybrid` where numbers are foretold.
    """

    trees: int | None = None  # T; None: 100, of many labels fewer of each, 300 in all and at least 25
    least: int | None = None  # rows in a leaf; None: one, and one more for every 2,000 rows
    share: float | None = None  # of the features that a split may choose from; None: their root, for values a third
    needs_backbone: bool = field(default=False, init=False, repr=False)
    frozen: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("trees", "least", "share"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise UserError(f"{name}={getattr(self, name)!r} must be above 0")
        if self.share is not None and self.share > 1:
            raise UserError(f"share={self.share!r} must be at most 1")

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Grow all trees on all training rows."""
        data, kind = splits.train, kind_of(splits.train)
        plain = fit_plain(kind.name, splits.to_read, _MOST)
        if plain is None or not plain.width:
            raise UserError(f"no {kind.noun} holds anything that a forest could learn from")
        if plain.dense:
            raise UserError(f"forest reads what is there or not, and of {kind.plural} plain features are amounts; use "
                            f"{kind.baseline}")  # fmt: skip
        # A bit is there or not: rows of length one, as a linear head wants them, would blur that for trees.
        features = (plain.transform(data.inputs).toarray() > 0).astype(np.float64)
        targets = problem.targets(data)
        rows = Rows(features, targets, problem.weights(data, targets))
        least = 1 + len(data) // _ROWS_A_LEAF if self.least is None else self.least
        labels = targets.shape[1] if targets.ndim > 1 else 1
        trees = max(25, min(100, 300 // labels)) if self.trees is None else self.trees
        growth = Growth(trees, least, self.share, run.seed)
        head = forest(rows, problem.task, growth, problem.task.width(problem.decoder))
        note = f"forest: {plural(trees, 'tree')} on {plain.width:,} plain features"
        return Predictor(problem.task, problem.decoder, head, None, plain, "forest", settings_of(self), notes=(note,))
