"""Boosting by scikit-learn in arrays: several labels, each with gaps of its own; and what a version may not have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from acclimate.errors import UserError
from acclimate.tasks import TASKS
from acclimate.train import boost
from acclimate.train.boost import Growth, Rows, boosted

GROWTH = Growth(rounds=5, leaves=3, learning_rate=0.1, least=2, penalty=1.0, share=1.0, seed=0, most=9)
LABELS = TASKS["multilabel"]


def rows(targets: Any, seed: int = 0) -> Rows:
    x = np.random.default_rng(seed).normal(size=(len(targets), 2))
    return Rows(x, np.asarray(targets, float), np.ones(len(targets)))


def gaps(n: int = 60, seed: int = 0) -> Rows:
    """Label 0 follows x, label 1 follows y and is known of every third row alone."""
    x = np.random.default_rng(seed).normal(size=(n, 2))
    targets = (x > 0).astype(float)
    targets[np.arange(n) % 3 != 0, 1] = np.nan
    return Rows(x, targets, np.linspace(0.5, 1.5, n))


def test_each_label_learns_from_the_rows_where_it_is_known() -> None:
    given = gaps()
    scores = list(boosted(given, LABELS, GROWTH).staged(given.features))[-1]
    for k in (0, 1):
        unknown = np.isnan(given.targets[:, k])
        weights = np.where(unknown, 50.0, given.weights)  # which must not matter
        alone = Rows(given.features, given.targets[:, [k]], weights)
        expected = list(boosted(alone, LABELS, GROWTH).staged(given.features))[-1]
        assert np.array_equal(scores[:, [k]], expected), k
        known = ~unknown
        fewer = Rows(given.features[known], given.targets[known][:, [k]], given.weights[known])  # other bins, only
        near = list(boosted(fewer, LABELS, GROWTH).staged(given.features))[-1]
        assert np.mean(np.abs(scores[:, [k]] - near) < 1e-6) > 0.9


def test_a_label_without_both_answers_has_the_odds_of_its_known_rows() -> None:
    given = rows([[1, np.nan, 1], [1, np.nan, np.nan], [1, np.nan, 0], [1, np.nan, np.nan]])
    made = boosted(given, LABELS, GROWTH)
    assert made.alone == pytest.approx((np.log(4.5 / 0.5), 0.0, 0.0)) and made.models[0] is made.models[1] is None
    assert made.models[2] is not None


def test_loss_curves_of_all_folds_have_a_value_a_round() -> None:
    constant, varied = rows([[1.0, 0.0]] * 8), gaps()
    curves = [boosted(some, LABELS, GROWTH).losses(varied, LABELS, 2) for some in (constant, varied)]
    assert [curve.shape for curve in curves] == [(5,), (5,)]
    assert len(set(curves[0].tolist())) == 1 and np.isfinite(np.sum(curves, axis=0)).all()
    one_class = Rows(varied.features, np.zeros(60, int), np.ones(60))
    assert boosted(one_class, TASKS["classify"], GROWTH).losses(one_class, TASKS["classify"], 2).shape == (5,)


@pytest.mark.parametrize("name", ["_predictors", "_baseline_prediction"])
def test_a_library_that_keeps_its_trees_elsewhere_is_one_clear_error(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other:
        def __init__(self, model: Any) -> None:
            self.model = model

        def __getattr__(self, asked: str) -> Any:
            if asked == name:
                raise AttributeError(asked)
            return getattr(self.model, asked)

    original = boost._model
    monkeypatch.setattr(boost, "_model", lambda *args, **more: Other(original(*args, **more)))
    given = rows(np.arange(20.0))
    with pytest.raises(UserError, match="keeps its trees in a way that is not known here.*install one of the versions"):
        boosted(given, TASKS["regress"], GROWTH).head(2, 1, given.features)
