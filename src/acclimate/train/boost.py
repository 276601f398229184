"""Boosting by scikit-learn, read into arrays: fitted once, saved without pickle, used without the library."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from acclimate.data.rows import IntArray
from acclimate.errors import UserError
from acclimate.tasks.base import Floats, Task
from acclimate.tasks.trees import TreesHead, trees_head

MODES = {"regress": "value", "multilabel": "labels"}
_BINS = 255
_SAMPLED = 200_000  # rows from which edges are learned
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
    most: int  # features that are read: those that go best with the targets, each by itself


@dataclass(frozen=True)
class Ensemble:
    """One model, or one a label; None where the rows it should learn from are all of one class."""

    models: tuple[Any, ...]
    alone: tuple[float, ...]  # the score in the place of such a model
    present: tuple[int, ...]  # the classes that rows had, in the order of the scores
    absent: float  # the logit of other classes: log(½/n)
    mode: str
    rounds: int
    columns: IntArray  # the features that are read
    edges: tuple[Floats, ...]  # between the bins of each

    def staged(self, features: Floats) -> Iterator[Floats]:
        """Scores (n, s) after every round."""
        bins = self.bins(features)
        ways = [self._way(m, score, bins) for m, score in zip(self.models, self.alone, strict=True)]
        for parts in zip(*ways, strict=True):
            yield np.concatenate(parts, axis=1)

    def bins(self, features: Floats) -> Floats:
        """What the models read of features (n, d): the numbers of bins."""
        return _binned(features[:, self.columns], self.edges)

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
                nodes = [self._on_features(_private(tree, "nodes")) for tree in some]
                trees += [(number + place, one) for place, one in enumerate(nodes)]
        try:
            head = self._head(width, outputs, trees)
        except ValueError as error:  # nodes without one of the fields
            raise _unknown() from error
        rows = known[:_CHECKED]
        *_, expected = self.staged(rows)
        if not np.allclose(head.scores(torch.from_numpy(rows)).numpy(), expected, rtol=1e-9, atol=1e-9):
            raise _unknown()
        return head

    def _on_features(self, nodes: NDArray[Any]) -> NDArray[Any]:
        """A tree on bins as one on features: a bin is ≤ t where x ≤ the upper edge of bin ⌊t⌋."""
        found = nodes.copy()
        for i in np.flatnonzero(~nodes["is_leaf"].astype(bool)):
            at, bin_ = int(nodes["feature_idx"][i]), nodes["num_threshold"][i]
            found["feature_idx"][i] = self.columns[at]
            found["num_threshold"][i] = self.edges[at][int(bin_)] if bin_ < len(self.edges[at]) else np.inf
        return found

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
    """Fit: one model for values or classes, one for each of several labels, which learns where it is known.

    Bins are made here, since with weights the library takes a thousand times longer to.
    """
    columns = chosen_columns(rows, task, growth.most)
    edges = tuple(_edges(column) for column in rows.features[:, columns].T)
    models, alone, present = _models(
        Rows(_binned(rows.features[:, columns], edges), rows.targets, rows.weights), task, growth
    )
    absent = float(np.log(0.5 / len(rows.targets)))
    mode = MODES.get(task.name, "classes")
    return Ensemble(models, alone, present, absent, mode, growth.rounds, columns, edges)


def _models(rows: Rows, task: Task, growth: Growth) -> tuple[tuple[Any, ...], tuple[float, ...], tuple[int, ...]]:
    """The models, what stands in the place of those that are None, and the classes that rows had."""
    mode = MODES.get(task.name, "classes")
    if mode == "value":
        return (_model(rows, rows.targets, growth, value=True),), (0.0,), ()
    if mode == "classes":
        codes = rows.targets.astype(int)
        return (_model(rows, codes, growth),), (0.0,), tuple(map(int, np.unique(codes)))
    models, alone = zip(*(_of_label(rows, label, growth) for label in rows.targets.T), strict=True)
    return models, alone, ()


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
        early_stopping=False, random_state=growth.seed, max_bins=max(2, int(np.nanmax(rows.features, initial=0)) + 1),
    )  # fmt: skip
    empty = np.isnan(rows.features).all(0)  # which the library refuses; no split can be on such a column either way
    return made.fit(np.where(empty, 0.0, rows.features), targets, sample_weight=rows.weights)


def chosen_columns(rows: Rows, task: Task, most: int) -> IntArray:
    """The places of the features to read: all, or the `most` with the largest Σ_k corr(x, y_k)², or whether x is
    missing in its place where that goes better; y_k the classes, labels or the value."""
    width = rows.features.shape[1]
    if width <= most:
        return np.arange(width)
    if MODES.get(task.name) is None:
        targets = np.eye(int(rows.targets.max()) + 1)[rows.targets.astype(int)]
    else:
        targets = np.nan_to_num(rows.targets.astype(float)).reshape(len(rows.targets), -1)
    missing = np.isnan(rows.features)
    centred = np.where(missing, 0.0, rows.features - _mean(rows.features, missing))
    score = np.maximum(
        _together(centred, targets, rows.weights), _together(missing.astype(float), targets, rows.weights)
    )
    return np.sort(np.argsort(-score, kind="stable")[:most])


def _mean(features: Floats, missing: NDArray[np.bool_]) -> Floats:
    there = np.maximum((~missing).sum(0), 1)
    return np.asarray(np.where(missing, 0.0, features).sum(0) / there)


def _together(features: Floats, targets: Floats, weights: Floats) -> Floats:
    """Σ_k corr(x_j, y_k)² of each feature, (d,); 0 where it never changes."""
    share = weights / weights.sum()
    x, y = features - share @ features, targets - share @ targets
    spread = np.outer(share @ x**2, share @ y**2)
    found = ((x * share[:, None]).T @ y) ** 2
    return np.asarray(np.where(spread > 1e-24, found / np.maximum(spread, 1e-300), 0.0).sum(1))


def _edges(column: Floats) -> Floats:
    """Between at most 255 bins: midpoints of neighbouring values, or quantiles where there are more values."""
    here = column[~np.isnan(column)]
    if len(here) > _SAMPLED:
        here = here[:: -(-len(here) // _SAMPLED)]
    values = np.unique(here)
    if len(values) <= _BINS:
        return np.asarray((values[1:] + values[:-1]) / 2)
    return np.unique(np.percentile(here, np.linspace(0, 100, _BINS + 1)[1:-1], method="averaged_inverted_cdf"))


def _binned(features: Floats, edges: Sequence[Floats]) -> Floats:
    """The number of each value's bin, NaN where it is missing; the edge above belongs to a bin."""
    out = np.empty(features.shape)
    for j, some in enumerate(edges):
        out[:, j] = np.searchsorted(some, features[:, j])
    out[np.isnan(features)] = np.nan
    return out
