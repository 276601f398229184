"""Boosting by scikit-learn, read into arrays: fitted once, saved without pickle, used without the library."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from acclimate.errors import UserError
from acclimate.tasks.base import Floats, Task
from acclimate.tasks.trees import TreesHead, trees_head

_MODES = {"regress": "value", "multilabel": "labels"}
_CHECKED = 1000  # rows on which the arrays are compared with the library


@dataclass(frozen=True)
class Rows:
    """Rows that something is learned from or judged on."""

    features: Floats  # (n, d), NaN where something is missing
    targets: Floats
    weights: Floats  # (n,)

    def take(self, at: Sequence[int]) -> Rows:
        """The rows with these positions."""
        return Rows(self.features[at], self.targets[at], self.weights[at])


@dataclass(frozen=True)
class Growth:
    """How trees grow."""

    rounds: int
    leaves: int
    learning_rate: float
    least: int  # rows in a leaf
    penalty: float
    share: float  # of the features that a split may choose from
    seed: int


@dataclass(frozen=True)
class Ensemble:
    """One model, or one a label; None where the rows it should learn from are all of one class."""

    models: tuple[Any, ...]
    alone: tuple[float, ...]  # the score in the place of such a model
    present: tuple[int, ...]  # the classes that rows had, in the order of the scores
    absent: float  # the logit of other classes: log(½/n)
    mode: str

    def staged(self, features: Floats) -> Iterator[Floats]:
        """Scores (n, s) after every round."""
        ways = [self._way(m, score, features) for m, score in zip(self.models, self.alone, strict=True)]
        if all(model is None for model in self.models):
            ways = [iter([next(way)]) for way in ways]
        for parts in zip(*ways, strict=False):
            yield np.concatenate(parts, axis=1)

    def _way(self, model: Any, score: float, features: Floats) -> Iterator[Floats]:
        while model is None:
            yield np.full((len(features), 1), score)
        staged = model.staged_predict if self.mode == "value" else model.staged_decision_function
        for scores in staged(features):
            yield scores[:, None] if scores.ndim == 1 else scores

    def losses(self, rows: Rows, task: Task, outputs: int) -> Floats:
        """The weighted sum of losses after every round."""
        reader = self._head(0, outputs, [])
        whole = rows.targets.dtype.kind in "iu"
        targets = torch.as_tensor(rows.targets, dtype=torch.long if whole else torch.float64)
        weights = torch.from_numpy(rows.weights)
        logits = (reader.logits(torch.from_numpy(scores)) for scores in self.staged(rows.features))
        return np.array([float((weights * task.losses(one, targets)).sum()) for one in logits])

    def head(self, width: int, outputs: int, known: Floats) -> TreesHead:
        """The trees as arrays. The library keeps them in private places: that they were read right is checked."""
        trees = []
        for number, model in enumerate(self.models):
            for some in [] if model is None else model._predictors:
                trees += [(number + place, tree.nodes) for place, tree in enumerate(some)]
        head = self._head(width, outputs, trees)
        rows = known[:_CHECKED]
        *_, expected = self.staged(rows)
        if not np.allclose(head.scores(torch.from_numpy(rows)).numpy(), expected, rtol=1e-9, atol=1e-9):
            import sklearn

            raise UserError(
                f"scikit-learn {sklearn.__version__} keeps its trees in a way that is not known here, so that they "
                "cannot be saved; install one of the versions 1.5 to 1.9"
            )
        return head

    def _head(self, width: int, outputs: int, trees: Sequence[tuple[int, NDArray[Any]]]) -> TreesHead:
        base: list[float] = []
        for model, score in zip(self.models, self.alone, strict=True):
            base += [score] if model is None else np.asarray(model._baseline_prediction).ravel().tolist()
        return trees_head(width, outputs, trees, base, self.present, self.absent, self.mode)


def boosted(rows: Rows, task: Task, growth: Growth) -> Ensemble:
    """Fit: one model for values or classes, one for each of several labels."""
    mode = _MODES.get(task.name, "classes")
    absent = float(np.log(0.5 / len(rows.targets)))
    if mode == "value":
        return Ensemble((_model(rows, rows.targets, growth, value=True),), (0.0,), (), absent, mode)
    if mode == "classes":
        codes = rows.targets.astype(int)
        present = tuple(map(int, np.unique(codes)))
        return Ensemble((_model(rows, codes, growth),), (0.0,), present, absent, mode)
    labels = list(rows.targets.T.astype(int))
    shares = [(float(rows.weights @ label) + 0.5) / (float(rows.weights.sum()) + 1) for label in labels]
    alone = tuple(float(np.log(share) - np.log1p(-share)) for share in shares)
    return Ensemble(tuple(_model(rows, label, growth) for label in labels), alone, (), absent, mode)


def _model(rows: Rows, targets: Any, growth: Growth, value: bool = False) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    if not value and len(np.unique(targets)) < 2:
        return None
    kind = HistGradientBoostingRegressor if value else HistGradientBoostingClassifier
    made = kind(
        learning_rate=growth.learning_rate, max_iter=growth.rounds, max_leaf_nodes=growth.leaves,
        min_samples_leaf=growth.least, l2_regularization=growth.penalty, max_features=growth.share,
        early_stopping=False, random_state=growth.seed,
    )  # fmt: skip
    empty = np.isnan(rows.features).all(0)  # which the library refuses; no split can be on such a column either way
    return made.fit(np.where(empty, 0.0, rows.features), targets, sample_weight=rows.weights)
