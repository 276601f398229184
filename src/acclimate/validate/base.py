"""What is chosen between, and what is known about it: source labels, and never one of the target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from acclimate.errors import UserError

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

LEAST = 1e-12  # below which a probability counts as this, where its logarithm is taken


@dataclass(frozen=True)
class Candidate:
    """What one fitted model says of the same held-out source rows and target rows as all others."""

    name: str
    source: Floats  # (n, K) class probabilities of source rows that the model was not fitted on
    target: Floats  # (m, K) of target rows
    source_features: Floats | None = None  # (n, d) what its last layer reads; None: the features of `Rows`
    target_features: Floats | None = None  # (m, d)
    predict: Callable[[Floats], Floats] | None = (
        None  # class probabilities of any rows like those of `Rows`; for mixval
    )

    def __post_init__(self) -> None:
        for part in ("source", "target"):
            object.__setattr__(self, part, _probabilities(getattr(self, part), f"{part} of candidate {self.name!r}"))
        if self.source.shape[1] != self.target.shape[1]:
            raise UserError(
                f"candidate {self.name!r} has {self.source.shape[1]} classes on the source and "
                f"{self.target.shape[1]} on the target; give both the same columns"
            )
        if (self.source_features is None) != (self.target_features is None):
            raise UserError(f"candidate {self.name!r} has features of one domain alone; give both or neither")


@dataclass(frozen=True)
class Rows:
    """What every candidate is judged on. There is no place for a target label."""

    labels: Ints  # (n,) classes of the held-out source rows, 0 ... K-1
    source: Floats  # (n, d) features of these rows, before anything was adapted
    target: Floats  # (m, d)
    seed: int = 0
    own: float | None = None  # neighbour agreement of all source labels; None: that of the held-out ones stands for it

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        if labels.ndim != 1 or labels.dtype.kind not in "iu" or (len(labels) and labels.min() < 0):
            raise UserError("labels must be one whole number from 0 for each held-out source row")
        object.__setattr__(self, "labels", labels.astype(np.int64))
        for part in ("source", "target"):
            object.__setattr__(self, part, _table(getattr(self, part), part))
        if len(self.labels) != len(self.source):
            raise UserError(f"{len(self.labels)} labels for {len(self.source)} source rows; give one for each")

    def features(self, candidate: Candidate) -> tuple[Floats, Floats]:
        """What the candidate's last layer reads of both domains."""
        if candidate.source_features is None or candidate.target_features is None:
            return self.source, self.target
        return _table(candidate.source_features, candidate.name), _table(candidate.target_features, candidate.name)

    def check(self, candidates: list[Candidate]) -> None:
        """Refuse candidates that speak of other rows or classes."""
        if not candidates:
            raise UserError("there is no candidate to choose from; give at least one")
        names = [c.name for c in candidates]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f"two candidates are called {twice!r}; give each a name of its own")
        for c in candidates:
            if (len(c.source), len(c.target)) != (len(self.source), len(self.target)):
                raise UserError(
                    f"candidate {c.name!r} speaks of {len(c.source)} source and {len(c.target)} target rows, and there "
                    f"are {len(self.source)} and {len(self.target)}; all must be judged on the same rows"
                )
            if c.source.shape[1] != candidates[0].source.shape[1] or self.labels.max() >= c.source.shape[1]:
                raise UserError(
                    f"candidate {c.name!r} has {c.source.shape[1]} classes, the labels and the other candidates have "
                    f"{max(int(self.labels.max()) + 1, candidates[0].source.shape[1])}; give all the same columns"
                )


def shares(probabilities: Floats) -> Floats:
    """The share of rows that each class is the answer to.  # (K,)"""
    return np.bincount(probabilities.argmax(1), minlength=probabilities.shape[1]) / len(probabilities)


def entropy(p: Floats) -> Floats:
    """H(p) = −Σ_k p_k log p_k along the last axis, in nats.

    >>> entropy(np.array([[0.5, 0.5], [1.0, 0.0]])).round(4).tolist()
    [0.6931, 0.0]
    """
    return np.asarray(-(p * np.log(np.maximum(p, LEAST))).sum(-1) + 0.0)


def _table(values: Any, name: str) -> Floats:
    table = np.asarray(values, np.float64)
    if table.ndim != 2 or not len(table):
        raise UserError(f"features of {name} must be a table with at least one row, got the shape {table.shape}")
    if not np.isfinite(table).all():
        raise UserError(f"features of {name} hold NaN or infinity; fill or remove those rows first")
    return table


def _probabilities(values: Any, name: str) -> Floats:
    table = _table(values, name)
    if table.shape[1] < 2 or table.min() < 0 or np.abs(table.sum(1) - 1).max() > 1e-3:
        raise UserError(f"{name} must be class probabilities: 2 or more columns, not negative, rows of sum 1")
    return table
