"""Random forests by scikit-learn, read into arrays: fitted once, saved without pickle, used without the library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from acclimate.tasks.base import Task
from acclimate.tasks.trees import TreesHead, trees_head
from acclimate.train.boost import MODES, Rows

_FIELDS = [
    ("feature_idx", np.int64), ("num_threshold", np.float64), ("missing_go_to_left", np.bool_), ("value", np.float64),
    ("left", np.int64), ("right", np.int64), ("is_leaf", np.bool_), ("depth", np.int64),
]  # fmt: skip


@dataclass(frozen=True)
class Growth:
    """How trees grow."""

    trees: int
    least: int  # rows in a leaf
    share: float | None  # of the features that a split may choose from; None: their root, of values a third
    seed: int


def forest(rows: Rows, task: Task, growth: Growth, outputs: int) -> TreesHead:
    """Fit: a forest of values or classes, one of each of several labels, which learns where it is known.

    Features (n, d) are 0 or 1; the head reads any that are above 0 where these are 1. A score is the mean over the
    trees: of values themselves, or the share of a class among the training rows in a leaf.
    """
    mode = MODES.get(task.name, "classes")
    width, absent = rows.features.shape[1], float(np.log(0.5 / len(rows.targets)))
    if mode == "value":
        trees = _trees(_model(rows, rows.targets, growth, value=True), 0)
        return trees_head(width, outputs, trees, [0.0], (), absent, mode)
    if mode == "classes":
        codes = rows.targets.astype(int)
        present = tuple(map(int, np.unique(codes)))
        if len(present) == 1:
            return trees_head(width, outputs, (), [1.0], present, absent, mode, growth.trees)
        model = _model(rows, codes, growth)
        if len(present) == 2:
            return trees_head(width, outputs, _trees(model, 1), [0.0], present, absent, mode, growth.trees)
        trees, shares = _shared(model)
        return trees_head(width, outputs, trees, [0.0] * len(present), present, absent, mode, growth.trees, shares)
    found: list[tuple[int, NDArray[Any]]] = []
    base: list[float] = []
    for number, label in enumerate(rows.targets.T):
        at = np.flatnonzero(~np.isnan(label))
        some, said = rows.take(at.tolist()), label[at].astype(int)
        if len(np.unique(said)) < 2:
            base.append((float(some.weights @ said) + 0.5) / (float(some.weights.sum()) + 1))
            continue
        base.append(0.0)
        found += _trees(_model(some, said, growth), 1, number)
    return trees_head(width, outputs, found, base, (), absent, mode, growth.trees)


def _model(rows: Rows, targets: Any, growth: Growth, value: bool = False) -> Any:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    kind = RandomForestRegressor if value else RandomForestClassifier
    share: Any = growth.share if growth.share is not None else 1 / 3 if value else "sqrt"
    made = kind(growth.trees, min_samples_leaf=growth.least, max_features=share, random_state=growth.seed,
                n_jobs=torch.get_num_threads())  # fmt: skip
    return made.fit(rows.features, targets, sample_weight=rows.weights)


def _trees(model: Any, at: int, score: int = 0) -> list[tuple[int, NDArray[Any]]]:
    """Every tree with this one of its leaves' values, divided by the number of trees."""
    count = len(model.estimators_)
    return [(score, _nodes(one.tree_, one.tree_.value[:, 0, at] / count)) for one in model.estimators_]


def _shared(model: Any) -> tuple[list[tuple[int, NDArray[Any]]], NDArray[Any]]:
    """Every tree, whose leaves say which row of shares theirs are, and these rows, divided by the number of trees.

    Most leaves hold one class, so that few rows differ: a forest of many classes is little larger than one of two.
    """
    known: dict[bytes, int] = {}
    trees = []
    for tree in (one.tree_ for one in model.estimators_):
        places = np.zeros(tree.node_count)
        leaves = np.flatnonzero(tree.children_left < 0)
        places[leaves] = [known.setdefault(shares.tobytes(), len(known)) for shares in tree.value[leaves, 0]]
        trees.append((0, _nodes(tree, places)))
    return trees, np.frombuffer(b"".join(known)).reshape(len(known), -1) / len(trees)


def _nodes(tree: Any, values: NDArray[Any]) -> NDArray[Any]:
    """As `trees_head` takes them."""
    nodes = np.zeros(tree.node_count, dtype=_FIELDS)
    leaf = tree.children_left < 0
    nodes["feature_idx"], nodes["num_threshold"] = np.where(leaf, 0, tree.feature), 0.0
    nodes["is_leaf"] = leaf
    nodes["left"], nodes["right"] = np.where(leaf, 0, tree.children_left), np.where(leaf, 0, tree.children_right)
    nodes["value"] = values
    for i in np.flatnonzero(~leaf):  # parents come before their children
        for child in (tree.children_left[i], tree.children_right[i]):
            nodes["depth"][child] = nodes["depth"][i] + 1
    return nodes
