"""L_source + λ·L_labelled, where labelled target rows stand among those to learn from."""

from __future__ import annotations

import numpy as np
import pytest

from acclimate.data.rows import Data
from acclimate.strategies.base import Splits, with_labelled


def data(count: int, label: str, weights: list[float] | None = None) -> Data:
    return Data(
        tuple(f"{label}{i}" for i in range(count)), (label,) * count, None if weights is None else np.array(weights)
    )


@pytest.mark.parametrize("weight", [0.01, 0.5, 1.0, 3.0, 1000.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_weighted_sum_is_that_of_both_means(weight: float, weighted: bool) -> None:
    ours = data(40, "a", [1.0 + i % 3 for i in range(40)] if weighted else None)
    few = data(7, "b", [0.5 + i for i in range(7)] if weighted else None)
    both = with_labelled(Splits(ours, target_labelled=few), weight)
    assert both.target_labelled is None and both.train.weights is not None
    losses = {text: float(np.sin(len(text) + i)) for i, text in enumerate((*ours.inputs, *few.inputs))}

    def mean(rows: Data) -> float:
        return float(np.average([losses[str(x)] for x in rows.inputs], weights=rows.weights))

    total = sum(w * losses[str(x)] for x, w in zip(both.train.inputs, both.train.weights, strict=True))
    counted = 40.0 if ours.weights is None else float(ours.weights.sum())
    assert total == pytest.approx(counted * (mean(ours) + weight * mean(few)))
    copies = len(both.train) - 40
    assert copies == 7 * max(1, round(min(weight, 1.0) * 40 / 7))  # up to λ = 1 a copy weighs what a source row weighs
    assert both.train.labels is not None and both.train.labels[40:] == ("b",) * copies


def test_without_rows_or_weight_nothing_changes() -> None:
    ours, few = data(5, "a"), data(3, "b")
    assert with_labelled(Splits(ours), 1.0) == Splits(ours)
    assert with_labelled(Splits(ours, target_labelled=few), 0.0) == Splits(ours)
