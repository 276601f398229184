"""What a metric is: a function of truth, of what was answered, and of row weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acclimate.metrics.digest import Digest
from acclimate.metrics.intervals import FloatArray, Weighted


@dataclass(frozen=True)
class Metric:
    """`metric(truth, given, weights=None) -> float`; NaN where it is undefined.

    `at(truth, given)` is the same as a function of many rows of weights at once, which is what the intervals need.
    """

    at: Callable[[NDArray[Any], Any], Weighted]  # Any: an array, or a Digest where that is enough
    needs: str  # "labels": class codes (or 0/1 columns); "proba": (n, K) probabilities; "values": numbers
    greater_is_better: bool
    scale: str = (
        "unit"  # where it lives: "unit" [0, 1], "signed" [-1, 1], "positive" [0, ∞), "below one" (-∞, 1], "real"
    )
    rows: Callable[[NDArray[Any], Any], FloatArray] | None = None  # where it is a mean: the loss of each row
    interval: str = "bca"  # else "jackknife", or "score" for what behaves like a proportion (see `intervals`)
    per_class: bool = False  # an average over classes, so that the smallest class decides whether there are rows enough

    def __call__(self, truth: NDArray[Any], given: NDArray[Any] | Digest, weights: FloatArray | None = None) -> float:
        """The value on these rows."""
        truth, given = np.asarray(truth), given if isinstance(given, Digest) else np.asarray(given)
        w = np.ones(len(truth)) if weights is None else np.asarray(weights, dtype=np.float64)
        if len(truth) != len(given) or len(w) != len(truth):
            raise ValueError(f"{len(truth)} true rows, {len(given)} answers, {len(w)} weights: the numbers differ")
        return float(self.at(truth, given)(w[None, :])[0]) if len(truth) else float("nan")


def mean_of(rows: FloatArray) -> Weighted:
    """The weighted mean of one number a row; rows that hold NaN are left out."""
    rows = np.asarray(rows, dtype=np.float64)
    counted = np.isfinite(rows)
    if counted.all():
        return lambda w: divide(w @ rows, w.sum(axis=1))
    filled, mask = np.where(counted, rows, 0.0), counted.astype(np.float64)
    return lambda w: divide(w @ filled, w @ mask)


def divide(top: FloatArray, bottom: FloatArray, empty: float = float("nan")) -> FloatArray:
    """top / bottom, and `empty` where the bottom is 0."""
    top, bottom = np.broadcast_arrays(top, bottom)
    return np.asarray(np.divide(top, bottom, out=np.full(top.shape, empty), where=bottom > 0))


def mean_defined(values: FloatArray) -> FloatArray:
    """The mean of each row's values that are not NaN; NaN where there are none."""
    defined = ~np.isnan(values)
    return divide(np.where(defined, values, 0.0).sum(axis=1), defined.sum(axis=1).astype(np.float64))
