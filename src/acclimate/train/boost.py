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
    rounds: int

    def staged(self, features: Floats) -> Iterator[Floats]:
        """Scores (n, s) after every round."""
        ways = [self._way(m, score, features) for m, score in zip(self.models, self.alone, strict=True)]
        for parts in zip(*ways, strict=True):
            yield np.concatenate(parts, axis=1)

    def _way(self, model: Any, score: float, features: Floats) -> Iterator[Floats]:
        if model is None:
            yield from [np.full((len(features), 1), score)] * self.rounds
            return
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
            for some in [] if model is None else _private(model, "_predictors"):
                trees += [(number + place, _private(tree, "nodes")) for place, tree in enumerate(some)]
        try:
            head = self._head(width, outputs, trees)
        except ValueError as error:  # nodes without one of the fields
            raise _unknown() from error
        rows = known[:_CHECKED]
        *_, expected = self.staged(rows)
        if not np.allclose(head.scores(torch.from_numpy(rows)).numpy(), expected, rtol=1e-9, atol=1e-9):
            raise _unknown()
        return head

    def _head(self, width: int, outputs: int, trees: Sequence[tuple[int, NDArray[Any]]]) -> TreesHead:
        base: list[float] = []
        for model, score in zip(self.models, self.alone, strict=True):
            base += [score] if model is None else np.asarray(_private(model, "_baseline_prediction")).ravel().tolist()
        return trees_head(width, outputs, trees, base, self.present, self.absent, self.mode)


def _private(owner: Any, name: str) -> Any:
    """What scikit-learn keeps under this name, or an error where a version of it does not."""
    found = getattr(owner, name, None)
    if found is None:
        raise _unknown()
    return found


def _unknown() -> UserError:
    import sklearn

    return UserError(
        f"scikit-learn {sklearn.__version__} keeps its trees in a way that is not known here, so that they cannot be "
        "read; install one of the versions 1.5 to 1.9"
    )


def boosted(rows: Rows, task: Task, growth: Growth) -> Ensemble:
    """Fit: one model for values or classes, one for each of several labels, which learns where it is known."""
    mode = _MODES.get(task.name, "classes")
    absent = float(np.log(0.5 / len(rows.targets)))
    if mode == "value":
        model = _model(rows, rows.targets, growth, value=True)
        return Ensemble((model,), (0.0,), (), absent, mode, growth.rounds)
    if mode == "classes":
        codes = rows.targets.astype(int)
        present = tuple(map(int, np.unique(codes)))
        return Ensemble((_model(rows, codes, growth),), (0.0,), present, absent, mode, growth.rounds)
    models, alone = zip(*(_of_label(rows, label, growth) for label in rows.targets.T), strict=True)
    return Ensemble(models, alone, (), absent, mode, growth.rounds)


def _of_label(rows: Rows, label: Floats, growth: Growth) -> tuple[Any, float]:
    """The model of one label, NaN where it is not known, and the log odds of its share."""
    at = np.flatnonzero(~np.isnan(label))
    some, said = rows.take(at.tolist()), label[at].astype(int)
    share = (float(some.weights @ said) + 0.5) / (float(some.weights.sum()) + 1)
    return _model(some, said, growth), float(np.log(share) - np.log1p(-share))


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
