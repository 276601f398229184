"""Prediction sets hold their level by simulation and by counting ranks."""

from __future__ import annotations

import numpy as np
import pytest

from acclimate.errors import UserError
from acclimate.metrics.conformal import (
    aps_scores,
    aps_sets,
    conformal_quantile,
    lac_scores,
    lac_sets,
    sure_enough,
)


def classes(rng: np.random.Generator, n: int, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Truth, and the probabilities of an overconfident model."""
    truth = rng.integers(k, size=n)
    z = 2 * (rng.normal(size=(n, k)) + 1.5 * (truth[:, None] == np.arange(k)))
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return truth, p / p.sum(axis=1, keepdims=True)


def test_the_rank_by_hand() -> None:
    scores = np.arange(1.0, 10.0)  # nine: at 0.9 the ⌈10 · 0.9⌉ = ninth smallest
    assert conformal_quantile(scores, 0.9) == 9.0
    assert conformal_quantile(scores[::-1], 0.5) == 5.0
    assert conformal_quantile(np.arange(1.0, 100.0), 0.95) == 95.0


def test_too_few_rows_and_levels_out_of_range() -> None:
    with pytest.raises(UserError, match=r"n too small: sets at 0\.9 need at least 9 rows .* got 8"):
        conformal_quantile(np.arange(8.0), 0.9)
    with pytest.raises(UserError, match="got 0"):
        conformal_quantile(np.array([]), 0.9)
    for level in (0.0, 1.0, 1.5, -0.1):
        with pytest.raises(UserError, match="conformal level must lie between 0 and 1"):
            conformal_quantile(np.arange(100.0), level)


@pytest.mark.parametrize("level", [0.8, 0.9])
@pytest.mark.parametrize("kind", ["lac", "aps", "numbers"])
def test_new_rows_are_covered_as_often_as_stated(kind: str, level: float) -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        if kind == "numbers":
            old, new = np.abs(rng.standard_t(3, size=59)), np.abs(rng.standard_t(3, size=100))
            covered.append((new <= conformal_quantile(old, level)).mean())
            continue
        scored, sets = (lac_scores, lac_sets) if kind == "lac" else (aps_scores, aps_sets)
        bound = conformal_quantile(scored(*classes(rng, 59)), level)
        truth, proba = classes(rng, 100)
        covered.append(sets(proba, bound)[np.arange(100), truth].mean())
    # exact: between level and level + 1/(n + 1); the error of this simulation is about 0.004
    assert np.mean(covered) > level - 0.012
    assert kind == "aps" or np.mean(covered) < level + 1 / 60 + 0.012  # aps always holds the likeliest class


def test_a_true_class_is_in_the_set_where_its_score_is_within_the_bound() -> None:
    truth, proba = classes(np.random.default_rng(1), 200)
    for scored, sets in ((lac_scores, lac_sets), (aps_scores, aps_sets)):
        scores = scored(truth, proba)
        for bound in np.quantile(scores, [0.3, 0.7, 0.9]):
            inside = sets(proba, bound)[np.arange(200), truth]
            likeliest = (proba.argmax(axis=1) == truth) if sets is aps_sets else np.zeros(200, dtype=bool)
            assert inside.tolist() == ((scores <= bound) | likeliest).tolist()


def test_scores_by_hand() -> None:
    proba = np.array([[0.5, 0.2, 0.3]] * 4)
    truth = np.array([0, 1, 2, -1])
    assert lac_scores(truth, proba) == pytest.approx([0.5, 0.8, 0.7, 1.0])
    assert aps_scores(truth, proba) == pytest.approx([0.5, 1.0, 0.8, 1.0])
    assert lac_sets(proba[:1], 0.7).tolist() == [[True, False, True]]
    assert lac_sets(proba[:1], 0.4).tolist() == [[False, False, False]]
    assert aps_sets(proba[:1], 0.85).tolist() == [[True, False, True]]
    assert aps_sets(proba[:1], 0.1).tolist() == [[True, False, False]]  # the likeliest always


def test_abstaining_leaves_the_sure_rows_and_they_are_right_more_often() -> None:
    truth, proba = classes(np.random.default_rng(2), 2000)
    right = proba.argmax(axis=1) == truth
    sure = sure_enough(proba, 0.9)
    assert 0.2 < sure.mean() < 0.9 and right[sure].mean() > right[~sure].mean() + 0.2
    assert sure_enough(np.array([[0.9, 0.1], [0.6, 0.4]]), 0.9).tolist() == [True, False]
    with pytest.raises(UserError, match="least confidence"):
        sure_enough(proba, 1.1)
